package standalone

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"parley/internal/gate"
	"parley/internal/memredis"
	"parley/internal/presence"
	"parley/lab/launchtest"
)

// The test runs the same random steps on the embedded Redis and on a redis-server, which runs the scripts in Lua. After
// each step the replies, all keys, their values and their times to live must be the same.
func TestEmbeddedRedisDoesWhatRedisDoes(t *testing.T) {
	server := redis.NewClient(&redis.Options{Addr: launchtest.Redis(t).Addr(), Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = server.Close() })
	scripts := named(t)
	rapid.Check(t, func(t *rapid.T) {
		s := steps{newTwins(t, server), scripts, of(t, "area", "", "login", "login", "login", "load", "node", "gate", "gate", "code", "plain")}
		for range 40 {
			s.step(t)
		}
	})
}

func TestEveryScriptHasAnEmbeddedForm(t *testing.T) {
	known := map[string]bool{}
	for _, s := range scripts() {
		known[s.Lua.Hash()] = true
	}
	files, err := filepath.Glob("../presence/*.lua")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, known[redis.NewScript(string(source)).Hash()], "%s is not in presence.Embedded", file)
	}
	defined := 0
	err = filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			var source []byte
			source, err = os.ReadFile(path)
			defined += bytes.Count(source, []byte(" = redis.NewScript("))
		}
		return err
	})
	require.NoError(t, err)
	require.Len(t, known, defined, "each redis.NewScript needs a line in Embedded of its package")
}

func scripts() []memredis.Script { return append(presence.Embedded(), gate.Embedded()...) }

// twins are an embedded Redis and a server with the same keys. The clock of the embedded one stands still, and the
// server's scripts see the same clock. Times to live are hundreds of seconds, and time passes in such steps, so that no
// key expires on the server because the test is slow.
type twins struct {
	memory, server *redis.Client
	now            time.Time
	synced         time.Time // when the server's times to live were the same as the other's
}

func newTwins(t *rapid.T, server *redis.Client) *twins {
	p := &twins{server: server, now: time.UnixMilli(1_800_000_000_123)}
	r := memredis.New(scripts()...)
	r.SetClock(func() time.Time { return p.now })
	p.memory = r.Client()
	require.NoError(t, server.FlushAll(t.Context()).Err())
	return p
}

// pass lets time pass: longer than n hundreds of seconds, but not as long as what expires later.
func (p *twins) pass(t *rapid.T, n int) {
	p.now = p.now.Add(time.Duration(n)*100*time.Second + time.Millisecond)
	p.sync(t)
}

// sync gives the server's keys, which are the same, the times to live of the embedded Redis.
func (p *twins) sync(t *rapid.T) {
	p.synced = time.Now()
	pipe := p.server.Pipeline()
	for _, key := range p.server.Keys(t.Context(), "*").Val() {
		switch ttl := p.memory.PTTL(t.Context(), key).Val(); ttl {
		case -1:
		case -2:
			pipe.Del(t.Context(), key)
		default:
			pipe.PExpire(t.Context(), key, ttl)
		}
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
}

// do runs a command on both.
func (p *twins) do(t *rapid.T, args ...any) {
	p.sync(t)
	p.same(t, args, p.memory.Do(t.Context(), args...), p.server.Do(t.Context(), args...))
}

// script runs a script on both.
func (p *twins) script(t *rapid.T, s script, keys []string, args ...any) {
	p.sync(t)
	prelude := fmt.Sprintf(`local redis = {pcall = redis.pcall, call = function(name, ...)
	if name == 'TIME' then return {'%d', '%d'} end
	return redis.call(name, ...)
end}
`, p.now.Unix(), p.now.Nanosecond()/1000)
	p.same(t, append([]any{s.name, keys}, args...),
		p.memory.EvalSha(t.Context(), s.hash, keys, args...), p.server.Eval(t.Context(), prelude+s.source, keys, args...))
}

// same compares two replies, and all keys after them.
func (p *twins) same(t *rapid.T, what []any, memory, server *redis.Cmd) {
	lag := time.Since(p.synced) + time.Millisecond
	got, want := memory.Val(), server.Val()
	if memory.Err() != nil || server.Err() != nil {
		got, want = firstWord(memory.Err()), firstWord(server.Err())
	}
	require.True(t, equal(got, want, lag), "%v: the embedded Redis replies %#v (%v), the server %#v (%v)", what, got, memory.Err(), want, server.Err())
	keys, serverKeys := dump(t, p.memory), dump(t, p.server)
	for key, value := range keys {
		// Times to live are compared by the same rule, and then left out.
		on := serverKeys[key]
		require.True(t, equal(value.ttl, on.ttl, time.Since(p.synced)+time.Millisecond),
			"%s expires in %d ms, on the server in %d ms, after %v", key, value.ttl, on.ttl, what)
		serverKeys[key] = held{on.value, value.ttl}
	}
	require.Equal(t, serverKeys, keys, "keys after %v", what)
}

func firstWord(err error) any {
	if err == nil {
		return nil
	}
	word, _, _ := strings.Cut(err.Error(), " ")
	return word
}

// equal reports whether two replies are the same. A number from 1,000 on is a time in ms, and the server's may be lower by lag.
func equal(got, want any, lag time.Duration) bool {
	switch got := got.(type) {
	case []any:
		want, ok := want.([]any)
		return ok && slices.EqualFunc(got, want, func(a, b any) bool { return equal(a, b, lag) })
	case int64:
		want, ok := want.(int64)
		return ok && (got == want || got >= 1000 && want < got && want >= got-lag.Milliseconds())
	}
	return got == want
}

// held is what a key holds, and for how many milliseconds.
type held struct{ value, ttl any }

// dump reads all keys.
func dump(t *rapid.T, c *redis.Client) map[string]held {
	ctx := t.Context()
	keys := c.Keys(ctx, "*").Val()
	kinds, values, ttls := make([]*redis.StatusCmd, len(keys)), make([]*redis.Cmd, len(keys)), make([]*redis.Cmd, len(keys))
	pipe := c.Pipeline()
	for i, key := range keys {
		kinds[i] = pipe.Type(ctx, key)
	}
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
	for i, key := range keys {
		switch kinds[i].Val() {
		case "string":
			values[i] = pipe.Do(ctx, "get", key)
		case "hash":
			values[i] = pipe.Do(ctx, "hgetall", key)
		case "list":
			values[i] = pipe.Do(ctx, "lrange", key, 0, -1)
		case "zset":
			values[i] = pipe.Do(ctx, "zrange", key, 0, -1, "withscores")
		}
		ttls[i] = pipe.Do(ctx, "pttl", key)
	}
	_, err = pipe.Exec(ctx)
	require.NoError(t, err)
	all := make(map[string]held, len(keys))
	for i, key := range keys {
		all[key] = held{values[i].Val(), ttls[i].Val()}
	}
	return all
}

type script struct{ name, hash, source string }

// named are the scripts by the names of their Lua.
func named(t *testing.T) map[string]script {
	out := map[string]script{}
	for _, s := range scripts() {
		source := sourceOf(t, s.Lua)
		name := runtime.FuncForPC(reflect.ValueOf(s.Go).Pointer()).Name()
		name = strings.TrimSuffix(name[strings.LastIndexByte(name, '.')+1:], "Embedded")
		out[name] = script{name, s.Lua.Hash(), source}
	}
	return out
}

// sourceOf returns the Lua of a script, which go-redis keeps to itself.
func sourceOf(t *testing.T, s *redis.Script) (source string) {
	c := redis.NewClient(&redis.Options{})
	c.AddHook(sniffer(func(cmd redis.Cmder) { source, _ = cmd.Args()[1].(string) }))
	require.NoError(t, s.Eval(t.Context(), c, nil).Err())
	require.NotEmpty(t, source)
	return source
}

// sniffer sees the commands of a client that sends none.
type sniffer func(redis.Cmder)

func (sniffer) DialHook(next redis.DialHook) redis.DialHook { return next }
func (f sniffer) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		f(cmd)
		return nil
	}
}

func (sniffer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// steps draws steps. Names and values are few, so that they meet often.
type steps struct {
	*twins
	scripts map[string]script
	area    string // of all steps of a run, so that they meet; "": all areas
}

func (s steps) run(t *rapid.T, name string, keys []string, args ...any) {
	one, ok := s.scripts[name]
	require.True(t, ok, name)
	s.script(t, one, keys, args...)
}

func of[T any](t *rapid.T, what string, values ...T) T { return values[below(t, what, len(values))] }

// below draws a number below n. All are equally likely, where rapid's own ranges prefer the lowest: most steps would be
// the same few, and hardly ever meet.
func below(t *rapid.T, what string, n int) int {
	hash := rapid.Uint64().Draw(t, what) * 0x9e3779b97f4a7c15
	return int(hash >> 33 % uint64(n))
}

func uid(t *rapid.T) string    { return of(t, "uid", "1", "2") }
func device(t *rapid.T) string { return of(t, "device", "", "a", "b") }
func digest(t *rapid.T) string { return of(t, "digest", "d1", "d2", "d3") }
func node(t *rapid.T) string   { return of(t, "node", "n1", "n2", "n3") }
func boot(t *rapid.T) string   { return of(t, "boot", "b1", "b2") }
func small(t *rapid.T) int     { return below(t, "number", 5) }

func location(t *rapid.T) string {
	return of(t, "sid", "s1", "s2", "s3", "s4") + "|" + node(t) + "|" + boot(t)
}

// seconds and millis draw times to live.
func seconds(t *rapid.T) int { return (1 + below(t, "hundreds of seconds", 5)) * 100 }
func millis(t *rapid.T) int  { return seconds(t) * 1000 }

func lease(t *rapid.T) string {
	if below(t, "odd", 6) == 0 {
		return of(t, "lease", "", "llfc", "[]", "{}", `{"boot":7}`, `"b1"`, `{"boot":null}`, "7", "null")
	}
	return fmt.Sprintf(`{"name":"n1","boot":%q,"addr":"n1:8090"}`, boot(t))
}

func (s steps) stamp(t *rapid.T) string {
	return strconv.FormatInt(s.now.UnixMilli()-int64(small(t))*100_000, 10)
}

// issued is when a ticket was issued: often next to the last revocation or in its very millisecond, because tickets up to
// then are refused.
func (s steps) issued(t *rapid.T, least string) string {
	revoked, err := s.memory.Get(t.Context(), least).Int64()
	if err != nil || below(t, "issued", 3) == 0 {
		return s.stamp(t)
	}
	return strconv.FormatInt(revoked+int64(below(t, "from revoked", 3))-1, 10)
}

// ticket is the value of a token or of resume tickets.
func (s steps) ticket(t *rapid.T, least string) string {
	switch below(t, "shape", 7) {
	case 0:
		return of(t, "odd ticket", "", "x", "12 34", "5  a b", "7 a b c d e f", " 7", "7x y", "7\ta", "8 a\nb", "9 a b c d e ", "1 ", "12x a b c d e")
	case 1, 2:
		return s.issued(t, least)
	case 3:
		return s.issued(t, least) + " " + location(t) + " " + of(t, "displaced", "-", location(t))
	}
	return s.issued(t, least) + " " + of(t, "claimant", "-", location(t)) + " " + of(t, "displaced", "-", location(t)) + " " +
		of(t, "current", "-", digest(t)) + " " + of(t, "previous", "-", digest(t)) + " " + of(t, "sibling", "-", digest(t))
}

var (
	accountKeys = []string{"fail", "lock", "try"}
	codeKeys    = []string{"code", "codetry"}
)

func (s steps) attempt(t *rapid.T) []any {
	lock := millis(t)
	return []any{of(t, "attempt", "i1", "i2"), 1 + 2*small(t), millis(t), lock, lock * of(t, "locks", 1, 2, 4), millis(t)}
}

func (s steps) step(t *rapid.T) {
	u, d := uid(t), device(t)
	session, nodeOf, seen, resume := "session"+u, "nodeof"+u, "seen"+u, "resume"+u+d
	token, least := "token"+u+digest(t), "least"+u
	version, profile, lists := "version"+u, "profile"+u, "lists"+u
	n := node(t)
	reserve, kicks, lease1, group := "reserve"+n, "kicks"+n, "lease"+n, "group"+of(t, "group", "1", "2")
	actions := map[string]func(){
		"login: claim": func() {
			kind, key := "token", token
			if below(t, "resume", 2) == 1 {
				kind, key = "resume", resume
			}
			if below(t, "fresh", 2) == 1 {
				s.do(t, "set", key, s.ticket(t, least), "px", millis(t))
			}
			at := location(t)
			s.run(t, "claim", []string{key, least, session, nodeOf, resume, version, profile, lists},
				kind, digest(t), d, at, strings.Split(at, "|")[1], seconds(t), of(t, "next", "", "d1", "d2", "d3", "d4"), seconds(t), millis(t),
				1+small(t), of(t, "mode", "peek", "warm", "claim", "claim"))
		},
		"login: ticket":  func() { s.do(t, "set", of(t, "key", token, resume), s.ticket(t, least), "px", millis(t)) },
		"login: version": func() { s.do(t, "set", version, of(t, "version", "0", "7", "")) },
		"login: lists":   func() { s.do(t, "set", lists, of(t, "lists", "0\nx", "7\ny", "7", ""), "ex", seconds(t)) },
		"login: profile": func() { s.do(t, "set", profile, of(t, "profile", "{}", ""), "ex", seconds(t)) },
		"login: revoke":  func() { s.run(t, "revoke", []string{least}, seconds(t)) },
		"login: release": func() { s.run(t, "release", []string{session, nodeOf, seen}, d, location(t), seconds(t), seconds(t)) },
		"login: logout": func() {
			s.run(t, "logout", []string{session, nodeOf, resume, seen}, d, s.locationOf(t, session, d), seconds(t), seconds(t))
		},
		"login: release held": func() {
			s.run(t, "release", []string{session, nodeOf, seen}, d, s.locationOf(t, session, d), seconds(t), seconds(t))
		},
		"login: odd session": func() { s.do(t, "hset", session, d, of(t, "location", "", "s1", "s1|n1", "a|b|c|d", location(t))) },
		"load: kick":         func() { s.run(t, "kick", []string{kicks}, of(t, "kick", "1|s1", "2|s2"), 3, "*", seconds(t)) },
		"load: load": func() {
			args := []any{n, small(t), small(t), of(t, "first", "1|s1", "2|s2")}
			for range small(t) {
				args = append(args, digest(t))
			}
			s.run(t, "load", []string{"count", reserve, kicks}, args...)
		},
		"load: place": func() {
			nodes := []string{"n1", "n2", "n3"}[:1+below(t, "nodes", 3)]
			keys, args := []string{"count", "last"}, []any{millis(t), len(nodes)}
			for _, n := range nodes {
				keys, args = append(keys, "reserve"+n), append(args, n)
			}
			for range small(t) {
				args = append(args, digest(t)+strconv.Itoa(small(t)))
			}
			s.run(t, "place", keys, args...)
		},
		"load: count": func() { s.do(t, "hset", "count", n, of(t, "count", "0", "3", "x", "", "-1")) },
		"node: lease take": func() {
			s.run(t, "leaseTake", []string{lease1}, lease(t), boot(t), of(t, "replaced", "", "b1", "b2"), millis(t))
		},
		"node: lease extend": func() { s.run(t, "leaseExtend", []string{lease1}, lease(t), boot(t), millis(t)) },
		"node: lease drop":   func() { s.run(t, "leaseDrop", []string{lease1}, boot(t)) },
		"node: lease":        func() { s.do(t, "set", lease1, lease(t), "px", millis(t)) },
		"node: generation":   func() { s.run(t, "generation", []string{"gen"}, of(t, "id", "g1", "g2")) },
		"node: odd generation": func() {
			s.do(t, "set", "gen", of(t, "generation", "", "g", "g x", " 5", "g 5", "a b 5", "g  5", "g "+s.stamp(t)))
		},
		"node: group":      func() { s.do(t, "hset", group, n+"|"+boot(t), small(t)) },
		"node: group drop": func() { s.run(t, "groupDrop", []string{group}, n+"|"+boot(t), small(t)) },

		"gate: take attempt": func() { s.run(t, "takeAttempt", accountKeys, s.attempt(t)...) },
		"gate: fail attempt": func() { s.run(t, "failAttempt", accountKeys, s.attempt(t)...) },
		"gate: end attempt": func() {
			s.run(t, "endAttempt", accountKeys, of(t, "attempt", "i1", "i2"), of(t, "passed", "0", "1"))
		},
		"code: window": func() {
			s.run(t, "slidingWindow", []string{"window"}, s.stamp(t), millis(t), 1+small(t))
		},
		"code: store code": func() { s.run(t, "storeCode", codeKeys, of(t, "code", "c1", "c2"), millis(t)) },
		"code: odd code":   func() { s.do(t, "set", "code", "c1") },
		"code: take code": func() {
			s.run(t, "takeCode", codeKeys, of(t, "code", "c1", "c2"), of(t, "plain", "", "c2"), 1+small(t), millis(t))
		},
		"code: put code back": func() { s.run(t, "putCodeBack", codeKeys, of(t, "code", "c1", "c2"), small(t), millis(t)) },

		"plain: command": func() {
			s.command(t, of(t, "key", session, nodeOf, token, reserve, kicks, group, "count", "fail", "other"))
		},
		"plain: command 2": func() { s.command(t, "other") },
		"time":             func() { s.pass(t, below(t, "hundreds of seconds", 4)) },
	}
	names := append(slices.Sorted(maps.Keys(actions)), "time", "login: claim", "login: claim", "login: revoke")
	names = slices.DeleteFunc(names, func(name string) bool { return name != "time" && !strings.HasPrefix(name, s.area) })
	actions[of(t, "step", names...)]()
}

// locationOf is the location that a device has, as often as not.
func (s steps) locationOf(t *rapid.T, session, device string) string {
	if at, err := s.memory.HGet(t.Context(), session, device).Result(); err == nil {
		return at
	}
	return location(t)
}

// command is a step without a script; often the key has a value of another kind.
func (s steps) command(t *rapid.T, key string) {
	field, value := of(t, "field", "f1", "f2"), of(t, "value", "1", "2", "x")
	s.do(t, of(t, "command", [][]any{
		{"type", key},
		{"exists", key, "none"},
		{"del", key},
		{"pttl", key},
		{"persist", key},
		{"expire", key, seconds(t)},
		{"pexpire", key, millis(t)},
		{"expire", key, 0},
		{"get", key},
		{"set", key, value},
		{"set", key, value, "ex", seconds(t)},
		{"set", key, value, "px", millis(t), "nx"},
		{"set", key, value, "nx"},
		{"set", key, value, "ex", 0},
		{"incrby", key, 3},
		{"hget", key, field},
		{"hgetall", key},
		{"hset", key, field, value},
		{"hset", key, field, value, "f3", "y"},
		{"hsetnx", key, field, value},
		{"hdel", key, field, "f3"},
		{"llen", key},
		{"rpush", key, value, "y"},
		{"lrange", key, 0, -1},
		{"lrange", key, -2, 1},
		{"zcard", key},
		{"zadd", key, 3, value},
		{"zadd", key, 1, value, 2, "y"},
	}...)...)
}
