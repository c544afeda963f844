package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	errNoCode    = errors.New("no code is stored")
	errWrongCode = errors.New("the code differs")
)

// codes keeps verification codes in Redis: code_<email> holds the code, codetry_<email> counts the tries. Codes of
// this gate are stored as an HMAC with the cluster's secret, so a copy of Redis does not reveal them. An external
// VarifyServer stores four hexadecimal characters in the clear; they are accepted only if such a server is
// configured.
type codes struct {
	rdb     redis.UniversalClient
	timeout time.Duration
	secret  []byte
	cluster bool
	plain   bool // four-character codes of an external server are accepted
}

// keys returns the key names for email, which is in lower case. The first is llfcchat's and is the same on a cluster,
// where the second one has a tag that hashes to the slot of the first.
func (c *codes) keys(email string) []string {
	code := "code_" + email
	if c.cluster {
		return []string{code, "codetry_{" + code + "}"}
	}
	return []string{code, "codetry_" + email}
}

func (c *codes) sealed(email, code string) string {
	return "v1:" + macHex(c.secret, "code", email, code)
}

// newCode returns six random digits.
func newCode() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		panic("gate: " + err.Error()) // crypto/rand does not fail since Go 1.24
	}
	return fmt.Sprintf("%06d", n)
}

var storeCode = redis.NewScript(`
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
return 1`)

// store replaces the code of email and resets the tries.
func (c *codes) store(ctx context.Context, email, code string) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return storeCode.Run(ctx, c.rdb, c.keys(email), c.sealed(email, code), codeTTL.Milliseconds()).Err()
}

// takeCode counts the try before it compares the code, so that concurrent tries cannot all count as the first. It
// sets an expiry on a code that has none, left by a server that died between SET and EXPIRE.
var takeCode = redis.NewScript(`
local stored = redis.call('GET', KEYS[1])
if not stored then return {0, 0, 0} end
local ttl = redis.call('PTTL', KEYS[1])
if ttl < 0 then
  ttl = tonumber(ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ttl)
end
local tries = redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[2], ttl)
local right = stored == ARGV[1] or (ARGV[2] ~= '' and stored == ARGV[2])
if tries > tonumber(ARGV[3]) then
  redis.call('DEL', KEYS[1], KEYS[2])
  return {0, 0, 0}
end
if right or tries == tonumber(ARGV[3]) then
  redis.call('DEL', KEYS[1], KEYS[2])
end
if right then return {2, ttl, tries} end
return {1, 0, tries}`)

// taken is a correct code that has been used up.
type taken struct {
	email, value string
	ttl          time.Duration
	tries        int64
}

// use uses up the code if it is correct. It returns errNoCode, errWrongCode or an error of Redis.
func (c *codes) use(ctx context.Context, email, code string) (taken, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	plain, value := "", c.sealed(email, code)
	if c.plain && isHex4(code) {
		plain = code
	}
	out, err := takeCode.Run(ctx, c.rdb, c.keys(email), value, plain, codeTries, codeTTL.Milliseconds()).Int64Slice()
	if err != nil {
		return taken{}, fmt.Errorf("gate: take code: %w", err)
	}
	if plain != "" {
		value = plain // codes of this gate have six characters, so a correct one of four is plain
	}
	switch out[0] {
	case 2:
		return taken{email, value, time.Duration(out[1]) * time.Millisecond, out[2]}, nil
	case 1:
		return taken{}, errWrongCode
	}
	return taken{}, errNoCode
}

var putCodeBack = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return 1`)

// putBack restores a code whose request could not be carried out. Unless refund is set, the try stays counted, so
// that one code answers at most codeTries questions such as "is this name taken". After its last try a code is not
// restored. putBack works even if ctx has ended.
func (c *codes) putBack(ctx context.Context, t taken, refund bool) error {
	tries := t.tries
	if refund {
		tries--
	}
	if tries >= codeTries || t.ttl <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	return putCodeBack.Run(ctx, c.rdb, c.keys(t.email), t.value, tries, t.ttl.Milliseconds()).Err()
}

func isHex4(s string) bool {
	if len(s) != 4 {
		return false
	}
	for _, r := range []byte(s) {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}
