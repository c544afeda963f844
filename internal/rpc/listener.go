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

// Listen binds a TCP port, host:port. The functions in set receive the socket's descriptor before it listens; an
// error of theirs fails Listen. On Linux, accepted connections inherit TCP_NODELAY and the options so set. Listen
// turns off MPTCP, Go's default for listeners, because most kernels do not take these options on it.
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

// NoDelay makes the kernel send written data at once instead of waiting for the acknowledgement of earlier data.
func NoDelay(fd int) error {
	return os.NewSyscallError("TCP_NODELAY", syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1))
}

// A listener is a TCP listener for a netpoll event loop. It replaces netpoll's own, which closes its descriptor
// twice. Kitex also closes its listener twice, 100 ms apart; by the second time the descriptor may belong to another
// goroutine's socket or database file. It also marks accepted sockets close-on-exec, as netpoll's does not.
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

// newListener takes over ln, which must be a *net.TCPListener: it closes ln and keeps the socket.
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

// Fd returns the descriptor, for netpoll. The first call means that an event loop starts serving.
func (l *listener) Fd() int {
	l.servingOnce.Do(func() { close(l.serving) })
	return l.fd
}

// Addr returns the bound address.
func (l *listener) Addr() net.Addr { return l.addr }

// Accept is for netpoll: it returns nil and no error if no connection is waiting.
func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil, nil //nolint:nilnil // what netpoll expects for "nothing now"
	}
	// The lock keeps a concurrent fork from inheriting the descriptor before it is marked close-on-exec.
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

// Close stops accepting but keeps the descriptor, which the event loop still uses; Release closes it. Close may be
// called any number of times.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil
	}
	l.stopped = true
	_ = syscall.Shutdown(l.fd, syscall.SHUT_RDWR) // if the system refuses, clients wait in the backlog until Release
	return nil
}

// Release closes the descriptor, once. Call it after the event loop has ended, or if it never started.
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

// accepted hands a new socket to netpoll, which copies what it needs and drops it.
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
