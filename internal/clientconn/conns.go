// Package clientconn is one client's connection: it cuts frames from what arrives, sends each to where it is handled, and
// keeps the requests of a connection in order. Texts go from here to the committer.
//
// Calls go down its files: conns.go accepts, conn.go reads, tls.go and websocket.go unwrap what comes, dispatch.go tells frames
// apart, queue.go runs handlers, text.go takes texts to the committer.
package clientconn

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/cloudwego/netpoll"
	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/admission"
	"parley/internal/commit"
	"parley/internal/ending"
	"parley/internal/outbox"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/textrate"
	"parley/internal/websocket"
	"parley/internal/wire"
)

// Config bounds what one connection can make a node hold; docs/CONFIG.md lists the limits.
type Config struct {
	MaxFrameBytes, UnreadBytes, OutboxBytes    int
	QueuedFrames, QueuedBytes, InFlightBytes   int
	RequestRate, RequestBurst, HeartbeatRate   int
	WriteTimeout, RequestTimeout, QuietTimeout time.Duration
	Origins                                    websocket.Origins
	ProxyFrom                                  []netip.Prefix                 // of proxies, which begin with a header of the PROXY protocol
	TLS                                        map[wire.Transport]*tls.Config // of the encrypted transports
}

// Metrics is what connections count.
type Metrics struct {
	RefusedConns                                                            [admission.Reasons]prometheus.Counter
	Evicted, AcceptFailures, Heartbeats, BadFrames, UnknownIDs, RateLimited prometheus.Counter
	Flooding, QueueFull, WindowFull, TextsLimited, Panics, BadHandshakes    prometheus.Counter
	BadProxyHeaders                                                         prometheus.Counter
	HandlerSeconds                                                          prometheus.Histogram
	// Requests and Refusals return the counter of a message id and of a code.
	Requests func(wire.MsgID) prometheus.Counter
	Refusals func(wire.Code) prometheus.Counter
}

// Deps is what connections work with.
type Deps struct {
	Log       *slog.Logger
	Context   context.Context // of handlers; ends when the drain is over
	Go        func(func())    // starts a goroutine that the node waits for
	Session   *session.Limits
	Threads   *store.Threads
	Texts     *textrate.Limiter
	Admission *admission.Table
	Ender     *ending.Ender
	// Append hands texts to the committer.
	Append func(*commit.Request) error
	// Login logs a client in; Handlers answer what a logged-in one may ask, in the serial queue.
	Login    func(c *Conn, body []byte)
	Handlers map[wire.MsgID]func(ctx context.Context, s *session.Session, body []byte) error
	Metrics  Metrics
}

// Conns are the open connections of a node. Its methods are safe for concurrent use.
type Conns struct {
	cfg Config
	d   Deps

	mu   sync.Mutex // guards open
	open map[*Conn]struct{}
}

// New returns Conns without a connection.
func New(cfg Config, d Deps) *Conns { return &Conns{cfg: cfg, d: d, open: make(map[*Conn]struct{})} }

// npConn is both halves of netpoll's connection.
type npConn interface {
	netpoll.Connection
	Fd() int
}

// Welcome makes a connection of an accepted socket, or closes it. via is what its listener speaks.
func (s *Conns) Welcome(fd int, from netip.Addr, via wire.Transport) {
	now := time.Now()
	c := &Conn{of: s, origin: origin{addr: from.As16(), accepted: now.UnixMilli()}, proxied: s.fromProxy(from)}
	client := from
	if c.proxied {
		client = netip.Addr{} // the proxy is still to say it
	}
	evicted, reached, ok := s.d.Admission.Admit(&c.entry, client, now)
	if !ok {
		s.d.Metrics.RefusedConns[reached].Inc()
		_ = syscall.Close(fd) // nothing was sent or read yet; there is nobody to tell
		return
	}
	if evicted != nil {
		s.d.Metrics.Evicted.Inc()
		evicted.Evict()
	}
	np, err := netpoll.NewFDConnection(fd)
	if err != nil { // and the socket is closed
		s.d.Admission.Closed(&c.entry, now)
		s.d.Metrics.AcceptFailures.Inc()
		s.d.Log.Warn("client not served", "err", err)
		return
	}
	conn := outbox.Conn(np.(npConn))
	if via.Encrypted() {
		conn = newTLSSocket(conn, s.cfg.TLS[via], s.cfg.UnreadBytes)
	}
	if via.Web() {
		conn = newWebSocket(conn, s.cfg.UnreadBytes)
	}
	c.Init(conn, s.d.Session)
	c.Seen(now)
	_ = np.AddCloseCallback(c.onClose) // fails only for nil
	s.remember(c)                      // from now on others may close it
	s.d.Admission.Bind(&c.entry, c)
	_ = np.SetOnRequest(c.onRequest) // fails only for nil; it is called at once if something has come meanwhile
	if !np.IsActive() {
		_ = np.Close() // the client hung up before: without a handler, netpoll leaves the rest to us
	}
}

// Attach returns the connection of a socket that somebody else reads: what arrives goes to Receive.
func (s *Conns) Attach(socket outbox.Conn) *Conn {
	c := &Conn{of: s, origin: origin{accepted: time.Now().UnixMilli()}}
	c.Init(socket, s.d.Session)
	return c
}

// onClose is netpoll's close callback. It runs among other hang-ups, so it touches memory only.
func (c *Conn) onClose(netpoll.Connection) error {
	c.Gone()
	c.of.d.Ender.Leave(&c.Session)
	c.of.forget(c)
	return nil
}

func (s *Conns) remember(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
}

func (s *Conns) forget(c *Conn) {
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
	s.d.Admission.Closed(&c.entry, time.Now())
}

// Open returns the connections that are open now.
func (s *Conns) Open() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Conn, 0, len(s.open))
	for c := range s.open {
		list = append(list, c)
	}
	return list
}

// Count returns how many connections are open, logged in or not.
func (s *Conns) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Idle returns up to n sessions of native clients, or of stock ones. Those with something unanswered are among them only if
// busy says so.
func (s *Conns) Idle(n int, native, busy bool) []*session.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session.Session, 0, min(n, len(s.open)))
	for c := range s.open {
		if len(list) == n {
			break
		}
		if c.State() == session.Live && c.Native() == native && (busy || c.idle()) {
			list = append(list, &c.Session)
		}
	}
	return list
}

// Close closes what is left of the connections, when no more are accepted.
func (s *Conns) Close() {
	for _, c := range s.Open() {
		c.Close()
	}
	s.AwaitClosed(time.Now().Add(2 * time.Second)) // a connection whose handler runs is closed by it
}

// AwaitClosed waits until no connection is left, at most until the deadline.
func (s *Conns) AwaitClosed(deadline time.Time) {
	for s.Count() > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
}
