package gate

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/admission"
	"parley/internal/wire"
)

func TestTheChatPageIsServedWhenItIsSwitchedOn(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Gate.Page = true })
	for path, want := range map[string]int{"/": 200, "/app.js": 200, "/client/parley.js": 200, "/?x=1": 200, "/nothing": 404, "/user_login": 404} {
		res, err := http.Get(f.url + path)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode, path)
		require.Contains(t, res.Header.Get("Content-Security-Policy"), "default-src 'none'")
		require.Empty(t, res.Header.Get("Access-Control-Allow-Origin"), "other pages have no business with it")
	}
	require.JSONEq(t, `{"error":1009}`, f.post("/user_login", `{"email":"nobody@example.com","passwd":"wrong-one","plain":true}`),
		"what is posted goes where it went")
}

// get asks for a file of the page by an open connection, and reads the answer.
func get(t *testing.T, conn net.Conn, in *bufio.Reader, path string) *http.Response {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	return res
}

func TestABrowserLoadsThePageByFewConnections(t *testing.T) {
	t.Parallel()
	secure, trust, _ := secured(t)
	f := newFixture(t, secure, func(c *Config) { c.Gate.Page = true })
	for name, conn := range map[string]net.Conn{"plain": f.dial(""), "TLS": f.dialTLS(trust, "")} {
		in := bufio.NewReader(conn)
		for _, path := range []string{"/", "/app.js", "/chat.css", "/client/parley.js"} {
			require.False(t, get(t, conn, in, path).Close, "%s %s", name, path)
		}
		// Anything else is the last request of its connection.
		_, err := io.WriteString(conn, "POST /user_login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
		require.NoError(t, err)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.True(t, res.Close, name)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.JSONEq(t, `{"error":1001}`, string(text))
		_, err = in.ReadByte()
		require.ErrorIs(t, err, io.EOF, name)
	}
}

// B1: a client cannot hold a connection by loading the page.
func TestAConnectionOfThePageIsNotHeld(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) {
		c.Gate.Page, c.Limits.ThrottleLoopback, c.Limits.ConnsPerAddress = true, true, 3
	})
	f.newUser("alice", "alice@example.com", "abcdef")
	require.Eventually(t, func() bool { return f.conns.len() == 0 }, patience, time.Millisecond) // those have places until they are closed
	kept := make([]net.Conn, 3)
	readers := make([]*bufio.Reader, len(kept))
	for i := range kept {
		kept[i] = f.dial("")
		readers[i] = bufio.NewReader(kept[i])
		get(t, kept[i], readers[i], "/app.js")
	}
	// Between two files it makes room for others.
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
	require.Positive(t, f.metric("connections_dropped_total", "reason", admission.Network.String()))
	// Without a request it is closed soon.
	for _, in := range readers {
		_, err := in.ReadByte()
		require.True(t, errors.Is(err, io.EOF) || isReset(err), "%v", err)
	}
	require.Eventually(t, func() bool { return f.conns.len() == 0 }, patience, 10*time.Millisecond)
}

func TestAConnectionOfThePageIsKeptForAShortTimeAndWhileThereIsRoom(t *testing.T) {
	cs := newConns(4, 0, nil, func(string) {})
	now := time.Now()
	var places [3]admission.Entry
	c := &conn{conns: cs, accepted: now}
	for i := range places {
		require.True(t, c.keeps(), "%d of 4 places are taken", i)
		_, _, ok := cs.table.Admit(&places[i], netip.Addr{}, now)
		require.True(t, ok)
	}
	require.False(t, c.keeps())
	cs.table.Closed(&places[0], now)
	require.True(t, c.keeps())
	c.accepted = now.Add(-keptTimeout)
	require.False(t, c.keeps())
}

func TestAGateServesNoPageUnlessAsked(t *testing.T) {
	f := newFixture(t)
	res, text := f.do(http.MethodGet, "/", "")
	require.Equal(t, 404, res.StatusCode)
	require.True(t, strings.HasPrefix(text, "url not found"))
}
