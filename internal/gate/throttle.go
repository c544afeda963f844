package gate

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// accountLimit bounds failed logins of one account over all gates. An account that fails too often is locked, each
// further failure for twice as long. Accounts are counted by address, whether they exist or not, and appear in Redis
// only as an HMAC. A password proven a short while ago (logins) and a resume ticket pass a lock, so that strangers
// cannot lock an owner out of a running client.
type accountLimit struct {
	rdb    redis.UniversalClient
	secret []byte
	limits Limits
}

func (a *accountLimit) keys(email string) []string {
	id := macHex(a.secret, "account", email)[:32]
	return []string{"loginfail_{" + id + "}", "loginlock_{" + id + "}"}
}

// The attempt is counted before the password is looked at and given back when it was right: of many that arrive at
// once only as many are looked at as are allowed.
var takeAttempt = redis.NewScript(`
local wait = redis.call('PTTL', KEYS[2])
if wait > 0 then return {0, wait} end
local n = redis.call('INCR', KEYS[1])
local limit, window, lock, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if n < limit then
  if n == 1 then redis.call('PEXPIRE', KEYS[1], window) end
  return {n, 0}
end
for i = limit + 1, n do
  if lock >= most then break end
  lock = lock * 2
end
if lock > most then lock = most end
redis.call('SET', KEYS[2], '1', 'PX', lock)
redis.call('PEXPIRE', KEYS[1], lock + window)
return {n, 0}`)

// take counts an attempt. It returns how long the account stays locked, 0 when the password may be looked at.
func (a *accountLimit) take(ctx context.Context, email string) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	out, err := takeAttempt.Run(ctx, a.rdb, a.keys(email), a.limits.AccountFailures,
		a.limits.AccountWindow.Milliseconds(), a.limits.AccountLock.Milliseconds(),
		a.limits.AccountLockMax.Milliseconds()).Int64Slice()
	if err != nil {
		return 0, fmt.Errorf("gate: count login attempt: %w", err)
	}
	return time.Duration(out[1]) * time.Millisecond, nil
}

// succeeded forgets the account's failures.
func (a *accountLimit) succeeded(ctx context.Context, email string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	return a.rdb.Del(ctx, a.keys(email)...).Err()
}

var giveAttemptBack = redis.NewScript(`
redis.call('DEL', KEYS[2])
if redis.call('DECR', KEYS[1]) <= 0 then redis.call('DEL', KEYS[1]) end
return 1`)

// giveBack undoes take for a password that was not looked at. A lock that the attempt began is lifted with it; the
// next attempt begins it again.
func (a *accountLimit) giveBack(ctx context.Context, email string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	return giveAttemptBack.Run(ctx, a.rdb, a.keys(email)).Err()
}

// slidingWindow keeps the times of the last events of a key, newest first, at most as many as are allowed. Times are
// the caller's, in milliseconds: the windows are an hour, the clocks of gates differ by less.
var slidingWindow = redis.NewScript(`
local now, window, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = redis.call('LINDEX', KEYS[1], limit - 1)
if oldest then
  local wait = tonumber(oldest) + window - now
  if wait > window then wait = window end
  if wait > 0 then return wait end
end
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, limit - 1)
redis.call('PEXPIRE', KEYS[1], window)
return 0`)

// hourly bounds events an hour of one subject, over all gates.
type hourly struct {
	rdb    redis.UniversalClient
	secret []byte
	name   string // begins the key
	limit  int
	now    func() time.Time
}

// take counts an event of subject. It returns how long until one is allowed again and counts nothing then, or 0.
func (h *hourly) take(ctx context.Context, subject string) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	key := h.name + "_" + macHex(h.secret, h.name, subject)[:32]
	ms, err := slidingWindow.Run(ctx, h.rdb, []string{key}, h.now().UnixMilli(), time.Hour.Milliseconds(), h.limit).Int64()
	if err != nil {
		return 0, fmt.Errorf("gate: count %s: %w", h.name, err)
	}
	return time.Duration(ms) * time.Millisecond, nil
}
