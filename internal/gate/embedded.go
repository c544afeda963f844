package gate

import (
	"strconv"
	"time"

	"parley/internal/memredis"
)

// Embedded returns the scripts of this package for an embedded Redis. Each function below does what the Lua of its name
// does, whose comments also hold here. A test of internal/standalone compares the two step by step.
func Embedded() []memredis.Script {
	return []memredis.Script{
		{Lua: takeAttempt, Go: takeAttemptEmbedded},
		{Lua: failAttempt, Go: failAttemptEmbedded},
		{Lua: endAttempt, Go: endAttemptEmbedded},
		{Lua: slidingWindow, Go: slidingWindowEmbedded},
		{Lua: storeCode, Go: storeCodeEmbedded},
		{Lua: takeCode, Go: takeCodeEmbedded},
		{Lua: putCodeBack, Go: putCodeBackEmbedded},
	}
}

func failEmbedded(tx *memredis.Tx, keys, args []string, n int) {
	limit, window, lock, most := memredis.Int(args[1]), memredis.Millis(args[2]), memredis.Millis(args[3]), memredis.Millis(args[4])
	fails := tx.IncrBy(keys[0], n)
	if fails < limit {
		if fails == n {
			tx.Expire(keys[0], window)
		}
		return
	}
	for i := limit + 1; i <= fails && lock < most; i++ {
		lock *= 2
	}
	lock = min(lock, most)
	tx.Set(keys[1], "1", lock)
	tx.Expire(keys[0], lock+window)
}

func takeAttemptEmbedded(tx *memredis.Tx, keys, args []string) any {
	if lost := tx.ZRemUpTo(keys[2], float64(tx.NowMS())); lost > 0 {
		failEmbedded(tx, keys, args, lost)
	}
	if wait := tx.PTTL(keys[1]); wait > 0 {
		return []any{1, wait}
	}
	fails, ok := tx.Get(keys[0])
	if !ok {
		fails = "0"
	}
	if busy := tx.ZCard(keys[2]); busy > 0 && memredis.Int(fails)+busy >= memredis.Int(args[1]) {
		return []any{2, 0}
	}
	timeout := memredis.Millis(args[5])
	tx.ZAdd(keys[2], float64(tx.NowMS()+timeout.Milliseconds()), args[0])
	tx.Expire(keys[2], 2*timeout)
	return []any{0, 0}
}

func failAttemptEmbedded(tx *memredis.Tx, keys, args []string) any {
	if tx.ZRem(keys[2], args[0]) {
		failEmbedded(tx, keys, args, 1)
	}
	return 1
}

func endAttemptEmbedded(tx *memredis.Tx, keys, args []string) any {
	tx.ZRem(keys[2], args[0])
	if args[1] == "1" {
		tx.Del(keys[0], keys[1])
	}
	return 1
}

func slidingWindowEmbedded(tx *memredis.Tx, keys, args []string) any {
	now, window, limit := memredis.Int(args[0]), memredis.Int(args[1]), memredis.Int(args[2])
	if oldest, ok := tx.LIndex(keys[0], limit-1); ok {
		if wait := min(memredis.Int(oldest)+window-now, window); wait > 0 {
			return wait
		}
	}
	tx.LPush(keys[0], args[0])
	tx.LTrim(keys[0], 0, limit-1)
	tx.Expire(keys[0], memredis.Millis(args[1]))
	return 0
}

func storeCodeEmbedded(tx *memredis.Tx, keys, args []string) any {
	tx.Set(keys[0], args[0], memredis.Millis(args[1]))
	tx.Del(keys[1])
	return 1
}

func takeCodeEmbedded(tx *memredis.Tx, keys, args []string) any {
	stored, ok := tx.Get(keys[0])
	if !ok {
		return []any{0, 0, 0}
	}
	ttl, most := tx.PTTL(keys[0]), memredis.Int(args[2])
	if ttl < 0 {
		ttl = memredis.Int(args[3])
		tx.Expire(keys[0], memredis.Millis(args[3]))
	}
	tries := tx.IncrBy(keys[1], 1)
	tx.Expire(keys[1], time.Duration(ttl)*time.Millisecond)
	right := stored == args[0] || args[1] != "" && stored == args[1]
	if tries > most {
		tx.Del(keys[0], keys[1])
		return []any{0, 0, 0}
	}
	if right || tries == most {
		tx.Del(keys[0], keys[1])
	}
	if right {
		return []any{2, ttl, tries}
	}
	return []any{1, 0, tries}
}

func putCodeBackEmbedded(tx *memredis.Tx, keys, args []string) any {
	if tx.Exists(keys[0]) {
		return 0
	}
	life := memredis.Millis(args[2])
	tx.Set(keys[0], args[0], life)
	if tries := memredis.Int(args[1]); tries > 0 {
		tx.Set(keys[1], strconv.Itoa(tries), life)
	}
	return 1
}
