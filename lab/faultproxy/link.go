package faultproxy

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	readBytes  = 16 << 10 // size of a read, which is delayed as a unit
	queueReads = 64       // reads in flight in one direction: 1 MiB, as much as a kernel would hold
	// A narrow link is paced in steps of 10 ms, so that it is narrow at each moment and not just on average.
	paceStep = 10 * time.Millisecond
)

// link is a proxied connection.
type link struct {
	pipes [2]*pipe
	done  chan struct{} // closed by a reset
	once  sync.Once     // guards the end, by a reset or by both streams
}

// pipe is one direction of a link. Its reader adds to the data the time when it is due; its writer passes it on then.
type pipe struct {
	proxy    *Proxy
	link     *link
	dir      Direction
	src, dst net.Conn
	queue    chan chunk
	rng      *rand.Rand // used by the reader
	spread   float64    // 0 to 1; this connection's share of ResetSpread

	// Owned by the writer.
	written int64
	next    time.Time // when the link's width permits the next byte

	halfOnce sync.Once
	half     chan struct{} // closed by halfClose
}

type chunk struct {
	data []byte
	due  time.Time
}

func newLink(p *Proxy, client, server net.Conn, n uint64) *link {
	l := &link{done: make(chan struct{})}
	for d, ends := range [2][2]net.Conn{ToServer: {client, server}, ToClient: {server, client}} {
		rng := rand.New(rand.NewPCG(p.seed, n<<1|uint64(d)))
		l.pipes[d] = &pipe{
			proxy: p, link: l, dir: Direction(d), src: ends[0], dst: ends[1], queue: make(chan chunk, queueReads),
			rng: rng, spread: rng.Float64(), half: make(chan struct{}),
		}
	}
	return l
}

// run returns when both directions have ended.
func (l *link) run() {
	var wg sync.WaitGroup
	for _, p := range l.pipes {
		wg.Go(p.read)
		wg.Go(p.write)
	}
	wg.Wait()
	l.once.Do(func() { // both streams have ended: no reset, which would discard what a slow reader has not read yet
		_ = l.pipes[ToServer].src.Close() // all data has been written
		_ = l.pipes[ToServer].dst.Close() // the same
	})
}

// reset resets both sides; only the first call has an effect.
func (l *link) reset() {
	l.once.Do(func() {
		close(l.done)
		resetConn(l.pipes[ToServer].src)
		resetConn(l.pipes[ToServer].dst)
	})
}

// read queues received data until the stream ends.
func (p *pipe) read() {
	defer close(p.queue)
	var last time.Time
	for {
		buf := make([]byte, readBytes)
		n, err := p.src.Read(buf)
		if n > 0 {
			f, _ := p.proxy.look(p.dir)
			due := time.Now().Add(f.Latency)
			if f.Jitter > 0 {
				due = due.Add(time.Duration(p.rng.Int64N(int64(f.Jitter) + 1)))
			}
			if due.Before(last) {
				due = last // jitter must not reorder the stream
			}
			last = due
			select {
			case p.queue <- chunk{buf[:n], due}:
			case <-p.link.done:
				return
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil { // the sender was reset, so reset the receiver
			p.link.reset()
			return
		}
	}
}

// write passes on what was read. When the stream has ended, it ends the other one.
func (p *pipe) write() {
	for {
		c, ok := p.take()
		if !ok || !p.wait(time.Until(c.due)) || !p.deliver(c.data) {
			break
		}
	}
	p.closeWrite()
	for range p.queue { // discard the sender's bytes after a half close; after a reset the reader ends by itself
	}
}

// take waits for the next chunk. It returns false if the stream or this direction has ended.
func (p *pipe) take() (chunk, bool) {
	select {
	case c, ok := <-p.queue:
		return c, ok
	case <-p.half:
		return chunk{}, false
	}
}

// deliver writes a chunk piece by piece, and applies the current faults to each. It returns false if this direction
// has ended.
func (p *pipe) deliver(data []byte) bool {
	for len(data) > 0 {
		f, changed := p.proxy.look(p.dir)
		if f.Silent {
			select {
			case <-changed:
				continue
			case <-p.half:
				return false
			case <-p.link.done:
				return false
			}
		}
		n := len(data)
		if f.Slice > 0 {
			n = min(n, f.Slice)
		}
		if f.BytesPerSecond > 0 {
			n = min(n, max(1, int(int64(f.BytesPerSecond)*int64(paceStep)/int64(time.Second))))
			if !p.pace(n, f.BytesPerSecond) {
				return false
			}
		}
		limit := int64(-1)
		if f.ResetAfter > 0 {
			limit = f.ResetAfter + int64(p.spread*float64(f.ResetSpread))
			n = int(min(int64(n), limit-p.written))
		}
		if n > 0 {
			m, err := p.dst.Write(data[:n])
			p.written += int64(m)
			p.proxy.passed[p.dir].Add(int64(m))
			if err != nil {
				p.link.reset() // the writer must notice that the connection is dead
				return false
			}
			data = data[n:]
		}
		if limit >= 0 && p.written >= limit {
			p.link.reset()
			return false
		}
		if len(data) > 0 && f.Slice > 0 && !p.wait(f.SliceGap) {
			return false
		}
	}
	return true
}

// pace waits until the link's width permits n more bytes.
func (p *pipe) pace(n, perSecond int) bool {
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(int64(n) * int64(time.Second) / int64(perSecond)))
	return p.wait(wait)
}

// wait waits for d, and returns false if this direction ends before.
func (p *pipe) wait(d time.Duration) bool {
	if d <= 0 {
		select {
		case <-p.half:
			return false
		case <-p.link.done:
			return false
		default:
			return true
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.half:
		return false
	case <-p.link.done:
		return false
	}
}

// halfClose makes the writer end this direction. A blocked write must finish first.
func (p *pipe) halfClose() {
	p.halfOnce.Do(func() { close(p.half) })
}

func (p *pipe) closeWrite() {
	if tcp, ok := p.dst.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // fails on a connection that was reset, whose both directions have ended
	}
}
