package gate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"parley/internal/config"
	"parley/internal/wire"
)

func TestRoutesAnswerExactly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	uid := f.newUser("alice", "alice@example.com", "gde745")
	spare := f.code("bob@example.com")
	for _, tc := range []struct {
		name, path, body, want string
	}{
		{"code sent", "/get_varifycode", `{"email":"carol@example.com"}`, `{"error":0,"email":"carol@example.com"}`},
		{"code, indented as Qt sends it", "/get_varifycode", "{\n    \"email\": \"Dave@Example.com\"\n}\n", `{"error":0,"email":"Dave@Example.com"}`},
		{"code without a key", "/get_varifycode", `{"mail":"x@example.com"}`, `{"error":1001}`},
		{"code for no address", "/get_varifycode", `{"email":"nobody"}`, `{"error":2005}`},
		{"code for a Kelvin sign, which is a k in lower case", "/get_varifycode", "{\"email\":\"\u212aarl@example.com\"}", `{"error":2005}`},
		{
			"login", "/user_login", `{"email":"Alice@Example.com","passwd":"gde745"}`,
			fmt.Sprintf(`{"error":0,"email":"Alice@Example.com","uid":%d,"token":"token-of-%d","host":"127.0.0.1","port":"8090","addresses":{"tcp":"127.0.0.1:8090","wss":"wss://chat.example.org/node1"}}`, uid, uid),
		},
		{
			"login as typed", "/user_login", `{"plain":true,"email":"alice@example.com","passwd":"abc123"}`,
			fmt.Sprintf(`{"error":0,"email":"alice@example.com","uid":%d,"token":"token-of-%d","host":"127.0.0.1","port":"8090","addresses":{"tcp":"127.0.0.1:8090","wss":"wss://chat.example.org/node1"}}`, uid, uid),
		},
		{"login with a wrong password", "/user_login", `{"email":"alice@example.com","passwd":"gde746"}`, `{"error":1009}`},
		{"login as typed without saying so", "/user_login", `{"email":"alice@example.com","passwd":"abc123"}`, `{"error":1009}`},
		{"login of nobody", "/user_login", `{"email":"nobody@example.com","passwd":"gde745"}`, `{"error":1009}`},
		{"login without a password", "/user_login", `{"email":"alice@example.com"}`, `{"error":1001}`},
		{"login with null", "/user_login", `{"email":"alice@example.com","passwd":null}`, `{"error":1001}`},
		{"login with a huge password", "/user_login", `{"email":"alice@example.com","passwd":"` + strings.Repeat("x", 129) + `"}`, `{"error":1009}`},
		{"register, passwords differ", "/user_register", `{"user":"bob","email":"bob@example.com","passwd":"abcdef","confirm":"abcdeg","varifycode":"1"}`, `{"error":1006}`},
		{"register, no code", "/user_register", `{"user":"bob","email":"none@example.com","passwd":"abcdef","confirm":"abcdef","varifycode":"123456"}`, `{"error":1003}`},
		{"register, wrong code", "/user_register", `{"user":"bob","email":"bob@example.com","passwd":"abcdef","confirm":"abcdef","varifycode":"x"}`, `{"error":1004}`},
		{"register, short password", "/user_register", `{"user":"bob","email":"bob@example.com","passwd":"abcde","confirm":"abcde","varifycode":"x"}`, `{"error":2005}`},
		{"register, odd name", "/user_register", `{"user":"bob smith","email":"bob@example.com","passwd":"abcdef","confirm":"abcdef","varifycode":"x"}`, `{"error":2005}`},
		{"register, name taken", "/user_register", `{"user":"ALICE","email":"bob@example.com","passwd":"abcdef","confirm":"abcdef","varifycode":"` + spare + `"}`, `{"error":1005}`},
		{
			"register with the same code", "/user_register", `{"user":"bob","email":"bob@example.com","passwd":"abcdef","confirm":"abcdef","varifycode":"` + spare + `","icon":":/res/head_2.jpg","nick":"b","sex":1}`,
			fmt.Sprintf(`{"error":0,"uid":%d,"email":"bob@example.com","user":"bob"}`, uid+1),
		},
		{"register, the code is used", "/user_register", `{"user":"bob2","email":"bob@example.com","passwd":"abcdef","confirm":"abcdef","varifycode":"` + spare + `"}`, `{"error":1003}`},
		{"reset, no code", "/reset_pwd", `{"user":"alice","email":"alice@example.com","passwd":"abcdef","varifycode":"123456"}`, `{"error":1003}`},
		{"reset, no password", "/reset_pwd", `{"user":"alice","email":"alice@example.com","varifycode":"123456"}`, `{"error":1001}`},
	} {
		require.Equal(t, tc.want, f.post(tc.path, tc.body), tc.name)
	}

	code := f.code("alice@example.com")
	require.Equal(t, `{"error":1007}`, f.post("/reset_pwd", `{"user":"bob","email":"alice@example.com","passwd":"newpass","varifycode":"`+code+`"}`))
	require.Equal(t, `{"error":0,"email":"alice@example.com","user":"alice"}`,
		f.post("/reset_pwd", `{"user":"alice","email":"alice@example.com","passwd":"newpass","varifycode":"`+code+`"}`))
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "newpass").Error)
}

func TestMalformedBodiesAreCode1001(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, body := range []string{
		"", " ", "null", "true", "1", `"x"`, "[]", `[{"email":"a@b.c"}]`, "{", `{"email":`, `{"email":1}`, `{"email":{}}`,
		`{"email":["a@b.c"]}`, `{"email":true}`, `{"email":"a@b.c"} {}`, `{"email":"a@b.c"`, "{\"email\":\"\xff@b.c\"}",
		`{"email":null}`, strings.Repeat("[", 10000), strings.Repeat(`{"a":`, 2000), "\x00",
	} {
		for path := range f.api.routes {
			require.Equal(t, `{"error":1001}`, f.post(path, body), "%s %.60q", path, body)
		}
	}
	all := map[string]string{
		"email": `"a@b.c"`, "passwd": `"abcdef"`, "user": `"a"`, "confirm": `"abcdef"`, "varifycode": `"1"`, "plain": "true",
		"newpasswd": `"abcdef"`,
	}
	for path, keys := range map[string][]string{
		"/get_varifycode": {"email"},
		"/user_register":  {"email", "passwd", "user", "confirm", "varifycode", "plain"},
		"/reset_pwd":      {"email", "passwd", "user", "varifycode", "plain"},
		"/user_login":     {"email", "passwd", "plain"},

		"/change_password": {"email", "passwd", "newpasswd", "plain"},
		"/delete_account":  {"email", "passwd", "plain"},
	} {
		for _, bad := range keys {
			for _, value := range []string{"", "null", "1", "{}", "[]", `"yes`} {
				if bad == "plain" && (value == "" || value == "null") {
					continue // it may be absent
				}
				var parts []string
				for _, k := range keys {
					switch {
					case k != bad:
						parts = append(parts, `"`+k+`":`+all[k])
					case value != "":
						parts = append(parts, `"`+k+`":`+value)
					}
				}
				body := "{" + strings.Join(parts, ",") + "}"
				require.Equal(t, `{"error":1001}`, f.post(path, body), "%s %s", path, body)
			}
		}
	}
}

func TestOnlyTheRoutesExist(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, tc := range []struct{ method, target string }{
		{"GET", "/"},
		{"POST", "/"},
		{"POST", "/user_login?x=1"},
		{"POST", "/user_login?"},
		{"POST", "/user_login/"},
		{"GET", "/user_login"},
		{"PUT", "/user_login"},
		{"OPTIONS", "/nothing"},
		{"POST", "http://gate.example/"},
		{"POST", "http://gate.example/user_login?x=1"},
		{"POST", "http://gate.example/user_login?"},
		{"POST", "http://gate.example//user_login"},
		{"POST", "http://gate.example/user%5Flogin"},
		{"POST", "http://gate.example"},
		{"GET", "http://gate.example/user_login"},
		{"POST", "/test_procedure"},
		{"GET", "/get_test"},
		{"POST", "/user%5Flogin"},
		{"POST", "//user_login"},
		{"POST", "/USER_LOGIN"},
	} {
		res, text := f.raw(tc.method+" "+tc.target+" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 0)
		require.Equal(t, http.StatusNotFound, res.StatusCode, "%s %s", tc.method, tc.target)
		require.Equal(t, "text/plain", res.Header.Get("Content-Type"))
		require.Equal(t, "url not found\r\n", text, "%s %s", tc.method, tc.target)
	}
}

func TestHeadersAreUpstreams(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, version := range []string{"HTTP/1.0", "HTTP/1.1"} {
		res, text := f.raw("POST /user_login "+version+"\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 0)
		require.Equal(t, version, res.Proto)
		require.Equal(t, "GateServer", res.Header.Get("Server"))
		require.Equal(t, "*", res.Header.Get("Access-Control-Allow-Origin"))
		require.Equal(t, "text/json", res.Header.Get("Content-Type"))
		require.True(t, res.Close, "connection is short")
		require.Equal(t, `{"error":1001}`, text)
	}
}

func TestSizeLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	head := "POST /user_login HTTP/1.1\r\nHost: x\r\n"
	fill := func(n int) string { return strings.Repeat("a", n) }
	for _, tc := range []struct {
		name, raw string
		want      int
	}{
		{"body at the limit", head + "Content-Length: 16384\r\n\r\n{" + fill(16383), 200},
		{"body past the limit", head + "Content-Length: 16385\r\n\r\n{" + fill(16384), 413},
		{"a promise of 10 MiB", head + "Content-Length: 10485760\r\n\r\n", 413},
		{"chunks past the limit", head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+fill(4096)+"\r\n", 5) + "0\r\n\r\n", 413},
		{"chunks within it", head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+fill(4096)+"\r\n", 3) + "0\r\n\r\n", 200},
		{"broken chunks", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 200},
		{"header within the limit", head + "X: " + fill(15000) + "\r\nContent-Length: 2\r\n\r\n{}", 200},
		{"header past the limit", head + "X: " + fill(16384) + "\r\nContent-Length: 2\r\n\r\n{}", 431},
		{"header of 1 MiB", head + "X: " + fill(1<<20) + "\r\n\r\n", 431},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, _ := f.raw(tc.raw, 0)
			require.Equal(t, tc.want, res.StatusCode)
		})
	}
}

// A body that ends early is answered. Instead of waiting for the deadline, the client half-closes, which the server
// sees as the end of the body.
func TestTruncatedBodyIsAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	conn, err := net.Dial("tcp", f.Addr())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /user_login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"email\":")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, `{"error":1001}`, string(text))
}

func TestSlowHeaderIsClosed(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the 5 s of the header")
	}
	t.Parallel()
	f := newFixture(t)
	conn, err := net.Dial("tcp", f.Addr())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /user_login HTTP/1.1\r\nHost:")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(3*headerTimeout)))
	_, err = io.ReadAll(conn)
	require.NoError(t, err, "closed by the server, not by our patience")
}

func TestSlowBodyIsAnswered(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the 10 s of the body")
	}
	t.Parallel()
	f := newFixture(t)
	res, text := f.raw("POST /user_login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", 3*readTimeout)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, `{"error":1001}`, text)
}

func TestPanicIsAnsweredAndNotLogged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.Server
	rt := route{"login", func(context.Context, *request) (any, error) { panic("canary-of-a-panic") }}
	rec := httptest.NewRecorder()
	reply, err := s.api.call(rt, &request{client: t.Context()})
	require.Equal(t, wire.CodeInternal, s.api.answer(rec, rt, reply, err))
	require.Equal(t, 200, rec.Code)
	require.Equal(t, `{"error":2000}`, rec.Body.String())
	require.Contains(t, f.logs.String(), "handler panicked")
	require.NotContains(t, f.logs.String(), "canary-of-a-panic")
	require.Equal(t, 1.0, f.metric("panics_total"))
}

func TestForwardedForCountsOnlyFromTrustedProxies(t *testing.T) {
	for _, tc := range []struct {
		name, peer, header, want string
		trusted                  []string
	}{
		{"nobody is trusted", "10.0.0.1:5", "1.2.3.4", "10.0.0.1", nil},
		{"a stranger writes it", "9.9.9.9:5", "1.2.3.4", "9.9.9.9", []string{"10.0.0.0/8"}},
		{"one proxy", "10.0.0.1:5", "1.2.3.4", "1.2.3.4", []string{"10.0.0.0/8"}},
		{"what the client forged stands to the left", "10.0.0.1:5", "6.6.6.6, 1.2.3.4", "1.2.3.4", []string{"10.0.0.0/8"}},
		{"two proxies", "10.0.0.1:5", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4", []string{"10.0.0.0/8"}},
		{"no header", "10.0.0.1:5", "", "10.0.0.1", []string{"10.0.0.1"}},
		{"rubbish", "10.0.0.1:5", "1.2.3.4, what", "10.0.0.1", []string{"10.0.0.1"}},
		// B7
		{"with a port", "10.0.0.1:5", "203.0.113.5:40000", "203.0.113.5", []string{"10.0.0.0/8"}},
		{"v6 with a port", "10.0.0.1:5", "[2001:db8::1]:40000", "2001:db8::1", []string{"10.0.0.0/8"}},
		{"v6 in brackets", "10.0.0.1:5", "[2001:db8::1]", "2001:db8::1", []string{"10.0.0.0/8"}},
		{"v6 alone", "10.0.0.1:5", "2001:db8::1", "2001:db8::1", []string{"10.0.0.0/8"}},
		{"v6 of a link", "10.0.0.1:5", "fe80::1%eth0", "fe80::1", []string{"10.0.0.0/8"}},
		{"mapped with a port", "10.0.0.1:5", "[::ffff:203.0.113.5]:1", "203.0.113.5", []string{"10.0.0.0/8"}},
		{"in quotes", "10.0.0.1:5", `"[2001:db8::1]:1"`, "2001:db8::1", []string{"10.0.0.0/8"}},
		{"trailing comma", "10.0.0.1:5", "6.6.6.6, 203.0.113.5,", "203.0.113.5", []string{"10.0.0.0/8"}},
		{"empty elements", "10.0.0.1:5", "203.0.113.5, ,\t, 10.0.0.2:80 ,,", "203.0.113.5", []string{"10.0.0.0/8"}},
		{"several headers", "10.0.0.1:5", "6.6.6.6|203.0.113.5:1|10.0.0.2", "203.0.113.5", []string{"10.0.0.0/8"}},
		{"several headers, the last empty", "10.0.0.1:5", "6.6.6.6|203.0.113.5|", "203.0.113.5", []string{"10.0.0.0/8"}},
		{"rubbish to the left of the client", "10.0.0.1:5", "unknown, [:], 203.0.113.5:1", "203.0.113.5", []string{"10.0.0.0/8"}},
		{"all are proxies", "10.0.0.1:5", "10.0.0.3, 10.0.0.2", "10.0.0.3", []string{"10.0.0.0/8"}},
		{"mapped", "[::ffff:10.0.0.1]:5", "::ffff:1.2.3.4", "1.2.3.4", []string{"10.0.0.1"}},
	} {
		proxies, err := config.Networks(tc.trusted)
		require.NoError(t, err)
		a := &api{shared: &shared{noise: rate.NewLimiter(5, 20), log: slog.New(slog.DiscardHandler)}, proxies: proxies}
		r := httptest.NewRequest(http.MethodPost, "/user_login", nil)
		r.RemoteAddr = tc.peer
		if tc.header != "" {
			r.Header["X-Forwarded-For"] = strings.Split(tc.header, "|")
		}
		require.Equal(t, tc.want, a.clientAddr(r).String(), tc.name)
	}
	_, err := config.Networks([]string{"10.0.0.0/99"})
	require.Error(t, err)
	_, err = config.Networks([]string{"proxy"})
	require.Error(t, err)
}

// raw sends bytes and reads one response; within 0 means patience.
func (f *fixture) raw(request string, within time.Duration) (*http.Response, string) {
	f.t.Helper()
	if within == 0 {
		within = patience
	}
	conn, err := net.Dial("tcp", f.Addr())
	require.NoError(f.t, err)
	defer conn.Close()
	require.NoError(f.t, conn.SetDeadline(time.Now().Add(within)))
	go func() { _, _ = io.WriteString(conn, request) }() // the server may refuse before it has read all
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(f.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(f.t, err)
	return res, string(text)
}
