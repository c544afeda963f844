package group

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	rows, writes, forwarded, refreshes, refreshFailures, loadFailures prometheus.Counter
	interests, interestFailures, interestsLost                        prometheus.Counter
	overflows, notices, panics                                        prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, x *index, o *owed) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "parley_group_" + name, Help: help})
	}
	gauge := func(name, help string, read func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_group_" + name, Help: help}, read)
	}
	gauge("groups", "Groups with members logged in on this node.", func() float64 { n, _ := x.size(); return float64(n) })
	gauge("entries", "Entries of this node's index, one per session and group.", func() float64 { _, n := x.size(); return float64(n) })
	gauge("owed", "Groups whose members on this node wait for a gap notice.", func() float64 { return float64(o.size()) })
	return &metrics{
		rows:             counter("pushes_total", "Pushes of group rows handed to sessions of this node."),
		writes:           counter("writes_total", "Writes of group rows to sessions of this node; consecutive pushes share a write."),
		forwarded:        counter("pushes_forwarded_total", "Pushes of group rows queued for other nodes, counted once per node."),
		refreshes:        counter("refreshes_total", "Reads of a group's local members because the membership had changed."),
		refreshFailures:  counter("refresh_failures_total", "Failed reads of a membership; they are repeated, and the members get a gap notice."),
		loadFailures:     counter("load_failures_total", "Failed reads of the memberships of users logging in."),
		interests:        counter("interests_written_total", "Entries written to Redis to announce that this node has members of a group."),
		interestFailures: counter("interest_failures_total", "Failed writes of up to 256 such entries; they are repeated."),
		interestsLost:    counter("interests_lost_total", "Entries announcing members that Redis had lost; the members on this node got a gap notice."),
		overflows:        counter("overflows_total", "Pushes dropped because too many waited; the members get a gap notice."),
		notices:          counter("gap_notices_total", "Gap notices sent to sessions of members."),
		panics:           counter("panics_total", "Panics recovered in a lane."),
	}
}
