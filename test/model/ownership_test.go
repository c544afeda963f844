package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"parley/client"
)

// ownerOp is an operation on a user's place: a login makes its session the owner; a request reports whether its
// session is the owner.
type ownerOp struct {
	user  int32
	login bool
	sid   string
}

// ownership models a register per user: it contains the sid of the latest login.
var ownership = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byUser := map[int32][]porcupine.Operation{}
		for _, op := range history {
			user := op.Input.(ownerOp).user
			byUser[user] = append(byUser[user], op)
		}
		parts := make([][]porcupine.Operation, 0, len(byUser))
		for _, part := range byUser {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		op := input.(ownerOp)
		if op.login {
			return true, op.sid
		}
		return output.(bool) == (state.(string) == op.sid), state
	},
}

// recorder records the history of all users, with times of one clock.
type recorder struct {
	began time.Time
	mu    sync.Mutex // guards the following
	ops   []porcupine.Operation
}

func (r *recorder) now() int64 { return int64(time.Since(r.began)) }

func (r *recorder) add(who int, op ownerOp, out any, call, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, porcupine.Operation{ClientId: who, Input: op, Output: out, Call: call, Return: end})
}

// session logs a user in and sends requests until another login has taken the place, or the time is over.
func (r *recorder) session(t *testing.T, w *world, who int, uid int32, at int, asks int) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	call := r.now()
	c, err := client.Dial(ctx, w.ticket(t, uid, at), client.Options{})
	if err != nil {
		// The login was refused, or replaced before its 1006. Its session may or may not have owned the place for a
		// moment. For the checker, that is an operation that has not returned.
		r.add(who, ownerOp{user: uid, login: true, sid: fmt.Sprint("lost ", call)}, nil, call, math.MaxInt64)
		return
	}
	defer c.Close()
	r.add(who, ownerOp{user: uid, login: true, sid: c.SID()}, nil, call, r.now())
	for range asks {
		call := r.now()
		_, err := c.Threads(ctx)
		switch {
		case err == nil:
			r.add(who, ownerOp{user: uid, sid: c.SID()}, true, call, r.now())
		case errors.Is(err, client.ErrReplaced):
			r.add(who, ownerOp{user: uid, sid: c.SID()}, false, call, r.now())
			return
		default:
			t.Errorf("user %d: %v", uid, err)
			return
		}
	}
}

// P3: however logins race, each user's place has one owner at a time, and a replaced session answers no request that
// began after the newer login had returned.
func TestOwnershipIsLinearizable(t *testing.T) {
	const users, rounds, atOnce = 6, 6, 3
	w := newWorld(t, 3)
	first := w.users(t, users)
	r := &recorder{began: time.Now()}
	for range rounds {
		var wg sync.WaitGroup
		for u := range users {
			for i := range atOnce {
				wg.Go(func() { r.session(t, w, u*atOnce+i, first+int32(u), (u+i)%len(w.nodes), 8) })
			}
		}
		wg.Wait()
	}
	require.NotEmpty(t, r.ops)
	replaced := slices.ContainsFunc(r.ops, func(op porcupine.Operation) bool { return op.Output == false })
	require.True(t, replaced, "no session was ever replaced: the history proves nothing")
	result := porcupine.CheckOperationsTimeout(ownership, r.ops, 2*patience)
	require.Equal(t, porcupine.Ok, result, "%d operations", len(r.ops))
}

// The checker rejects a history that is impossible for a register: the old session answers after the new login has
// returned.
func TestOwnershipCheckerFindsTwoOwners(t *testing.T) {
	r := &recorder{}
	r.add(0, ownerOp{user: 1, login: true, sid: "a"}, nil, 0, 10)
	r.add(1, ownerOp{user: 1, login: true, sid: "b"}, nil, 20, 30)
	require.True(t, porcupine.CheckOperations(ownership, r.ops))
	r.add(0, ownerOp{user: 1, sid: "a"}, true, 40, 50)
	require.False(t, porcupine.CheckOperations(ownership, r.ops))
}
