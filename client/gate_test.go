package client

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGate(t *testing.T) {
	var path string
	var got map[string]any
	reply, status := `{"error":0}`, 200
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, got = r.URL.Path, nil
		json.NewDecoder(r.Body).Decode(&got)
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(status)
		io.WriteString(w, reply)
	}))
	defer srv.Close()
	g, err := NewGate(srv.URL + "/")
	require.NoError(t, err)
	g.HTTP = srv.Client()
	ctx := t.Context()

	require.NoError(t, g.RequestCode(ctx, "a@example.com"))
	require.Equal(t, "/get_varifycode", path)
	require.Equal(t, map[string]any{"email": "a@example.com"}, got)

	reply = `{"error":0,"uid":1001,"passwd":"echo"}`
	uid, err := g.Register(ctx, Registration{Name: "alice", Email: "a@example.com", Password: "secret1", Code: "123456"})
	require.NoError(t, err)
	require.Equal(t, int32(1001), uid)
	require.Equal(t, "/user_register", path)
	require.Equal(t, map[string]any{
		"user": "alice", "email": "a@example.com", "passwd": "secret1", "confirm": "secret1", "varifycode": "123456",
		"nick": "alice", "icon": ":/res/head_1.jpg", "sex": 0.0, "plain": true,
	}, got)

	require.NoError(t, g.ResetPassword(ctx, "alice", "a@example.com", "secret2", "123456"))
	require.Equal(t, "/reset_pwd", path)
	require.Equal(t, true, got["plain"])

	require.NoError(t, g.ChangePassword(ctx, "a@example.com", "secret1", "secret2"))
	require.Equal(t, "/change_password", path)
	require.Equal(t, map[string]any{"email": "a@example.com", "passwd": "secret1", "newpasswd": "secret2", "plain": true}, got)

	reply = `{"error":0,"email":"a@example.com","uid":1001,"token":"tok","host":"::1","port":"8090"}`
	ticket, err := g.Login(ctx, "a@example.com", "secret1")
	require.NoError(t, err)
	require.Equal(t, Ticket{Addr: "[::1]:8090", UID: 1001, Token: "tok"}, ticket)

	for _, c := range []struct {
		reply  string
		status int
		check  func(error)
	}{
		{`{"error":1009}`, 200, func(err error) {
			require.Equal(t, CodePasswdInvalid, CodeOf(err))
			require.Equal(t, GiveUp, Advise(err))
			require.EqualError(t, err, "gate login: wrong e-mail address or password (1009)")
		}},
		{`{"error":2001,"retry_ms":700}`, 200, func(err error) {
			require.Equal(t, 700*time.Millisecond, RetryAfter(err))
			require.Equal(t, Retry, Advise(err))
		}},
		{`{"error":2003}`, 200, func(err error) { require.Equal(t, 3*time.Second, RetryAfter(err)) }},
		{`{"error":0}`, 200, func(err error) { require.ErrorIs(t, err, ErrProtocol) }},
		{`{}`, 200, func(err error) { require.ErrorIs(t, err, ErrProtocol) }},
		{`url not found`, 404, func(err error) {
			require.ErrorIs(t, err, ErrProtocol)
			require.ErrorContains(t, err, "404")
		}},
		{`{"token":"secret"`, 200, func(err error) { require.NotContains(t, err.Error(), "secret") }},
	} {
		reply, status = c.reply, c.status
		_, err := g.Login(ctx, "a@example.com", "secret1")
		require.Error(t, err)
		c.check(err)
	}
}

func TestNewGate(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8080":         "http://127.0.0.1:8080",
		"https://chat.example/x": "https://chat.example/x",
		"http://h:1/?a=b#c":      "http://h:1",
	} {
		g, err := NewGate(address)
		require.NoError(t, err)
		require.Equal(t, want, g.url)
	}
	for _, address := range []string{"", "ftp://x", "http://", "http://a b"} {
		_, err := NewGate(address)
		require.ErrorIs(t, err, errGateURL)
		require.Equal(t, GiveUp, Advise(err))
	}
}

func TestCodesAndAdvice(t *testing.T) {
	require.Equal(t, "code 4711", Code(4711).String())
	require.Equal(t, GiveUp, Code(4711).Advice())
	require.Equal(t, []string{"give up", "retry", "log in again"}, []string{GiveUp.String(), Retry.String(), LoginAgain.String()})
	require.Equal(t, GiveUp, Advise(nil))
	require.Equal(t, Retry, Advise(io.ErrUnexpectedEOF))
	require.Equal(t, "login: the server is busy: full (2001)", (&Error{Op: "login", Code: CodeBusy, Reason: "full"}).Error())
}
