package clientconn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/netpoll"

	"parley/internal/outbox"
	"parley/internal/session"
	"parley/internal/wire"
)

// tlsSocket is a connection under TLS. It costs no goroutine: netpoll says when something has come, and then crypto/tls is
// asked for as much as that yields. Only the handshake waits for the client, in the connection's own callback; the login's
// time-out ends it.
type tlsSocket struct {
	outbox.Descriptor
	conn *tls.Conn

	// Owned by the reader.
	reader  netpoll.Reader
	limit   int  // bytes that may be unread
	waiting bool // the handshake is under way: a read waits

	shaken atomic.Bool // the handshake is over; nothing is written before

	// Owned by the outbox' writer. The socket had no room for all of a record: the last byte of what it stands for was not
	// reported as written, so that the rest is not forgotten.
	owed bool

	mu       sync.Mutex // guards the following
	pending  []byte     // records, or their rest, for which the socket has no room
	flushing bool       // Write sends records, others append theirs
}

var (
	errFlood    = errors.New("clientconn: too much at once")
	errNotTaken = errors.New("clientconn: the client takes no records")
)

// recordBytes is how much of a frame one record holds.
const recordBytes = 16 << 10

// maxPending bounds the records that wait: one of data, and what TLS itself has to say.
const maxPending = 64 << 10

func newTLSSocket(conn outbox.Conn, config *tls.Config, limit int) *tlsSocket {
	t := &tlsSocket{limit: limit}
	t.Open(conn)
	t.conn = tls.Server(beneath{t}, config)
	return t
}

// Transport is what session.Session asks for.
func (t *tlsSocket) Transport() wire.Transport { return wire.TLS }

// plainBuffers are what is decrypted into.
var plainBuffers = sync.Pool{New: func() any { return new([takeBytes]byte) }}

// read takes what has arrived, with web as messages of WebSocket. false: close the connection.
func (t *tlsSocket) read(c *Conn, r netpoll.Reader, web *webSocket) bool {
	t.reader = r
	if !t.shaken.Load() {
		t.waiting = true
		err := t.conn.Handshake()
		t.waiting = false
		if err != nil {
			c.of.d.Metrics.BadHandshakes.Inc()
			return false
		}
		t.shaken.Store(true)
	}
	buf := plainBuffers.Get().(*[takeBytes]byte)
	defer plainBuffers.Put(buf)
	for c.State() != session.Dead {
		n, err := t.conn.Read(buf[:])
		ok := n == 0
		switch {
		case ok:
		case web != nil:
			ok = web.receive(c, buf[:n])
		default:
			ok = c.Receive(buf[:n])
		}
		switch {
		case !ok:
			return false
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return true
		case errors.Is(err, io.EOF):
			c.hangUp()
			return true
		case errors.Is(err, errFlood):
			return c.refuseStream(wire.CodeRateLimited)
		default:
			c.of.d.Metrics.BadFrames.Inc()
			return false
		}
	}
	return true
}

// TryWrite implements outbox.Socket.
func (t *tlsSocket) TryWrite(b []byte) (n int, err error) {
	if t.owed {
		if empty, err := t.flush(); err != nil || !empty {
			return 0, err
		}
		t.owed = false
		n = min(1, len(b))
	}
	for n < len(b) {
		m, err := t.conn.Write(b[n:min(len(b), n+recordBytes)])
		if n += m; err != nil {
			return n, err
		}
		if empty, err := t.flush(); err != nil || !empty {
			t.owed = true
			return n - 1, err
		}
	}
	return n, nil
}

// Write implements outbox.Socket. It waits for the client without a lock of TLS', which the reader may want.
func (t *tlsSocket) Write(b []byte) (n int, err error) {
	for {
		if err := t.flushAll(); err != nil {
			return n, err
		}
		if t.owed {
			t.owed = false
			n = min(1, len(b))
		}
		if n == len(b) {
			return n, nil
		}
		m, err := t.conn.Write(b[n:min(len(b), n+recordBytes)])
		if n += m; err != nil {
			return n, err
		}
	}
}

// CloseWrite implements outbox.Socket.
func (t *tlsSocket) CloseWrite() {
	if t.shaken.Load() {
		_ = t.conn.CloseWrite() // the end of the stream follows in any case
	}
	t.Descriptor.CloseWrite()
}

// flush writes what waits as far as the socket takes it, and reports whether nothing waits any more.
func (t *tlsSocket) flush() (empty bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flushLocked()
}

func (t *tlsSocket) flushLocked() (empty bool, err error) {
	for len(t.pending) > 0 {
		if t.flushing {
			return false, nil
		}
		n, err := t.Descriptor.TryWrite(t.pending)
		if err != nil {
			return false, err
		}
		if n == 0 {
			return false, nil
		}
		t.pending = t.pending[n:]
	}
	t.pending = nil
	return true, nil
}

// flushAll waits until the socket has taken what waits.
func (t *tlsSocket) flushAll() error {
	for {
		t.mu.Lock()
		if empty, err := t.flushLocked(); empty || err != nil {
			t.mu.Unlock()
			return err
		}
		b := t.pending
		t.pending, t.flushing = nil, true
		t.mu.Unlock()
		_, err := t.Descriptor.Write(b)
		t.mu.Lock()
		t.flushing = false
		t.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// beneath is the connection as crypto/tls sees it: it never waits, but to read during the handshake.
type beneath struct{ t *tlsSocket }

// Read implements net.Conn. That nothing is there looks like a deadline that has passed, after which crypto/tls may be asked
// again.
func (b beneath) Read(p []byte) (int, error) {
	t := b.t
	n := t.reader.Len()
	if n == 0 && t.waiting {
		if _, err := t.flush(); err != nil {
			return 0, err
		}
		if _, err := t.reader.Peek(1); err != nil {
			return 0, err
		}
		n = t.reader.Len()
	}
	switch {
	case n == 0:
		return 0, os.ErrDeadlineExceeded
	case n > t.limit:
		return 0, errFlood
	}
	data, err := t.reader.Next(min(n, len(p)))
	if err != nil {
		return 0, err
	}
	n = copy(p, data)
	_ = t.reader.Release() // the only error is that nothing was read
	return n, nil
}

// Write implements net.Conn. It always takes all of b.
func (b beneath) Write(p []byte) (int, error) {
	t := b.t
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	if len(t.pending) == 0 && !t.flushing {
		var err error
		if n, err = t.Descriptor.TryWrite(p); err != nil {
			return n, err
		}
	}
	if len(t.pending)+len(p)-n > maxPending {
		return n, errNotTaken
	}
	t.pending = append(t.pending, p[n:]...)
	return len(p), nil
}

func (beneath) Close() error                     { return nil } // the session closes it
func (beneath) LocalAddr() net.Addr              { return nil }
func (beneath) RemoteAddr() net.Addr             { return nil }
func (beneath) SetDeadline(time.Time) error      { return nil }
func (beneath) SetReadDeadline(time.Time) error  { return nil }
func (beneath) SetWriteDeadline(time.Time) error { return nil }
