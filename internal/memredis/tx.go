package memredis

import (
	"strconv"
	"time"
)

// A Tx is what one pipeline or script sees: no other caller's command runs meanwhile, and time stands still. Its methods
// are Redis' commands; they panic with an Error where Redis replies with one, and run recovers it.
type Tx struct {
	keyspace
	texts
	hashes
	lists
	zsets
}

// begin takes the lock. The caller unlocks it.
func (r *Redis) begin() *Tx {
	r.mu.Lock()
	tx := &Tx{keyspace: keyspace{r: r, now: r.now()}}
	k := &tx.keyspace
	tx.texts, tx.hashes, tx.lists, tx.zsets = texts{k}, hashes{k}, lists{k}, zsets{k}
	return tx
}

// Error is an error reply, as go-redis knows it.
type Error string

func (e Error) Error() string { return string(e) }

// RedisError marks e as a reply of Redis.
func (Error) RedisError() {}

const (
	errWrongType = Error("WRONGTYPE Operation against a key holding the wrong kind of value")
	errNotInt    = Error("ERR value is not an integer or out of range")
	errExpire    = Error("ERR invalid expire time")
	errNoScript  = Error("NOSCRIPT No matching script. Please use EVAL.")
)

// Seconds returns s, an integer, as a duration.
func Seconds(s string) time.Duration { return time.Duration(Int(s)) * time.Second }

// Millis returns s, an integer, as a duration.
func Millis(s string) time.Duration { return time.Duration(Int(s)) * time.Millisecond }

// Int returns s as an integer, as Lua's tonumber does. It panics with an Error if s is none.
func Int(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(errNotInt)
	}
	return n
}
