//go:build unix

package obs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
)

// spareDescriptors is how many descriptors must be free, and how many the operations listener keeps, so that it can say
// that none are.
const spareDescriptors = 4

// Descriptors fails while the process, or the machine, has no file descriptors left: nobody can connect, and nothing can
// be dialled. It tries, which costs a few system calls however many descriptors are open.
func Descriptors() Check { return Check{Name: "descriptors", Probe: probeDescriptors} }

func probeDescriptors(context.Context) error {
	var taken []int
	defer func() {
		for _, fd := range taken {
			_ = syscall.Close(fd) // of no other use
		}
	}()
	for range spareDescriptors {
		fd, err := spare()
		if err != nil {
			return noDescriptors{err}
		}
		taken = append(taken, fd)
	}
	return nil
}

// spare opens a descriptor that serves no purpose.
func spare() (int, error) {
	fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("open", err)
}

type noDescriptors struct{ error }

func (e noDescriptors) Unwrap() error { return e.error }

// Public is the error without anything that is not for everybody.
func (noDescriptors) Public() string {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return "no file descriptors left"
	}
	return fmt.Sprintf("no file descriptors left, the limit is %d", limit.Cur)
}

// spareListener accepts also when no descriptors are left: it keeps some, gives one up for a connection, and takes it back
// when the connection ends.
type spareListener struct {
	net.Listener

	mu    sync.Mutex // guards the following
	spare []int
	done  bool
}

func newSpareListener(ln net.Listener) net.Listener {
	l := &spareListener{Listener: ln}
	l.refill()
	return l
}

func (l *spareListener) refill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.done && len(l.spare) < spareDescriptors {
		fd, err := spare()
		if err != nil {
			return
		}
		l.spare = append(l.spare, fd)
	}
}

// giveUp closes a spare descriptor and reports whether there was one.
func (l *spareListener) giveUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spare) == 0 {
		return false
	}
	last := len(l.spare) - 1
	_ = syscall.Close(l.spare[last]) // of no other use
	l.spare = l.spare[:last]
	return true
}

// Accept waits for a connection.
func (l *spareListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		switch {
		case err == nil:
			return &refillingConn{Conn: conn, l: l}, nil
		case errors.Is(err, syscall.EMFILE) && l.giveUp():
		default:
			return nil, err
		}
	}
}

// Close gives the port and the spare descriptors back.
func (l *spareListener) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = true
	for _, fd := range l.spare {
		_ = syscall.Close(fd) // of no other use
	}
	l.spare = nil
	return err
}

// refillingConn has its listener take back what it gave up.
type refillingConn struct {
	net.Conn
	l *spareListener
}

func (c *refillingConn) Close() error {
	err := c.Conn.Close()
	c.l.refill()
	return err
}
