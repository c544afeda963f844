package outbox

import (
	"sync"
	"syscall"
)

// Socket is what an outbox needs of a connection. The outbox calls one of TryWrite, Write and CloseWrite at a time, and none
// after Gone. A write holds whole frames, but for what one before it has left over: that comes first, and alone.
type Socket interface {
	// TryWrite writes what the socket takes at once: 0, nil when it is full.
	TryWrite([]byte) (int, error)
	// Write blocks until the socket took everything or the connection was closed.
	Write([]byte) (int, error)
	// Last says which frame will be the last, nil if there is none. It may come beside a Write that waits.
	Last(frame []byte)
	// CloseWrite ends our direction.
	CloseWrite()
	// Reset makes the coming Close drop what the client has not taken, beside a Write that waits.
	Reset()
}

// guarded is a socket that one goroutine at a time writes to, and none once the connection is closed.
type guarded struct {
	mu sync.Mutex // held for each write
	// Socket is nil once the connection is closed, as the descriptor may be somebody else's then. It is changed under mu and
	// under the outbox' mu, so that either will do to use it.
	Socket
}

// write hands the socket what it takes at once: 0, nil when it is full.
func (g *guarded) write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone() {
		return 0, ErrClosed
	}
	return g.TryWrite(b)
}

// closeWrite ends our direction. It returns false if the connection is closed.
func (g *guarded) closeWrite() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone() {
		return false
	}
	g.CloseWrite()
	return true
}

func (g *guarded) gone() bool { return g.Socket == nil }

// Conn is a connection with a descriptor; netpoll.Connection and netpoll.Conn together offer it.
type Conn interface {
	Fd() int
	// Write blocks until the kernel took everything or the connection was closed.
	Write([]byte) (int, error)
	Close() error
}

// Descriptor is the Socket of a plain connection: it writes to the descriptor itself where that need not wait.
type Descriptor struct {
	Conn
	fd int
}

// Open makes d the socket of conn.
func (d *Descriptor) Open(conn Conn) { d.Conn, d.fd = conn, conn.Fd() }

// TryWrite implements Socket.
func (d *Descriptor) TryWrite(b []byte) (int, error) {
	for {
		n, err := syscall.Write(d.fd, b)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, err
		}
	}
}

// Last implements Socket.
func (d *Descriptor) Last([]byte) {}

// CloseWrite implements Socket. An error means that the client is gone already; Close follows all the same.
func (d *Descriptor) CloseWrite() { _ = syscall.Shutdown(d.fd, syscall.SHUT_WR) }

// Reset implements Socket. After an error the connection closes as usual.
func (d *Descriptor) Reset() {
	_ = syscall.SetsockoptLinger(d.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
}
