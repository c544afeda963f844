//go:build unix

package chat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/cloudwego/netpoll"

	"parley/internal/rpc"
)

// Connections are accepted here and handed to netpoll one by one. netpoll's own server takes one each time it has looked
// at all the others, so that in a rush of logins most of them grow old in the kernel's backlog; and it keeps two addresses
// and an entry of a map for each.

// acceptPause is how long accepting rests when descriptors or memory are used up: clients wait in the backlog meanwhile.
const acceptPause = 50 * time.Millisecond

// acceptRest is how often a rest looks whether it is over.
const acceptRest = 5 * time.Millisecond

// listener is a bound port. It is a file, because a net.Listener lets nobody else accept on it.
type listener struct {
	*os.File
	addr net.Addr
}

// listenClients binds the clients' port. What is set here, every accepted socket inherits on Linux.
func (s *Server) listenClients(addr string) (*listener, error) {
	// Without rpc.Listen's no delay, frames that wait for a confirmation would arrive together, which makes a stock client
	// deaf.
	ln, err := rpc.Listen(addr, setKeepAlive, func(fd int) error {
		return setBuffers(fd, s.cfg.Limits.SendBufferBytes, s.cfg.Limits.ReceiveBufferBytes)
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
	return &listener{file, ln.Addr()}, ln.Close()
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

// serveClients accepts until the listener is closed.
func (s *Server) serveClients() error {
	raw, err := s.clients.SyscallConn()
	if err != nil {
		return err
	}
	var warned time.Time
	for {
		s.rest()
		s.pause(s.admission.Pause(time.Now()))
		var fd int
		var from netip.Addr
		var failed error
		err := raw.Read(func(ln uintptr) bool {
			fd, from, failed = accept(int(ln))
			return failed != syscall.EAGAIN
		})
		switch {
		case err != nil && s.ctx.Err() != nil:
			return nil // closed
		case err != nil:
			return fmt.Errorf("chat: accept clients: %w", err)
		case failed == nil:
			s.welcome(fd, from)
		case failed == syscall.EINTR || failed == syscall.ECONNABORTED:
		default:
			s.metrics.acceptFailures.Inc()
			if now := time.Now(); now.Sub(warned) > time.Minute {
				s.log.Warn("clients wait, because one could not be accepted", "err", failed)
				warned = now
			}
			s.pause(acceptPause)
		}
	}
}

// pause waits, unless the node stops.
func (s *Server) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
}

// inLine is how many logins wait for their turn, for each that is being worked on, before accepting rests.
const inLine = 2

// backlog is how many connections the kernel keeps for a node that rests; the others' first packets are dropped, and sent
// again by the clients' kernels after 1, 3 and 7 s. Both waits together must be much shorter than LoginTimeout, which is
// all that a client waits: with 4,096 here and as many in line, most were served when their clients had just given up.
const backlog = 1024

// rest waits while enough logins wait for their turn. A connection that is refused costs a node time that logins need, and
// its client comes back for more; one that is not accepted costs nearly nothing. The rest ends within LoginTimeout, for
// then no login waits any more that waits now.
func (s *Server) rest() {
	if s.turns.Waiting() < inLine*s.cfg.Limits.LoginsAtOnce {
		return
	}
	s.metrics.acceptRests.Inc()
	for s.turns.Waiting() >= inLine*s.cfg.Limits.LoginsAtOnce && s.ctx.Err() == nil {
		time.Sleep(acceptRest)
	}
}

// welcome makes a connection of an accepted socket, or closes it.
func (s *Server) welcome(fd int, from netip.Addr) {
	now := time.Now()
	c := &conn{srv: s, addr: from.As16(), accepted: now.UnixMilli()}
	evicted, reached, ok := s.admission.Admit(&c.entry, from, now)
	if !ok {
		s.metrics.refusedConns[reached].Inc()
		_ = syscall.Close(fd) // nothing was sent or read yet; there is nobody to tell
		return
	}
	if evicted != nil {
		s.metrics.evicted.Inc()
		evicted.Evict()
	}
	np, err := netpoll.NewFDConnection(fd)
	if err != nil { // and the socket is closed
		s.admission.Closed(&c.entry, now)
		s.metrics.acceptFailures.Inc()
		s.log.Warn("client not served", "err", err)
		return
	}
	c.Init(np.(npConn), &s.limits)
	c.Seen(now)
	_ = np.AddCloseCallback(c.onClose) // fails only for nil
	s.noteOpen(c)                      // from now on others may close it
	s.admission.Bind(&c.entry, c)
	_ = np.SetOnRequest(c.onRequest) // fails only for nil; it is called at once if something has come meanwhile
	if !np.IsActive() {
		_ = np.Close() // the client hung up before: without a handler, netpoll leaves the rest to us
	}
}

// Evict closes the connection for the admission table.
func (c *conn) Evict() { c.Close() }

// closeClients closes what is left of the connections, when no more are accepted.
func (s *Server) closeClients() {
	for _, c := range s.opened() {
		c.Close()
	}
	s.awaitClosed(time.Now().Add(2 * time.Second)) // a connection whose handler runs is closed by it
}

// awaitClosed waits until no connection is left, at most until the deadline.
func (s *Server) awaitClosed(deadline time.Time) {
	for s.connections() > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
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
