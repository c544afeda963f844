package gate

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// accountLimit limits the failed logins of each account over all gates. An account with too many failures is locked,
// and each further failure doubles the time. Accounts are counted by address, whether they exist or not, and appear
// in Redis only as an HMAC. A recently proven password (proofs) and a resume ticket bypass a lock, so that strangers
// cannot lock out the owner's running client.
//
// An attempt takes a place before its password is checked. So of many concurrent guesses, only as many are checked as
// may fail. A place does not count as a failure. An attempt without a place waits for the outcome of another.
type accountLimit struct {
	rdb     redis.UniversalClient
	timeout time.Duration
	secret  []byte
	limits  Limits
}

// attempt is a password check under way. It ends with failed, passed or giveBack.
type attempt struct {
	keys []string
	id   string // its member in the third key
}

// keys returns the keys of an account: the failures, the lock, and the attempts under way by the time until which
// they count as such. The keys share a slot.
func (a *accountLimit) keys(email string) []string {
	id := macHex(a.secret, "account", email)[:32]
	return []string{"loginfail_{" + id + "}", "loginlock_{" + id + "}", "logintry_{" + id + "}"}
}

// failOnce records n failures, and begins or extends the lock if there are too many.
const failOnce = `
local function fail(n)
  local limit, window, lock, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
  local fails = redis.call('INCRBY', KEYS[1], n)
  if fails < limit then
    if fails == n then redis.call('PEXPIRE', KEYS[1], window) end
    return
  end
  for i = limit + 1, fails do
    if lock >= most then break end
    lock = lock * 2
  end
  if lock > most then lock = most end
  redis.call('SET', KEYS[2], '1', 'PX', lock)
  redis.call('PEXPIRE', KEYS[1], lock + window)
end
`

// An attempt whose outcome was never reported counts as a failure. Otherwise a gate that is cut off from Redis would
// allow more guesses.
var takeAttempt = redis.NewScript(failOnce + `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lost = redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
if lost > 0 then fail(lost) end
local wait = redis.call('PTTL', KEYS[2])
if wait > 0 then return {1, wait} end
local fails = tonumber(redis.call('GET', KEYS[1]) or '0')
local busy = redis.call('ZCARD', KEYS[3])
if busy > 0 and fails + busy >= tonumber(ARGV[2]) then return {2, 0} end
redis.call('ZADD', KEYS[3], now + ARGV[6], ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[6] * 2)
return {0, 0}`)

var failAttempt = redis.NewScript(failOnce + `
if redis.call('ZREM', KEYS[3], ARGV[1]) == 1 then fail(1) end
return 1`)

// A success clears the failures, including attempts that count as such. Attempts under way remain.
var endAttempt = redis.NewScript(`
redis.call('ZREM', KEYS[3], ARGV[1])
if ARGV[2] == '1' then redis.call('DEL', KEYS[1], KEYS[2]) end
return 1`)

func (a *accountLimit) args(id string) []any {
	return []any{
		id, a.limits.AccountFailures, a.limits.AccountWindow.Milliseconds(), a.limits.AccountLock.Milliseconds(),
		a.limits.AccountLockMax.Milliseconds(), attemptTimeout.Milliseconds(),
	}
}

// beginAttempt begins an attempt. If the account is locked it returns the remaining time; if as many attempts are under way
// as may fail, it returns busy. In neither case may the password be checked.
func (a *accountLimit) beginAttempt(ctx context.Context, email string) (at attempt, wait time.Duration, busy bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	at = attempt{keys: a.keys(email), id: rand.Text()}
	out, err := takeAttempt.Run(ctx, a.rdb, at.keys, a.args(at.id)...).Int64Slice()
	if err != nil {
		return at, 0, false, fmt.Errorf("gate: count login attempt: %w", err)
	}
	return at, time.Duration(out[1]) * time.Millisecond, out[0] == 2, nil
}

// failed records the attempt as a failure.
func (a *accountLimit) failed(ctx context.Context, at attempt) error {
	return a.end(ctx, failAttempt, at, a.args(at.id)...)
}

// passed clears the account's failures.
func (a *accountLimit) passed(ctx context.Context, at attempt) error {
	return a.end(ctx, endAttempt, at, at.id, "1")
}

// giveBack ends an attempt whose password was not checked.
func (a *accountLimit) giveBack(ctx context.Context, at attempt) error {
	return a.end(ctx, endAttempt, at, at.id, "0")
}

// succeeded clears the account's failures after the owner was proven in another way.
func (a *accountLimit) succeeded(ctx context.Context, email string) error {
	return a.passed(ctx, attempt{keys: a.keys(email)})
}

// end runs a script even if the client has hung up.
func (a *accountLimit) end(ctx context.Context, script *redis.Script, at attempt, args ...any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	return script.Run(ctx, a.rdb, at.keys, args...).Err()
}

// slidingWindow keeps the times of the latest events of a key, newest first, as many as are allowed. The times are
// the callers', in milliseconds: windows are an hour long, and the clocks of gates differ by less.
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

// hourly limits the events per hour of each subject, over all gates.
type hourly struct {
	rdb     redis.UniversalClient
	timeout time.Duration
	secret  []byte
	name    string // prefix of the key
	limit   int
	now     func() time.Time
}

// take counts an event of subject and returns 0. If the limit is reached, it counts nothing and returns the time
// until the next event is allowed.
func (h *hourly) take(ctx context.Context, subject string) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	key := h.name + "_" + macHex(h.secret, h.name, subject)[:32]
	ms, err := slidingWindow.Run(ctx, h.rdb, []string{key}, h.now().UnixMilli(), time.Hour.Milliseconds(), h.limit).Int64()
	if err != nil {
		return 0, fmt.Errorf("gate: count %s: %w", h.name, err)
	}
	return time.Duration(ms) * time.Millisecond, nil
}
