package gate

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// dial opens a connection to the gate and sends text.
func (f *fixture) dial(text string) net.Conn {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.Addr())
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, text)
	require.NoError(f.t, err)
	return conn
}

// B1: a client cannot hold a connection, whatever it leaves out.
func TestNoRequestHoldsAConnection(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the 10 s of a request")
	}
	t.Parallel()
	f := newFixture(t)
	login := "POST /user_login HTTP/1.1\r\nHost: x\r\n"
	var wg sync.WaitGroup
	for name, text := range map[string]string{
		"nothing":                            "",
		"half a request line":                "POST /user",
		"half a header":                      "POST /user_login HTTP/1.1\r\nHost:",
		"GET with a body that never comes":   "GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
		"unknown route, chunked":             "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"unknown route, half a chunk":        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nab",
		"unknown route, Expect":              "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
		"another method with a body":         "PUT /user_login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
		"OPTIONS with a body":                "OPTIONS /user_login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
		"body above the limit":               login + "Content-Length: 20000\r\n\r\n",
		"body above the limit, Expect":       login + "Content-Length: 20000\r\nExpect: 100-continue\r\n\r\n",
		"body far above the limit":           login + "Content-Length: 999999999\r\n\r\n{",
		"chunks above the limit":             login + "Transfer-Encoding: chunked\r\n\r\n4100\r\n" + strings.Repeat("a", 0x4100) + "\r\n1",
		"slow body":                          login + "Content-Length: 100\r\n\r\n{",
		"slow body, Expect":                  login + "Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
		"slow chunk":                         login + "Transfer-Encoding: chunked\r\n\r\nff\r\nab",
		"keep-alive after a complete answer": login + "Connection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.0 keep-alive":                "POST /user_login HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
		"upgrade":                            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n",
		"HTTP/2 preface":                     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"CONNECT":                            "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nContent-Length: 1\r\n\r\n",
	} {
		conn := f.dial(text)
		wg.Go(func() {
			if err := conn.SetReadDeadline(time.Now().Add(3 * readTimeout)); err != nil {
				t.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && !isReset(err) {
				t.Errorf("%s: still open: %v", name, err)
			}
		})
	}
	// A client that sends for ever is not read for ever, and one that never reads does not hold the server.
	wg.Go(func() {
		conn := f.dial(login + "Transfer-Encoding: chunked\r\n\r\n")
		if err := conn.SetWriteDeadline(time.Now().Add(3 * readTimeout)); err != nil {
			t.Error(err)
			return
		}
		for {
			if _, err := io.WriteString(conn, "1\r\na\r\n"); err != nil {
				if !isReset(err) {
					t.Errorf("endless chunks are still read: %v", err)
				}
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	wg.Wait()
	require.Eventually(t, func() bool { return f.ln.len() == 0 }, readTimeout, 10*time.Millisecond)
	require.Zero(t, f.ln.top)
	require.Empty(t, f.ln.networks)
}

func isReset(err error) bool {
	e, ok := err.(*net.OpError)
	return ok && !e.Timeout()
}

// B1: with 10,000 connections held, 100 of 100 logins pass.
func TestHonestLoginsPassBesideHeldConnections(t *testing.T) {
	hold := 10_000
	var files syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	if testing.Short() {
		hold = 1500
	}
	f := newFixture(t, func(c *Config) { c.Gate.MaxConns, c.Status.Timeout = hold/10, 10*time.Second })
	if need := uint64(hold + f.cfg.Gate.MaxConns + 500); files.Cur < need {
		t.Skipf("needs %d file descriptors, has %d", need, files.Cur)
	}
	f.newUser("alice", "alice@example.com", "abcdef")

	texts := []string{
		"GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
		"POST /user_login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
		"POST /user_login HTTP/1.1\r\nHost:",
		"",
	}
	stop := make(chan struct{})
	var full, attack sync.WaitGroup
	const attackers = 20
	full.Add(attackers)
	for i := range attackers {
		attack.Go(func() {
			held := make([]net.Conn, hold/attackers)
			var once sync.Once
			defer once.Do(full.Done)
			defer func() {
				for _, conn := range held {
					if conn != nil {
						_ = conn.Close()
					}
				}
			}()
			// Once all are open, the oldest is opened again and again: the gate has closed it by then.
			for n := 0; ; n++ {
				if n == len(held) {
					once.Do(full.Done)
				}
				select {
				case <-stop:
					return
				default:
				}
				if old := held[n%len(held)]; old != nil {
					_ = old.Close()
					time.Sleep(100 * time.Millisecond) // 200 a second in all: more would take the processor from the logins
				}
				conn, err := net.Dial("tcp", f.Addr())
				if err != nil {
					t.Errorf("hold a connection: %v", err)
					return
				}
				held[n%len(held)] = conn
				_, _ = io.WriteString(conn, texts[(n+i)%len(texts)]) // it may have been closed already
			}
		})
	}
	defer attack.Wait()
	defer close(stop)
	full.Wait()
	require.Eventually(t, func() bool { return f.metric("connections_dropped_total", "reason", dropFull) > 0 }, time.Minute, 10*time.Millisecond)
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for i := range 100 {
		res, err := client.Post(f.url+"/user_login", "application/json", strings.NewReader(`{"email":"alice@example.com","passwd":"abcdef"}`))
		require.NoError(t, err, "login %d", i)
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		require.NoError(t, err, "login %d", i)
		require.Contains(t, string(text), `"error":0`, "login %d", i)
	}
	require.LessOrEqual(t, f.ln.len(), f.cfg.Gate.MaxConns)
}

// B1: an address holds at most its share; a trusted proxy's is not an address.
func TestConnectionsPerAddressAreBounded(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.ThrottleLoopback, c.Limits.ConnsPerAddress = true, 3 })
	f.newUser("alice", "alice@example.com", "abcdef")
	for range 5 {
		f.dial("POST /user_login HTTP/1.1\r\n")
		require.Eventually(t, func() bool { return f.ln.len() > 0 }, 5*time.Second, time.Millisecond)
		require.LessOrEqual(t, f.ln.len(), 3)
	}
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
	require.Positive(t, f.metric("connections_dropped_total", "reason", dropAddress))

	f = newFixture(t, func(c *Config) {
		c.Limits.ThrottleLoopback, c.Limits.ConnsPerAddress = true, 3
		c.Gate.TrustedProxies = []string{"127.0.0.0/8"}
	})
	for range 5 {
		f.dial("POST /user_login HTTP/1.1\r\n")
	}
	require.Eventually(t, func() bool { return f.ln.len() == 5 }, 5*time.Second, time.Millisecond)
}

// fakeConn is a connection from addr that knows whether it was closed.
type fakeConn struct {
	net.Conn
	addr   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.addr))
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

// B1, B3: at the bound, the network that holds most gives up its oldest unfinished connection.
func TestWhoHoldsMostGivesUpTheOldest(t *testing.T) {
	drops := map[string]int{}
	c := newConns(nil, 6, 4, netip.Addr.IsLoopback, func(reason string) { drops[reason]++ })
	open := func(addr string) *fakeConn {
		conn := &fakeConn{addr: addr}
		victim, reason, ok := c.admit(conn)
		if !ok {
			victim = conn
		}
		c.drop(victim, reason)
		return conn
	}
	one := open("192.0.2.1:1")
	a1, a2, a3, a4 := open("[2001:db8::1]:1"), open("[2001:db8::2]:2"), open("[2001:db8::3:3]:3"), open("[2001:db8::4]:4")
	two := open("192.0.2.2:1")
	require.Empty(t, drops)

	a5 := open("[2001:db8::5]:5")
	require.True(t, a1.closed, "the fifth of a /64 closes the first")
	require.Equal(t, map[string]int{dropAddress: 1}, drops)

	three := open("192.0.2.3:1")
	require.True(t, a2.closed, "the network with most gives way, though others are older")
	require.Equal(t, map[string]int{dropAddress: 1, dropFull: 1}, drops)

	require.True(t, c.received(a3))
	require.False(t, c.received(a2))
	four := open("192.0.2.4:1")
	require.True(t, a4.closed, "what is being served stays")
	require.False(t, a3.closed)

	for _, conn := range []*fakeConn{one, two, three, four, a5} {
		require.False(t, conn.closed)
		require.True(t, c.received(conn))
	}
	late := open("192.0.2.5:1")
	require.True(t, late.closed, "all are being served")
	require.Equal(t, 6, c.len())

	for _, conn := range []*fakeConn{one, two, three, four, a5, a3, a1, a2, a4, late} {
		c.connState(conn, http.StateClosed)
	}
	require.Empty(t, c.open)
	require.Empty(t, c.networks)
	for i := range 10 {
		require.False(t, open(fmt.Sprintf("127.0.0.1:%d", i+1)).closed, "the loopback is exempt from the bound per address")
	}
	require.Equal(t, 6, c.len())
}
