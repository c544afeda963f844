// Package memredis is the part of Redis that Parley uses, in the memory of this process. The standalone program runs on
// it, and so do tests.
//
// Client returns an ordinary go-redis client whose commands never leave the process: a hook carries them out in place of
// a connection. So the code above cannot tell which Redis it has.
//
// There is no Lua. The packages that have scripts give New the same in Go (Script), and a test of internal/standalone
// compares both forms with each other, and each command with a real server's, step by step. A command or a script that
// is not known here is an error, never a guess.
package memredis

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Redis holds keys and the scripts it knows. Its methods are safe for concurrent use.
type Redis struct {
	scripts map[string]Script // by the hash of their Lua; fixed after New
	now     func() time.Time

	mu   sync.Mutex // held during each pipeline and script
	keys map[string]entry
}

// A Script is a script in Lua, for servers, and in Go, for this package.
type Script struct {
	Lua *redis.Script
	// Go does what the Lua does. Its reply is nil, an int, a string or a []any of these. As in Lua, an error of a
	// command ends the script, and what the script did before stays done.
	Go func(tx *Tx, keys, args []string) any
}

// New returns an empty Redis that knows the scripts.
func New(scripts ...Script) *Redis {
	r := &Redis{scripts: make(map[string]Script, len(scripts)), now: time.Now, keys: make(map[string]entry)}
	for _, s := range scripts {
		r.scripts[s.Lua.Hash()] = s
	}
	return r
}

// SetClock replaces time.Now, before the first use.
func (r *Redis) SetClock(now func() time.Time) { r.now = now }

// Client returns a client of r. It has no connections.
func (r *Redis) Client() *redis.Client {
	// A name would be looked up, and version 3 of the protocol has goroutines.
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0", Protocol: 2, DisableIdentity: true})
	client.AddHook(hook{r})
	return client
}

const (
	sweepEvery = 10 * time.Second
	sweepChunk = 1000 // keys that are looked at while other callers wait
)

// Run frees the memory of expired keys until ctx ends. Nobody sees such a key, whether Run runs or not.
func (r *Redis) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.sweep()
		}
	}
}

func (r *Redis) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, n := r.now().UnixMilli(), 0
	for key, e := range r.keys {
		if e.expired(now) {
			delete(r.keys, key)
		}
		if n++; n%sweepChunk == 0 { // a range over a map allows changes in between
			r.mu.Unlock()
			r.mu.Lock()
		}
	}
}
