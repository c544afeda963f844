package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/store"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/chatservice"
	"parley/kitex_gen/message/statusservice"
	"parley/lab/storetest"
)

// fixture is a gate with a real SQLite database, miniredis, and fakes of a status server and a chat node.
type fixture struct {
	*Server
	t        testing.TB
	url      string
	mr       *miniredis.Miniredis
	rdb      redis.UniversalClient
	reg      *prometheus.Registry
	ops      *obs.Ops
	mail     *fakeMail
	status   *fakeStatus
	chat     *fakeChat
	chatAddr string
	reread   chan os.Signal // to the watch over the certificate
	logs     *syncBuffer
}

// cheap makes hashes cheap, because their strength does not matter here.
func cheap(c *Config) { c.Hash.MemoryKiB, c.Hash.Passes = 64, 1 }

// patience bounds one call on a busy machine.
const patience = 30 * time.Second

// newFixture starts a gate whose Config is edited by changes.
func newFixture(t testing.TB, changes ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, mail: &fakeMail{codes: map[string]string{}}, chat: &fakeChat{}, reread: make(chan os.Signal), logs: &syncBuffer{}}
	f.mr = miniredis.RunT(t)
	f.rdb = redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: []string{f.mr.Addr()}, Protocol: 2, DisableIdentity: true, MaxRetries: 1, ContextTimeoutEnabled: true,
		ReadTimeout: patience, WriteTimeout: patience,
	})
	t.Cleanup(func() { _ = f.rdb.Close() })
	st, _ := storetest.SQLite(t)
	pr := presence.New(f.rdb, presence.Options{Timeout: patience})
	t.Cleanup(pr.Close)

	f.status = &fakeStatus{presence: pr}
	statusAddr := serveKitex(t, func(s *rpc.Server) error { return statusservice.RegisterService(s, f.status) })
	f.chatAddr = serveKitex(t, func(s *rpc.Server) error { return chatservice.RegisterService(s, f.chat) })

	cfg := LocalConfig()
	cheap(&cfg)
	cfg.Status.Addrs = []string{statusAddr}
	cfg.Cluster.Secret = ""
	cfg.Redis.Timeout, cfg.Status.Timeout = patience, patience
	for _, change := range changes {
		change(&cfg)
	}
	f.reg = prometheus.NewRegistry()
	log := slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	f.Server, err = New(cfg, Deps{Log: log, Metrics: f.reg, Store: st, Presence: pr, Redis: f.rdb, Mail: f.mail, Reread: f.reread})
	require.NoError(t, err)
	f.url = "http://" + f.Addr()
	f.ops, err = obs.ListenOps("127.0.0.1:0", log, f.reg, f.Checks())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.ops.While(ctx, f.Run) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		if t.Failed() {
			t.Log(f.logs.String())
		}
	})
	return f
}

func serveKitex(t testing.TB, register func(*rpc.Server) error) (addr string) {
	t.Helper()
	return serveKitexWith(t, nil, register)
}

func serveKitexWith(t testing.TB, auth *rpc.Auth, register func(*rpc.Server) error) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv, err := rpc.NewServer(ln, rpc.ServerConfig{Name: "fake", Auth: auth})
	require.NoError(t, err)
	require.NoError(t, register(srv))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return srv.Addr()
}

// post sends body unchanged and returns the text of the reply; the status must be 200.
func (f *fixture) post(path, body string) string {
	f.t.Helper()
	res, text := f.do(http.MethodPost, path, body)
	require.Equal(f.t, http.StatusOK, res.StatusCode, "status of %s", path)
	require.Equal(f.t, "text/json", res.Header.Get("Content-Type"))
	return text
}

func (f *fixture) do(method, path, body string) (*http.Response, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.url+path, strings.NewReader(body))
	require.NoError(f.t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(f.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(f.t, err)
	return res, string(text)
}

// call posts fields and returns the decoded reply.
func (f *fixture) call(path string, fields map[string]any) reply {
	f.t.Helper()
	body, err := json.Marshal(fields)
	require.NoError(f.t, err)
	var r reply
	require.NoError(f.t, json.Unmarshal([]byte(f.post(path, string(body))), &r))
	return r
}

type reply struct {
	Error   wire.Code `json:"error"`
	UID     int32     `json:"uid"`
	Email   string    `json:"email"`
	User    string    `json:"user"`
	Token   string    `json:"token"`
	Host    string    `json:"host"`
	Port    string    `json:"port"`
	RetryMS int64     `json:"retry_ms"`
}

// code has a code sent to email and returns it.
func (f *fixture) code(email string) string {
	f.t.Helper()
	require.Equal(f.t, wire.CodeOK, f.call("/get_varifycode", map[string]any{"email": email}).Error)
	return f.mail.last(email)
}

// newUser registers a user with the password as sent.
func (f *fixture) newUser(name, email, passwd string) int32 {
	f.t.Helper()
	r := f.call("/user_register", registration(name, email, passwd, f.code(email)))
	require.Equal(f.t, wire.CodeOK, r.Error)
	return r.UID
}

func registration(name, email, passwd, code string) map[string]any {
	return map[string]any{
		"user": name, "email": email, "passwd": passwd, "confirm": passwd, "varifycode": code,
		"icon": ":/res/head_1.jpg", "nick": name, "sex": 0,
	}
}

func (f *fixture) login(email, passwd string) reply {
	f.t.Helper()
	return f.call("/user_login", map[string]any{"email": email, "passwd": passwd})
}

// metric returns the value of a counter or gauge, summed over the labels that are not given.
func (f *fixture) metric(name string, labels ...string) float64 {
	f.t.Helper()
	families, err := f.reg.Gather()
	require.NoError(f.t, err)
	var sum float64
	for _, family := range families {
		if family.GetName() != "parley_gate_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			match := 0
			for _, l := range m.GetLabel() {
				for i := 0; i+1 < len(labels); i += 2 {
					if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
						match++
					}
				}
			}
			if match == len(labels)/2 {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// fakeMail records the latest code of each mailbox.
type fakeMail struct {
	mu    sync.Mutex
	codes map[string]string
	fail  error
	hold  chan struct{} // if not nil, mails wait until it is closed
}

func (m *fakeMail) SendCode(ctx context.Context, to, code string, _ time.Duration) error {
	m.mu.Lock()
	hold, fail := m.hold, m.fail
	m.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail != nil {
		return fail
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.codes[to] = code
	return nil
}

func (m *fakeMail) failWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *fakeMail) last(email string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.codes[email]
}

// fakeStatus places all users on one node.
type fakeStatus struct {
	presence *presence.Presence

	mu     sync.Mutex
	placed []int32
	code   int32
	before func() // called once, before a placement is answered
}

// set sets the answers from now on.
func (s *fakeStatus) set(code int32, before func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.before = code, before
}

func (s *fakeStatus) GetChatServer(_ context.Context, req *message.GetChatServerReq) (*message.GetChatServerRsp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.before; before != nil {
		s.before = nil
		before()
	}
	if s.code != 0 {
		return &message.GetChatServerRsp{Error: s.code}, nil
	}
	s.placed = append(s.placed, req.Uid)
	return &message.GetChatServerRsp{Host: "127.0.0.1", Port: "8090", Token: fmt.Sprintf("token-of-%d", req.Uid), Ws: "wss://chat.example.org/node1"}, nil
}

func (s *fakeStatus) GetChatServers(context.Context, *message.GetChatServersReq) (*message.GetChatServersRsp, error) {
	return &message.GetChatServersRsp{}, nil
}

func (s *fakeStatus) Login(context.Context, *message.LoginReq) (*message.LoginRsp, error) {
	return &message.LoginRsp{Error: 1011}, nil
}

// fakeChat records who was kicked.
type fakeChat struct {
	message.ChatService

	mu     sync.Mutex
	kicked []string
}

func (c *fakeChat) NotifyKickUser(_ context.Context, req *message.KickUserReq) (*message.KickUserRsp, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kicked = append(c.kicked, fmt.Sprintf("%d/%s", req.Uid, req.Sid))
	return &message.KickUserRsp{Uid: req.Uid}, nil
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// rawUser stores a user with this text as the password, as in a migrated row.
func (f *fixture) rawUser(name, email, stored string) int32 {
	f.t.Helper()
	uid, err := f.store.Users.Create(f.t.Context(), store.NewUser{Name: name, Email: email, PasswordHash: stored, Nick: name})
	require.NoError(f.t, err)
	return uid
}

func (f *fixture) stored(email string) string {
	f.t.Helper()
	c, err := f.store.Users.Credentials(f.t.Context(), email)
	require.NoError(f.t, err)
	return c.Password
}
