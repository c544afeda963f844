package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/outbox"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// world is a cluster of Groups over a store, a Redis and links that are maps, in a bubble of fake time. Each call
// takes a random time before and after its effect, so that each seed is another interleaving.
type world struct {
	t    testing.TB
	rand *rand.Rand // guarded by mu
	wg   sync.WaitGroup

	mu        sync.Mutex // guards the following
	slow      time.Duration
	threads   map[int64]*thread
	hash      map[int64]map[string]uint64 // Redis: group -> "node|boot" -> number
	unsettled time.Time                   // until then, not all nodes have written to a Redis that lost its data
	redisErr  error
	sqlErr    error
	holdErr   map[string]error // by node: only writes fail
	onHold    func()           // called once, before an interest is written
	hidden    string           // a node that is not linked yet
	nodes     map[string]*node
	debts     []debt
	reads     int // reads of a membership
}

// debt is a notice owed to a node, or to all nodes.
type debt struct {
	node string
	push session.Push
}

type thread struct {
	id      int64
	ver     int32
	seq     int64
	members map[int32]store.Membership
	ever    map[int32][][2]int64 // all intervals that a user could read at some time
}

type node struct {
	*Groups
	w    *world
	name string
	boot string
	reg  *session.Registry
	down bool // guarded by world.mu; the node has no links

	mu      sync.Mutex // guards the following
	clients map[*client]struct{}
}

var errAway = errors.New("away")

func inWorld(t *testing.T, seed uint64, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, rand: rand.New(rand.NewPCG(seed, 1)), threads: make(map[int64]*thread),
			hash: make(map[int64]map[string]uint64), nodes: make(map[string]*node),
		}
		stop := make(chan struct{})
		w.wg.Go(func() { w.settle(stop) })
		defer func() {
			close(stop)
			w.wg.Wait()
			for _, n := range w.nodes {
				n.end()
			}
		}()
		f(t, w)
	})
}

// pause waits for a random part of w.slow.
func (w *world) pause() {
	w.mu.Lock()
	d := time.Duration(0)
	if w.slow > 0 {
		d = time.Duration(w.rand.Int64N(int64(w.slow)))
	}
	w.mu.Unlock()
	time.Sleep(d)
}

func (w *world) n(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n)
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// start adds a node, or another life of it.
func (w *world) start(name string) *node {
	n := &node{w: w, name: name, boot: fmt.Sprint("boot", w.n(1<<30)), reg: session.NewRegistry(), clients: make(map[*client]struct{})}
	cfg := DefaultConfig()
	cfg.Lanes = 2
	n.Groups = New(cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Node: name, Boot: func() string { return n.boot }, Store: w, Interest: w, Registry: n.reg,
		Locate: n.locate,
		Nodes: func() []string {
			return slices.DeleteFunc(w.others(name), func(other string) bool { return other == w.hidden })
		},
		Forward: n.forward,
		Lost:    func(to string, p *session.Push) { w.set(func() { w.debts = append(w.debts, debt{to, *p}) }) },
		Deliver: n.toUsers,
	})
	w.set(func() { w.nodes[name] = n })
	return n
}

func (n *node) end() {
	n.mu.Lock()
	clients := n.clients
	n.clients = nil
	n.mu.Unlock()
	for c := range clients {
		c.close()
	}
	n.Close()
}

func (w *world) others(name string) (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for other := range w.nodes {
		if other != name {
			names = append(names, other)
		}
	}
	slices.Sort(names)
	return names
}

func (w *world) node(name string) (n *node, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = w.nodes[name]
	return n, n.down
}

func (n *node) forward(to string, p *session.Push) bool {
	other, down := n.w.node(to)
	if down {
		return false
	}
	again := *p
	n.w.wg.Go(func() { other.take(&again) })
	return true
}

// take receives a push from another node.
func (n *node) take(p *session.Push) {
	if p.To == 0 {
		n.Deliver(p)
		return
	}
	n.User(p)
}

// toUsers is a router that tries all nodes.
func (n *node) toUsers(pushes []session.Push, _ *session.Cork) {
	for _, p := range pushes {
		n.User(&p)
		for _, name := range n.w.others(n.name) {
			if !n.forward(name, &p) {
				n.w.set(func() { n.w.debts = append(n.w.debts, debt{name, p}) })
			}
		}
	}
}

// settle models the router's ledger.
func (w *world) settle(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(300 * time.Millisecond):
		}
		w.mu.Lock()
		debts := w.debts
		w.debts = nil
		w.mu.Unlock()
		for _, d := range debts {
			names := []string{d.node}
			if d.node == "" {
				names = w.others("")
			}
			for _, name := range names {
				n, down := w.node(name)
				if down {
					w.set(func() { w.debts = append(w.debts, debt{name, d.push}) })
					continue
				}
				first := d.push.Seq
				if d.push.ID == wire.MsgGroupPush {
					first = d.push.First
				}
				if d.push.To == 0 {
					n.Deliver(&session.Push{ID: wire.MsgGap, Thread: d.push.Thread, Seq: first})
				} else {
					n.reg.Gap(d.push.To, d.push.Thread, first, func(*session.Session) {})
				}
			}
		}
	}
}

// Redis.

func (w *world) Hold(_ context.Context, entries []presence.GroupEntry) (added []bool, err error) {
	w.pause()
	defer w.pause()
	w.mu.Lock()
	if f := w.onHold; f != nil {
		w.onHold = nil
		w.mu.Unlock()
		f()
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	if w.redisErr != nil {
		return nil, w.redisErr
	}
	if len(entries) > 0 && w.holdErr[entries[0].Node] != nil {
		return nil, w.holdErr[entries[0].Node]
	}
	for _, e := range entries {
		if w.hash[e.Thread] == nil {
			w.hash[e.Thread] = make(map[string]uint64)
		}
		_, there := w.hash[e.Thread][e.Node+"|"+e.Boot]
		w.hash[e.Thread][e.Node+"|"+e.Boot] = e.Number
		added = append(added, !there)
	}
	return added, nil
}

func (w *world) Drop(_ context.Context, entries []presence.GroupEntry) error {
	w.pause()
	defer w.pause()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range entries {
		if w.hash[e.Thread][e.Node+"|"+e.Boot] == e.Number {
			delete(w.hash[e.Thread], e.Node+"|"+e.Boot)
		}
	}
	return w.redisErr
}

func (n *node) locate(_ context.Context, threads []int64) (nodes [][]string, replaced []presence.GroupEntry, sure bool, err error) {
	w := n.w
	w.pause()
	defer w.pause()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.redisErr != nil {
		return nil, nil, false, w.redisErr
	}
	for _, id := range threads {
		var of []string
		for name, other := range w.nodes {
			if _, ok := w.hash[id][name+"|"+other.boot]; ok && name != n.name {
				of = append(of, name)
			}
		}
		nodes = append(nodes, of)
	}
	return nodes, nil, !time.Now().Before(w.unsettled), nil
}

// SQL.

func (w *world) thread(id int64) *thread {
	if w.threads[id] == nil {
		w.threads[id] = &thread{id: id, members: make(map[int32]store.Membership), ever: make(map[int32][][2]int64)}
	}
	return w.threads[id]
}

func (w *world) Memberships(_ context.Context, uids []int32) (map[int32][]store.ThreadMembership, error) {
	w.pause()
	defer w.pause()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[int32][]store.ThreadMembership)
	for _, th := range w.threads {
		for _, uid := range uids {
			if m, ok := th.members[uid]; ok && m.Present() {
				out[uid] = append(out[uid], store.ThreadMembership{Thread: th.id, Ver: th.ver, Membership: m})
			}
		}
	}
	return out, w.sqlErr
}

func (w *world) LocalMembers(_ context.Context, thread int64, uids []int32) (int32, map[int32]store.Membership, error) {
	w.pause()
	defer w.pause()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	if w.sqlErr != nil {
		return 0, nil, w.sqlErr
	}
	out := make(map[int32]store.Membership)
	for _, uid := range uids {
		if m, ok := w.thread(thread).members[uid]; ok {
			out[uid] = m
		}
	}
	return w.thread(thread).ver, out, nil
}

// rowOf encodes one row.
func rowOf(thread int64, ver int32, seq int64) Rows {
	return Rows{Thread: thread, Ver: ver, First: seq, Last: seq, Body: wire.AppendGroupPush(nil, thread, ver, []wire.StoredText{
		{Sender: 1, MsgID: seq, ThreadID: thread, UniqueID: fmt.Sprint(seq), Content: "x"},
	})}
}

// text commits a row and returns it for publishing.
func (w *world) text(thread int64) Rows {
	w.mu.Lock()
	defer w.mu.Unlock()
	th := w.thread(thread)
	th.seq++
	return rowOf(thread, th.ver, th.seq)
}

func (w *world) join(thread int64, uid int32) (r Rows, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	th := w.thread(thread)
	if m, known := th.members[uid]; known && m.Present() {
		return r, false
	}
	th.seq++
	th.ver++
	th.members[uid] = store.Membership{UID: uid, FromSeq: th.seq}
	th.ever[uid] = append(th.ever[uid], [2]int64{th.seq, 1 << 40})
	return rowOf(thread, th.ver, th.seq), true
}

func (w *world) remove(thread int64, uid int32) (r Rows, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	th := w.thread(thread)
	m, known := th.members[uid]
	if !known || !m.Present() {
		return r, false
	}
	th.seq++
	th.ver++
	m.LeftSeq = th.seq
	th.members[uid] = m
	th.ever[uid][len(th.ever[uid])-1][1] = th.seq
	return rowOf(thread, th.ver, th.seq), true
}

// readable returns the numbers that a user may read.
func (w *world) readable(thread int64, uid int32) (from, to int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	th := w.thread(thread)
	m, ok := th.members[uid]
	switch {
	case !ok:
		return 1, 0
	case m.Present():
		return m.FromSeq, th.seq
	}
	return m.FromSeq, m.LeftSeq
}

func (w *world) mayHave(thread int64, uid int32, seq int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.thread(thread).ever[uid], func(in [2]int64) bool { return seq >= in[0] && seq <= in[1] })
}

// client is a session with the behaviour of its client: it keeps pushed rows, and asks for rows after its login and
// after each gap notice.
type client struct {
	*session.Session
	n    *node
	uid  int32
	mine int // the client's end of the socket

	mu     sync.Mutex // guards the following
	buf    []byte
	rows   map[int64]map[int64]int // by group and number: how often the row arrived
	gaps   []wire.Gap
	closed bool
}

type socket struct{ fd int }

func (s *socket) Fd() int { return s.fd }
func (s *socket) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n, err := syscall.Write(s.fd, b[done:])
		if err != nil && err != syscall.EAGAIN {
			return done, err
		}
		if done += max(n, 0); err != nil {
			time.Sleep(time.Millisecond)
		}
	}
	return len(b), nil
}
func (s *socket) Close() error { return nil }

// socketpair returns two connected sockets that do not block.
func socketpair(t testing.TB) [2]int {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	for _, fd := range fds {
		require.NoError(t, syscall.SetNonblock(fd, true))
	}
	return fds
}

// connect makes a session that has not logged in.
func (n *node) connect(t testing.TB, uid int32, id session.Identity) *client {
	fds := socketpair(t)
	c := &client{Session: new(session.Session), n: n, uid: uid, mine: fds[1], rows: make(map[int64]map[int64]int)}
	c.Init(&socket{fds[0]}, &session.Limits{Limits: outbox.Limits{Bytes: 128 << 10, WriteTimeout: time.Hour, Go: func(f func()) { go f() }}})
	id.UID, id.SID, id.Native, id.Gap, id.Features, id.Boot = uid, session.NewSID(time.Now()), true, true, wire.FeatureGroups, n.boot
	require.True(t, c.Identify(id))
	n.reg.Add(c.Session)
	return c
}

// login logs in a client, which then asks for rows.
func (n *node) login(uid int32) *client {
	c := n.connect(n.w.t, uid, session.Identity{Device: "d"})
	_ = n.Enter(context.Background(), c.Session)
	n.reg.Activate(c.Session)
	n.mu.Lock()
	dead := n.clients == nil
	if !dead {
		n.clients[c] = struct{}{}
	}
	n.mu.Unlock()
	if dead {
		c.close()
		return c
	}
	c.ask()
	return c
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	fd := c.Session
	fd.Gone()
	c.n.reg.Remove(c.Session)
	c.n.Leave(c.Session)
	_ = syscall.Close(c.mine)
}

func (c *client) logout() {
	c.n.mu.Lock()
	delete(c.n.clients, c)
	c.n.mu.Unlock()
	c.close()
}

func (c *client) note(thread, seq int64) {
	if c.rows[thread] == nil {
		c.rows[thread] = make(map[int64]int)
	}
	c.rows[thread][seq]++
}

// read reads what has arrived and returns the gap notices.
func (c *client) read() (gaps []wire.Gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	var b [64 << 10]byte
	for {
		n, err := syscall.Read(c.mine, b[:])
		if n <= 0 || err != nil {
			break
		}
		c.buf = append(c.buf, b[:n]...)
	}
	for len(c.buf) >= wire.HeaderLen {
		id, n := wire.ParseHeader(c.buf)
		if len(c.buf) < wire.HeaderLen+n {
			break
		}
		body := c.buf[wire.HeaderLen : wire.HeaderLen+n]
		switch id {
		case wire.MsgGroupPush:
			var p wire.GroupPush
			require.NoError(c.n.w.t, wire.Decode(body, &p))
			for _, row := range p.Chats {
				require.True(c.n.w.t, c.n.w.mayHave(p.ThreadID, c.uid, row.MsgID), "user %d was pushed row %d of group %d", c.uid, row.MsgID, p.ThreadID)
				c.note(p.ThreadID, row.MsgID)
			}
		case wire.MsgGap:
			var gap wire.Gap
			require.NoError(c.n.w.t, wire.Decode(body, &gap))
			gaps = append(gaps, gap)
			c.gaps = append(c.gaps, gap)
		}
		c.buf = c.buf[wire.HeaderLen+n:]
	}
	return gaps
}

// ask reads all that the user may read, as 1025 and 1029 do. After an error the client repeats it.
func (c *client) ask() {
	for range 100 {
		if c.State() != session.Live || c.askOnce() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.n.w.t.Error("a client was never answered")
}

func (c *client) askOnce() bool {
	w := c.n.w
	w.pause()
	var present, all []int64
	w.mu.Lock()
	if w.sqlErr != nil {
		w.mu.Unlock()
		return false
	}
	for id, th := range w.threads {
		if m, ok := th.members[c.uid]; ok {
			all = append(all, id)
			if m.Present() {
				present = append(present, id)
			}
		}
	}
	w.mu.Unlock()
	if _, err := c.n.Reconcile(context.Background(), c.Session, present); err != nil {
		return false
	}
	for _, id := range all {
		w.pause()
		from, to := w.readable(id, c.uid)
		c.mu.Lock()
		for seq := from; seq <= to; seq++ {
			c.note(id, seq)
		}
		c.mu.Unlock()
	}
	return true
}

// follow reads and asks until no more notices arrive.
func (c *client) follow() {
	for len(c.read()) > 0 {
		c.ask()
	}
}

// everyone returns the clients that are logged in.
func (w *world) everyone() (list []*client) {
	for _, name := range w.others("") {
		n, _ := w.node(name)
		n.mu.Lock()
		for c := range n.clients {
			list = append(list, c)
		}
		n.mu.Unlock()
	}
	return list
}
