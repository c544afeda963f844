package chat

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/certs"
	"parley/internal/wire"
	"parley/lab/certstest"
)

// transports are all there are.
var transports = []wire.Transport{wire.TCP, wire.TLS, wire.WS, wire.WSS}

// secured makes a certificate for nodes of a test, and returns what has a node show it and a client trust it.
func secured(t testing.TB) (node func(*Config), _ *tls.Config, dir string) {
	t.Helper()
	cert, key, trust, dir := certstest.Make(t)
	return func(c *Config) {
		c.SelfServer.TLSPort, c.SelfServer.WSSPort = "0", "0"
		c.TLS.Cert, c.TLS.Key = cert, key
	}, trust, dir
}

// addressOf is the address of a node by a transport, as a Ticket has it.
func addressOf(n *node, via wire.Transport) string {
	if via == wire.TLS {
		return "tls://" + n.Address(via)
	}
	return n.Address(via)
}

// loginVia connects user i by a transport.
func (f *fixture) loginVia(n *node, i int, via wire.Transport, o client.Options) *client.Conn {
	f.t.Helper()
	ticket := f.ticket(n, i)
	ticket.Addr = addressOf(n, via)
	c, err := client.Dial(f.t.Context(), ticket, o)
	require.NoError(f.t, err, via)
	f.t.Cleanup(func() { c.Close() })
	n.awaitLive(f.t, c)
	return c
}

// overAll runs a test over each transport.
func overAll(t *testing.T, users int, change func(*Config), test func(t *testing.T, f *fixture, n *node, via wire.Transport, o client.Options)) {
	t.Helper()
	secure, trust, _ := secured(t)
	for _, via := range transports {
		t.Run(via.String(), func(t *testing.T) {
			f := newFixture(t, users)
			test(t, f, f.start("chat1", secure, change), via, client.Options{TLS: trust})
		})
	}
}

func TestTextsOfAllLengthsArriveByEachTransport(t *testing.T) {
	overAll(t, 2, func(*Config) {}, func(t *testing.T, f *fixture, n *node, via wire.Transport, o client.Options) {
		var conns [2]*client.Conn
		for i := range conns {
			conns[i] = f.loginVia(n, i+1, via, o)
		}
		for _, size := range []int{1, 100, 125, 126, 127, 4000, wire.MaxText} {
			text := strings.Repeat("t", size)
			for i := range 3 {
				_, err := conns[0].SendText(t.Context(), client.InThread(f.threads[0]), text)
				require.NoError(t, err, "%d bytes, text %d", size, i)
			}
			for n := 0; n < 3; {
				ev, err := conns[1].Next(t.Context())
				require.NoError(t, err)
				if texts, ok := ev.(client.Texts); ok {
					for _, m := range texts.Messages {
						require.Equal(t, text, m.Text)
						n++
					}
				}
			}
		}
	})
}

// What there is no room for in the socket goes on inside its message and its record.
func TestPagesArriveWholeByEachTransport(t *testing.T) {
	overAll(t, 2, func(c *Config) { c.Limits.SendBufferBytes = 4 << 10 }, func(t *testing.T, f *fixture, n *node, via wire.Transport, o client.Options) {
		c := f.loginVia(n, 1, via, o)
		text := strings.Repeat("p", 4000)
		for range 60 {
			_, err := c.SendText(t.Context(), client.InThread(f.threads[0]), text)
			require.NoError(t, err)
		}
		for range 5 {
			done := make(chan error, 8)
			for range cap(done) {
				go func() {
					page, err := c.History(t.Context(), f.threads[0], 0, 100)
					if err == nil && len(page.Messages) == 0 {
						err = fmt.Errorf("an empty page")
					}
					for _, m := range page.Messages {
						if m.Text != text {
							err = fmt.Errorf("another text")
						}
					}
					done <- err
				}()
			}
			for range cap(done) {
				require.NoError(t, <-done)
			}
		}
	})
}

func TestADrainSendsClientsToTheirOwnTransport(t *testing.T) {
	secure, trust, _ := secured(t)
	f := newFixture(t, len(transports))
	a, b := f.start("chat1", secure), f.start("chat2", secure)
	eventually(t, "chat1 to know chat2", func() bool { return a.others.next(wire.WSS) != "" })
	var conns []*client.Conn
	for i, via := range transports {
		conns = append(conns, f.loginVia(a, i+1, via, client.Options{TLS: trust}))
	}
	a.stop()
	for i, via := range transports {
		for {
			ev, err := conns[i].Next(t.Context())
			require.NoError(t, err, via)
			if bye, ok := ev.(client.Disconnected); ok {
				var told *client.Error
				require.ErrorAs(t, bye.Err, &told, via)
				require.Equal(t, addressOf(b, via), told.To)
				next := conns[i].Ticket()
				next.Addr = told.To
				again, err := client.Dial(t.Context(), next, client.Options{TLS: trust})
				require.NoError(t, err, via)
				require.NoError(t, again.Close())
				break
			}
		}
	}
}

func TestAClientThatDoesNotReadIsEndedByEachTransport(t *testing.T) {
	overAll(t, 2, func(c *Config) {
		c.Limits.WriteTimeout = 500 * time.Millisecond
		c.Limits.OutboxBytes, c.Limits.SendBufferBytes = 65540, 4<<10
		c.Limits.TextRate = 0
	}, func(t *testing.T, f *fixture, n *node, via wire.Transport, o client.Options) {
		o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				err = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			}
			return c, err
		}
		ticket := f.ticket(n, 2)
		deaf, err := o.Connect(t.Context(), addressOf(n, via))
		require.NoError(t, err)
		defer deaf.Close()
		_, err = deaf.Write(frameOf(t, wire.MsgLogin, map[string]any{
			"uid": ticket.UID, "token": ticket.Token, "client": "deaf/1",
		}))
		require.NoError(t, err)
		eventually(t, "the login", func() bool { return n.registry.Live() == 1 })
		c := f.loginVia(n, 1, via, client.Options{TLS: o.TLS})
		text := strings.Repeat("d", 4000)
		for n.registry.Live() == 2 {
			_, err := c.SendText(t.Context(), client.InThread(f.threads[0]), text)
			require.NoError(t, err)
		}
		eventually(t, "the connection to go", func() bool { return n.conns.Count() == 1 })
	})
}

func TestAFloodEndsAConnectionOfEachTransport(t *testing.T) {
	overAll(t, 1, func(c *Config) { c.Limits.HeartbeatRate = 100 }, func(t *testing.T, f *fixture, n *node, via wire.Transport, o client.Options) {
		ticket := f.ticket(n, 1)
		c, err := o.Connect(t.Context(), addressOf(n, via))
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Write(frameOf(t, wire.MsgLogin, map[string]any{"uid": ticket.UID, "token": ticket.Token, "client": "flood/1"}))
		require.NoError(t, err)
		eventually(t, "the login", func() bool { return n.registry.Live() == 1 })
		beats := bytes.Repeat(wire.HeartbeatFrame, 1000)
		go io.Copy(io.Discard, c)
		for range 100 {
			if _, err := c.Write(beats); err != nil {
				break
			}
		}
		eventually(t, "the flood to end", func() bool { return n.registry.Live() == 0 && counterValue(t, n.metrics.flooding) > 0 })
	})
}

func TestACertificateIsReplacedWhileClientsStay(t *testing.T) {
	secure, trust, dir := secured(t)
	f := newFixture(t, 2)
	n := f.start("chat1", secure)
	serial := func() string {
		c, err := tls.Dial("tcp", n.Address(wire.TLS), trust)
		require.NoError(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	stays := f.loginVia(n, 1, wire.TLS, client.Options{TLS: trust})
	first := serial()
	require.NoError(t, certs.Make(dir, []string{"127.0.0.1"}, time.Now()))
	eventually(t, "the new certificate", func() bool { return serial() != first })
	_, err := stays.SendText(t.Context(), client.InThread(f.threads[0]), "still here")
	require.NoError(t, err)
}

func TestOnlyTLSOpensAnEncryptedPort(t *testing.T) {
	secure, trust, _ := secured(t)
	f := newFixture(t, 1)
	n := f.start("chat1", secure)
	for _, hello := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70_000), "\x03\xed\x00\x02{}"} {
		c, err := net.Dial("tcp", n.Address(wire.TLS))
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		_, _ = c.Write([]byte(hello)) // it may be answered before its end
		_, _ = io.Copy(io.Discard, c) // until the node closes
		c.Close()
	}
	eventually(t, "the refusals", func() bool { return counterValue(t, n.metrics.badHandshakes) >= 3 && n.conns.Count() == 0 })
	old := trust.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 // else the client refuses by itself
	_, err := tls.Dial("tcp", n.Address(wire.TLS), old)
	require.Error(t, err)
}

// A client that only has a ticket finds another node when its own is gone, by each transport.
func TestATicketLeadsToAnotherNodeWhenItsNodeIsGone(t *testing.T) {
	secure, trust, _ := secured(t)
	f := newFixture(t, len(transports)+1)
	a := f.start("chat1", secure)
	alone := f.login(a, len(transports)+1)
	require.Empty(t, alone.Ticket().Other, "there is none")
	b := f.start("chat2", secure)
	eventually(t, "chat1 to know chat2", func() bool { return a.others.next(wire.WSS) != "" })
	var tickets []client.Ticket
	for i, via := range transports {
		c := f.loginVia(a, i+1, via, client.Options{TLS: trust})
		require.Equal(t, addressOf(b, via), c.Ticket().Other)
		tickets = append(tickets, c.Ticket())
		require.NoError(t, c.Close())
	}
	f.end(a)
	for i, via := range transports {
		s, err := client.Open(t.Context(), client.SessionOptions{Ticket: tickets[i], Options: client.Options{TLS: trust}})
		require.NoError(t, err, via)
		require.Equal(t, "chat2", s.Node())
		require.NoError(t, s.Close())
	}
}
