package memredis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// hook carries out the commands of a client. It never calls the next hook, which would open a connection.
type hook struct{ r *Redis }

func (h hook) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("memredis: there is nothing to connect to")
	}
}

func (h hook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h.r.serve(ctx, cmd)
	}
}

func (h hook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return h.r.serve(ctx, cmds...)
	}
}

// serve carries out commands, and returns the first error, which each command keeps as its own.
func (r *Redis) serve(ctx context.Context, cmds ...redis.Cmder) error {
	if err := ctx.Err(); err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return err
	}
	tx := r.begin()
	defer r.mu.Unlock()
	var first error
	for _, cmd := range cmds {
		reply, err := tx.run(cmd.Args())
		if err == nil {
			err = setReply(cmd, reply)
		}
		cmd.SetErr(err)
		if first == nil {
			first = err
		}
	}
	return first
}

// run carries out one command.
func (tx *Tx) run(args []any) (reply any, err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case Error:
			reply, err = nil, e
		default:
			panic(e)
		}
	}()
	return tx.do(args), nil
}

// setReply stores a reply in a command as go-redis does when it reads one.
func setReply(cmd redis.Cmder, reply any) error {
	if reply == nil {
		if _, ok := cmd.(*redis.BoolCmd); ok { // SET NX
			return nil
		}
		return redis.Nil
	}
	ok := false
	switch cmd := cmd.(type) {
	case *redis.Cmd:
		cmd.SetVal(generic(reply))
		ok = true
	case *redis.StatusCmd:
		ok = set(cmd, reply)
	case *redis.StringCmd:
		ok = set(cmd, reply)
	case *redis.IntCmd:
		var n int
		if n, ok = reply.(int); ok {
			cmd.SetVal(int64(n))
		}
	case *redis.BoolCmd:
		cmd.SetVal(reply == 1 || reply == "OK")
		ok = true
	case *redis.StringSliceCmd:
		ok = set(cmd, reply)
	case *redis.TimeCmd:
		ok = set(cmd, reply)
	case *redis.MapStringStringCmd:
		var fields []Field
		if fields, ok = reply.([]Field); ok {
			m := make(map[string]string, len(fields))
			for _, f := range fields {
				m[f.Name] = f.Value
			}
			cmd.SetVal(m)
		}
	case *redis.ZSliceCmd:
		var fields []Field
		if fields, ok = reply.([]Field); ok {
			z := make([]redis.Z, len(fields))
			for i, f := range fields {
				z[i] = redis.Z{Member: f.Name, Score: float64(Int(f.Value))}
			}
			cmd.SetVal(z)
		}
	case *redis.DurationCmd:
		var n int
		if n, ok = reply.(int); ok {
			unit := time.Millisecond
			switch {
			case n < 0:
				unit = 1
			case cmd.Name() == "ttl":
				unit = time.Second
			}
			cmd.SetVal(time.Duration(n) * unit)
		}
	}
	if !ok {
		return fmt.Errorf("memredis: a %T for a %T of %q", reply, cmd, cmd.Name())
	}
	return nil
}

func set[T any](cmd interface{ SetVal(T) }, reply any) bool {
	v, ok := reply.(T)
	if ok {
		cmd.SetVal(v)
	}
	return ok
}

// generic returns a reply as the general command of go-redis has it.
func generic(reply any) any {
	var out []any
	switch v := reply.(type) {
	case int:
		return int64(v)
	case []any:
		out = make([]any, len(v))
		for i := range v {
			out[i] = generic(v[i])
		}
	case []string:
		out = make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
	case []Field:
		out = make([]any, 0, 2*len(v))
		for _, f := range v {
			out = append(out, f.Name, f.Value)
		}
	case time.Time:
		return []any{fmt.Sprint(v.Unix()), fmt.Sprint(v.Nanosecond() / 1000)}
	default:
		return v
	}
	return out
}
