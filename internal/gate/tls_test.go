package gate

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/admission"
	"parley/internal/certs"
	"parley/internal/wire"
	"parley/lab/certstest"
)

// secured makes a certificate, and returns what has a gate show it and a client trust it.
func secured(t testing.TB) (gate func(*Config), _ *tls.Config, dir string) {
	t.Helper()
	cert, key, trust, dir := certstest.Make(t)
	return func(c *Config) {
		c.Gate.TLSPort = "0"
		c.TLS.Cert, c.TLS.Key = cert, key
	}, trust, dir
}

// dialTLS opens a connection to the gate by TLS and sends text.
func (f *fixture) dialTLS(trust *tls.Config, text string) net.Conn {
	f.t.Helper()
	conn, err := tls.Dial("tcp", f.TLSAddr(), trust)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, text)
	require.NoError(f.t, err)
	return conn
}

func TestTheGateAnswersByHTTPS(t *testing.T) {
	t.Parallel()
	secure, trust, _ := secured(t)
	f := newFixture(t, secure, func(c *Config) { c.Gate.Page = true })
	f.newUser("alice", "alice@example.com", "abcdef")
	client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res, err := client.Post("https://"+f.TLSAddr()+"/user_login", "application/json", strings.NewReader(`{"email":"alice@example.com","passwd":"abcdef"}`))
	require.NoError(t, err)
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Contains(t, string(text), `"error":0`)
	require.Equal(t, 1, res.ProtoMajor, "the limits count connections")
	require.True(t, res.Close)

	res, err = client.Get("https://" + f.TLSAddr() + "/")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)

	old := trust.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	_, err = tls.Dial("tcp", f.TLSAddr(), old)
	require.Error(t, err)
}

func TestTheGateShowsARenewedCertificate(t *testing.T) {
	t.Parallel()
	secure, trust, dir := secured(t)
	f := newFixture(t, secure)
	serial := func() string {
		conn, err := tls.Dial("tcp", f.TLSAddr(), trust)
		require.NoError(t, err)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	require.NoError(t, certs.Make(dir, []string{"127.0.0.1"}, time.Now()))
	f.reread <- syscall.SIGHUP
	require.Eventually(t, func() bool { return serial() != first }, patience, 10*time.Millisecond)
}

// B1: connections by TLS and plain ones share the limits.
func TestConnectionsByTLSCount(t *testing.T) {
	t.Parallel()
	secure, trust, _ := secured(t)
	f := newFixture(t, secure, func(c *Config) { c.Limits.ThrottleLoopback, c.Limits.ConnsPerAddress = true, 3 })
	f.newUser("alice", "alice@example.com", "abcdef")
	first := f.dial("POST /user_login HTTP/1.1\r\n")
	for range 3 {
		f.dialTLS(trust, "POST /user_login HTTP/1.1\r\n")
	}
	require.NoError(t, first.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.ReadAll(first)
	require.True(t, err == nil || isReset(err), "the oldest connection is closed for one by TLS: %v", err)
	require.Eventually(t, func() bool { return f.conns.len() <= 3 }, patience, time.Millisecond)
	held := f.dialTo(f.TLSAddr(), "") // a handshake that does not begin displaces, and is displaced
	for range 3 {
		f.dialTLS(trust, "POST /user_login HTTP/1.1\r\n")
	}
	require.NoError(t, held.SetReadDeadline(time.Now().Add(patience)))
	_, err = io.ReadAll(held)
	require.True(t, err == nil || isReset(err), "%v", err)
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
	require.GreaterOrEqual(t, f.metric("connections_dropped_total", "reason", admission.Network.String()), 5.0)
}

// B1: whatever deadline net/http sets for the next part of a request, the whole is due at one time.
func TestNoPartOfARequestExtendsItsTime(t *testing.T) {
	ln, err := newConns(10, 10, nil, func(string) {}).listen("127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	accepted, err := ln.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	c := underlying(tls.Server(accepted, &tls.Config{}))
	require.Same(t, accepted, c)
	c.due = time.Now().Add(50 * time.Millisecond)
	for _, later := range []time.Time{{}, time.Now().Add(time.Hour)} {
		require.NoError(t, c.SetReadDeadline(later))
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	require.True(t, c.received())
	require.NoError(t, c.SetReadDeadline(time.Time{}))
	_, err = client.Write([]byte("x"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.NoError(t, err)
}
