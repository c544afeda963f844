package peer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	links                prometheus.Gauge
	calls                prometheus.Histogram
	failures, lost, full prometheus.Counter
	repeated, panics     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		links: f.NewGauge(prometheus.GaugeOpts{Name: "parley_peer_links", Help: "Other chat nodes known by their leases."}),
		calls: f.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_peer_call_pushes", Help: "Pushes per call.", Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
		failures: f.NewCounter(prometheus.CounterOpts{Name: "parley_peer_failures_total", Help: "Calls to peers that failed."}),
		lost: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_peer_pushes_lost_total", Help: "Pushes of failed calls; the texts are in SQL.",
		}),
		repeated: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_peer_calls_repeated_total", Help: "Calls to peers repeated because they were not answered in time.",
		}),
		panics: f.NewCounter(prometheus.CounterOpts{Name: "parley_peer_panics_total", Help: "Panics recovered in a lane."}),
		full: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_peer_queue_full_total", Help: "Pushes not queued because too many waited for the peer.",
		}),
	}
}
