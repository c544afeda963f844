package gate

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/wire"
)

// shared is what all parts of a gate share.
type shared struct {
	cfg      Config
	log      *slog.Logger
	noise    *rate.Limiter // limits log records that clients can cause
	metrics  *metrics
	audit    *audit
	store    *store.Store
	presence *presence.Presence
}

// exempt reports whether addr is exempt from the per-address limits.
func (c *shared) exempt(addr netip.Addr) bool {
	return addr.IsLoopback() && !c.cfg.Limits.ThrottleLoopback
}

// throttled refuses a request because of a limit, and records that.
func (c *shared) throttled(limit string, req *request, wait time.Duration) error {
	c.metrics.throttled.WithLabelValues(limit).Inc()
	c.audit.throttled(limit, req.addr)
	return retryLater(wire.CodeRateLimited, wait)
}

// logRefusal logs at a level by whose fault it was: Debug for the client's, Warn for a dependency's, Error for ours.
// It limits the rate of the latter two.
func (c *shared) logRefusal(route string, code wire.Code, err error) {
	refusal, _ := errors.AsType[*wire.Error](err)
	cause, isSafe := errors.AsType[safeError](err)
	level := slog.LevelDebug
	switch {
	case code == wire.CodeInternal && !isSafe:
		level = slog.LevelError
	case isSafe, code == wire.CodeRPC, code == wire.CodeUnavailable, code == wire.CodePasswdUpFailed, code == codeStoreFailed:
		level = slog.LevelWarn
	}
	if level > slog.LevelDebug && !c.noise.Allow() {
		return
	}
	attrs := []any{"route", route, "code", int(code)}
	switch {
	case isSafe:
		attrs = append(attrs, "err", cause.Error())
	case refusal != nil && refusal.Err != nil:
		attrs = append(attrs, "err", obs.ErrorClass(refusal.Err)) // texts of drivers may quote what was sent
	}
	c.log.Log(context.Background(), level, "request refused", attrs...)
}
