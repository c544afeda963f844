package gate

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"parley/internal/slots"
)

type metrics struct {
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	panics      prometheus.Counter
	hashes      *prometheus.CounterVec
	hashRefused *prometheus.CounterVec
	hashSeconds prometheus.Histogram
	remembered  prometheus.Counter
	throttled   *prometheus.CounterVec
	crowded     *prometheus.CounterVec
	dropped     *prometheus.CounterVec
	mails       *prometheus.CounterVec
	places      *prometheus.CounterVec
	kicks       *prometheus.CounterVec
}

// newMetrics registers the metrics with reg; with nil, nowhere.
func newMetrics(reg prometheus.Registerer, hashing *slots.Slots) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_gate_hash_waiting", Help: "Requests waiting for a hash."},
		func() float64 { return float64(hashing.Waiting()) })
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "parley_gate_" + name, Help: help}, labels)
	}
	return &metrics{
		requests: counter("requests_total", "HTTP requests by route (register, reset, change, code, login, page, other) and code sent (HTTP status for page and other).", "route", "code"),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "parley_gate_request_seconds", Help: "Time of an HTTP request by route.",
			Buckets: []float64{.001, .005, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"route"}),
		panics:      f.NewCounter(prometheus.CounterOpts{Name: "parley_gate_panics_total", Help: "Requests that ended in a panic."}),
		hashes:      counter("hashes_total", "Password hashes by kind (verify, new, dummy).", "kind"),
		hashRefused: counter("hash_refused_total", "Requests refused a hash, by reason (queue, patience, gone).", "reason"),
		hashSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_gate_hash_seconds", Help: "Time in a hashing slot.",
			Buckets: []float64{.01, .02, .03, .05, .075, .1, .2, .4, .8, 1.6},
		}),
		remembered: f.NewCounter(prometheus.CounterOpts{Name: "parley_gate_logins_remembered_total", Help: "Logins whose password needed no hash because it was verified recently."}),
		throttled:  counter("throttled_total", "Requests refused by a limit (account, address, mailbox, code_address).", "limit"),
		crowded:    counter("logins_crowded_total", "Logins refused as busy because others of the same account or address were under way (account, address).", "limit"),
		dropped:    counter("connections_dropped_total", "Connections closed before their request was complete, by reason (full, address, descriptors, header).", "reason"),
		mails:      counter("mails_total", "Verification codes by result (sent, refused, busy, store, throttled).", "result"),
		places:     counter("placements_total", "Calls to status servers by result (ok, refused, unreachable).", "result"),
		kicks:      counter("kicks_total", "Sessions ended after a new password or a deletion by result (ok; left in the mailbox of a node that did not answer; gone, in that of a node without a lease; failed).", "result"),
	}
}

// watch registers metrics that are read from open on demand.
func (m *metrics) watch(reg prometheus.Registerer, open *conns) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_gate_connections", Help: "Open HTTP and HTTPS connections."},
		func() float64 { return float64(open.len()) })
}

func (m *metrics) drop(reason string) { m.dropped.WithLabelValues(reason).Inc() }
