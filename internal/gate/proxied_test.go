package gate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/admission"
)

const emptyLogin = "POST /user_login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n{}"

// answer reads the status of a response; 0 if the connection ends without one.
func answer(t testing.TB, conn net.Conn) int {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// proxy says whose connection it is.
func proxy(client string) string {
	return fmt.Sprintf("PROXY TCP4 %s 198.51.100.1 40000 8080\r\n", client)
}

func TestAListedProxyOfTheGateSaysWhoseConnectionItIs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) {
		c.Gate.ProxyFrom = []string{"127.0.0.1"}
		c.Limits.ConnsPerAddress = 2
	})
	dropped := func(reason string) float64 { return f.metric("connections_dropped_total", "reason", reason) }

	require.Equal(t, http.StatusOK, answer(t, f.dial(proxy("192.0.2.1")+emptyLogin)))
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\x9c\x40\x1f\x90"
	require.Equal(t, http.StatusOK, answer(t, f.dial(v2+emptyLogin)))
	require.Equal(t, http.StatusOK, answer(t, f.dial("PROXY UNKNOWN\r\n"+emptyLogin)))
	pieces := f.dial("")
	for _, b := range []byte(v2 + emptyLogin) {
		_, err := pieces.Write([]byte{b}) // which leaves at once
		require.NoError(t, err)
	}
	require.Equal(t, http.StatusOK, answer(t, pieces))

	// Three of one client, which may have two: the oldest goes. Another client's stays. The answer to a request leaves before its
	// connection is closed, and until then it takes one of the two places.
	require.Eventually(t, func() bool { return f.conns.len() == 0 }, patience, time.Millisecond)
	held := []net.Conn{f.dial(proxy("192.0.2.2")), f.dial(proxy("192.0.2.1")), f.dial(proxy("192.0.2.1"))}
	named := func(n int) func() bool { return func() bool { return f.conns.len() == n } }
	require.Eventually(t, named(3), patience, time.Millisecond)
	last := f.dial(proxy("192.0.2.1") + "POST")
	require.Eventually(t, func() bool { return dropped(admission.Network.String()) == 1 }, patience, time.Millisecond)
	require.Eventually(t, named(3), patience, time.Millisecond)
	_, err := io.WriteString(held[0], emptyLogin)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer(t, held[0]))
	_, err = io.WriteString(last, strings.TrimPrefix(emptyLogin, "POST"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer(t, last))

	// Without a header, with another one, or from elsewhere.
	for i, text := range []string{emptyLogin, "PROXY TCP4 nobody 192.0.2.1 1 2\r\n" + emptyLogin} {
		require.Zero(t, answer(t, f.dial(text)))
		require.EqualValues(t, i+1, dropped(dropHeader))
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for text, want := range map[string]int{emptyLogin: http.StatusOK, proxy("192.0.2.1") + emptyLogin: http.StatusBadRequest} {
		conn, err := from.Dial("tcp", f.Addr())
		require.NoError(t, err)
		_, err = io.WriteString(conn, text)
		require.NoError(t, err)
		require.Equal(t, want, answer(t, conn))
		require.NoError(t, conn.Close())
	}
	require.EqualValues(t, 2, dropped(dropHeader))
}

// The client of the header is the peer whom X-Forwarded-For is believed of, or not. Below TLS too.
func TestTheClientOfAProxyHeaderIsThePeer(t *testing.T) {
	t.Parallel()
	secure, trust, _ := secured(t)
	f := newFixture(t, secure, func(c *Config) {
		c.Gate.ProxyFrom, c.Gate.TrustedProxies = []string{"127.0.0.2"}, []string{"192.0.2.7"}
	})
	f.newUser("alice", "alice@example.com", "abcdef")
	body := `{"email":"alice@example.com","passwd":"abcdef"}`
	for client, want := range map[string]string{"192.0.2.1": "192.0.2.1", "192.0.2.7": "203.0.113.9"} {
		web := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: trust.Clone(), DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
			conn, err := from.DialContext(ctx, network, addr)
			if err == nil {
				_, err = io.WriteString(conn, proxy(client))
			}
			return conn, err
		}}}
		for _, url := range []string{"http://" + f.Addr(), "https://" + f.TLSAddr()} {
			r, err := http.NewRequest(http.MethodPost, url+"/user_login", strings.NewReader(body))
			require.NoError(t, err)
			r.Header.Set("X-Forwarded-For", "203.0.113.9")
			before := strings.Count(f.logs.String(), `"remote":"`+want+`"`)
			res, err := web.Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, before+1, strings.Count(f.logs.String(), `"remote":"`+want+`"`), url)
		}
	}
}

func TestAProxyHeaderThatDoesNotEndIsGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the 10 s of a request")
	}
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Gate.ProxyFrom = []string{"127.0.0.1"} })
	conn := f.dial("PROXY TC")
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(3*readTimeout)))
	_, err := io.Copy(io.Discard, conn) // until the gate closes
	if err != nil {
		require.True(t, isReset(err), err)
	}
	require.Eventually(t, func() bool { return f.conns.len() == 0 }, patience, time.Millisecond)
}
