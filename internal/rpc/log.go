package rpc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/netpoll"
	"golang.org/x/time/rate"
)

// Kitex and netpoll log through process-wide variables. Unchanged, a gRPC client of a dead address would write tens
// of thousands of lines a second, and each client that hangs up one line. Therefore both are silenced when the first
// server or client is made, until a server serves or RouteLogs sets a destination.
var (
	silenceOnce sync.Once
	libraryLog  atomic.Pointer[slog.Logger] // nil drops
	libraryRate = newThrottle(time.Second, 10)
	panicRate   = newThrottle(time.Second, 10)
)

// RouteLogs sends the log lines of Kitex and netpoll to log: bursts of ten lines and then one per second, with the
// number of lines dropped in between. Informational lines become Debug, errors Warn (peers can provoke nearly all of
// them), and panics Error. A nil log drops everything. The setting is process-wide and may be changed at any time.
func RouteLogs(log *slog.Logger) {
	silence()
	libraryLog.Store(log)
}

// lendLogs routes the lines to log unless they already have a destination, until the returned function is called.
func lendLogs(log *slog.Logger) (giveBack func()) {
	if !libraryLog.CompareAndSwap(nil, log) {
		return func() {}
	}
	return func() { libraryLog.CompareAndSwap(log, nil) }
}

// silence replaces both loggers, once per process.
func silence() {
	silenceOnce.Do(func() {
		klog.SetLogger(kitexLog{})
		netpoll.SetLoggerOutput(netpollLog{})
	})
}

// A throttle limits a rate and counts what it drops.
type throttle struct {
	limiter *rate.Limiter
	dropped atomic.Int64
}

func newThrottle(every time.Duration, burst int) *throttle {
	return &throttle{limiter: rate.NewLimiter(rate.Every(every), burst)}
}

// libraryLine logs a line of a library. Lines about panics have a limit of their own, so that other lines cannot
// displace them.
func libraryLine(lib string, level slog.Level, text string) {
	log := libraryLog.Load()
	if log == nil {
		return
	}
	t := libraryRate
	if strings.Contains(text, "panic") {
		level, t = slog.LevelError, panicRate
	}
	if !log.Enabled(context.Background(), level) {
		return
	}
	if !t.limiter.Allow() {
		t.dropped.Add(1)
		return
	}
	attrs := []any{"pkg", lib, "err", strings.TrimSpace(text)}
	if n := t.dropped.Swap(0); n > 0 {
		attrs = append(attrs, "dropped", n)
	}
	log.Log(context.Background(), level, "rpc library", attrs...)
}

type netpollLog struct{}

func (netpollLog) Write(p []byte) (int, error) {
	libraryLine("netpoll", slog.LevelWarn, string(p))
	return len(p), nil
}

// kitexLog is a klog.FullLogger. It formats only lines that are logged.
type kitexLog struct{}

func kitexLine(level slog.Level, text func() string) {
	if log := libraryLog.Load(); log != nil && log.Enabled(context.Background(), level) {
		libraryLine("kitex", level, text())
	}
}

func plain(level slog.Level, v []any) {
	kitexLine(level, func() string { return fmt.Sprint(v...) })
}

func formatted(level slog.Level, format string, v []any) {
	kitexLine(level, func() string { return fmt.Sprintf(format, v...) })
}

func (kitexLog) Trace(v ...any)  { plain(slog.LevelDebug, v) }
func (kitexLog) Debug(v ...any)  { plain(slog.LevelDebug, v) }
func (kitexLog) Info(v ...any)   { plain(slog.LevelDebug, v) }
func (kitexLog) Notice(v ...any) { plain(slog.LevelDebug, v) }
func (kitexLog) Warn(v ...any)   { plain(slog.LevelWarn, v) }
func (kitexLog) Error(v ...any)  { plain(slog.LevelWarn, v) }
func (kitexLog) Fatal(v ...any)  { plain(slog.LevelError, v) } // Kitex's own logger would exit; only main may do that

func (kitexLog) Tracef(f string, v ...any)  { formatted(slog.LevelDebug, f, v) }
func (kitexLog) Debugf(f string, v ...any)  { formatted(slog.LevelDebug, f, v) }
func (kitexLog) Infof(f string, v ...any)   { formatted(slog.LevelDebug, f, v) }
func (kitexLog) Noticef(f string, v ...any) { formatted(slog.LevelDebug, f, v) }
func (kitexLog) Warnf(f string, v ...any)   { formatted(slog.LevelWarn, f, v) }
func (kitexLog) Errorf(f string, v ...any)  { formatted(slog.LevelWarn, f, v) }
func (kitexLog) Fatalf(f string, v ...any)  { formatted(slog.LevelError, f, v) }

func (kitexLog) CtxTracef(_ context.Context, f string, v ...any) { formatted(slog.LevelDebug, f, v) }

func (kitexLog) CtxDebugf(_ context.Context, f string, v ...any) { formatted(slog.LevelDebug, f, v) }

func (kitexLog) CtxInfof(_ context.Context, f string, v ...any) { formatted(slog.LevelDebug, f, v) }

func (kitexLog) CtxNoticef(_ context.Context, f string, v ...any) { formatted(slog.LevelDebug, f, v) }

func (kitexLog) CtxWarnf(_ context.Context, f string, v ...any) { formatted(slog.LevelWarn, f, v) }

func (kitexLog) CtxErrorf(_ context.Context, f string, v ...any) { formatted(slog.LevelWarn, f, v) }

func (kitexLog) CtxFatalf(_ context.Context, f string, v ...any) { formatted(slog.LevelError, f, v) }

func (kitexLog) SetLevel(klog.Level) {}
func (kitexLog) SetOutput(io.Writer) {}
