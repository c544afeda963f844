package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// presence has the fake answer 2151 with everybody offline, after before, and tells what was asked.
func (f *fake) presence(before func(c *fakeConn)) (asked chan []int32, typed chan int64) {
	asked, typed = make(chan []int32, 16), make(chan int64, 16)
	f.hook = func(c *fakeConn, id wire.MsgID, body []byte) bool {
		switch id {
		case wire.MsgWatch:
			var req wire.WatchRequest
			require.NoError(f.t, wire.Decode(body, &req))
			if before != nil {
				before(c)
			}
			reply := wire.WatchReply{States: []wire.Presence{}}
			for _, uid := range req.UIDs {
				reply.States = append(reply.States, wire.Presence{UID: uid, LastSeenMin: 7})
			}
			c.send(wire.MsgWatchRsp, reply)
			asked <- req.UIDs
			return true
		case wire.MsgTyping:
			var req wire.TypingRequest
			require.NoError(f.t, wire.Decode(body, &req))
			typed <- req.ThreadID
			return true
		}
		return false
	}
	return asked, typed
}

func (f *fake) tellOnline(uid int32, states ...wire.Presence) {
	for _, c := range f.living(uid) {
		c.send(wire.MsgOnline, wire.OnlinePush{States: states})
	}
}

func TestASessionWatchesAgainAfterAReconnect(t *testing.T) {
	f := newFake(t)
	asked, typed := f.presence(nil)
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	next[CaughtUp](t, s)
	off := []Presence{{UID: 2, LastSeen: time.Unix(7*60, 0)}, {UID: 3, LastSeen: time.Unix(7*60, 0)}}
	states, err := s.Watch(t.Context(), []int32{2, 3})
	require.NoError(t, err)
	require.Equal(t, off, states)
	require.Equal(t, []int32{2, 3}, <-asked)
	require.Equal(t, off, next[Online](t, s).States)
	f.tellOnline(1, wire.Presence{UID: 2, Online: true})
	require.Equal(t, []Presence{{UID: 2, Online: true}}, next[Online](t, s).States)

	f.dropAll()
	next[Connected](t, s)
	require.Equal(t, []int32{2, 3}, <-asked)
	require.Equal(t, off, next[Online](t, s).States)

	_, err = s.Watch(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, <-asked)
	f.dropAll()
	next[Connected](t, s)
	next[CaughtUp](t, s)
	require.Empty(t, asked)

	for range 3 {
		s.Typing(7)
	}
	require.Equal(t, int64(7), <-typed)
	require.Empty(t, typed, "one is enough")
	for _, c := range f.living(1) {
		c.send(wire.MsgTypingPush, wire.TypingPush{ThreadID: 7, UID: 2})
	}
	require.Equal(t, Typing{ThreadID: 7, UID: 2}, next[Typing](t, s))
}

// What was told of an earlier set may still wait when a new one is answered: the latest event is the latest state.
func TestTheLatestOnlineIsTheLatestState(t *testing.T) {
	f := newFake(t)
	f.presence(func(c *fakeConn) {
		c.send(wire.MsgOnline, wire.OnlinePush{States: []wire.Presence{{UID: 2, Online: true}}})
	})
	c := f.dial(1, Options{})
	_, err := c.Watch(t.Context(), []int32{2})
	require.NoError(t, err)
	var last Online
	for range 2 {
		ev, err := c.Next(t.Context())
		require.NoError(t, err)
		last = ev.(Online)
	}
	require.False(t, last.States[0].Online)
}

// A program that does not take its events learns the latest states when it does; its connection does not end over it.
func TestStatesOfAFullQueueAreMerged(t *testing.T) {
	q := eventQueue{limit: 1000, wake: make(chan struct{}, 1)}
	for n := range 100 {
		require.True(t, q.put(Online{States: []Presence{{UID: 1, Online: n%2 == 1}, {UID: int32(n + 2)}}}, 100))
	}
	require.LessOrEqual(t, q.bytes, q.limit)
	state := make(map[int32]Presence)
	for len(q.items)+len(q.states) > 0 {
		ev, err := q.next(t.Context())
		require.NoError(t, err)
		for _, s := range ev.(Online).States {
			state[s.UID] = s
		}
	}
	require.Len(t, state, 101)
	require.True(t, state[1].Online)
	many := Online{States: make([]Presence, maxStates+1)}
	for i := range many.States {
		many.States[i].UID = int32(i)
	}
	require.False(t, q.put(many, 2000), "bounded")
}

func TestAServerWithoutPresenceIsAClearError(t *testing.T) {
	f := newFake(t)
	f.welcome["caps"] = []string{"batch", "resume", "gap"}
	_, typed := f.presence(nil)
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	_, err := s.Watch(t.Context(), []int32{2})
	require.ErrorIs(t, err, ErrNoPresence)
	require.Equal(t, GiveUp, Advise(err))
	require.ErrorIs(t, s.SetVisible(t.Context(), false), ErrNoPresence)
	s.Typing(7)
	f.dropAll()
	next[CaughtUp](t, s)
	require.Empty(t, typed)
}
