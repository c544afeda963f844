package gate

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/admission"
	"parley/internal/wire"
)

// dial opens a connection to the gate and sends text.
func (f *fixture) dial(text string) net.Conn {
	f.t.Helper()
	return f.dialTo(f.Addr(), text)
}

func (f *fixture) dialTo(addr, text string) net.Conn {
	f.t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, text)
	require.NoError(f.t, err)
	return conn
}

// B1: a client cannot hold a connection, whatever it omits.
func TestNoRequestHoldsAConnection(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the 10 s of a request")
	}
	t.Parallel()
	secure, trust, _ := secured(t)
	f := newFixture(t, secure)
	login := "POST /user_login HTTP/1.1\r\nHost: x\r\n"
	var wg sync.WaitGroup
	ends := func(name string, conn net.Conn) {
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
		ends(name, f.dial(text))
		ends(name+", TLS", f.dialTLS(trust, text))
	}
	for name, text := range map[string]string{"no handshake": "", "half a ClientHello": "\x16\x03\x01\x02\x00\x01", "a plain request to the TLS port": login} {
		ends(name, f.dialTo(f.TLSAddr(), text))
	}
	// A client that sends for ever is not read for ever, and a client that never reads does not block the server.
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
	require.Eventually(t, func() bool { return f.conns.len() == 0 }, patience, 10*time.Millisecond)
}

func isReset(err error) bool {
	e, ok := err.(*net.OpError)
	return ok && !e.Timeout()
}

// B1: with ten times as many held connections as the gate keeps, 100 of 100 logins succeed. test/chaos holds more.
func TestHonestLoginsPassBesideHeldConnections(t *testing.T) {
	hold := 3000
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
			// Once all are open, the oldest is reopened repeatedly, because the gate has closed it by then.
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
				_, _ = io.WriteString(conn, texts[(n+i)%len(texts)]) // the gate may have closed it
			}
		})
	}
	defer attack.Wait()
	defer close(stop)
	full.Wait()
	require.Eventually(t, func() bool { return f.metric("connections_dropped_total", "reason", admission.Full.String()) > 0 }, time.Minute, 10*time.Millisecond)
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for i := range 100 {
		res, err := client.Post(f.url+"/user_login", "application/json", strings.NewReader(`{"email":"alice@example.com","passwd":"abcdef"}`))
		require.NoError(t, err, "login %d", i)
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		require.NoError(t, err, "login %d", i)
		require.Contains(t, string(text), `"error":0`, "login %d", i)
	}
	// A new connection counts before the gate has closed the one that it displaces.
	require.LessOrEqual(t, f.conns.len(), f.cfg.Gate.MaxConns+1)
}

// B1: an address holds at most its share; the limit does not apply to trusted proxies.
func TestConnectionsPerAddressAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Limits.ThrottleLoopback, c.Limits.ConnsPerAddress = true, 3 })
	f.newUser("alice", "alice@example.com", "abcdef")
	for range 5 {
		f.dial("POST /user_login HTTP/1.1\r\n")
		// A new connection is counted before the one evicted for it is closed.
		require.Eventually(t, func() bool { n := f.conns.len(); return n > 0 && n <= 3 }, patience, time.Millisecond)
	}
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
	require.Positive(t, f.metric("connections_dropped_total", "reason", admission.Network.String()))

	f = newFixture(t, func(c *Config) {
		c.Limits.ThrottleLoopback, c.Limits.ConnsPerAddress = true, 3
		c.Gate.TrustedProxies = []string{"127.0.0.0/8"}
	})
	for range 5 {
		f.dial("POST /user_login HTTP/1.1\r\n")
	}
	require.Eventually(t, func() bool { return f.conns.len() == 5 }, patience, time.Millisecond)
}

// noFiles is a listener of a process that cannot open more files.
type noFiles struct{ net.Listener }

func (noFiles) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
}

func TestWithoutDescriptorsTheOldestConnectionGoes(t *testing.T) {
	f := newFixture(t)
	held := f.dial("POST /user_login HTTP/1.1\r\n")
	require.Eventually(t, func() bool { return f.conns.len() == 1 }, patience, time.Millisecond)
	_, err := (&listener{noFiles{}, f.conns}).Accept()
	require.ErrorIs(t, err, syscall.EMFILE)
	require.NoError(t, held.SetReadDeadline(time.Now().Add(patience)))
	_, err = io.ReadAll(held)
	require.True(t, err == nil || isReset(err), "%v", err)
	require.Zero(t, f.conns.len())
	require.Equal(t, 1.0, f.metric("connections_dropped_total", "reason", dropDescriptors))
}

type closedLast struct{ counted func() bool }

func (c closedLast) Evict() {
	if !c.counted() {
		panic("closed before it was counted")
	}
}

// Who sees the end of a connection and reads the metrics then finds it there.
func TestADroppedConnectionIsCountedBeforeItIsClosed(t *testing.T) {
	t.Parallel()
	var counted bool
	cs := newConns(1, 1, nil, func(string) { counted = true })
	require.NotPanics(t, func() { cs.drop(closedLast{func() bool { return counted }}, dropHeader) })
	require.True(t, counted)
}
