package gate

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// conns is a listener that bounds how many connections are open, in all and per network. When a bound is reached, it
// closes the connection that has been sending its request for longest: within the newcomer's network when that has too
// many, else within the network that has most of them. So a client that holds connections open displaces its own and
// not the requests of others, which take milliseconds to arrive. A request that has been read completely is never cut.
//
// It hands out the connections themselves, unlike netutil.LimitListener, whose wrapper hides CloseWrite: net/http needs
// it to refuse a request that is still being sent without resetting the connection, which would take the reply along.
type conns struct {
	net.Listener
	max        int
	perNetwork int                   // 0: unlimited
	exempt     func(netip.Addr) bool // from perNetwork
	dropped    func(reason string)   // counts a connection that was closed or refused because of a bound

	mu       sync.Mutex // guards the following
	open     map[net.Conn]*held
	networks map[netip.Prefix]*holder
	levels   []list.List // of *holder, by how many of its connections are sending
	top      int         // the highest level that is not empty, or 0
}

// held is one open connection.
type held struct {
	conn   net.Conn
	since  time.Time
	holder *holder
	place  *list.Element // in holder.sending; nil once the request was read
}

// holder is what one network holds.
type holder struct {
	network netip.Prefix
	open    int
	sending list.List     // of *held, the oldest first
	at      int           // its level
	place   *list.Element // in levels[at]
}

// Reasons to drop a connection.
const (
	dropFull        = "full"
	dropAddress     = "address"
	dropDescriptors = "descriptors"
)

func newConns(ln net.Listener, limit, perNetwork int, exempt func(netip.Addr) bool, dropped func(string)) *conns {
	return &conns{
		Listener: ln, max: limit, perNetwork: perNetwork, exempt: exempt, dropped: dropped,
		open: make(map[net.Conn]*held), networks: make(map[netip.Prefix]*holder), levels: make([]list.List, limit+1),
	}
}

// Accept implements net.Listener.
func (c *conns) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				c.mu.Lock()
				victim := c.oldestLocked(nil)
				c.mu.Unlock()
				c.drop(victim, dropDescriptors)
			}
			return nil, err // net/http comes again after a pause
		}
		victim, reason, ok := c.admit(conn)
		if !ok {
			victim = conn
		}
		c.drop(victim, reason)
		if ok {
			return conn, nil
		}
	}
}

func (c *conns) drop(conn net.Conn, reason string) {
	if conn != nil {
		_ = conn.Close() // it is given up
		c.dropped(reason)
	}
}

// admit counts conn. It returns a connection to close instead, if any, and why. If it reports false, all others are being
// served and conn has to go.
func (c *conns) admit(conn net.Conn) (victim net.Conn, reason string, ok bool) {
	addr := remoteAddr(conn)
	key := network(addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.networks[key]
	if h == nil {
		h = &holder{network: key}
	}
	switch {
	case c.perNetwork > 0 && h.open >= c.perNetwork && !c.exempt(addr):
		victim, reason = c.oldestLocked(h), dropAddress
		ok = victim != nil
	case len(c.open) >= c.max:
		victim, reason = c.oldestLocked(nil), dropFull
		ok = victim != nil
	default:
		ok = true
	}
	if !ok {
		return nil, reason, false
	}
	c.networks[key] = h // it is new, or the victim was its last connection
	h.open++
	e := &held{conn: conn, since: time.Now(), holder: h}
	c.open[conn] = e
	e.place = h.sending.PushBack(e)
	c.levelLocked(h)
	return victim, reason, true
}

// oldestLocked takes the oldest connection that is still sending its request out of the counts and returns it: of h, or
// of the holder that has most of them when h is nil. It returns nil when there is none.
func (c *conns) oldestLocked(h *holder) net.Conn {
	if h == nil {
		if c.top == 0 {
			return nil
		}
		h = c.levels[c.top].Front().Value.(*holder)
	}
	first := h.sending.Front()
	if first == nil {
		return nil
	}
	e := first.Value.(*held)
	c.removeLocked(e)
	return e.conn
}

// received says that the request on conn has been read: it is served whatever else happens. It reports false when the
// connection was dropped before.
func (c *conns) received(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.open[conn]
	if e == nil {
		return false
	}
	if e.place != nil {
		e.holder.sending.Remove(e.place)
		e.place = nil
		c.levelLocked(e.holder)
	}
	return true
}

// since is when conn was accepted.
func (c *conns) since(conn net.Conn) (t time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.open[conn]; e != nil {
		return e.since, true
	}
	return t, false
}

func (c *conns) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// connState is the http.Server's hook: a connection that closed makes room.
func (c *conns) connState(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.open[conn]; e != nil {
		c.removeLocked(e)
	}
}

func (c *conns) removeLocked(e *held) {
	delete(c.open, e.conn)
	h := e.holder
	if e.place != nil {
		h.sending.Remove(e.place)
		e.place = nil
	}
	h.open--
	c.levelLocked(h)
	c.releaseLocked(h)
}

// levelLocked puts h into the level of its count.
func (c *conns) levelLocked(h *holder) {
	c.unlevelLocked(h)
	h.at = h.sending.Len()
	h.place = c.levels[h.at].PushBack(h)
	c.top = max(c.top, h.at)
	c.sinkLocked()
}

func (c *conns) unlevelLocked(h *holder) {
	if h.place != nil {
		c.levels[h.at].Remove(h.place)
		h.place = nil
	}
}

// sinkLocked lowers top to the highest level that holds something.
func (c *conns) sinkLocked() {
	for c.top > 0 && c.levels[c.top].Len() == 0 {
		c.top--
	}
}

// releaseLocked forgets a holder of nothing.
func (c *conns) releaseLocked(h *holder) {
	if h.open == 0 {
		c.unlevelLocked(h)
		c.sinkLocked()
		delete(c.networks, h.network)
	}
}

func remoteAddr(conn net.Conn) netip.Addr {
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// connKey is the context key of a request's connection.
type connKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}
