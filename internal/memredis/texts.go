package memredis

import (
	"strconv"
	"time"
)

// texts are the commands on strings.
type texts struct{ *keyspace }

// Get returns the string at key, and false if there is none.
func (ts texts) Get(key string) (string, bool) {
	e, ok := ts.find(key)
	if ok && e.obj != nil {
		panic(errWrongType)
	}
	return e.text, ok
}

// MGet is Get for many keys; a value of another type counts as none, and then the string is empty.
func (ts texts) MGet(key string) (string, bool) {
	e, ok := ts.find(key)
	return e.text, ok && e.obj == nil
}

// Set writes a string that expires after ttl; 0: never.
func (ts texts) Set(key, value string, ttl time.Duration) {
	e := entry{text: value}
	if ttl != 0 {
		if ttl < time.Millisecond {
			panic(errExpire)
		}
		e.at = ts.NowMS() + ttl.Milliseconds()
	}
	ts.r.keys[key] = e
}

// IncrBy adds n to the number at key and returns the sum.
func (ts texts) IncrBy(key string, n int) int {
	e, ok := ts.find(key)
	if ok {
		if e.obj != nil {
			panic(errWrongType)
		}
		was, err := strconv.Atoi(e.text)
		if err != nil {
			panic(errNotInt)
		}
		n += was
	}
	e.text = strconv.Itoa(n)
	ts.r.keys[key] = e
	return n
}
