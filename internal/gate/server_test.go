package gate

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parley/internal/config"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// These live as long as the process: netpoll's pollers, gopool's workers, and Kitex' timers, worker pool and
		// caches.
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		goleak.IgnoreAnyFunction("github.com/bytedance/gopkg/util/gopool.(*worker).run.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/utils.(*SharedTicker).Tick"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/loadbalance/lbcache.(*BalancerFactory).watcher"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createTicker.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createWorker.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc.preallocateForStream"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}

func TestDrainFinishesRequestsInFlight(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mail.hold = make(chan struct{})
	cfg := f.cfg
	s, err := New(cfg, Deps{Log: slog.New(slog.DiscardHandler), Store: f.store, Presence: f.presence, Redis: f.rdb, Mail: f.mail})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()

	replies := make(chan string, 1)
	go func() {
		res, err := http.Post("http://"+s.Addr()+"/get_varifycode", "application/json", strings.NewReader(`{"email":"a@example.com"}`))
		if err != nil {
			replies <- err.Error()
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		replies <- string(text)
	}()
	require.Eventually(t, func() bool { return s.varify.mailSlots.Taken() == 1 }, patience, time.Millisecond)
	cancel()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", s.Addr())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, patience, time.Millisecond, "stops accepting")
	close(f.mail.hold)
	require.Equal(t, `{"error":0,"email":"a@example.com"}`, <-replies)
	require.NoError(t, <-done)
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mail.hold = make(chan struct{})
	cfg := f.cfg
	cfg.Gate.DrainTimeout = 50 * time.Millisecond
	s, err := New(cfg, Deps{Log: slog.New(slog.DiscardHandler), Store: f.store, Presence: f.presence, Redis: f.rdb, Mail: f.mail})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if res, err := http.Post("http://"+s.Addr()+"/get_varifycode", "", strings.NewReader(`{"email":"a@example.com"}`)); err == nil {
			_ = res.Body.Close()
		}
	}()
	require.Eventually(t, func() bool { return s.varify.mailSlots.Taken() == 1 }, patience, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Zero(t, s.varify.mailSlots.Taken(), "the handler was told to end")
	<-gone
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ready := func() (int, map[string]bool) {
		res, err := http.Get("http://" + f.ops.Addr() + "/readyz")
		require.NoError(t, err)
		defer res.Body.Close()
		var body struct {
			Dependencies []struct {
				Name string
				OK   bool
			}
		}
		require.NoError(t, json.NewDecoder(res.Body).Decode(&body))
		out := map[string]bool{}
		for _, d := range body.Dependencies {
			out[d.Name] = d.OK
		}
		return res.StatusCode, out
	}
	code, deps := ready()
	require.Equal(t, 200, code)
	require.Equal(t, map[string]bool{"sql": true, "redis": true, "status": true, "descriptors": true}, deps)
	f.mr.SetError("LOADING")
	code, deps = ready()
	require.Equal(t, 503, code)
	require.Equal(t, map[string]bool{"sql": true, "redis": false, "status": true, "descriptors": true}, deps)
	f.mr.SetError("")
}

func TestTakenPortFailsInNew(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	deps := Deps{Log: slog.New(slog.DiscardHandler), Store: f.store, Presence: f.presence, Redis: f.rdb, Mail: f.mail}
	for name, change := range map[string]func(*Config){
		"http":   func(c *Config) { c.Gate.Port = f.ln.Addr().(*net.TCPAddr).Port },
		"varify": func(c *Config) { c.Gate.VarifyAddr = f.VarifyAddr() },
	} {
		cfg := f.cfg
		change(&cfg)
		_, err := New(cfg, deps)
		require.Error(t, err, name)
		require.Equal(t, config.ExitDependency, config.ExitCode(err), name)
	}
	s, err := New(f.cfg, deps)
	require.NoError(t, err)
	require.NoError(t, s.Close(), "a gate that never ran gives its ports back")
	ln, err := net.Listen("tcp", s.Addr())
	require.NoError(t, err)
	require.NoError(t, ln.Close())
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	require.NoError(t, LocalConfig().Validate())
	for name, change := range map[string]func(*Config){
		"weak memory":         func(c *Config) { c.Hash.MemoryKiB = 19455 },
		"one pass":            func(c *Config) { c.Hash.Passes = 1 },
		"smtp without a host": func(c *Config) { c.Mail.Mode, c.Mail.From = "smtp", "a@example.com" },
		"smtp without a from": func(c *Config) { c.Mail.Mode, c.Mail.Host = "smtp", "mail.example.com" },
		"password in clear": func(c *Config) {
			c.Mail = Mail{Mode: "smtp", Host: "h", Port: 25, TLS: "none", User: "u", From: "a@example.com", Timeout: time.Second, Parallel: 1}
		},
		"TLS without a certificate": func(c *Config) { c.Gate.TLSPort = "8443" },
		"TLS on no port": func(c *Config) {
			c.Gate.TLSPort, c.TLS = "https", config.TLS{Cert: "cert.pem", Key: "key.pem"}
		},
		"proxies":     func(c *Config) { c.Gate.TrustedProxies = []string{"proxy"} },
		"varify":      func(c *Config) { c.Gate.VarifyAddr = "50051" },
		"status":      func(c *Config) { c.Status.Addrs = []string{"status"} },
		"locks":       func(c *Config) { c.Limits.AccountLockMax = time.Second },
		"no failures": func(c *Config) { c.Limits.AccountFailures = 0 },
	} {
		c := DefaultConfig()
		change(&c)
		require.Error(t, c.Validate(), name)
	}
}
