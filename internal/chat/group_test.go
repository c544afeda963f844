package chat

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/group"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// groupWorld is a group on two nodes, and who may read which of its rows.
type groupWorld struct {
	*fixture
	a, b   *node
	thread int64
	code   string

	mu        sync.Mutex // guards the following
	intervals map[int32][][2]int64
}

// groupClient is a member that keeps the rows that it is pushed, and asks after its login and each gap notice.
type groupClient struct {
	*stockClient
	w    *groupWorld
	n    *node
	done chan struct{}

	mu   sync.Mutex // guards the following
	rows map[int64]string
	busy map[string]bool // texts that are to be sent again
}

func newGroupWorld(t *testing.T, users int) *groupWorld {
	w := &groupWorld{fixture: newFixture(t, users), intervals: make(map[int32][][2]int64)}
	w.a, w.b = w.start("chat1"), w.start("chat2")
	c, err := w.store.Groups.Create(t.Context(), "chat1", w.a.lease.Boot(), firstUID, "all of us", "first", nil)
	require.NoError(t, err)
	w.thread = c.Event.ThreadID
	w.note(firstUID, c.Event.Seq, 0)
	link, err := w.store.Links.Create(t.Context(), "chat1", w.a.lease.Boot(), firstUID, w.thread, time.Hour, 10_000)
	require.NoError(t, err)
	w.code = link.Code
	return w
}

func (w *groupWorld) note(uid int32, from, to int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if to == 0 {
		w.intervals[uid] = append(w.intervals[uid], [2]int64{from, 1 << 40})
		return
	}
	w.intervals[uid][len(w.intervals[uid])-1][1] = to
}

func (w *groupWorld) mayHave(uid int32, seq int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.intervals[uid], func(in [2]int64) bool { return seq >= in[0] && seq <= in[1] })
}

func (w *groupWorld) join(n *node, uid int32) {
	c, err := w.store.Links.Join(context.Background(), n.cfg.SelfServer.Name, n.lease.Boot(), uid, w.code)
	require.NoError(w.t, err)
	if c.Event.Seq > 0 {
		w.note(uid, c.Event.Seq, 0)
		n.delivery.Groups.Added(c.Members, group.EventRows(&c))
	}
}

// leave ends a membership, by the member or by the owner.
func (w *groupWorld) leave(n *node, uid int32, removed bool) {
	var c store.GroupChange
	var err error
	if removed {
		c, err = w.store.Groups.RemoveMember(context.Background(), n.cfg.SelfServer.Name, n.lease.Boot(), firstUID, w.thread, uid)
	} else {
		c, err = w.store.Groups.Leave(context.Background(), n.cfg.SelfServer.Name, n.lease.Boot(), uid, w.thread)
	}
	require.NoError(w.t, err)
	w.note(uid, 0, c.Event.Seq)
	n.delivery.Groups.Added(c.Members, group.EventRows(&c))
}

// member logs user i in, counted from 1.
func (w *groupWorld) member(n *node, i int) *groupClient {
	w.t.Helper()
	ticket := w.ticket(n, i)
	c := &groupClient{stockClient: dialRaw(w.t, ticket.Addr), w: w, n: n, done: make(chan struct{}), rows: make(map[int64]string), busy: make(map[string]bool)}
	c.uid = ticket.UID
	c.send(wire.MsgLogin, map[string]any{
		"uid": ticket.UID, "token": ticket.Token, "client": "test/1", "caps": []string{wire.CapBatch, wire.CapGap, wire.CapGroups},
		"device": fmt.Sprint("d", time.Now().UnixNano()), "window": 64,
	})
	f, err := c.read()
	require.NoError(w.t, err)
	require.Equal(w.t, wire.MsgLoginRsp, f.id)
	eventually(w.t, "the session to be live", func() bool {
		return slices.ContainsFunc(c.sessions(), func(s *session.Session) bool { return s.State() == session.Live })
	})
	go c.follow()
	w.t.Cleanup(func() { c.conn.Close(); <-c.done })
	require.NoError(w.t, c.ask())
	return c
}

func (c *groupClient) sessions() []*session.Session {
	list, _ := c.n.registry.Find(nil, &session.Push{To: c.uid})
	return list
}

// follow reads frames until the connection ends.
func (c *groupClient) follow() {
	defer close(c.done)
	for {
		f, err := c.read()
		if err != nil {
			return
		}
		switch f.id {
		case wire.MsgGroupPush:
			var p wire.GroupPush
			f.into(c.w.t, &p)
			for _, row := range p.Chats {
				if !c.w.mayHave(c.uid, row.MsgID) {
					// The test notes a change after its commit; a push may be faster.
					time.Sleep(200 * time.Millisecond)
					if !c.w.mayHave(c.uid, row.MsgID) {
						c.w.t.Errorf("user %d was pushed row %d", c.uid, row.MsgID)
					}
				}
				c.note(row.MsgID, row.UniqueID)
			}
		case wire.MsgGap:
			if err := c.ask(); err != nil {
				c.w.t.Error(err)
			}
		case wire.MsgTextRsp:
			var a wire.TextPush
			f.into(c.w.t, &a)
			for _, text := range a.Chats {
				switch text.Code {
				case wire.CodeOK:
					c.note(text.Seq, text.UniqueID)
				case wire.CodeBusy: // a slow machine
					c.mu.Lock()
					c.busy[text.UniqueID] = true
					c.mu.Unlock()
				default:
					c.w.t.Errorf("text refused: %d", text.Code)
				}
			}
		}
	}
}

func (c *groupClient) note(seq int64, unique string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was, known := c.rows[seq]; known && was != unique {
		c.w.t.Errorf("row %d is %q and %q", seq, was, unique)
	}
	c.rows[seq] = unique
}

func (c *groupClient) right() store.GroupRight {
	key := store.GroupKey{Thread: c.w.thread, UID: c.uid}
	rights, err := c.w.store.Rights.InGroups(context.Background(), []store.GroupKey{key})
	if err != nil {
		c.w.t.Error(err)
	}
	return rights[key]
}

// ask does what a handler does for a client that asks for its threads and what is new in them.
func (c *groupClient) ask() error {
	r := c.right()
	if r.FromSeq == 0 {
		return nil
	}
	if r.Present() {
		for _, s := range c.sessions() {
			if _, err := c.n.delivery.Groups.Reconcile(context.Background(), s, []int64{c.w.thread}); err != nil {
				return err
			}
		}
	}
	r = c.right()
	msgs, _, err := c.w.store.Messages.HistoryTo(context.Background(), c.w.thread, r.FromSeq-1, r.LeftSeq, 10_000, 10<<20)
	for _, m := range msgs {
		c.note(m.Seq, m.UniqueID)
	}
	return err
}

// check requires that the client has all that its user may read, and waits for what is on its way.
func (c *groupClient) check(last int64) {
	c.w.t.Helper()
	r := c.right()
	to := r.LastReadable(last)
	eventually(c.w.t, fmt.Sprintf("user %d to have rows %d to %d", c.uid, r.FromSeq, to), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for seq := r.FromSeq; seq <= to; seq++ {
			if _, ok := c.rows[seq]; !ok {
				return false
			}
		}
		return true
	})
}

// Two nodes, 200 texts from both, while members log in, join, leave, come back and are removed.
func TestEachMemberGetsTheRowsOfItsMembershipOnEitherNode(t *testing.T) {
	const users, texts = 9, 100
	w := newGroupWorld(t, users)
	owner := w.member(w.a, 1)
	w.join(w.b, firstUID+1)
	second := w.member(w.b, 2)
	var wg sync.WaitGroup
	write := func(c *groupClient) {
		for i := range texts {
			w.say(c, fmt.Sprint(c.uid, "-", i))
		}
	}
	wg.Go(func() { write(owner) })
	wg.Go(func() { write(second) })
	clients := []*groupClient{owner, second}
	nodes := []*node{w.a, w.b}
	for i := range users - 2 {
		uid := firstUID + int32(i) + 2
		here, there := nodes[i%2], nodes[1-i%2]
		if i < 5 { // before it is a member
			clients = append(clients, w.member(here, i+3))
		}
		w.join(there, uid)
		if i >= 5 { // after
			clients = append(clients, w.member(here, i+3))
		}
		switch i {
		case 1:
			w.leave(here, uid, true)
		case 2:
			w.leave(there, uid, false)
		case 3:
			w.leave(there, uid, false)
			w.join(here, uid)
		}
	}
	late := w.member(w.b, 1) // another device of the owner, on another node
	wg.Wait()
	last, more, err := w.store.Messages.HistoryTo(t.Context(), w.thread, 0, 0, 10_000, 10<<20)
	require.NoError(t, err)
	require.False(t, more)
	require.GreaterOrEqual(t, len(last), 2*texts)
	for _, c := range append(clients, late) {
		c.check(last[len(last)-1].Seq)
	}

	w.leave(w.a, firstUID+1, true)
	after := w.say(owner, "after")
	eventually(t, "the text after the removal", func() bool { return late.has(after) })
	require.False(t, second.has(after), "on the same node")
	second.check(0) // its rows end with its removal; follow has looked at each push
}

// say has a member write a text, and waits for the answer.
func (w *groupWorld) say(c *groupClient, unique string) (seq int64) {
	w.t.Helper()
	send := func() {
		c.send(wire.MsgText, map[string]any{"fromuid": c.uid, "touid": 0, "thread_id": w.thread, "text_array": []any{
			map[string]any{"content": "a text", "unique_id": unique},
		}})
	}
	send()
	eventually(w.t, "the answer to "+unique, func() bool {
		c.mu.Lock()
		again := c.busy[unique]
		delete(c.busy, unique)
		for at, u := range c.rows {
			if u == unique {
				seq = at
			}
		}
		c.mu.Unlock()
		if again {
			send()
		}
		return seq != 0
	})
	return seq
}

func (c *groupClient) has(seq int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.rows[seq]
	return ok
}

// A node that starts again under its name is another one: what its earlier life wrote into Redis does not count, and goes.
func TestMembersOnANodeThatStartsAgainGetTheirRows(t *testing.T) {
	t.Parallel()
	w := newGroupWorld(t, 2)
	w.join(w.a, firstUID+1)
	owner, member := w.member(w.a, 1), w.member(w.b, 2)
	seq := w.say(owner, "one")
	eventually(t, "the push", func() bool { return member.has(seq) })
	entries := func() (list []string) {
		found, _, err := w.presence.Groups.Entries(t.Context(), []int64{w.thread})
		require.NoError(t, err)
		for _, e := range found[0] {
			list = append(list, e.Node+" "+e.Boot)
		}
		return list
	}
	old := "chat2 " + w.b.lease.Boot()
	require.ElementsMatch(t, []string{"chat1 " + w.a.lease.Boot(), old}, entries())

	w.end(w.b)
	w.b = w.start("chat2")
	seq = w.say(owner, "two") // while nobody is there
	member = w.member(w.b, 2)
	require.True(t, member.has(seq), "it asked")
	for i := range 5 {
		seq = w.say(owner, fmt.Sprint("more", i))
		eventually(t, "the push", func() bool { return member.has(seq) })
	}
	eventually(t, "the entry of the earlier life to go", func() bool { return !slices.Contains(entries(), old) })
	require.Len(t, entries(), 2)
}

// Redis starts again without its data: the members get each row all the same.
func TestARedisThatLosesItsDataCostsNoRowOfAGroup(t *testing.T) {
	w := newGroupWorld(t, 2)
	w.join(w.a, firstUID+1)
	owner, member := w.member(w.a, 1), w.member(w.b, 2)
	require.NoError(t, w.rdb.FlushAll(t.Context()).Err())
	for i, began := 0, time.Now(); i < 10 || time.Since(began) < 4*time.Second; i++ {
		seq := w.say(owner, fmt.Sprint(i))
		eventually(t, "the push", func() bool { return member.has(seq) })
		time.Sleep(20 * time.Millisecond)
	}
	eventually(t, "the entries to be written again", func() bool {
		found, _, err := w.presence.Groups.Entries(t.Context(), []int64{w.thread})
		return err == nil && len(found[0]) == 2
	})
}
