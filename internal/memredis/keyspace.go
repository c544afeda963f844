package memredis

import "time"

// keyspace are the commands on keys of any kind, and what all commands need.
type keyspace struct {
	r   *Redis
	now time.Time
}

// entry is the value of a key. Exactly one of obj and text is used.
type entry struct {
	text string // a string, if obj is nil
	obj  object // a *hash, *list or *zset, never empty
	at   int64  // when the key expires, in ms since 1970; 0: never
}

type object interface{ kind() string }

func (e *entry) kind() string {
	if e.obj == nil {
		return "string"
	}
	return e.obj.kind()
}

func (e *entry) expired(nowMS int64) bool { return e.at != 0 && nowMS > e.at }

// Now is the time of the call.
func (k *keyspace) Now() time.Time { return k.now }

// NowMS is Now in milliseconds since 1970.
func (k *keyspace) NowMS() int64 { return k.now.UnixMilli() }

// find returns the entry of a key that exists.
func (k *keyspace) find(key string) (entry, bool) {
	e, ok := k.r.keys[key]
	if ok && e.expired(k.NowMS()) {
		delete(k.r.keys, key)
		return entry{}, false
	}
	return e, ok
}

// objectOf returns the value of a key as a T; nil if there is none.
func objectOf[T object](k *keyspace, key string) (obj T) {
	e, ok := k.find(key)
	if !ok {
		return obj
	}
	obj, ok = e.obj.(T)
	if !ok {
		panic(errWrongType)
	}
	return obj
}

// Type returns "string", "hash", "list", "zset" or "none".
func (k *keyspace) Type(key string) string {
	if e, ok := k.find(key); ok {
		return e.kind()
	}
	return "none"
}

// Exists reports whether there is such a key.
func (k *keyspace) Exists(key string) bool {
	_, ok := k.find(key)
	return ok
}

// Del removes keys and returns how many there were.
func (k *keyspace) Del(keys ...string) int {
	n := 0
	for _, key := range keys {
		if _, ok := k.find(key); ok {
			delete(k.r.keys, key)
			n++
		}
	}
	return n
}

// Expire sets the time until key expires; now, if ttl is not positive. It reports whether there is such a key.
func (k *keyspace) Expire(key string, ttl time.Duration) bool {
	e, ok := k.find(key)
	switch {
	case !ok:
		return false
	case ttl <= 0:
		delete(k.r.keys, key)
	default:
		e.at = k.NowMS() + ttl.Milliseconds()
		k.r.keys[key] = e
	}
	return true
}

// Persist removes the expiry of a key and reports whether it had one.
func (k *keyspace) Persist(key string) bool {
	e, ok := k.find(key)
	if !ok || e.at == 0 {
		return false
	}
	e.at = 0
	k.r.keys[key] = e
	return true
}

// PTTL returns the milliseconds until key expires; -1: it does not, -2: there is none.
func (k *keyspace) PTTL(key string) int {
	e, ok := k.find(key)
	switch {
	case !ok:
		return -2
	case e.at == 0:
		return -1
	}
	return int(e.at - k.NowMS())
}
