package obs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var quiet = slog.New(slog.DiscardHandler)

// serveOps runs an operations listener until the test ends.
func serveOps(t *testing.T, checks ...Check) *Ops {
	t.Helper()
	o, err := ListenOps("127.0.0.1:0", quiet, NewRegistry("testnode"), checks)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		_, err := net.DialTimeout("tcp", o.Addr(), time.Second)
		require.Error(t, err)
	})
	return o
}

func get(t *testing.T, o *Ops, path string) (int, string) {
	t.Helper()
	rsp, err := http.Get("http://" + o.Addr() + path)
	require.NoError(t, err)
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	require.NoError(t, err)
	return rsp.StatusCode, string(body)
}

func TestEndpoints(t *testing.T) {
	o := serveOps(t)
	for path, want := range map[string]string{
		"/healthz":                        "ok\n",
		"/metrics":                        `parley_build_info{commit="`,
		"/readyz":                         `"ready": true`,
		"/debug/pprof/":                   "goroutine",
		"/debug/pprof/heap?debug=1":       "heap profile",
		"/debug/pprof/cmdline":            "obs.test",
		"/debug/pprof/symbol":             "num_symbols",
		"/debug/pprof/trace?seconds=0.01": "",
	} {
		code, body := get(t, o, path)
		require.Equal(t, http.StatusOK, code, path)
		require.Contains(t, body, want, path)
	}
	_, metrics := get(t, o, "/metrics")
	require.Contains(t, metrics, "go_goroutines")
	require.Contains(t, metrics, `role="testnode"`)
	for _, path := range []string{"/", "/metrics/x", "/debug"} {
		code, _ := get(t, o, path)
		require.Equal(t, http.StatusNotFound, code, path)
	}
	rsp, err := http.Post("http://"+o.Addr()+"/healthz", "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	require.NoError(t, rsp.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, rsp.StatusCode)
}

func TestReadiness(t *testing.T) {
	var failure atomic.Pointer[error]
	o := serveOps(t,
		Check{"redis", func(context.Context) error {
			if err := failure.Load(); err != nil {
				return *err
			}
			return nil
		}},
		Check{"sql", func(context.Context) error { return nil }},
	)
	ask := func() (int, readiness, string) {
		code, body := get(t, o, "/readyz")
		var r readiness
		require.NoError(t, json.Unmarshal([]byte(body), &r))
		require.Len(t, r.Dependencies, 2)
		require.Equal(t, "redis", r.Dependencies[0].Name)
		require.True(t, r.Dependencies[1].OK)
		return code, r, body
	}
	code, r, _ := ask()
	require.Equal(t, http.StatusOK, code)
	require.True(t, r.Ready)

	err := fmt.Errorf("dial redis://user:hunter2@10.0.0.1: %w", syscall.ECONNREFUSED)
	failure.Store(&err)
	code, r, body := ask()
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.False(t, r.Ready)
	require.Equal(t, "refused", r.Dependencies[0].Error)
	require.NotContains(t, body, "hunter2")
	require.NotContains(t, body, "10.0.0.1")

	failure.Store(nil)
	o.SetDraining(true)
	code, r, _ = ask()
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.True(t, r.Draining)
	o.SetDraining(false)
	code, _, _ = ask()
	require.Equal(t, http.StatusOK, code)
	code, _ = get(t, o, "/healthz")
	require.Equal(t, http.StatusOK, code)
}

// TestStuckProbe has a probe that ignores its context: each asker is answered, and only one probe runs.
func TestStuckProbe(t *testing.T) {
	release := make(chan struct{})
	var running, most atomic.Int64
	o := serveOps(t, Check{"stuck", func(context.Context) error {
		n := running.Add(1)
		if n > most.Load() {
			most.Store(n)
		}
		<-release
		running.Add(-1)
		return nil
	}}, Check{"panics", func(context.Context) error { panic("x") }})
	answers := make(chan string, 4)
	for range cap(answers) {
		go func() {
			_, body := get(t, o, "/readyz")
			answers <- body
		}()
	}
	for range cap(answers) {
		body := <-answers
		require.Contains(t, body, `"error": "timeout"`)
		require.Contains(t, body, `"error": "panic"`)
	}
	require.EqualValues(t, 1, most.Load())
	close(release)
	require.Eventually(t, func() bool { return running.Load() == 0 }, time.Minute, time.Millisecond)
}

func TestListen(t *testing.T) {
	var log bytes.Buffer
	o, err := ListenOps("127.0.0.1:0", NewLogger(&log, "info", "json", "n1"), NewRegistry("x"), nil)
	require.NoError(t, err)
	require.Contains(t, log.String(), `"addr":"`+o.Addr()+`"`, "the port is in the log")
	require.NotContains(t, log.String(), `"level":"warn"`)
	_, err = ListenOps(o.Addr(), quiet, NewRegistry("x"), nil)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.NoError(t, o.Close())
	_, err = net.DialTimeout("tcp", o.Addr(), time.Second)
	require.Error(t, err)

	log.Reset()
	o, err = ListenOps("0.0.0.0:0", NewLogger(&log, "info", "json", ""), NewRegistry("x"), nil)
	require.NoError(t, err)
	require.Contains(t, log.String(), `"level":"warn"`)
	require.NoError(t, o.Close())

	o, err = ListenOps("", quiet, NewRegistry("x"), nil)
	require.NoError(t, err)
	require.Empty(t, o.Addr())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, o.Run(ctx))
	require.NoError(t, o.Close())
}

func TestWhile(t *testing.T) {
	o, err := ListenOps("127.0.0.1:0", quiet, NewRegistry("x"), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var drained string
	err = o.While(ctx, func(ctx context.Context) error {
		code, _ := get(t, o, "/readyz")
		require.Equal(t, http.StatusOK, code)
		cancel()
		require.Eventually(t, func() bool {
			_, drained = get(t, o, "/readyz")
			return strings.Contains(drained, `"draining": true`)
		}, time.Minute, time.Millisecond, "it serves while the node drains, and says so")
		return errors.New("node failed")
	})
	require.EqualError(t, err, "node failed")
}

func TestErrorClass(t *testing.T) {
	for want, err := range map[string]error{
		"":            nil,
		"timeout":     fmt.Errorf("x: %w", context.DeadlineExceeded),
		"canceled":    context.Canceled,
		"refused":     &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		"unreachable": syscall.EHOSTUNREACH,
		"dns":         &net.DNSError{Err: "no such host", IsTimeout: true},
		"closed":      io.ErrUnexpectedEOF,
		"auth":        errors.New("WRONGPASS invalid username-password pair or user is disabled"),
		"failed":      errors.New("something with a secret"),
	} {
		require.Equal(t, want, ErrorClass(err))
	}
	require.Equal(t, "auth", ErrorClass(errors.New("Error 1045 (28000): Access denied for user 'x'@'y'")))
	require.Equal(t, "closed", ErrorClass(net.ErrClosed))
}

func TestLogger(t *testing.T) {
	for _, c := range []struct {
		level, format string
		want          []string
		not           []string
	}{
		{"info", "json", []string{`"level":"info"`, `"msg":"hello"`, `"node":"n1"`, `"took_ms":1500`, `"ts":"20`}, []string{"debug"}},
		{"info", "auto", []string{`"msg":"hello"`}, nil}, // a buffer is no terminal
		{"debug", "json", []string{`"level":"debug"`}, nil},
		{"warn", "json", nil, []string{"hello"}},
		{"info", "text", []string{"INF hello", "node=n1", "took=1.5s"}, []string{"\x1b"}},
		{"nonsense", "json", []string{"hello"}, []string{"debug"}},
	} {
		var out bytes.Buffer
		log := NewLogger(&out, c.level, c.format, "n1")
		log.Debug("debug")
		log.Info("hello", "took", 1500*time.Millisecond)
		for _, w := range c.want {
			require.Contains(t, out.String(), w, c)
		}
		for _, w := range c.not {
			require.NotContains(t, out.String(), w, c)
		}
	}
	var out bytes.Buffer
	NewLogger(&out, "info", "json", "").Info("x")
	require.NotContains(t, out.String(), "node")
}

func TestVersion(t *testing.T) {
	require.Regexp(t, `^dev \((commit [0-9a-f]+, )?(modified, )?go1\.`, Version())
	version, commit = "1.2.3", "0123456789ab-modified"
	defer func() { version, commit = "", "" }()
	require.Equal(t, "1.2.3 (commit 0123456789ab, modified, "+runtime.Version()+")", Version())
	b := ReadBuild()
	b.Go = ""
	require.Equal(t, Build{Version: "1.2.3", Commit: "0123456789ab", Modified: true}, b)
}

type said struct{ error }

func (said) Public() string { return "read-only" }

func TestReadyzSaysWhatAnErrorSaysIsForEverybody(t *testing.T) {
	o := serveOps(t, Check{Name: "sql", Probe: func(context.Context) error {
		return fmt.Errorf("secret address: %w", said{errors.New("secret")})
	}})
	code, body := get(t, o, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, `"error": "read-only"`)
	require.NotContains(t, body, "secret")
}
