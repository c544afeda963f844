package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/launch"
)

// tap records what a client receives.
type tap struct {
	mu  sync.Mutex // guards the following
	got bytes.Buffer
}

func (p *tap) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got.String()
}

func (p *tap) options() client.Options {
	return client.Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &tapped{c, p}, err
	}}
}

type tapped struct {
	net.Conn
	tap *tap
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.tap.got.Write(b[:n])
	return n, err
}

// post sends a body to the gate and returns the answer.
func (w *world) post(t testing.TB, route, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.GateURL()+route, strings.NewReader(body))
	require.NoError(t, err)
	rsp, err := httpClient.Do(req)
	require.NoError(t, err)
	defer rsp.Body.Close()
	b, err := io.ReadAll(rsp.Body)
	require.NoError(t, err)
	return string(b)
}

// Secrets are planted, a user performs all kinds of actions while every node logs at the most detailed level, and
// dependencies fail. Afterwards no log, no metric and no data sent to other users contains any of the secrets.
func TestNoSecretLeaves(t *testing.T) {
	const redisPassword = "canary-redis-password"
	w := ownCluster(t, launch.Options{
		Chat: 2, Status: 1, Gate: 1, LogLevel: "debug",
		OnRedis: func(ctx context.Context, addr string) error {
			if err := seedGeneration(ctx, addr); err != nil {
				return err
			}
			rdb := redis.NewClient(redisOptions(addr))
			defer rdb.Close()
			// Redis and SQL accept connections without the password, so that the harness can connect; but a password
			// that is sent must be correct.
			return errors.Join(
				rdb.Do(ctx, "ACL", "SETUSER", "parley", "on", "~*", "&*", "+@all", ">"+redisPassword).Err(),
			)
		},
		Configure: func(_ *launch.Node, _ int, f *launch.INI) error {
			f.Set("Redis", "User", "parley")
			f.Set("Redis", "Passwd", redisPassword)
			return nil
		},
	})
	secrets := map[string]string{
		"redis password": redisPassword, "sql password": w.MariaDB.Password, "cluster secret": w.Secret(),
		"text": "canary-text-of-ann", "greeting": "canary-greeting-of-ann",
	}
	plant := func(what, value string) string {
		require.Greater(t, len(value), 5, what)
		secrets[what] = value
		return value
	}
	ctx := t.Context()

	// Ann registers, makes mistakes and resets her password.
	annMail := plant("e-mail", "canary.ann@e2e.example")
	first, second := plant("first password", "canary-pass-1"), plant("second password", "canary-pass-22")
	plant("first password as sent", transform(first))
	plant("second password as sent", transform(second))
	wrong := plant("wrong password", "canary-wrong-333")
	plant("wrong password as sent", transform(wrong))
	code := plant("code", w.code(ctx, t, annMail))
	wrongCode := plant("wrong code", "canary-code")
	r := client.Registration{Name: "ann", Email: annMail, Password: first, Code: wrongCode}
	_, err := w.gate.Register(ctx, r)
	require.Equal(t, client.CodeVarify, client.CodeOf(err))
	r.Code = code
	annUID, err := w.gate.Register(ctx, r)
	require.NoError(t, err)
	_, err = w.gate.Login(ctx, annMail, wrong)
	require.Error(t, err)
	ticket, err := w.gate.Login(ctx, annMail, first)
	require.NoError(t, err)
	plant("token", ticket.Token)
	unused, err := w.gate.Login(ctx, annMail, first)
	require.NoError(t, err)
	plant("second token", unused.Token)
	a, err := client.Dial(ctx, ticket, client.Options{})
	require.NoError(t, err)
	plant("resume ticket", a.Ticket().Resume)
	hash := func() (s string) {
		require.NoError(t, w.db.QueryRowContext(ctx, "SELECT pwd FROM user WHERE uid = ?", annUID).Scan(&s))
		return s
	}
	plant("first hash", hash())
	require.NoError(t, w.gate.ResetPassword(ctx, "ann", annMail, second, plant("reset code", w.code(ctx, t, annMail))))
	require.Error(t, awaitEnd(t, a, patience))
	plant("second hash", hash())
	_, err = client.Dial(ctx, unused, client.Options{})
	require.Equal(t, client.CodeTokenInvalid, client.CodeOf(err))

	// Other users: a friend and a stranger. Everything sent to them is recorded.
	friendUID := w.users(t, 2)
	var friendTap, strangerTap, gateReplies tap
	b := w.login(t, friendUID, 0, friendTap.options())
	s := w.login(t, friendUID+1, 1, strangerTap.options())
	ticket, err = w.gate.Login(ctx, annMail, second)
	require.NoError(t, err)
	plant("third token", ticket.Token)
	a, err = enter(t, ticket, client.Options{})
	require.NoError(t, err)
	plant("second resume ticket", a.Ticket().Resume)

	require.NoError(t, a.Apply(ctx, friendUID, secrets["greeting"], ""))
	awaitEvent[client.Applied](t, b)
	_, err = b.Approve(ctx, annUID, "")
	require.NoError(t, err)
	approved := awaitEvent[client.Approved](t, a)
	thread := approved.Messages[0].ThreadID
	_, err = say(ctx, a, client.User(friendUID), client.NewDraft(secrets["text"]))
	require.NoError(t, err)
	awaitText(t, b, secrets["text"])
	for _, c := range []*client.Conn{b, s} {
		p, err := c.Search(ctx, "ann")
		require.NoError(t, err)
		require.Equal(t, annUID, p.UID)
		_, err = c.SearchUID(ctx, annUID)
		require.NoError(t, err)
		_, err = c.Search(ctx, annMail)
		require.Equal(t, client.CodeUIDInvalid, client.CodeOf(err))
		_, _ = c.History(ctx, thread, 0, 0)
		_, _ = c.Sync(ctx, []client.Cursor{{ThreadID: thread}}, true)
		_, _ = c.Threads(ctx)
	}
	_, err = say(ctx, a, client.User(friendUID+1), client.NewDraft(secrets["text"]))
	require.Equal(t, client.CodeNotAllowed, client.CodeOf(err))

	// At the gate, others try her name, her address and nonsense that contains her secrets.
	for route, bodies := range map[string][]string{
		"/user_register": {
			fmt.Sprintf(`{"user":"ann","email":"x@e2e.example","passwd":"abcdefg","confirm":"abcdefg","varifycode":"%s"}`, w.code(ctx, t, "x@e2e.example")),
			`{"user":"` + first, `[]`, fmt.Sprintf(`{"user":%q,"email":"y@e2e.example","passwd":%q,"confirm":"other-one","varifycode":%q}`, first, second, code),
		},
		"/user_login": {`{"email":"` + second, fmt.Sprintf(`{"email":"%s","passwd":["%s"]}`, "z@e2e.example", first)},
		"/reset_pwd":  {fmt.Sprintf(`{"user":"ann","email":"x@e2e.example","passwd":"abcdefg","varifycode":%q}`, code)},
		"/nowhere":    {secrets["text"]},
	} {
		for _, b := range bodies {
			gateReplies.got.WriteString(w.post(t, route, b))
		}
	}

	// Send malformed requests that contain secrets, before and after a login.
	for _, extra := range []map[string]any{nil, native} {
		raw := dialRaw(t, w.Chat[0].Addr(), 0)
		raw.sendLogin(client.Ticket{UID: annUID, Token: unused.Token}, extra)
		raw.drain(patience)
		raw = dialRaw(t, w.Chat[0].Addr(), 0)
		raw.send(wire.MsgLogin, `{"uid":"x","token":"`+unused.Token+`"`)
		raw.drain(patience)
		raw = w.loginRaw(t, friendUID+1, 1, extra, 0)
		for _, id := range append(append([]wire.MsgID(nil), requestIDs...), strangeIDs...) {
			raw.send(id, `{"uid":"`+secrets["text"]+`","text_array":[{"content":"`+secrets["text"])
		}
		raw.send(wire.MsgLogin, `{"uid":1,"token":"`+unused.Token+`"}`)
		_ = raw.CloseWrite() // the node may have closed the stock client's connection
		raw.drain(patience)
	}

	// Stores that fail cause errors, which are logged.
	require.NoError(t, w.MariaDB.Kill())
	d := client.NewDraft(secrets["text"])
	_, _ = a.SendTexts(ctx, client.User(friendUID), d)
	_, err = a.Search(ctx, secrets["text"])
	require.Error(t, err)
	_ = a.Apply(ctx, friendUID+1, secrets["greeting"], secrets["text"])
	_, err = w.gate.Login(ctx, annMail, second)
	require.Error(t, err)
	_ = w.gate.ResetPassword(ctx, "ann", annMail, first, wrongCode)
	require.NoError(t, w.MariaDB.Start(ctx))
	require.NoError(t, w.Redis.Kill())
	_, err = w.gate.Login(ctx, annMail, second)
	require.Error(t, err)
	_ = w.gate.RequestCode(ctx, annMail)
	_, err = client.Dial(ctx, unused, client.Options{})
	require.Error(t, err)
	require.NoError(t, w.Chat[1].Kill())

	for _, n := range w.Nodes() {
		if n.Running() {
			lookForSecrets(t, "/metrics of "+n.Name(), httpGet(t, "http://"+n.OpsAddr()+"/metrics"), secrets)
			lookForSecrets(t, "/readyz of "+n.Name(), httpGet(t, "http://"+n.OpsAddr()+"/readyz"), secrets)
		}
	}
	for _, n := range w.Nodes() {
		b, err := os.ReadFile(n.LogPath())
		require.NoError(t, err)
		lines, printed := 0, 0
		for line := range strings.Lines(string(b)) {
			if n.Role() == launch.Gate && strings.HasPrefix(line, devMail) {
				printed++ // the purpose of a gate without a mail server; this is not its log
				continue
			}
			lines++
			lookForSecrets(t, "log of "+n.Name(), line, secrets)
		}
		require.Greater(t, lines, 3)
		if n.Role() == launch.Gate {
			require.Equal(t, 3, printed)
		}
	}
	for what, sent := range map[string]*tap{"what the friend was sent": &friendTap, "what the stranger was sent": &strangerTap, "replies of the gate": &gateReplies} {
		others := make(map[string]string)
		for k, v := range secrets {
			if sent != &friendTap || k != "text" && k != "greeting" { // intended for the friend
				others[k] = v
			}
		}
		require.NotEmpty(t, sent.String())
		lookForSecrets(t, what, sent.String(), others)
		require.NotContains(t, sent.String(), "argon2", what)
		require.NotContains(t, sent.String(), `"pwd"`, what)
	}
}

// lookForSecrets fails with the name and the context of each secret it finds. All secrets here are made up.
func lookForSecrets(t testing.TB, where, page string, secrets map[string]string) {
	t.Helper()
	for what, value := range secrets {
		if i := strings.Index(page, value); i >= 0 {
			t.Errorf("%s has the %s: %s", where, what, page[max(0, i-200):min(len(page), i+len(value)+50)])
		}
	}
}

// The operations listener is on loopback by default, and serves health checks, metrics and pages for operators.
func TestOperationsListener(t *testing.T) {
	w := sharedCluster(t)
	for _, n := range w.Nodes() {
		host, _, err := net.SplitHostPort(n.OpsAddr())
		require.NoError(t, err)
		require.Equal(t, "127.0.0.1", host)
		require.NotEmpty(t, httpGet(t, "http://"+n.OpsAddr()+"/healthz"))
		require.Contains(t, httpGet(t, "http://"+n.OpsAddr()+"/readyz"), "redis")
		require.Contains(t, httpGet(t, "http://"+n.OpsAddr()+"/metrics"), "parley_build_info")
		require.Contains(t, httpGet(t, "http://"+n.OpsAddr()+"/debug/pprof/goroutine?debug=1"), "goroutine profile")
	}
}
