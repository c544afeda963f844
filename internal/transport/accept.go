//go:build unix

// Package transport binds the clients' port and accepts their connections.
package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/rpc"
)

// Connections are accepted here and handed to netpoll one by one. netpoll's own server takes one each time it has looked
// at all the others, so that in a rush of logins most of them grow old in the kernel's backlog; and it keeps two addresses
// and an entry of a map for each.

// acceptPause is how long accepting rests when descriptors or memory are used up: clients wait in the backlog meanwhile.
const acceptPause = 50 * time.Millisecond

// acceptRest is how often a rest looks whether it is over.
const acceptRest = 5 * time.Millisecond

// A Listener is a bound port. It is a file, because a net.Listener lets nobody else accept on it.
type Listener struct {
	*os.File
	Addr net.Addr
}

// Listen binds the clients' port. What is set here, every accepted socket inherits on Linux: the kernel's buffers, of which
// 0 leaves one to the kernel, among it.
func Listen(addr string, sendBytes, receiveBytes int) (*Listener, error) {
	// Without rpc.Listen's no delay, frames that wait for a confirmation would arrive together, which makes a stock client
	// deaf.
	ln, err := rpc.Listen(addr, setKeepAlive, func(fd int) error {
		return setBuffers(fd, sendBytes, receiveBytes)
	})
	if err != nil {
		return nil, err
	}
	file, err := ln.(*net.TCPListener).File() // the same port on another descriptor
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	if err := shorten(file); err != nil {
		return nil, errors.Join(err, file.Close(), ln.Close())
	}
	return &Listener{file, ln.Addr()}, ln.Close()
}

// shorten makes the kernel's backlog as long as backlog says; Go's is as long as the system allows.
func shorten(ln *os.File) error {
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = os.NewSyscallError("listen", syscall.Listen(int(fd), backlog)) })
	return errors.Join(err, failed)
}

// Deps is what Serve works with.
type Deps struct {
	Log     *slog.Logger
	Context context.Context // ends before the listener is closed
	// Crowded reports whether so many logins wait that nobody is to be accepted now. Pause is how long to wait before the
	// next connection.
	Crowded func() bool
	Pause   func(now time.Time) time.Duration
	// Welcome takes an accepted socket, which is its to close.
	Welcome func(fd int, from netip.Addr)
	// Rests counts the times that accepting rested for Crowded, Failures the connections that could not be accepted.
	Rests, Failures prometheus.Counter
}

// Serve accepts until the listener is closed.
func (l *Listener) Serve(d Deps) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var warned time.Time
	for {
		d.rest()
		d.pause(d.Pause(time.Now()))
		var fd int
		var from netip.Addr
		var failed error
		err := raw.Read(func(ln uintptr) bool {
			fd, from, failed = accept(int(ln))
			return failed != syscall.EAGAIN
		})
		switch {
		case err != nil && d.Context.Err() != nil:
			return nil // closed
		case err != nil:
			return fmt.Errorf("transport: accept clients: %w", err)
		case failed == nil:
			d.Welcome(fd, from)
		case failed == syscall.EINTR || failed == syscall.ECONNABORTED:
		default:
			d.Failures.Inc()
			if now := time.Now(); now.Sub(warned) > time.Minute {
				d.Log.Warn("clients wait, because one could not be accepted", "err", failed)
				warned = now
			}
			d.pause(acceptPause)
		}
	}
}

// pause waits, unless the node stops.
func (d *Deps) pause(wait time.Duration) {
	if wait <= 0 {
		return
	}
	select {
	case <-time.After(wait):
	case <-d.Context.Done():
	}
}

// backlog is how many connections the kernel keeps for a node that rests; the others' first packets are dropped, and sent
// again by the clients' kernels after 1, 3 and 7 s. Both waits together must be much shorter than LoginTimeout, which is
// all that a client waits: with 4,096 here and as many in line, most were served when their clients had just given up.
const backlog = 1024

// rest waits while enough logins wait for their turn (Crowded). A connection that is refused costs a node time that logins need, and
// its client comes back for more; one that is not accepted costs nearly nothing. The rest ends within the login timeout, for
// then no login waits any more that waits now.
func (d *Deps) rest() {
	if !d.Crowded() {
		return
	}
	d.Rests.Inc()
	for d.Crowded() && d.Context.Err() == nil {
		time.Sleep(acceptRest)
	}
}

func addrOf(sa syscall.Sockaddr) netip.Addr {
	switch a := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *syscall.SockaddrInet6:
		return netip.AddrFrom16(a.Addr).Unmap()
	}
	return netip.Addr{}
}
