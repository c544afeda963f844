package memredis

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

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

// A Tx is what one pipeline or script sees: no other caller's command runs meanwhile, and time stands still. Its methods
// are Redis' commands; they panic with an Error where Redis replies with one, and Redis.run recovers it.
type Tx struct {
	r   *Redis
	now time.Time
}

// A Field is a field of a hash.
type Field struct{ Name, Value string }

// hash keeps its fields in the order in which they were set, as Redis does with small ones. All of Parley's are small:
// sessions of a user, nodes of a cluster.
type hash struct{ fields []Field }

type list struct{ items []string }

type zset struct{ scores map[string]float64 }

func (*hash) kind() string { return "hash" }
func (*list) kind() string { return "list" }
func (*zset) kind() string { return "zset" }

// Now is the time of the call.
func (tx *Tx) Now() time.Time { return tx.now }

// NowMS is Now in milliseconds since 1970.
func (tx *Tx) NowMS() int64 { return tx.now.UnixMilli() }

// find returns the entry of a key that exists.
func (tx *Tx) find(key string) (entry, bool) {
	e, ok := tx.r.keys[key]
	if ok && e.expired(tx.NowMS()) {
		delete(tx.r.keys, key)
		return entry{}, false
	}
	return e, ok
}

// object returns the value of a key as a T; nil if there is none.
func objectOf[T object](tx *Tx, key string) (obj T) {
	e, ok := tx.find(key)
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
func (tx *Tx) Type(key string) string {
	if e, ok := tx.find(key); ok {
		return e.kind()
	}
	return "none"
}

// Exists reports whether there is such a key.
func (tx *Tx) Exists(key string) bool {
	_, ok := tx.find(key)
	return ok
}

// Del removes keys and returns how many there were.
func (tx *Tx) Del(keys ...string) int {
	n := 0
	for _, key := range keys {
		if _, ok := tx.find(key); ok {
			delete(tx.r.keys, key)
			n++
		}
	}
	return n
}

// Expire sets the time until key expires; now, if ttl is not positive. It reports whether there is such a key.
func (tx *Tx) Expire(key string, ttl time.Duration) bool {
	e, ok := tx.find(key)
	switch {
	case !ok:
		return false
	case ttl <= 0:
		delete(tx.r.keys, key)
	default:
		e.at = tx.NowMS() + ttl.Milliseconds()
		tx.r.keys[key] = e
	}
	return true
}

// Persist removes the expiry of a key and reports whether it had one.
func (tx *Tx) Persist(key string) bool {
	e, ok := tx.find(key)
	if !ok || e.at == 0 {
		return false
	}
	e.at = 0
	tx.r.keys[key] = e
	return true
}

// PTTL returns the milliseconds until key expires; -1: it does not, -2: there is none.
func (tx *Tx) PTTL(key string) int {
	e, ok := tx.find(key)
	switch {
	case !ok:
		return -2
	case e.at == 0:
		return -1
	}
	return int(e.at - tx.NowMS())
}

// Get returns the string at key, and false if there is none.
func (tx *Tx) Get(key string) (string, bool) {
	e, ok := tx.find(key)
	if ok && e.obj != nil {
		panic(errWrongType)
	}
	return e.text, ok
}

// MGet is Get for many keys; a value of another type counts as none, and then the string is empty.
func (tx *Tx) MGet(key string) (string, bool) {
	e, ok := tx.find(key)
	return e.text, ok && e.obj == nil
}

// Set writes a string that expires after ttl; 0: never.
func (tx *Tx) Set(key, value string, ttl time.Duration) {
	e := entry{text: value}
	if ttl != 0 {
		if ttl < time.Millisecond {
			panic(errExpire)
		}
		e.at = tx.NowMS() + ttl.Milliseconds()
	}
	tx.r.keys[key] = e
}

// IncrBy adds n to the number at key and returns the sum.
func (tx *Tx) IncrBy(key string, n int) int {
	e, ok := tx.find(key)
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
	tx.r.keys[key] = e
	return n
}

// HGet returns a field, and false if there is none.
func (tx *Tx) HGet(key, field string) (string, bool) {
	if h := objectOf[*hash](tx, key); h != nil {
		if i := h.index(field); i >= 0 {
			return h.fields[i].Value, true
		}
	}
	return "", false
}

func (h *hash) index(field string) int {
	return slices.IndexFunc(h.fields, func(f Field) bool { return f.Name == field })
}

// HGetAll returns the fields. The caller must not change them, nor keep them after the next write.
func (tx *Tx) HGetAll(key string) []Field {
	if h := objectOf[*hash](tx, key); h != nil {
		return h.fields
	}
	return nil
}

// HSet writes a field and reports whether it is new.
func (tx *Tx) HSet(key, field, value string) bool {
	h := objectOf[*hash](tx, key)
	if h == nil {
		h = &hash{}
		tx.r.keys[key] = entry{obj: h}
	}
	if i := h.index(field); i >= 0 {
		h.fields[i].Value = value
		return false
	}
	h.fields = append(h.fields, Field{field, value})
	return true
}

// HSetNX writes a field unless it exists, and reports whether it did.
func (tx *Tx) HSetNX(key, field, value string) bool {
	if _, ok := tx.HGet(key, field); ok {
		return false
	}
	return tx.HSet(key, field, value)
}

// HDel removes a field and reports whether there was one.
func (tx *Tx) HDel(key, field string) bool {
	h := objectOf[*hash](tx, key)
	if h == nil {
		return false
	}
	i := h.index(field)
	if i < 0 {
		return false
	}
	h.fields = slices.Delete(h.fields, i, i+1)
	if len(h.fields) == 0 {
		delete(tx.r.keys, key)
	}
	return true
}

// LLen returns the length of a list.
func (tx *Tx) LLen(key string) int { return len(tx.items(key)) }

func (tx *Tx) items(key string) []string {
	if l := objectOf[*list](tx, key); l != nil {
		return l.items
	}
	return nil
}

// push returns the list at key, made if there is none, to be added to.
func (tx *Tx) push(key string) *list {
	l := objectOf[*list](tx, key)
	if l == nil {
		l = &list{}
		tx.r.keys[key] = entry{obj: l}
	}
	return l
}

// LPush adds a value in front of a list.
func (tx *Tx) LPush(key, value string) int {
	l := tx.push(key)
	l.items = slices.Insert(l.items, 0, value)
	return len(l.items)
}

// RPush adds a value behind a list.
func (tx *Tx) RPush(key, value string) int {
	l := tx.push(key)
	l.items = append(l.items, value)
	return len(l.items)
}

// LIndex returns one value, from the end if i is negative, and false if there is none.
func (tx *Tx) LIndex(key string, i int) (string, bool) {
	items := tx.items(key)
	if i < 0 {
		i += len(items)
	}
	if i < 0 || i >= len(items) {
		return "", false
	}
	return items[i], true
}

// LRange returns the values from start to stop, both included and counted from the end if negative. The caller must not
// change them, nor keep them after the next write.
func (tx *Tx) LRange(key string, start, stop int) []string { return slice(tx.items(key), start, stop) }

func slice(items []string, start, stop int) []string {
	if start < 0 {
		start = max(0, start+len(items))
	}
	if stop < 0 {
		stop += len(items)
	}
	stop = min(stop, len(items)-1)
	if start > stop {
		return nil
	}
	return items[start : stop+1]
}

// LTrim keeps only what LRange returns.
func (tx *Tx) LTrim(key string, start, stop int) {
	l := objectOf[*list](tx, key)
	if l == nil {
		return
	}
	l.items = slices.Clone(tx.LRange(key, start, stop))
	if len(l.items) == 0 {
		delete(tx.r.keys, key)
	}
}

// ZAdd sets the score of a member and reports whether it is new.
func (tx *Tx) ZAdd(key string, score float64, member string) bool {
	z := objectOf[*zset](tx, key)
	if z == nil {
		z = &zset{scores: make(map[string]float64)}
		tx.r.keys[key] = entry{obj: z}
	}
	_, ok := z.scores[member]
	z.scores[member] = score
	return !ok
}

func (tx *Tx) scores(key string) map[string]float64 {
	if z := objectOf[*zset](tx, key); z != nil {
		return z.scores
	}
	return nil
}

// ZCard returns the number of members.
func (tx *Tx) ZCard(key string) int { return len(tx.scores(key)) }

// ZCountAbove returns the number of members whose score is higher than least.
func (tx *Tx) ZCountAbove(key string, least float64) int {
	n := 0
	for _, score := range tx.scores(key) {
		if score > least {
			n++
		}
	}
	return n
}

// ZRem removes a member and reports whether there was one.
func (tx *Tx) ZRem(key, member string) bool {
	scores := tx.scores(key)
	_, ok := scores[member]
	delete(scores, member)
	tx.dropEmpty(key, scores)
	return ok
}

// ZRemUpTo removes the members whose score is at most most, and returns how many there were.
func (tx *Tx) ZRemUpTo(key string, most float64) int {
	scores, n := tx.scores(key), 0
	for member, score := range scores {
		if score <= most {
			delete(scores, member)
			n++
		}
	}
	tx.dropEmpty(key, scores)
	return n
}

func (tx *Tx) dropEmpty(key string, scores map[string]float64) {
	if scores != nil && len(scores) == 0 {
		delete(tx.r.keys, key)
	}
}

// ZRange returns members with their scores, lowest first; start and stop are those of LRange.
func (tx *Tx) ZRange(key string, start, stop int) []Field {
	scores := tx.scores(key)
	members := make([]string, 0, len(scores))
	for member := range scores {
		members = append(members, member)
	}
	slices.SortFunc(members, func(a, b string) int {
		if d := scores[a] - scores[b]; d != 0 {
			return int(max(-1, min(1, d)))
		}
		return strings.Compare(a, b)
	})
	members = slice(members, start, stop)
	out := make([]Field, len(members))
	for i, m := range members {
		out[i] = Field{m, strconv.FormatFloat(scores[m], 'f', -1, 64)}
	}
	return out
}

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
