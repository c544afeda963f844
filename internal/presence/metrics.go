package presence

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	batchSize     *prometheus.HistogramVec // by queue
	batchSeconds  *prometheus.HistogramVec // by queue
	queueFull     *prometheus.CounterVec   // by queue
	panics        prometheus.Counter
	scriptReloads prometheus.Counter
	viewErrors    prometheus.Counter
	kicksFull     prometheus.Counter

	claimOK, claimRefused, claimDevices, claimFailed prometheus.Counter
	placed, placeNoNode, placeFailed                 prometheus.Counter
	profileHit, profileMiss                          prometheus.Counter
	listsHit, listsMiss, listsStale                  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	claims := f.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_presence_claims_total",
		Help: "Logins claimed in Redis, by result: ok, refused (token), devices (too many), error.",
	}, []string{"result"})
	placements := f.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_presence_placements_total",
		Help: "Requests to place a user on a chat node, by result: ok, no_node, error.",
	}, []string{"result"})
	caches := f.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_presence_cache_reads_total",
		Help: "Cache reads at login, by cache (profile, lists) and result (hit, miss, stale).",
	}, []string{"cache", "result"})
	return &metrics{
		batchSize: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "parley_presence_batch_calls",
			Help:    "Calls packed into one round trip, by queue: commands, placements.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
		}, []string{"queue"}),
		batchSeconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "parley_presence_batch_seconds",
			Help:    "Duration of one packed round trip, by queue: commands, placements.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 2.5},
		}, []string{"queue"}),
		queueFull: f.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_presence_queue_full_total",
			Help: "Calls refused because too many waited for Redis, by queue: commands, placements.",
		}, []string{"queue"}),
		panics: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_presence_panics_total",
			Help: "Panics recovered in a worker; each made the calls of one batch fail.",
		}),
		scriptReloads: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_presence_script_reloads_total",
			Help: "Times that scripts were loaded again because Redis had lost them.",
		}),
		viewErrors: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_presence_view_errors_total",
			Help: "Failed reads of the node leases; the previous view stays in use.",
		}),
		kicksFull: f.NewCounter(prometheus.CounterOpts{
			Name: "parley_presence_kicks_full_total",
			Help: "Kicks dropped because the mailbox of a node was full; the node compares all its sessions instead.",
		}),
		claimOK:      claims.WithLabelValues("ok"),
		claimRefused: claims.WithLabelValues("refused"),
		claimDevices: claims.WithLabelValues("devices"),
		claimFailed:  claims.WithLabelValues("error"),
		placed:       placements.WithLabelValues("ok"),
		placeNoNode:  placements.WithLabelValues("no_node"),
		placeFailed:  placements.WithLabelValues("error"),
		profileHit:   caches.WithLabelValues("profile", "hit"),
		profileMiss:  caches.WithLabelValues("profile", "miss"),
		listsHit:     caches.WithLabelValues("lists", "hit"),
		listsMiss:    caches.WithLabelValues("lists", "miss"),
		listsStale:   caches.WithLabelValues("lists", "stale"),
	}
}
