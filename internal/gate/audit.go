package gate

import (
	"log/slog"
	"net/netip"
	"strconv"
	"sync/atomic"

	"golang.org/x/time/rate"
)

var noAddr netip.Addr

// audit writes one record for each thing that happened to an account: register, login_ok, login_failed, code_sent,
// code_used, password_reset, password_changed, account_deleted, throttled. A record names the user by an HMAC under a key of
// this process, so that the records of one user can be told from another's but lead to nobody, and it holds no secret and no
// e-mail address.
type audit struct {
	log     *slog.Logger
	key     []byte
	limit   *rate.Limiter // of throttled records, which strangers can cause for nothing
	skipped atomic.Int64
}

func newAudit(log *slog.Logger, key []byte) *audit {
	return &audit{log: log.With("audit", true), key: key, limit: rate.NewLimiter(10, 50)}
}

// user is how records name uid; "" for 0, nobody.
func (a *audit) user(uid int32) string {
	if uid == 0 {
		return ""
	}
	return macHex(a.key, "user", strconv.Itoa(int(uid)))[:16]
}

func (a *audit) event(kind string, addr netip.Addr, uid int32) {
	attrs := []any{"event", kind}
	if addr.IsValid() {
		attrs = append(attrs, "remote", addr.String())
	}
	if uid != 0 {
		attrs = append(attrs, "user", a.user(uid))
	}
	a.log.Info("audit", attrs...)
}

// throttled records a refusal by a limit. Past ten a second the rest is counted and named in the next record.
func (a *audit) throttled(limit string, addr netip.Addr) {
	if !a.limit.Allow() {
		a.skipped.Add(1)
		return
	}
	attrs := []any{"event", "throttled", "limit", limit}
	if addr.IsValid() {
		attrs = append(attrs, "remote", addr.String())
	}
	if n := a.skipped.Swap(0); n > 0 {
		attrs = append(attrs, "skipped", n)
	}
	a.log.Info("audit", attrs...)
}
