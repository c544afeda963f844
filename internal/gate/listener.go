package gate

import (
	"net"
	"net/http"
	"sync"
)

// limitListener accepts while fewer than cap(slots) connections are open; more wait in the kernel's backlog. It hands out
// the connections themselves, unlike netutil.LimitListener, whose wrapper hides CloseWrite: net/http needs it to refuse
// a request that is still being sent without resetting the connection, which would take the reply along.
type limitListener struct {
	net.Listener
	slots  chan struct{}
	once   sync.Once
	closed chan struct{}
}

func newLimitListener(ln net.Listener, limit int) *limitListener {
	return &limitListener{Listener: ln, slots: make(chan struct{}, limit), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
	}
	return conn, err
}

// Close implements net.Listener. It ends an Accept that waits for a connection to close.
func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// connState is the http.Server's hook: a connection that closed makes room.
func (l *limitListener) connState(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		<-l.slots
	}
}
