package mark

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	asked, moved, refused, failed, pushes, untold, panics prometheus.Counter
	size, seconds                                         prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, waiting func() float64) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "parley_mark_" + name, Help: help})
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_mark_waiting", Help: "Read marks that wait for their transaction."}, waiting)
	return &metrics{
		asked:   counter("requests_total", "Read marks that clients sent."),
		moved:   counter("moved_total", "Read marks raised in SQL, counted once per user, thread and batch."),
		refused: counter("requests_refused_total", "Read marks refused because too many waited, or the node was shutting down."),
		failed:  counter("requests_failed_total", "Read marks answered as not stored because the store failed."),
		pushes:  counter("pushes_total", "Pushes of read marks, one per recipient, thread and batch."),
		untold:  counter("author_reads_failed_total", "Batches whose authors in groups were not told because the store failed."),
		panics:  counter("panics_total", "Panics recovered in a batch."),
		size: f.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_mark_batch_rows", Help: "Users and threads per batch of read marks.", Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_mark_batch_seconds", Help: "Time to store one batch of read marks, including the reads before it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
	}
}
