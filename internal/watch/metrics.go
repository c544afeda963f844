package watch

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	frames, states, delayed, refused prometheus.Counter
	read, readFailures               prometheus.Counter
	rightsRead, rightsFailures       prometheus.Counter
	sent, received, lost, all        prometheus.Counter
	panics                           prometheus.Counter
}

// sizes are the sizes of a table and its queues.
type sizes struct{ sessions, pairs, users, unread, untold int }

func newMetrics(reg prometheus.Registerer, size func() sizes) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "parley_watch_" + name, Help: help})
	}
	gauge := func(name, help string, read func() int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_watch_" + name, Help: help}, func() float64 { return float64(read()) })
	}
	gauge("sessions", "Sessions of this node that watch users or have sent typing notices.", func() int { return size().sessions })
	gauge("pairs", "Pairs of a session of this node and a watched user.", func() int { return size().pairs })
	gauge("users", "Users who are watched by sessions of this node.", func() int { return size().users })
	gauge("unread", "Watched users whose presence must be read from Redis.", func() int { return size().unread })
	gauge("untold", "Sessions with changed presence that they have not been told yet.", func() int { return size().untold })
	return &metrics{
		frames:         counter("frames_total", "Frames sent to sessions about changed presence."),
		states:         counter("states_total", "Presence states sent in frames about changes."),
		delayed:        counter("delayed_total", "Frames delayed because too much waited for the client."),
		refused:        counter("refused_total", "Requests to watch users that were refused."),
		read:           counter("users_read_total", "Users whose presence was read from Redis."),
		readFailures:   counter("read_failures_total", "Failed reads of up to 256 users; they are repeated."),
		rightsRead:     counter("rights_read_total", "Pairs of a session and a user whose rights were read from SQL."),
		rightsFailures: counter("rights_failures_total", "Failed reads of rights after a change; they are repeated."),
		sent:           counter("news_sent_total", "Messages sent to other nodes about users who came or went."),
		received:       counter("news_received_total", "Messages received from other nodes about users who came or went."),
		lost:           counter("news_lost_total", "Messages about users who came or went that may not have arrived; the node reads the presence of all watched users again."),
		all:            counter("read_all_total", "Times that the presence of all watched users was read again, as after a storm or lost messages."),
		panics:         counter("panics_total", "Panics recovered in the goroutines of this package."),
	}
}
