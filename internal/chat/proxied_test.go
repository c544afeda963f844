package chat

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/admission"
	"parley/internal/wire"
)

// headerV1 and headerV2 are what a proxy says first of a client at addr.
func headerV1(addr string) []byte {
	if a := netip.MustParseAddr(addr); a.Is6() {
		return fmt.Appendf(nil, "PROXY TCP6 %s 2001:db8:ffff::1 40000 8090\r\n", a)
	}
	return fmt.Appendf(nil, "PROXY TCP4 %s 198.51.100.1 40000 8090\r\n", addr)
}

func headerV2(addr string) []byte {
	from := netip.MustParseAddr(addr).AsSlice()
	family := byte(0x11)
	if len(from) == 16 {
		family = 0x21
	}
	header := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, family, 0, byte(2*len(from)+4+4))
	header = append(append(header, from...), from...)
	return append(header, 0x9c, 0x40, 0x1f, 0x9a, 0x04, 0, 1, 0) // ports and a TLV
}

// behind has clients connect from a loopback address, through what says a header first.
func behind(o client.Options, proxy string, header []byte) client.Options {
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(proxy)}}
		c, err := from.DialContext(ctx, network, addr)
		if err == nil {
			_, err = c.Write(header)
		}
		return c, err
	}
	return o
}

// dialVia is loginVia for a login that may fail.
func (f *fixture) dialVia(n *node, i int, via wire.Transport, o client.Options) error {
	f.t.Helper()
	ticket := f.ticket(n, i)
	ticket.Addr = addressOf(n, via)
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, ticket, o)
	if err == nil {
		c.Close()
	}
	require.NoError(f.t, ctx.Err())
	return err
}

func TestAListedProxySaysWhoseConnectionItIs(t *testing.T) {
	const listed, other = "127.0.0.1", "127.0.0.2"
	local := []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
	overAll(t, 5, func(c *Config) {
		c.SelfServer.ProxyFrom = []string{listed + "/32", "10.0.0.0/8"}
		c.Limits.PerAddress = 1
	}, func(t *testing.T, f *fixture, n *node, via wire.Transport, o client.Options) {
		t.Run("the limit per address is the client's", func(t *testing.T) {
			refused := func() float64 { return counterValue(t, n.metrics.refusedConns[admission.Network]) }
			f.loginVia(n, 1, via, behind(o, listed, headerV1("192.0.2.1")))
			require.Error(t, f.dialVia(n, 2, via, behind(o, listed, headerV2("192.0.2.1"))))
			require.EqualValues(t, 1, refused())
			f.loginVia(n, 2, via, behind(o, listed, headerV2("192.0.2.2")))
			f.loginVia(n, 3, via, behind(o, listed, headerV2("2001:db8::1")))
			require.Error(t, f.dialVia(n, 4, via, behind(o, listed, headerV1("2001:db8::2"))))
			require.EqualValues(t, 2, refused())
			f.loginVia(n, 4, via, behind(o, listed, headerV1("2001:db8:0:1::1")))
			require.Zero(t, counterValue(t, n.metrics.badProxyHeaders))
		})
		t.Run("it must say so", func(t *testing.T) {
			require.Error(t, f.dialVia(n, 5, via, behind(o, listed, nil)))
			require.Error(t, f.dialVia(n, 5, via, behind(o, listed, []byte("PROXY TCP4 nobody 192.0.2.1 1 2\r\n"))))
			require.EqualValues(t, 2, counterValue(t, n.metrics.badProxyHeaders))
			// Its own connections, and those of clients that it does not know.
			require.NoError(t, f.dialVia(n, 5, via, behind(o, listed, []byte("PROXY UNKNOWN\r\n"))))
			require.NoError(t, f.dialVia(n, 5, via, behind(o, listed, local)))
		})
		t.Run("another is not believed", func(t *testing.T) {
			bad := func() float64 { return counterValue(t, n.metrics.badFrames) + counterValue(t, n.metrics.badHandshakes) }
			before := bad()
			require.Error(t, f.dialVia(n, 5, via, behind(o, other, headerV1("192.0.2.9"))))
			eventually(t, "the refusal to be counted", func() bool { return bad() == before+1 })
			require.EqualValues(t, 2, counterValue(t, n.metrics.badProxyHeaders))
			require.NoError(t, f.dialVia(n, 5, via, behind(o, other, nil)))
		})
	})
}

func TestAProxyHeaderMayComeInPieces(t *testing.T) {
	f := newFixture(t, 2)
	n := f.start("chat1", func(c *Config) { c.SelfServer.ProxyFrom = []string{"127.0.0.1"} })
	for i, header := range [][]byte{headerV1("192.0.2.1"), headerV2("2001:db8::1")} {
		c, err := net.Dial("tcp", n.ClientAddr())
		require.NoError(t, err)
		defer c.Close()
		ticket := f.ticket(n, i+1)
		login := frameOf(t, wire.MsgLogin, map[string]any{"uid": ticket.UID, "token": ticket.Token, "client": "pieces/1"})
		for _, b := range append(header, login...) {
			_, err := c.Write([]byte{b}) // which leaves at once
			require.NoError(t, err)
		}
		eventually(t, "the login", func() bool { return n.registry.Live() == i+1 })
	}
}

func TestAProxyThatDoesNotFinishItsHeaderIsClosedInTime(t *testing.T) {
	f := newFixture(t, 1)
	n := f.start("chat1", func(c *Config) {
		c.SelfServer.ProxyFrom = []string{"127.0.0.1"}
		c.Limits.LoginTimeout, c.Limits.MinLoginTimeout = 200*time.Millisecond, 100*time.Millisecond
	})
	c, err := net.Dial("tcp", n.ClientAddr())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("PROXY TC"))
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	_, err = io.Copy(io.Discard, c) // until the node closes
	if timeout, ok := err.(net.Error); ok {
		require.False(t, timeout.Timeout())
	}
	eventually(t, "it to be forgotten", func() bool {
		conns, waiting := n.admission.Counts()
		return conns == 0 && waiting == 0 && counterValue(t, n.metrics.loginTimeouts) == 1
	})
}
