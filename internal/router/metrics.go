package router

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Reasons for dropping a push whose user was, or may have been, online.
const (
	dropSession = iota // a session of this node refused it: closed, or slow
	dropGone           // twice not found where presence said
	dropFull           // the lane was full
	dropPeer           // the peer was down, or its queue full
	dropLookup         // Redis did not answer
	drops
)

type metrics struct {
	local, forwarded, offline, panics prometheus.Counter
	dropped                           [drops]prometheus.Counter

	owed                              prometheus.Gauge
	settled, overflowed, unremembered prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "parley_router_" + name, Help: help})
	}
	m := &metrics{
		local:     counter("pushes_local_total", "Pushes handed to a session of this node."),
		forwarded: counter("pushes_forwarded_total", "Pushes queued for another node."),
		offline:   counter("pushes_offline_total", "Pushes for users who are not online; the texts are in SQL."),
	}
	m.panics = counter("panics_total", "Panics recovered in a lane.")
	m.owed = f.NewGauge(prometheus.GaugeOpts{
		Name: "parley_router_owed", Help: "Gap notices (one per user and thread) and other pushes waiting until their node can be reached.",
	})
	m.settled = counter("owed_told_total", "Gap notices delivered to the nodes of their users.")
	m.overflowed = counter("owed_overflows_total", "Times that too many gap notices waited for a node, so that all its sessions got one instead.")
	m.unremembered = counter("pushes_forgotten_total", "Pushes other than texts that were dropped and not kept; clients read their content again, at the latest at the next login.")
	dropped := f.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_router_pushes_dropped_total",
		Help: "Pushes dropped, by reason: session, gone, full, peer, lookup. After the last three the user gets a gap notice.",
	}, []string{"reason"})
	for i, reason := range [drops]string{"session", "gone", "full", "peer", "lookup"} {
		m.dropped[i] = dropped.WithLabelValues(reason)
	}
	return m
}
