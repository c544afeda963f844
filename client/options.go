package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"parley/internal/wire"
)

// Version is this package's version as it tells it to servers.
const Version = "0.1.0"

// Options adjust a connection. The zero value is good.
type Options struct {
	// Client is "name/version" of the program, for the server's log. Default "parley-go/" and Version.
	Client string
	// Device tells several connections of one user apart; a new login replaces the old one with the same device. 1 to
	// MaxDevice bytes of [a-z0-9_-], default "native"; a user may have 8.
	Device string
	// Window is how many texts may wait for their answer, 1 to 1,024. Default: what the server grants, usually 64.
	Window int
	// Heartbeat is the wished period, 5 s to 5 min in whole seconds. Shorter finds a dead server sooner; longer spares
	// radio and battery. Default: what the server grants, usually 30 s.
	Heartbeat time.Duration
	// LoginTimeout bounds connecting and logging in. Default 10 s, which is also all that a server waits.
	LoginTimeout time.Duration
	// RequestTimeout bounds a request whose context has no deadline. Default 15 s; 5 s is all a server waits for its
	// stores.
	RequestTimeout time.Duration
	// QueueBytes bounds what waits to be written; past it requests block. Texts are bounded by the window instead, at
	// 96 KiB. Default 256 KiB.
	QueueBytes int
	// EventBytes bounds the events that wait for Next, counted by the length of their frames. Past it texts become a
	// Gap of their thread and are to be read from the history; anything else ends the connection with ErrSlowConsumer.
	// Default 1 MiB.
	EventBytes int
	// OnEvent, if set, gets every event instead of Next. It is called by the goroutine that reads the connection, one
	// event after the other: while it runs nothing is read, not even answers, so it must not wait for any. A server
	// whose frames are not read drops texts (Gap) or closes.
	OnEvent func(Event)
	// TLS is for nodes that are reached by TLS. Default: the system's authorities, and the host of the address.
	TLS *tls.Config
	// Dial opens the TCP connection. Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Defaults of Options.
const (
	DefaultLoginTimeout   = 10 * time.Second
	DefaultRequestTimeout = 15 * time.Second
	DefaultQueueBytes     = 256 << 10
	DefaultEventBytes     = 1 << 20
)

// withDefaults fills what is zero and refuses what a server would.
func (o Options) withDefaults() (Options, error) {
	if o.Client == "" {
		o.Client = "parley-go/" + Version
	}
	if o.LoginTimeout <= 0 {
		o.LoginTimeout = DefaultLoginTimeout
	}
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = DefaultRequestTimeout
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.EventBytes <= 0 {
		o.EventBytes = DefaultEventBytes
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Heartbeat != 0 && (o.Heartbeat < 5*time.Second || o.Heartbeat > 5*time.Minute) {
		return o, fmt.Errorf("client: heartbeat %v outside 5s to 5m", o.Heartbeat)
	}
	if o.Window < 0 || o.Window > 1024 {
		return o, fmt.Errorf("client: window %d outside 1 to 1024", o.Window)
	}
	return o, nil
}

// loginRequest is the 1005 these options make.
func (o *Options) loginRequest(t Ticket) *wire.LoginRequest {
	r := &wire.LoginRequest{
		UID: t.UID, Token: t.Token, Resume: t.Resume, Client: o.Client, Device: o.Device, Window: o.Window,
		HeartbeatS: int(o.Heartbeat / time.Second),
		Caps:       []string{wire.CapBatch, wire.CapResume, wire.CapGap, wire.CapGroups, wire.CapRows, wire.CapMarks, wire.CapPresence},
	}
	if r.Resume != "" {
		r.Token = ""
	}
	return r
}
