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

// Kitex and netpoll log through variables of their own, one a process. Left alone, a gRPC client against a dead address
// writes tens of thousands of lines a second, and anybody who hangs up makes one. So both are silenced as soon as a
// server or client is made, until a server serves or RouteLogs says where their lines go.
var (
	silenceOnce sync.Once
	libraryLog  atomic.Pointer[slog.Logger] // nil drops
	libraryRate = newThrottle(time.Second, 10)
	panicRate   = newThrottle(time.Second, 10)
)

// RouteLogs sends what Kitex and netpoll log to log: at most ten lines at once and one a second after, with the number
// dropped in between. Their informational lines become Debug, their errors Warn (a peer can provoke nearly all of them),
// panics Error. nil drops everything. It concerns the whole process and may be called at any time.
func RouteLogs(log *slog.Logger) {
	silence()
	libraryLog.Store(log)
}

// lendLogs routes the lines to log if they go nowhere, until the function it returns is called.
func lendLogs(log *slog.Logger) (giveBack func()) {
	if !libraryLog.CompareAndSwap(nil, log) {
		return func() {}
	}
	return func() { libraryLog.CompareAndSwap(log, nil) }
}

func silence() {
	silenceOnce.Do(func() {
		klog.SetLogger(kitexLog{})
		netpoll.SetLoggerOutput(netpollLog{})
	})
}

// throttle counts what it refuses.
type throttle struct {
	limiter *rate.Limiter
	dropped atomic.Int64
}

func newThrottle(every time.Duration, burst int) *throttle {
	return &throttle{limiter: rate.NewLimiter(rate.Every(every), burst)}
}

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

// kitexLog is a klog.FullLogger. Formatting happens only for lines that are wanted.
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
func (kitexLog) Fatal(v ...any)  { plain(slog.LevelError, v) } // Kitex's own exits the process; that is main's to decide

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
