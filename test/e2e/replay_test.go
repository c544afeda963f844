package e2e

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"parley/client"
	"parley/internal/rpc"
)

// capture is everything that goes over the connections of a client, as anybody on the way sees it.
type capture struct {
	mu    sync.Mutex // guards the following
	conns []*captured
}

// captured is one connection of it.
type captured struct {
	net.Conn
	in             *capture
	to             string
	sent, received []byte // guarded by in.mu
}

func (c *capture) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, &captured{Conn: conn, in: c, to: addr})
	return c.conns[len(c.conns)-1], nil
}

func (c *captured) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.received = append(c.received, b[:n]...)
	return n, err
}

func (c *captured) Write(b []byte) (int, error) {
	c.in.mu.Lock()
	c.sent = append(c.sent, b...)
	c.in.mu.Unlock()
	return c.Conn.Write(b)
}

// all is what was seen so far: the whole as text, and for each connection where it led and what was sent.
func (c *capture) all() (text string, sent [][2]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		text += string(conn.sent) + string(conn.received)
		sent = append(sent, [2]string{conn.to, string(conn.sent)})
	}
	return text, sent
}

// httpsGate is the first gate, by https.
func (w *world) httpsGate(t testing.TB, via *http.Transport) *client.Gate {
	t.Helper()
	addr := regexp.MustCompile(`"tls":"([^"]+)"`).FindStringSubmatch(w.Gate[0].Log())
	require.NotNil(t, addr, "the gate logs its address")
	g, err := client.NewGate("https://" + addr[1])
	require.NoError(t, err)
	g.HTTP = &http.Client{Timeout: patience, Transport: via}
	return g
}

// dump reads all of Redis: the value of each key, whatever its type, in a readable form.
func (w *world) dump(t testing.TB) map[string]string {
	t.Helper()
	ctx, all := t.Context(), map[string]string{}
	for keys := w.rdb.Scan(ctx, 0, "*", 1000).Iterator(); keys.Next(ctx); {
		var value any
		var err error
		switch key, kind := keys.Val(), w.rdb.Type(ctx, keys.Val()).Val(); kind {
		case "string":
			value, err = w.rdb.Get(ctx, key).Result()
		case "hash":
			value, err = w.rdb.HGetAll(ctx, key).Result()
		case "list":
			value, err = w.rdb.LRange(ctx, key, 0, -1).Result()
		case "set":
			value, err = w.rdb.SMembers(ctx, key).Result()
		case "zset":
			value, err = w.rdb.ZRange(ctx, key, 0, -1).Result()
		case "none": // expired meanwhile
		default:
			t.Fatalf("%s is a %s", key, kind)
		}
		if err == nil {
			all[keys.Val()] = fmt.Sprint(value)
		}
	}
	return all
}

// tokenLike is what could be a token, a ticket, a digest, a secret or a password.
var tokenLike = regexp.MustCompile(`[A-Za-z0-9_+/=-]{16,128}`)

// candidates are the token-like strings of a text, and what a digest among them would be if it were written as a token.
func candidates(text string) []string {
	found := map[string]bool{}
	for _, s := range tokenLike.FindAllString(text, -1) {
		for _, part := range append(strings.FieldsFunc(s, func(r rune) bool { return r == '_' || r == '=' }), s) {
			if len(part) < 16 {
				continue
			}
			found[part] = true
			if raw, err := hex.DecodeString(part); err == nil {
				found[base64.RawURLEncoding.EncodeToString(raw)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Anna talks by https and wss. Someone has recorded all of it, and someone has all that is in Redis while she is logged in, has a
// token that she has not used, and waits for a code. With neither can anyone log in, or call a node.
func TestACaptureAndADumpOfRedisLogNobodyIn(t *testing.T) {
	w := sharedCluster(t)
	ctx := t.Context()
	anna, bob, _ := w.pair(t)
	var seen capture
	trust := suite.trust
	gate := w.httpsGate(t, &http.Transport{TLSClientConfig: trust, DialContext: seen.dial, DisableKeepAlives: true})
	gate.Transport = client.TransportWSS
	o := client.Options{TLS: trust, Dial: seen.dial, Device: "phone"}

	first, err := gate.Login(ctx, email(anna), password(anna))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(first.Addr, "wss://"))
	c, err := enter(t, first, o)
	require.NoError(t, err)
	_, err = say(ctx, c, client.User(bob), client.NewDraft("a text of Anna's"))
	require.NoError(t, err)
	used := c.Ticket()
	require.NoError(t, c.Close())
	c, err = enter(t, used, o)
	require.NoError(t, err)
	unused, err := gate.Login(ctx, email(anna), password(anna))
	require.NoError(t, err)
	code := w.code(ctx, t, email(anna))
	redis := w.dump(t)

	secrets := map[string]string{
		"password": password(anna), "password as sent": transform(password(anna)), "token": unused.Token, "used token": first.Token,
		"ticket": c.Ticket().Resume, "used ticket": used.Resume, "cluster secret": w.Secret(), "text": "a text of Anna's",
	}
	recorded, sent := seen.all()
	require.Greater(t, len(recorded), 4000)
	stored := fmt.Sprint(redis)
	require.Contains(t, stored, "utoken_"+strconv.Itoa(int(anna)))
	require.Contains(t, stored, "uresume_"+strconv.Itoa(int(anna)))
	for what, text := range map[string]string{"the capture": recorded, "Redis": stored} {
		lookForSecrets(t, what, text, secrets)
	}
	require.NotContains(t, redis["code_"+email(anna)], code)
	require.NotEmpty(t, redis["code_"+email(anna)])

	// What was sent, sent again to where it went, and to a node's TCP port.
	for _, conn := range sent {
		for _, to := range []string{conn[0], w.Chat[0].Addr()} {
			r := dialRaw(t, to, 0)
			r.write([]byte(conn[1]))
			_ = r.CloseWrite() // it may be closed already
			_, _ = io.Copy(io.Discard, r)
		}
	}

	// Every token-like string is tried as everything that lets someone in, for its owner if the key names one.
	type try struct {
		uid  int32
		text string
	}
	var tries []try
	var passwords []string
	for _, s := range candidates(recorded) {
		tries, passwords = append(tries, try{anna, s}), append(passwords, s)
	}
	owner := regexp.MustCompile(`^u[a-z]+_\{?([0-9]+)`)
	for key, value := range redis {
		uid := anna
		if m := owner.FindStringSubmatch(key); m != nil {
			n, err := strconv.Atoi(m[1])
			require.NoError(t, err)
			uid = int32(n)
		}
		for _, s := range candidates(key + " " + value) {
			tries = append(tries, try{uid, s})
			if strings.Contains(key, strconv.Itoa(int(anna))) || strings.Contains(value, strconv.Itoa(int(anna))) {
				passwords = append(passwords, s)
			}
		}
	}
	t.Logf("%d bytes captured, %d keys in Redis: %d strings to try, %d as passwords", len(recorded), len(redis), len(tries), len(passwords))
	require.Greater(t, len(tries), 10)
	require.NotEmpty(t, passwords)

	login := func(uid int32, token, resume string) error {
		conn, err := client.Dial(ctx, client.Ticket{Addr: w.Chat[0].Addr(), UID: uid, Token: token, Resume: resume}, client.Options{Device: "phone"})
		if err == nil {
			conn.Close()
		}
		return err
	}
	place := w.services()["StatusService"]
	status1 := newForeign(t, place.addr, nil)
	callee := status1.callee(ctx, "StatusService", "GetChatServer")
	ask := num(1, uint64(anna))
	call := func(headers map[string]string) error {
		var out []byte
		return status1.conn.Invoke(metadata.NewOutgoingContext(ctx, metadata.New(headers)), "/message.StatusService/GetChatServer", ask, &out)
	}
	failures := make(chan error, 4*len(tries))
	var wg sync.WaitGroup
	work := make(chan try)
	for range 4 {
		wg.Go(func() {
			for a := range work {
				if err := login(a.uid, a.text, ""); client.CodeOf(err) != client.CodeTokenInvalid {
					failures <- fmt.Errorf("%q as the token of %d: %w", a.text, a.uid, errors.Join(err))
				}
				if err := login(a.uid, "", a.text); client.CodeOf(err) != client.CodeTokenInvalid {
					failures <- fmt.Errorf("%q as the ticket of %d: %w", a.text, a.uid, errors.Join(err))
				}
				if err := call(rpc.NewAuth(a.text).Sign(callee, "StatusService", "GetChatServer", ask)); status.Code(err) != codes.Unauthenticated {
					failures <- fmt.Errorf("%q as the cluster's secret: %w", a.text, errors.Join(err))
				}
				forged := w.auth.Sign(callee, "StatusService", "GetChatServer", ask)
				forged[rpc.HeaderSig] = a.text
				if err := call(forged); status.Code(err) != codes.Unauthenticated {
					failures <- fmt.Errorf("%q as a signature: %w", a.text, errors.Join(err))
				}
			}
		})
	}
	for _, a := range tries {
		work <- a
	}
	close(work)
	wg.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	for _, s := range passwords {
		_, err := gate.Login(ctx, email(anna), s)
		require.Equal(t, client.CodePasswdInvalid, client.CodeOf(err), "%q as a password", s)
		failed, err := w.rdb.Keys(ctx, "loginfail_*").Result()
		require.NoError(t, err)
		require.NotEmpty(t, failed)
		require.NoError(t, w.rdb.Del(ctx, failed...).Err(), "else the account is locked, which refuses everything")
	}
	sealed := strings.TrimPrefix(redis["code_"+email(anna)], "v1:")
	for _, s := range []string{redis["code_"+email(anna)], sealed, sealed[:6]} {
		err := gate.ResetPassword(ctx, fmt.Sprintf("user%d", anna), email(anna), "another-password", s)
		require.Equal(t, client.CodeVarify, client.CodeOf(err), "%q as a code", s)
	}

	// Anna is where she was, and each way in is open to the right one.
	require.NoError(t, live(ctx, c), "her session went on through all of that")
	require.NoError(t, call(w.auth.Sign(callee, "StatusService", "GetChatServer", ask)))
	require.NoError(t, login(anna, unused.Token, ""))
	require.Equal(t, client.CodeTokenInvalid, client.CodeOf(login(anna, unused.Token, "")), "used")
	require.NoError(t, gate.ResetPassword(ctx, fmt.Sprintf("user%d", anna), email(anna), "another-password", code))
}
