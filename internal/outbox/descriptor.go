package outbox

import "syscall"

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
