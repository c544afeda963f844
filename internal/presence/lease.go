package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Leases are what the chat nodes say of themselves: that they live, how clients and peers reach them, and their load.
type Leases struct {
	*conn
}

// A Lease describes a live node.
type Lease struct {
	Name       string `json:"name"`   // 1-64 of A-Z a-z 0-9 . _ -
	Boot       string `json:"boot"`   // random id of this process' life
	ClientAddr string `json:"client"` // host:port as clients reach it by TCP; "" if they cannot
	Web        Web    `json:"web,omitzero"`
	RPCAddr    string `json:"rpc"` // host:port as peers reach it
	Version    string `json:"version,omitempty"`
	Draining   bool   `json:"draining,omitempty"` // takes no new logins
	StartedMS  int64  `json:"started_ms,omitempty"`
}

// Web is how else clients reach a node; what it does not offer is empty, as is all of it in the lease of an older node.
type Web struct {
	TLS string `json:"tls,omitempty"` // host:port, TCP under TLS
	WS  string `json:"ws,omitempty"`  // URL, WebSocket
	WSS string `json:"wss,omitempty"` // URL, WebSocket under TLS
}

// A HeldError names the holder of a lease.
type HeldError struct {
	Holder Lease // only Name is set if the stored lease is unreadable
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("presence: lease of node %q is held by boot %q at %s", e.Holder.Name, e.Holder.Boot, e.Holder.RPCAddr)
}

// validNode reports whether a name is valid. The allowed characters exclude the separators of stored values.
func validNode(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return name != "" && len(name) <= 64
}

func (l Lease) encode() ([]byte, error) {
	if !validNode(l.Name) || l.Boot == "" {
		return nil, fmt.Errorf("presence: malformed lease of node %q: the name must be 1-64 of A-Z a-z 0-9 . _ -, the boot id not empty", l.Name)
	}
	return json.Marshal(l)
}

func decodeLease(name, stored string) *Lease {
	var l Lease
	if json.Unmarshal([]byte(stored), &l) != nil {
		l = Lease{}
	}
	l.Name = name
	return &l
}

// Take stores l for Options.Lease if its name has no lease, or a lease of l.Boot, or one of replaceBoot (unless
// that is ""). Otherwise it returns a *HeldError. Peers and placement use the node from its first Report on.
func (ls *Leases) Take(ctx context.Context, l Lease, replaceBoot string) error {
	value, err := l.encode()
	if err != nil {
		return err
	}
	ctx, cancel := ls.bound(ctx)
	defer cancel()
	held, err := leaseTakeScript.Run(ctx, ls.rdb, []string{ls.keys.lease(l.Name)},
		value, l.Boot, replaceBoot, ls.opt.Lease.Milliseconds()).Text()
	if err != nil {
		return failed("take lease", err)
	}
	if held != "" {
		return &HeldError{Holder: *decodeLease(l.Name, held)}
	}
	return nil
}

// Extend stores l, whose fields may have changed, for another Options.Lease and returns the generation id (see
// Generation). It never revives a lease: it returns ErrLeaseLost if the lease has lapsed, and ErrLeaseLost with a
// *HeldError if another boot id holds it.
func (ls *Leases) Extend(ctx context.Context, l Lease) (gen string, err error) {
	value, err := l.encode()
	if err != nil {
		return "", err
	}
	ctx, cancel := ls.bound(ctx)
	defer cancel()
	reply, err := leaseExtendScript.Run(ctx, ls.rdb, []string{ls.keys.lease(l.Name)},
		value, l.Boot, ls.opt.Lease.Milliseconds()).Slice()
	if err != nil {
		return "", failed("extend lease", err)
	}
	if extended, _ := reply[0].(int64); extended == 0 {
		if len(reply) < 2 {
			return "", ErrLeaseLost
		}
		held, _ := reply[1].(string)
		return "", fmt.Errorf("%w: %w", ErrLeaseLost, &HeldError{Holder: *decodeLease(l.Name, held)})
	}
	gen, _, err = ls.Generation(ctx)
	return gen, err
}

// Drop gives up the lease at a clean exit, and removes the node from the load counts and from placement. If
// another boot id holds the lease, it changes nothing and returns nil.
func (ls *Leases) Drop(ctx context.Context, l Lease) error {
	ctx, cancel := ls.bound(ctx)
	defer cancel()
	dropped, err := leaseDropScript.Run(ctx, ls.rdb, []string{ls.keys.lease(l.Name)}, l.Boot).Int()
	if err == nil && dropped != 0 {
		err = ls.forget(ctx, l.Name)
	}
	if err != nil {
		return failed("drop lease", err)
	}
	return nil
}

// forget removes the placement data of nodes.
func (ls *Leases) forget(ctx context.Context, names ...string) error {
	_, err := ls.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		if len(names) == 0 {
			return
		}
		pipe.HDel(ctx, keyLoginCount, names...)
		pipe.HDel(ctx, keyLastPick, names...)
		for _, name := range names {
			pipe.Del(ctx, ls.keys.reserve(name))
			pipe.Del(ctx, ls.keys.kicks(name))
		}
	})
	return err
}

// read reads the leases of nodes in one round trip; a node without a lease yields nil.
func (ls *Leases) read(ctx context.Context, names []string) ([]*Lease, error) {
	cmds, err := ls.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for _, name := range names {
			pipe.Get(ctx, ls.keys.lease(name))
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]*Lease, len(names))
	for i, c := range cmds {
		if get, ok := c.(*redis.StringCmd); ok && get.Err() == nil {
			out[i] = decodeLease(names[i], get.Val())
		}
	}
	return out, nil
}

// Generation returns the id and the age, by Redis' clock, of the data in Redis. A changed id means that Redis has
// lost its data; a young generation means that other nodes may not have restored their sessions yet.
func (ls *Leases) Generation(ctx context.Context) (id string, ageMS int64, err error) {
	ctx, cancel := ls.bound(ctx)
	defer cancel()
	reply, err := generationScript.Run(ctx, ls.rdb, []string{keyGeneration}, NewToken()[:16]).Slice()
	if err != nil {
		return "", 0, failed("generation", err)
	}
	if len(reply) == 2 {
		id, _ = reply[0].(string)
		ageMS, _ = reply[1].(int64)
	}
	if id == "" {
		return "", 0, failed("generation", errors.New("empty reply"))
	}
	return id, ageMS, nil
}

// SeedGeneration writes a generation that looks an hour old, unless there is one. It is for a new Redis: no node has
// sessions to restore, so logins need not wait.
func SeedGeneration(ctx context.Context, rdb redis.UniversalClient) error {
	now, err := rdb.Time(ctx).Result()
	if err == nil {
		const hour = 3600 * 1000
		value := fmt.Sprintf("%s %d", NewToken()[:16], now.UnixMilli()-hour)
		err = rdb.SetNX(ctx, keyGeneration, value, 0).Err()
	}
	if err != nil {
		return failed("seed generation", err)
	}
	return nil
}
