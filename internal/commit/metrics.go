package commit

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	stored, resent, failed, denied, refused, late, stranded, shed, panics prometheus.Counter
	size, seconds, wait                                                   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "parley_commit_" + name, Help: help})
	}
	return &metrics{
		stored:   counter("texts_stored_total", "Texts stored for the first time."),
		resent:   counter("texts_resent_total", "Resent texts, answered with the ids of the first attempt."),
		failed:   counter("texts_failed_total", "Texts answered as not stored because the store failed."),
		denied:   counter("texts_denied_total", "Texts refused because their sender may no longer write to the thread."),
		refused:  counter("requests_refused_total", "Requests refused because too many texts waited."),
		late:     counter("requests_late_total", "Requests refused because they waited too long."),
		stranded: counter("requests_stranded_total", "Requests refused because this node was fenced off after their sessions logged in."),
		shed:     counter("requests_shed_total", "Requests refused at once because texts arrive faster than SQL can store them."),
		panics:   counter("panics_total", "Panics recovered in a batch."),
		size: f.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_commit_batch_texts", Help: "Texts per transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_commit_transaction_seconds", Help: "Time of one transaction, including retries.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		wait: f.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_commit_answer_seconds", Help: "Time from a request's arrival to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
	}
}
