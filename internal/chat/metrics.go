package chat

import (
	"math"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"parley/internal/admission"
	"parley/internal/clientconn"
	"parley/internal/legacy"
	"parley/internal/wire"
)

type metrics struct {
	refusedConns                                                                                      [admission.Reasons]prometheus.Counter
	logins, replaced, stale, loginTimeouts, evicted, loginsUnheard, heartbeats                        prometheus.Counter
	badFrames, unknownIDs, typingDropped, rateLimited, flooding, queueFull, windowFull, badHandshakes prometheus.Counter
	panics, slow, gaps, passed, abandoned, writeFailures, acceptFailures, acceptRests, trims          prometheus.Counter
	releasesLost, leaseFailures, fenceFailures, fenced, delivered                                     prometheus.Counter
	refilled, refillsGivenUp                                                                          prometheus.Counter
	loginSeconds, handlerSeconds, loads, loadSeconds                                                  prometheus.Histogram
	legacy                                                                                            legacy.Counters

	textsLimited, releasesHurried, applicationsUntold, badProxyHeaders prometheus.Counter

	refusalsByCode *prometheus.CounterVec
	loginsByCode   *prometheus.CounterVec
	requestsByID   map[wire.MsgID]prometheus.Counter // of all that clients may send
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "parley_chat_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "parley_chat_" + name, Help: help}, []string{label})
	}
	gauge := func(name, help string, read func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_chat_" + name, Help: help}, read)
	}
	seconds := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_chat_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		})
	}
	m := &metrics{
		logins:         counter("logins_total", "Logins granted."),
		replaced:       counter("sessions_replaced_total", "Sessions ended because a newer login took their place."),
		stale:          counter("sessions_stale_total", "Sessions ended because nothing was heard for too long."),
		loginTimeouts:  counter("login_timeouts_total", "Connections closed because they did not log in in time."),
		evicted:        counter("connections_evicted_total", "Connections closed before they had logged in to make room for others; the network that held most lost its oldest."),
		loginsUnheard:  counter("logins_unheard_total", "Logins whose turn did not come within LoginTimeout, or for which too many waited."),
		heartbeats:     counter("heartbeats_total", "Heartbeats answered."),
		badFrames:      counter("bad_frames_total", "Connections closed for a frame that is not allowed where it came."),
		typingDropped:  counter("typing_dropped_total", "Notices that a user is typing which were not sent on: too many, or the user may not write."),
		unknownIDs:     counter("unknown_ids_total", "Frames with an id that no client sends."),
		rateLimited:    counter("rate_limited_total", "Requests refused because a connection sent too many a second."),
		flooding:       counter("flooding_total", "Connections closed because they sent more than could be looked at, or too many heartbeats."),
		queueFull:      counter("queue_full_total", "Requests refused because too many of a connection waited."),
		windowFull:     counter("window_full_total", "Text requests refused because too many of a connection were unanswered."),
		panics:         counter("panics_total", "Panics recovered in handlers; each closed one connection."),
		slow:           counter("slow_consumers_total", "Sessions ended because their client did not read."),
		abandoned:      counter("logins_abandoned_total", "Logins undone because their client hung up before they were done."),
		passed:         counter("pushes_passed_total", "Pushes of marks, presence and typing that were dropped because the client reads too slowly."),
		gaps:           counter("gaps_total", "Threads of which pushes were dropped because the client reads too slowly; it is told to read them."),
		writeFailures:  counter("write_failures_total", "Connections closed because a write failed or took too long."),
		acceptFailures: counter("accept_failures_total", "Connections that could not be accepted or served, mostly for want of descriptors or memory."),
		acceptRests:    counter("accept_rests_total", "Times that accepting rested because enough logins waited; clients wait in the backlog."),
		trims:          counter("trims_total", "Times that memory left from a rush was given back to the system."),
		releasesLost:   counter("releases_lost_total", "Ended sessions left in Redis to expire, because too many waited."),
		leaseFailures:  counter("lease_failures_total", "Refreshes of the node's lease that failed."),
		fenceFailures:  counter("fence_failures_total", "Reads and writes of the node's fence row that failed."),
		fenced:         counter("fenced_total", "Times this node found itself taken for dead."),
		delivered:      counter("peer_pushes_total", "Pushes that other nodes handed over."),
		refilled:       counter("refilled_texts_total", "Texts read from SQL and pushed again to clients that do not understand a gap notice."),
		refillsGivenUp: counter("refills_given_up_total", "Threads or sessions of such clients that were not sent what they missed, for want of room or time."),
		loginSeconds:   seconds("login_seconds", "Time of a granted login, from its turn to 1006."),
		loadSeconds:    seconds("load_seconds", "Time of reading users from SQL for logins, once for all that waited."),
		handlerSeconds: seconds("handler_seconds", "Time of a request in the serial queue, logins included."),
		requestsByID:   map[wire.MsgID]prometheus.Counter{},
		refusalsByCode: vec("refusals_total", "Requests refused, by code.", "code"),
		loginsByCode:   vec("logins_refused_total", "Logins refused, by code.", "code"),
	}
	m.textsLimited = counter("texts_limited_total", "Texts refused because their user sent too many a second.")
	m.badHandshakes = counter("bad_handshakes_total", "Connections whose handshake failed: TLS, or WebSocket because of its form, its origin or its subprotocol.")
	m.badProxyHeaders = counter("bad_proxy_headers_total", "Connections from ProxyFrom that were closed because they did not begin with a header of the PROXY protocol.")
	m.applicationsUntold = counter("applications_untold_total", "Applications for friendship stored and not pushed: repeated ones, or too many to one user. The next login lists them.")
	m.releasesHurried = counter("releases_hurried_total", "Ended sessions taken out of Redis before their user's texts were forgiven, because too many waited or the node stopped.")
	m.loads = f.NewHistogram(prometheus.HistogramOpts{
		Name: "parley_chat_load_users", Help: "Users read from SQL for logins in one go.", Buckets: prometheus.ExponentialBuckets(1, 2, 7),
	})
	requests := vec("requests_total", "Requests by message id.", "msg")
	for id := range wire.MsgID(math.MaxUint16) {
		if _, known := id.Reply(); known {
			m.requestsByID[id] = requests.WithLabelValues(id.String())
		}
	}
	refused := vec("connections_refused_total", "Connections closed at accept, or when their proxy had named the client, by reason.", "reason")
	for reason := range admission.Reasons {
		m.refusedConns[reason] = refused.WithLabelValues(reason.String())
	}
	stock := vec("stock_frames_total", "Frames held, dropped or added for stock clients, by what was done.", "done")
	add := func(done string) func() { return stock.WithLabelValues(done).Inc }
	m.legacy = legacy.Counters{
		HeartbeatDropped: add("heartbeat_dropped"), Merged: add("merged"), Reannounced: add("announced"),
		Unsafe: add("unsafe_dropped"), Overflowed: add("overflowed"), Panicked: add("panicked"),
		ApplicationsDropped: add("applications_dropped"), LeftToHistory: add("left_to_history"),
	}
	gauge("sessions", "Sessions logged in.", func() float64 { return float64(s.registry.Live()) })
	gauge("connections", "Client connections, logged in or not.", func() float64 { return float64(s.conns.Count()) })
	gauge("logins_working", "Logins that are being worked on, at most LoginsAtOnce.", func() float64 { return float64(s.turns.Taken()) })
	gauge("logins_waiting", "Logins that wait for their turn.", func() float64 { return float64(s.turns.Waiting()) })
	gauge("texts_waiting", "Texts that wait for their answer.", func() float64 { return float64(s.commits.Waiting()) })
	return m
}

func (m *metrics) requests(id wire.MsgID) prometheus.Counter {
	if c := m.requestsByID[id]; c != nil {
		return c
	}
	return m.unknownIDs
}

func (m *metrics) refusals(code wire.Code) prometheus.Counter {
	return m.refusalsByCode.WithLabelValues(strconv.Itoa(int(code)))
}

func (m *metrics) loginsRefused(code wire.Code) prometheus.Counter {
	return m.loginsByCode.WithLabelValues(strconv.Itoa(int(code)))
}

// conns is what connections count.
func (m *metrics) conns() clientconn.Metrics {
	return clientconn.Metrics{
		RefusedConns: m.refusedConns, Evicted: m.evicted, AcceptFailures: m.acceptFailures, Heartbeats: m.heartbeats,
		BadFrames: m.badFrames, UnknownIDs: m.unknownIDs, RateLimited: m.rateLimited, Flooding: m.flooding, QueueFull: m.queueFull,
		WindowFull: m.windowFull, TextsLimited: m.textsLimited, Panics: m.panics, HandlerSeconds: m.handlerSeconds,
		Requests: m.requests, Refusals: m.refusals, BadHandshakes: m.badHandshakes, BadProxyHeaders: m.badProxyHeaders,
	}
}
