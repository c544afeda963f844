//go:build unix

package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/cloudwego/netpoll"
)

// Listen binds a TCP port, host:port. On Linux what it accepts inherits TCP_NODELAY and what set sets on the listening
// descriptor; set runs before it listens, and its error fails Listen. MPTCP, Go's default for listeners, is off: on it most
// kernels take no such options.
func Listen(addr string, set ...func(fd int) error) (net.Listener, error) {
	options := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		return errors.Join(raw.Control(func(fd uintptr) {
			failed = NoDelay(int(fd))
			for _, f := range set {
				failed = errors.Join(failed, f(int(fd)))
			}
		}), failed)
	}}
	options.SetMultipathTCP(false)
	return options.Listen(context.Background(), "tcp", addr)
}

// NoDelay has what is written to a socket leave at once, even if the peer's kernel has not confirmed what was before.
func NoDelay(fd int) error {
	return os.NewSyscallError("TCP_NODELAY", syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1))
}

// listener is a TCP listener for a netpoll event loop. It exists because netpoll's own closes its descriptor twice, and a
// Kitex server closes its listener twice, 100 ms apart: by then the number may be another goroutine's socket or database
// file, which dies for no reason. It also marks accepted sockets close-on-exec, which netpoll's does not.
type listener struct {
	file *os.File
	fd   int
	addr net.Addr

	serving     chan struct{} // closed when an event loop takes the descriptor
	servingOnce sync.Once

	mu      sync.Mutex // guards the following
	stopped bool
	closed  bool
}

var _ netpoll.Listener = (*listener)(nil)

// newListener takes ln over: ln is closed, its socket lives on in the listener. ln must be a *net.TCPListener.
func newListener(ln net.Listener) (*listener, error) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("rpc: %T is not a TCP listener", ln)
	}
	file, err := tcp.File()
	if err != nil {
		return nil, fmt.Errorf("rpc: take over listener: %w", err)
	}
	l := &listener{file: file, fd: int(file.Fd()), addr: ln.Addr(), serving: make(chan struct{})}
	if err := ln.Close(); err != nil {
		_ = file.Close() // the first error is the one to report
		return nil, fmt.Errorf("rpc: take over listener: %w", err)
	}
	if err := syscall.SetNonblock(l.fd, true); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("rpc: take over listener: %w", err)
	}
	return l, nil
}

// Fd is for netpoll.
func (l *listener) Fd() int {
	l.servingOnce.Do(func() { close(l.serving) })
	return l.fd
}

// Addr is the bound address.
func (l *listener) Addr() net.Addr { return l.addr }

// Accept is for netpoll: it returns nil and no error when nobody waits.
func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil, nil //nolint:nilnil // what netpoll expects for "nothing now"
	}
	syscall.ForkLock.RLock()
	fd, sa, err := syscall.Accept(l.fd)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	switch err {
	case nil:
		return &accepted{fd: fd, local: l.addr, remote: tcpAddr(sa)}, nil
	case syscall.EAGAIN, syscall.EINTR, syscall.ECONNABORTED:
		return nil, nil //nolint:nilnil
	}
	return nil, err
}

// Close stops accepting and keeps the descriptor, which the event loop has yet to forget; Release gives it back. It may
// be called any number of times.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil
	}
	l.stopped = true
	_ = syscall.Shutdown(l.fd, syscall.SHUT_RDWR) // where the system refuses, clients wait in the backlog until Release
	return nil
}

// Release closes the descriptor, once. Call it when the event loop has ended, or was never started.
func (l *listener) Release() error {
	_ = l.Close() // never fails
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.file.Close()
}

// accepted carries a new socket to netpoll, which copies what it needs and drops it.
type accepted struct {
	net.Conn      // nil: netpoll calls none of its methods
	fd            int
	local, remote net.Addr
}

func (a *accepted) Fd() int              { return a.fd }
func (a *accepted) LocalAddr() net.Addr  { return a.local }
func (a *accepted) RemoteAddr() net.Addr { return a.remote }

func tcpAddr(sa syscall.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return &net.TCPAddr{IP: append(net.IP(nil), sa.Addr[:]...), Port: sa.Port}
	case *syscall.SockaddrInet6:
		return &net.TCPAddr{IP: append(net.IP(nil), sa.Addr[:]...), Port: sa.Port}
	}
	return &net.TCPAddr{}
}
