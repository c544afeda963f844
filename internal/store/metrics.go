package store

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	retryDeadlock, retryDuplicate, retryConn, retryRefused prometheus.Counter
	unclear, bisected, rechecked, renewals, alone          prometheus.Counter
	stored, resent, refused                                prometheus.Counter
	changed                                                map[int8]prometheus.Counter // by kind of the row that tells of it
	appendSeconds                                          prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	retries := f.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_store_retries_total",
		Help: "Transactions and reads run again, by reason: deadlock (also lock time-outs), duplicate, connection, refused (read-only, or a privilege is missing).",
	}, []string{"reason"})
	rows := f.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_store_append_rows_total",
		Help: "Messages passed to Append, by result: stored, resent (stored before), refused.",
	}, []string{"result"})
	changes := f.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_store_texts_changed_total",
		Help: "Texts that were changed, by how: recalled, edited.",
	}, []string{"how"})
	return &metrics{
		changed:        map[int8]prometheus.Counter{KindRecall: changes.WithLabelValues("recalled"), KindEdit: changes.WithLabelValues("edited")},
		retryDeadlock:  retries.WithLabelValues("deadlock"),
		retryDuplicate: retries.WithLabelValues("duplicate"),
		retryConn:      retries.WithLabelValues("connection"),
		retryRefused:   retries.WithLabelValues("refused"),
		renewals: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_store_renewals_total",
			Help: "Times that all connections were replaced because the server was read-only or refused access.",
		}),
		unclear: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_store_unclear_commits_total",
			Help: "COMMITs whose outcome was unknown at first.",
		}),
		bisected: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_store_bisected_batches_total",
			Help: "Batches cut in two because the database refused a row.",
		}),
		rechecked: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_store_memberships_rechecked_total",
			Help: "Threads whose members an append read again because they had changed.",
		}),
		alone: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_store_append_alone_total",
			Help: "Messages that came alone and took one round trip to SQL, by a stored procedure.",
		}),
		stored:  rows.WithLabelValues("stored"),
		resent:  rows.WithLabelValues("resent"),
		refused: rows.WithLabelValues("refused"),
		appendSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_store_append_seconds",
			Help:    "Time of one call of Append.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
	}
}
