package memredis

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// do carries out a command. Its reply is nil, an int, a string, a []string, a []Field, a time.Time, or that of a script.
func (tx *Tx) do(raw []any) any {
	name := strings.ToLower(text(raw[0]))
	args := make([]string, len(raw)-1)
	for i, arg := range raw[1:] {
		args[i] = text(arg)
	}
	c, ok := commands[name]
	if !ok || len(args) < c.args {
		panic(Error(fmt.Sprintf("ERR memredis has no command %q with %d arguments", name, len(args))))
	}
	return c.do(tx, args)
}

// text returns an argument as go-redis sends it.
func text(arg any) string {
	switch v := arg.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case uint64, int32, uint32:
		return fmt.Sprint(v)
	}
	panic(Error(fmt.Sprintf("ERR memredis cannot send a %T", arg)))
}

type command struct {
	args int // at least
	do   func(tx *Tx, args []string) any
}

// commands are all that a client may send. Tests need some that the nodes do not.
var commands map[string]command

func init() { // the map refers to itself through evalSHA
	commands = map[string]command{
		"ping": {0, func(*Tx, []string) any { return "PONG" }},
		"time": {0, func(tx *Tx, _ []string) any { return tx.now }},
		"keys": {1, keysLike},
		"flushall": {0, func(tx *Tx, _ []string) any {
			clear(tx.r.keys)
			return "OK"
		}},

		"type":    {1, func(tx *Tx, a []string) any { return tx.Type(a[0]) }},
		"exists":  {1, func(tx *Tx, a []string) any { return count(a, tx.Exists) }},
		"del":     {1, func(tx *Tx, a []string) any { return tx.Del(a...) }},
		"expire":  {2, func(tx *Tx, a []string) any { return one(tx.Expire(a[0], Seconds(a[1]))) }},
		"pexpire": {2, func(tx *Tx, a []string) any { return one(tx.Expire(a[0], Millis(a[1]))) }},
		"persist": {1, func(tx *Tx, a []string) any { return one(tx.Persist(a[0])) }},
		"pttl":    {1, func(tx *Tx, a []string) any { return tx.PTTL(a[0]) }},
		"ttl": {1, func(tx *Tx, a []string) any {
			ms := tx.PTTL(a[0])
			if ms < 0 {
				return ms
			}
			return (ms + 500) / 1000
		}},

		"get":    {1, func(tx *Tx, a []string) any { return orNil(tx.Get(a[0])) }},
		"set":    {2, setString},
		"incrby": {2, func(tx *Tx, a []string) any { return tx.IncrBy(a[0], Int(a[1])) }},

		"hget":    {2, func(tx *Tx, a []string) any { return orNil(tx.HGet(a[0], a[1])) }},
		"hgetall": {1, func(tx *Tx, a []string) any { return slices.Clone(tx.HGetAll(a[0])) }},
		"hset": {3, func(tx *Tx, a []string) any {
			n := 0
			for i := 1; i+1 < len(a); i += 2 {
				n += one(tx.HSet(a[0], a[i], a[i+1]))
			}
			return n
		}},
		"hsetnx": {3, func(tx *Tx, a []string) any { return one(tx.HSetNX(a[0], a[1], a[2])) }},
		"hdel": {2, func(tx *Tx, a []string) any {
			return count(a[1:], func(field string) bool { return tx.HDel(a[0], field) })
		}},

		"llen": {1, func(tx *Tx, a []string) any { return tx.LLen(a[0]) }},
		"rpush": {2, func(tx *Tx, a []string) any {
			for _, v := range a[1:] {
				tx.RPush(a[0], v)
			}
			return tx.LLen(a[0])
		}},
		"lrange": {3, func(tx *Tx, a []string) any { return append([]string{}, tx.LRange(a[0], Int(a[1]), Int(a[2]))...) }},

		"zrange": {4, func(tx *Tx, a []string) any { return tx.ZRange(a[0], Int(a[1]), Int(a[2])) }}, // always with scores
		"zcard":  {1, func(tx *Tx, a []string) any { return tx.ZCard(a[0]) }},
		"zadd": {3, func(tx *Tx, a []string) any {
			n := 0
			for i := 1; i+1 < len(a); i += 2 {
				n += one(tx.ZAdd(a[0], float64(Int(a[i])), a[i+1]))
			}
			return n
		}},

		"evalsha": {2, evalSHA},
		"script":  {1, loadScript},
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func count(items []string, f func(string) bool) int {
	n := 0
	for _, item := range items {
		n += one(f(item))
	}
	return n
}

func orNil(s string, ok bool) any {
	if !ok {
		return nil
	}
	return s
}

func keysLike(tx *Tx, args []string) any {
	out := []string{}
	for key := range tx.r.keys {
		if ok, _ := path.Match(args[0], key); ok && tx.Exists(key) {
			out = append(out, key)
		}
	}
	return out
}

// setString is SET key value [EX s | PX ms] [NX].
func setString(tx *Tx, args []string) any {
	ttl, unlessExists := time.Duration(0), false
	for i := 2; i < len(args); i++ {
		unit := Millis
		switch strings.ToLower(args[i]) {
		case "nx":
			unlessExists = true
			continue
		case "ex":
			unit = Seconds
		case "px":
		default:
			panic(Error("ERR memredis has no SET with " + args[i]))
		}
		if i++; i == len(args) {
			panic(Error("ERR syntax error"))
		}
		if ttl = unit(args[i]); ttl <= 0 {
			panic(errExpire)
		}
	}
	if unlessExists && tx.Exists(args[0]) {
		return nil
	}
	tx.Set(args[0], args[1], ttl)
	return "OK"
}

// evalSHA is EVALSHA hash n key... arg...
func evalSHA(tx *Tx, args []string) any {
	s, ok := tx.r.scripts[args[0]]
	if !ok {
		panic(errNoScript)
	}
	n := Int(args[1])
	if n < 0 || n > len(args)-2 {
		panic(Error("ERR Number of keys can't be greater than number of args"))
	}
	return s.Go(tx, args[2:2+n:2+n], args[2+n:])
}

// loadScript is SCRIPT LOAD source, and SCRIPT FLUSH, which forgets nothing: the scripts are part of the program.
func loadScript(tx *Tx, args []string) any {
	switch strings.ToLower(args[0]) {
	case "load":
		if hash := redis.NewScript(args[1]).Hash(); tx.r.scripts[hash].Go != nil {
			return hash
		}
		panic(Error("ERR memredis does not know this script"))
	case "flush":
		return "OK"
	}
	panic(Error("ERR memredis has no SCRIPT " + args[0]))
}
