package chat

import (
	"errors"
	"net"
	"strconv"

	"parley/internal/transport"
	"parley/internal/wire"
)

// A listener takes clients by one transport.
type listener struct {
	*transport.Listener
	via  wire.Transport
	addr string // as clients are told
}

// listeners are those of a node, TCP's first.
type listeners []listener

// listenClients binds a listener for each transport that is configured.
func listenClients(cfg *Config) (ls listeners, err error) {
	self := &cfg.SelfServer
	for _, l := range []struct {
		via     wire.Transport
		addr    string
		clients func(port int) string
	}{
		{wire.TCP, self.ListenAddr(), self.ClientAddr},
		{wire.WS, self.WSListenAddr(), self.WSURL},
		{wire.TLS, self.TLSListenAddr(), self.TLSAddr},
		{wire.WSS, self.WSSListenAddr(), self.WSSURL},
	} {
		if l.addr == "" {
			continue
		}
		ln, err := transport.Listen(l.addr, cfg.Limits.SendBufferBytes, cfg.Limits.ReceiveBufferBytes)
		if err != nil {
			return nil, errors.Join(err, ls.Close())
		}
		ls = append(ls, listener{Listener: ln, via: l.via, addr: l.clients(portOf(ln.Addr))})
	}
	return ls, nil
}

// Close closes all of them.
func (ls listeners) Close() error {
	var errs []error
	for _, l := range ls {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// addr is where clients are told to connect by a transport, "" for nowhere.
func (ls listeners) addr(via wire.Transport) string {
	for _, l := range ls {
		if l.via == via {
			return l.addr
		}
	}
	return ""
}

func portOf(a net.Addr) int {
	_, port, _ := net.SplitHostPort(a.String())
	n, _ := strconv.Atoi(port)
	return n
}
