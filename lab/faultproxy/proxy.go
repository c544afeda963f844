package faultproxy

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Direction is a direction in which bytes travel.
type Direction int

// The directions of a link. ToServer is from the dialing to the accepting side.
const (
	ToServer Direction = iota
	ToClient
)

// String returns the name of the direction.
func (d Direction) String() string { return [...]string{"to server", "to client"}[d] }

// Faults describes the faults of one direction of a link. The zero value means none.
type Faults struct {
	// Latency delays each read; Jitter adds a random delay of up to that much. Order is kept.
	Latency, Jitter time.Duration
	// BytesPerSecond is the width of each connection; 0 means no limit.
	BytesPerSecond int
	// Slice is the maximum number of bytes per write, and SliceGap the pause between writes; 0 passes data on as it
	// arrives. On the loopback, a gap of a millisecond makes the reader see the slices one by one.
	Slice    int
	SliceGap time.Duration
	// Silent holds all bytes back until it is false again, without closing the connection: both ends see a network
	// that drops packets. The bytes are delayed and not lost, because TCP would repeat them. A piece that is being
	// written when Silent is set still arrives.
	Silent bool
	// ResetAfter resets both sides of a connection after that many bytes have passed in this direction since it was
	// accepted. ResetSpread adds a random number of up to that many bytes, drawn once per connection. 0 means never.
	// Connections already past the number are reset with their next byte.
	ResetAfter, ResetSpread int64
}

// Options configure a Proxy.
type Options struct {
	Addr string // listen address; empty: a free port on 127.0.0.1
	Seed uint64 // of Jitter and ResetSpread
}

// dialTimeout bounds connecting to the target, which is on this machine.
const dialTimeout = 10 * time.Second

// Proxy is a listener that forwards each connection to a target, with faults. All methods are safe for concurrent
// use.
type Proxy struct {
	ln       net.Listener
	seed     uint64
	accepted atomic.Int64
	passed   [2]atomic.Int64
	wg       sync.WaitGroup

	mu      sync.Mutex // guards the following
	target  string
	faults  [2]Faults
	changed chan struct{} // closed and replaced when the faults change
	links   map[*link]struct{}
	refuse  bool
	closed  bool
	ends    ends
}

// ends counts the requested ends. The target may accept a connection before it is in links, so a link that is added
// late applies the ends it has missed.
type ends struct {
	cuts   int
	halves [2]int
}

// Listen starts a proxy for target, a host:port that need not accept connections yet.
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

// Addr returns the host:port to dial instead of the target's.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Set sets the faults of a direction, at once and for existing connections too. Bytes already delayed keep their
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

// Heal removes all faults, and the effect of Refuse.
func (p *Proxy) Heal() {
	p.Refuse(false)
	p.SetBoth(Faults{})
}

// SetTarget sets the target of later connections.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Refuse makes the proxy reset each new connection at once, or stop doing so. Existing connections continue.
func (p *Proxy) Refuse(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = yes
}

// Cut resets both sides of all connections.
func (p *Proxy) Cut() {
	for _, l := range p.living(func(e *ends) { e.cuts++ }) {
		l.reset()
	}
}

// HalfClose ends one direction of all connections. The receiver reads what was delivered and then the end of the
// stream; further bytes of the sender are discarded; the other direction continues.
func (p *Proxy) HalfClose(d Direction) {
	for _, l := range p.living(func(e *ends) { e.halves[d]++ }) {
		l.pipes[d].halfClose()
	}
}

// Accepted returns the number of connections accepted so far, including refused ones.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

// Passed returns the number of bytes passed on in a direction.
func (p *Proxy) Passed(d Direction) int64 { return p.passed[d].Load() }

// Living returns the number of open connections.
func (p *Proxy) Living() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close stops listening, resets all connections and waits for their goroutines. Calling it again has no effect.
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

// living returns the open connections, after counting what is about to end them.
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
			return // closed: nothing else ends the listener
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

// serve handles a connection from the dial to its end. before holds the ends requested before it was accepted.
func (p *Proxy) serve(client net.Conn, target string, n int64, before ends) {
	server, err := net.DialTimeout("tcp", target, dialTimeout)
	if err != nil {
		resetConn(client) // the closest to "refused" after the proxy has accepted
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

// look returns the faults of a direction, and a channel that is closed when they change.
func (p *Proxy) look(d Direction) (Faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults[d], p.changed
}

// resetConn closes a connection with an RST: unsent data is discarded, and the peer reads an error instead of an end.
func resetConn(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed socket
	}
	_ = c.Close() // the same
}
