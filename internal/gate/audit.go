package gate

import (
	"log/slog"
	"net/netip"
	"strconv"
	"sync/atomic"

	"golang.org/x/time/rate"
)

var noAddr netip.Addr

// audit writes one record for each event of an account: register, login_ok, login_failed, code_sent, code_used,
// password_reset, password_changed, account_deleted, throttled. A record identifies the user by an HMAC with a key of
// this process: records of one user can be linked, but not traced to the user. It contains no secret and no e-mail
// address.
type audit struct {
	log     *slog.Logger
	key     []byte
	limit   *rate.Limiter // of throttled records, which strangers can cause at no cost
	skipped atomic.Int64
}

func newAudit(log *slog.Logger, key []byte) *audit {
	return &audit{log: log.With("audit", true), key: key, limit: rate.NewLimiter(10, 50)}
}

// user returns the identification of uid in records; "" for 0, which means no user.
func (a *audit) user(uid int32) string {
	if uid == 0 {
		return ""
	}
	return macHex(a.key, "user", strconv.Itoa(int(uid)))[:16]
}

// event writes a record about an account. addr may be invalid and uid 0; the record then lacks them.
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

// throttled records a refusal by a limit. It writes at most ten records a second, and reports the number of skipped
// ones in the next record.
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
