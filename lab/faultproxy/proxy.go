package faultproxy

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Direction is the way bytes travel.
type Direction int

// The two directions of a link: ToServer is from who dials to who accepts.
const (
	ToServer Direction = iota
	ToClient
)

// String is the direction's name.
func (d Direction) String() string { return [...]string{"to server", "to client"}[d] }

// Faults is what is wrong with one direction of the link. The zero value is nothing.
type Faults struct {
	// Latency delays each read of bytes, Jitter adds up to that much more, drawn anew for each. Order is kept.
	Latency, Jitter time.Duration
	// BytesPerSecond is the width of the link, of each connection alone; 0 is no limit.
	BytesPerSecond int
	// Slice is the most bytes handed on in one write, with SliceGap between two; 0 is as they come. On the loopback a
	// gap of a millisecond makes the reader see the slices one by one.
	Slice    int
	SliceGap time.Duration
	// Silent holds all bytes back, without an end of the connection, until it is false again: what a network that
	// drops packets looks like to both ends. Bytes are late then, not lost, as TCP would repeat them. A piece that is
	// being written while it is set still arrives.
	Silent bool
	// ResetAfter resets the connection, both sides, once that many bytes have passed in this direction since it was
	// accepted; ResetSpread adds up to that many more, drawn once a connection. 0 is never. Connections that are past
	// it are reset with their next byte.
	ResetAfter, ResetSpread int64
}

// Options says how a Proxy is made.
type Options struct {
	Addr string // to listen on; empty: a free port on 127.0.0.1
	Seed uint64 // of Jitter and ResetSpread
}

// dialTimeout bounds the connection to the target: it is on this machine.
const dialTimeout = 10 * time.Second

// Proxy is a listener that hands each connection on to a target, with faults. All methods may be called from any
// goroutine.
type Proxy struct {
	ln       net.Listener
	seed     uint64
	accepted atomic.Int64
	passed   [2]atomic.Int64
	wg       sync.WaitGroup

	mu      sync.Mutex // guards the following
	target  string
	faults  [2]Faults
	changed chan struct{} // closed and replaced when faults change
	links   map[*link]struct{}
	refuse  bool
	closed  bool
	ends    ends
}

// ends counts the ends that were called for. The target can have accepted a connection that is not in links yet, so a
// link that comes in late catches up with what it missed.
type ends struct {
	cuts   int
	halves [2]int
}

// Listen starts a proxy in front of target, a host:port that need not answer yet.
func Listen(target string, o Options) (*Proxy, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{ln: ln, seed: o.Seed, target: target, changed: make(chan struct{}), links: map[*link]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is the host:port to dial instead of the target's.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Set makes f the faults of a direction, at once and for living connections too. Bytes already delayed keep their
// delay.
func (p *Proxy) Set(d Direction, f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[d] = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// SetBoth is Set for both directions.
func (p *Proxy) SetBoth(f Faults) {
	p.Set(ToServer, f)
	p.Set(ToClient, f)
}

// Heal takes all faults away, and Refuse too.
func (p *Proxy) Heal() {
	p.Refuse(false)
	p.SetBoth(Faults{})
}

// SetTarget makes later connections go elsewhere.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Refuse makes the proxy reset each new connection at once, or no longer. Living ones go on.
func (p *Proxy) Refuse(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = yes
}

// Cut resets all living connections, both sides.
func (p *Proxy) Cut() {
	for _, l := range p.living(func(e *ends) { e.cuts++ }) {
		l.reset()
	}
}

// HalfClose ends the stream of one direction of all living connections: the receiver reads what was delivered and then
// the end of the stream, the sender's further bytes vanish, and the other direction goes on.
func (p *Proxy) HalfClose(d Direction) {
	for _, l := range p.living(func(e *ends) { e.halves[d]++ }) {
		l.pipes[d].halfClose()
	}
}

// Accepted is how many connections have come in, refused ones included.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

// Passed is how many bytes have been handed on in a direction.
func (p *Proxy) Passed(d Direction) int64 { return p.passed[d].Load() }

// Living is how many connections are open.
func (p *Proxy) Living() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close stops listening, resets all connections and waits for their goroutines. Calling it again does nothing.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.ln.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	p.Cut()
	p.wg.Wait()
	return err
}

// living returns the open connections once it has counted what is about to end them.
func (p *Proxy) living(count func(*ends)) []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	count(&p.ends)
	all := make([]*link, 0, len(p.links))
	for l := range p.links {
		all = append(all, l)
	}
	return all
}

func (p *Proxy) accept() {
	for {
		conn, err := p.ln.Accept()
		if err != nil {
			return // closed: nothing else ends a listener of a test
		}
		n := p.accepted.Add(1)
		p.mu.Lock()
		target, refuse, before := p.target, p.refuse, p.ends
		p.mu.Unlock()
		if refuse {
			resetConn(conn)
			continue
		}
		p.wg.Go(func() { p.serve(conn, target, n, before) })
	}
}

// serve is one connection, from the dial to its end; before is what had been called for when it was accepted.
func (p *Proxy) serve(client net.Conn, target string, n int64, before ends) {
	server, err := net.DialTimeout("tcp", target, dialTimeout)
	if err != nil {
		resetConn(client) // the nearest to "refused" that is left once the proxy has accepted
		return
	}
	l := newLink(p, client, server, uint64(n))
	p.mu.Lock()
	if p.closed || p.ends.cuts != before.cuts {
		p.mu.Unlock()
		l.reset()
		return
	}
	for d, pipe := range l.pipes {
		if p.ends.halves[d] != before.halves[d] {
			pipe.halfClose()
		}
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// look returns the faults of a direction and a channel that is closed when they change.
func (p *Proxy) look(d Direction) (Faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults[d], p.changed
}

// resetConn closes with a RST: whatever is unsent is dropped and the peer reads an error, not an end.
func resetConn(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails on a socket that is gone, which is what is wanted
	}
	_ = c.Close() // the same
}
