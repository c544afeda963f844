//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/internal/cluster"
	"parley/internal/cluster/faultproxy"
	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
)

// lease is how long a node that ends without a word is believed to live.
const lease = 10 * time.Second

// moved is a user whose old session is on node 1 and who then logs in at node 2.
type moved struct {
	uid, friend int32
	thread      int64
	old         *Raw
	friendConn  *client.Conn
	newer       *client.Conn
}

// movers logs n users in at the first node, their friends at the second.
func (l *Lab) movers(ctx context.Context, n int) ([]*moved, func(), error) {
	first, threads, err := l.pairs(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	all := make([]*moved, n)
	for i := range all {
		all[i] = &moved{uid: first + int32(2*i), friend: first + int32(2*i) + 1, thread: threads[i]}
	}
	closeThem := func() {
		for _, m := range all {
			if m.old != nil {
				_ = m.old.Close() // a client that goes away
			}
			for _, c := range []*client.Conn{m.friendConn, m.newer} {
				if c != nil {
					c.Close()
				}
			}
		}
	}
	err = each(n, 16, func(i int) error {
		m := all[i]
		t, err := l.ticket(ctx, m.uid, 0)
		if err != nil {
			return err
		}
		// Without "gap" a session that Redis had lost for a while is closed: nobody knows what it missed.
		if m.old, err = loginRaw(ctx, t, native("caps", []string{"gap"}), rawOptions{}); err != nil {
			return err
		}
		m.friendConn, err = l.dial(ctx, m.friend, 1, client.Options{Heartbeat: time.Minute})
		return err
	})
	return all, closeThem, err
}

// move logs them in at the second node. The device is that of the raw login, so the newer session replaces the older.
func (l *Lab) move(ctx context.Context, all []*moved) error {
	return each(len(all), 16, func(i int) error {
		return until(ctx, 20*time.Second, fmt.Sprintf("user %d can log in elsewhere", all[i].uid), func() (bool, error) {
			c, err := l.dial(ctx, all[i].uid, 1, client.Options{Heartbeat: time.Minute})
			all[i].newer = c
			return err == nil, err
		})
	})
}

// staleRows counts the rows whose unique id begins with "stale-".
func (l *Lab) staleRows(ctx context.Context) (n int64, err error) {
	err = l.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM chat_message WHERE unique_id LIKE 'stale-%'").Scan(&n)
	return n, err
}

// pausedNode is P4. Bar V7 runs it too, with a node that ignores the fence.
func pausedNode(ctx context.Context, w *World, r *Report) error {
	return pausedNodeOf(ctx, w, r, Layout{Chat: 2})
}

func pausedNodeOf(ctx context.Context, w *World, r *Report, layout Layout) error {
	l, err := w.Start(ctx, layout)
	if err != nil {
		return err
	}
	all, closeThem, err := l.movers(ctx, w.N(500, 30))
	if closeThem != nil {
		defer closeThem()
	}
	if err != nil {
		return err
	}
	if err := l.Chat[0].Pause(); err != nil {
		return err
	}
	paused := time.Now()
	err = until(ctx, 3*lease, "the lease of the paused node has lapsed", func() (bool, error) {
		ttl, err := l.rdb.PTTL(ctx, "node_chat1").Result()
		return err == nil && ttl < 0, err
	})
	if err != nil {
		return err
	}
	if err := l.move(ctx, all); err != nil {
		return err
	}
	// What the old clients say lies in the sleeping node's sockets, first in line when it wakes.
	for _, m := range all {
		for k := range 3 {
			m.old.send(wire.MsgText, textBody(m.thread, client.Draft{UniqueID: fmt.Sprintf("stale-%d-%d", m.uid, k), Text: "stale"}))
		}
	}
	for _, m := range all {
		if _, err := m.friendConn.SendTexts(ctx, client.InThread(m.thread), client.NewDraft("for the newer session")); err != nil {
			return fmt.Errorf("a text to the newer session: %w", err)
		}
	}
	pause(ctx, w.D(25*time.Second, lease+time.Second)-time.Since(paused))
	if err := l.Chat[0].Resume(); err != nil {
		return err
	}
	awake := time.Now()
	var open, pushes, acks atomic.Int64
	var worst widest
	err = each(len(all), 64, func(i int) error {
		for {
			id, body, err := all[i].old.next(time.Until(awake.Add(15 * time.Second)))
			if err != nil {
				if isTimeout(err) {
					open.Add(1)
				}
				worst.add(time.Since(awake))
				return nil
			}
			switch id {
			case wire.MsgTextPush:
				pushes.Add(1)
			case wire.MsgTextRsp:
				acks.Add(int64(body.stored()))
			}
		}
	})
	if err != nil {
		return err
	}
	pause(ctx, 2*time.Second) // a transaction may outlive the session whose texts it stores
	stale, err := l.staleRows(ctx)
	if err != nil {
		return err
	}
	dead := int64(0)
	for _, m := range all {
		if m.newer.Err() != nil {
			dead++
		}
	}
	r.Note("users moved", len(all))
	r.Zero("stale texts stored", stale)
	r.Zero("stale texts acknowledged", acks.Load())
	r.Zero("pushes to old sessions", pushes.Load())
	r.Zero("old sessions still open", open.Load())
	AtMost(r, "closed after waking (worst)", worst.get(), 6*time.Second)
	r.Zero("newer sessions that ended", dead)
	return nil
}

// isTimeout reports whether a read ended because its time was up.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// cutFromRedis is P5.
func cutFromRedis(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2}.with("redis"))
	if err != nil {
		return err
	}
	all, closeThem, err := l.movers(ctx, w.N(100, 20))
	if closeThem != nil {
		defer closeThem()
	}
	if err != nil {
		return err
	}
	say := func(m *moved, id string) (stored bool) {
		m.old.send(wire.MsgText, textBody(m.thread, client.Draft{UniqueID: id, Text: "text"}))
		rsp, err := m.old.expect(wire.MsgTextRsp, 10*time.Second)
		return err == nil && rsp.stored() == 1
	}
	l.link("chat1-redis").SetBoth(faultproxy.Faults{Silent: true})
	cut := time.Now()
	var due, stored int64
	for round := 0; time.Since(cut) < lease+2*time.Second; round++ {
		for i, m := range all {
			due++
			if say(m, fmt.Sprintf("early-%d-%d", i, round)) {
				stored++
			}
		}
		pause(ctx, 500*time.Millisecond)
	}
	t, err := l.ticket(ctx, all[0].friend, 0)
	if err != nil {
		return err
	}
	asked := time.Now()
	_, loginErr := client.Dial(ctx, t, client.Options{Device: "second"})
	refusal := time.Since(asked)
	// One half moves: from then on nothing may be stored for their old sessions.
	half := all[:len(all)/2]
	if err := l.move(ctx, half); err != nil {
		return err
	}
	var acked atomic.Int64
	_ = each(len(half), 16, func(i int) error {
		if say(half[i], fmt.Sprintf("stale-%d", half[i].uid)) {
			acked.Add(1)
		}
		return nil
	})
	pause(ctx, w.D(20*time.Second, lease+4*time.Second)-time.Since(cut))
	l.link("chat1-redis").Heal()
	healed := time.Now()
	err = until(ctx, 30*time.Second, "a login at the node works", func() (bool, error) {
		uid := all[len(all)-1].uid
		c, err := l.dial(ctx, uid, 0, client.Options{Device: "again"})
		if err != nil {
			return false, err
		}
		c.Close()
		return true, nil
	})
	back := time.Since(healed)
	if err != nil {
		return err
	}
	stale, err := l.staleRows(ctx)
	if err != nil {
		return err
	}
	r.Percent("texts stored while cut off, before a move", stored, due, 99)
	r.Is("login refused with a code", client.CodeOf(loginErr) != client.CodeOK, loginErr)
	AtMost(r, "refused after", refusal, 3*time.Second)
	r.Zero("stored for old sessions after the move", stale+acked.Load())
	AtMost(r, "login works after the repair", back, 9*time.Second)
	return nil
}

// redisFlushed is P6.
func redisFlushed(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, standard)
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(100, 20), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	uids := make([]int32, len(c.People))
	for i, p := range c.People {
		uids[i] = p.UID
	}
	c.talk(ctx, float64(w.N(200, 50)), 0)
	rebuilt := func(what string) error {
		begun := time.Now()
		err := until(ctx, 60*time.Second, "everybody is online again", func() (bool, error) {
			n, err := l.countOnline(ctx, uids)
			return err == nil && n == len(uids), fmt.Errorf("%d online, %v", n, err)
		})
		if err == nil {
			AtMost(r, "online again after "+what, time.Since(begun), 21*time.Second)
		}
		return err
	}
	pause(ctx, 2*time.Second)
	if err := l.rdb.FlushAll(ctx).Err(); err != nil {
		return err
	}
	if err := rebuilt("FLUSHALL"); err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	if err := l.Redis.Restart(ctx); err != nil {
		return err
	}
	if err := rebuilt("a restart"); err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	return c.end(ctx, r, 30*time.Second)
}

// slowRedis is P7.
func slowRedis(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 3, Status: 1}.with("redis"))
	if err != nil {
		return err
	}
	n := w.N(300, 60)
	first, err := l.users(ctx, n)
	if err != nil {
		return err
	}
	var uids []int32
	for node := range l.Chat {
		at := first + int32(node*n/3)
		raws, err := l.crowdRaw(ctx, at, n/3, node, native(), rawOptions{})
		defer closeAll(raws)
		if err != nil {
			return err
		}
		for i := range n / 3 {
			uids = append(uids, at+int32(i))
		}
	}
	for _, node := range l.Chat {
		l.link(node.Name() + "-redis").SetBoth(faultproxy.Faults{Latency: 25 * time.Millisecond, Jitter: 50 * time.Millisecond})
	}
	begun := time.Now()
	worst := 0
	for time.Since(begun) < w.D(60*time.Second, 15*time.Second) && ctx.Err() == nil {
		online, err := l.countOnline(ctx, uids)
		if err != nil {
			return err
		}
		worst = max(worst, len(uids)-online)
		pause(ctx, 200*time.Millisecond)
	}
	failed := 0.0
	for _, node := range l.Chat {
		m, err := metrics(ctx, node)
		if err != nil {
			return err
		}
		failed += m["parley_chat_lease_failures_total"] + m["parley_chat_fenced_total"]
	}
	r.Note("sessions", len(uids))
	r.Zero("falsely offline", int64(worst))
	r.Zero("failed refreshes of leases", int64(failed))
	return nil
}

// skewedClock is P8. The clock is the one by which a node signs its calls and judges those of others; a build with seeded
// faults lets a bar set it.
func skewedClock(ctx context.Context, w *World, r *Report) error {
	bin, err := w.suite.seededBin(ctx)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		off      time.Duration
		accepted bool
	}{{20 * time.Second, true}, {-20 * time.Second, true}, {time.Hour, false}, {-time.Hour, false}} {
		if w.Short && c.off < 0 {
			continue
		}
		if err := skewedBy(ctx, w, r, bin, c.off, c.accepted); err != nil {
			return fmt.Errorf("clock off by %v: %w", c.off, err)
		}
	}
	return nil
}

func skewedBy(ctx context.Context, w *World, r *Report, bin string, off time.Duration, accepted bool) error {
	l, err := w.Start(ctx, Layout{Chat: 2, Bin: bin, Through: func(n *cluster.Node, i int) []string {
		if n.Role() == cluster.Chat && i == 1 {
			return []string{"/usr/bin/env", "PARLEY_SEEDED_CLOCK=" + off.String()}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	first, threads, err := l.pairs(ctx, 1)
	if err != nil {
		return err
	}
	a, err := l.dial(ctx, first, 0, client.Options{Heartbeat: time.Minute})
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := l.dial(ctx, first+1, 1, client.Options{Heartbeat: time.Minute})
	if err != nil {
		return err
	}
	defer b.Close()
	before, err := l.online(ctx, []int32{first, first + 1})
	if err != nil {
		return err
	}
	if _, err := b.SendTexts(ctx, client.InThread(threads[0]), client.NewDraft("across")); err != nil {
		return err
	}
	pctx, cancel := context.WithTimeout(ctx, w.D(10*time.Second, 5*time.Second))
	defer cancel()
	pushed := false
	for !pushed {
		ev, err := a.Next(pctx)
		if err != nil {
			break
		}
		_, pushed = ev.(client.Texts)
	}
	pause(ctx, w.D(lease+2*time.Second, 3*time.Second)) // a lease would have ended
	after, err := l.online(ctx, []int32{first, first + 1})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%+v: ", off)
	if accepted {
		r.Is(name+"text pushed", pushed, "no push came")
	} else {
		m, err := metrics(ctx, l.Chat[0])
		if err != nil {
			return err
		}
		refused := 0.0
		for k, v := range m {
			if strings.HasPrefix(k, "parley_rpc_refused_total") || strings.HasPrefix(k, "parley_rpc_served_total") && strings.Contains(k, "unauthenticated") {
				refused += v
			}
		}
		AtLeast(r, name+"calls refused", refused, 1)
	}
	r.Is(name+"sessions and leases live", len(before[0]) == 1 && len(after[0]) == 1 && len(before[1]) == 1 && len(after[1]) == 1 && a.Err() == nil && b.Err() == nil,
		fmt.Sprint(before, after, a.Err(), b.Err()))
	return nil
}

// statusClient calls the first status node.
func (l *Lab) statusClient() (statusservice.Client, func(), error) {
	c := rpc.NewClient(rpc.ClientConfig{Auth: l.auth, Timeout: 10 * time.Second, MaxIdle: 16}, l.StatusAddr(0))
	s, err := statusservice.NewClient("statusnode", c.Options()...)
	return s, c.Close, err
}

// countsAgree is P9.
func countsAgree(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 3, Status: 1})
	if err != nil {
		return err
	}
	status, closeStatus, err := l.statusClient()
	if err != nil {
		return err
	}
	defer closeStatus()
	n, cycles := w.N(3_000, 300), w.N(10, 2)
	first, err := l.users(ctx, n)
	if err != nil {
		return err
	}
	raws := make([]*Raw, n)
	defer func() { closeAll(raws) }()
	login := func(which []int) error {
		return each(len(which), 16, func(k int) error {
			i := which[k]
			return until(ctx, 30*time.Second, "a placement leads to a login", func() (bool, error) {
				rsp, err := status.GetChatServer(ctx, &message.GetChatServerReq{Uid: first + int32(i)})
				if err != nil || rsp.Error != 0 {
					return false, fmt.Errorf("GetChatServer: %v, %v", rsp, err)
				}
				raws[i], err = loginRaw(ctx, client.Ticket{Addr: rsp.Host + ":" + rsp.Port, UID: first + int32(i), Token: rsp.Token}, native(), rawOptions{})
				return err == nil, err
			})
		})
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	if err := login(all); err != nil {
		return err
	}
	for range cycles {
		victim := l.Chat[w.Rand.IntN(3)]
		var there []int
		for i, c := range raws {
			if c.RemoteAddr().String() == victim.Addr() {
				there = append(there, i)
			}
		}
		// A node that dies within a second of a login has not yet said that the login's place is taken: the reservation then
		// counts for 15 s more.
		pause(ctx, 2*time.Second)
		if err := victim.Restart(ctx); err != nil {
			return err
		}
		for _, i := range there {
			_ = raws[i].Close() // its node is dead
		}
		if err := login(there); err != nil {
			return err
		}
	}
	reality := make(map[string]int)
	for _, c := range raws {
		for _, node := range l.Chat {
			if c.RemoteAddr().String() == node.Addr() {
				reality[node.Name()]++
			}
		}
	}
	err = until(ctx, 10*time.Second, "the loads in Redis are those of the nodes", func() (bool, error) {
		m, err := l.rdb.HGetAll(ctx, "logincount").Result()
		if err != nil {
			return false, err
		}
		for name, want := range reality {
			if m[name] != fmt.Sprint(want) {
				return false, fmt.Errorf("redis %v, sessions %v", m, reality)
			}
		}
		return true, nil
	})
	r.Note("logins", n)
	r.Note("restarts", cycles)
	r.Is("loads equal reality", err == nil, err)
	least, most := n, 0
	for _, node := range l.Chat {
		least, most = min(least, reality[node.Name()]), max(most, reality[node.Name()])
	}
	AtMost(r, "nodes differ by percent", 100*float64(most-least)*3/float64(n), max(5, 600/float64(n)*5))
	return nil
}

// silentKicks is P10.
func silentKicks(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2}.with("rpc"))
	if err != nil {
		return err
	}
	all, closeThem, err := l.movers(ctx, w.N(50, 10))
	if closeThem != nil {
		defer closeThem()
	}
	if err != nil {
		return err
	}
	l.link("chat1-rpc").SetBoth(faultproxy.Faults{Silent: true})
	cut := time.Now()
	type overlap struct {
		last time.Duration // after the newer login: when the old session last stored a text
		open bool
	}
	overlaps := make([]overlap, len(all))
	limit := w.D(75*time.Second, 40*time.Second)
	err = each(len(all), len(all), func(i int) error {
		m := all[i]
		if err := l.move(ctx, all[i:i+1]); err != nil {
			return err
		}
		since := time.Now()
		overlaps[i].open = true
		for k := 0; time.Since(since) < limit && ctx.Err() == nil; k++ {
			m.old.send(wire.MsgText, textBody(m.thread, client.Draft{UniqueID: fmt.Sprintf("stale-%d-%d", m.uid, k), Text: "stale"}))
			rsp, err := m.old.expect(wire.MsgTextRsp, 10*time.Second)
			if err != nil {
				overlaps[i].open = isTimeout(err)
				return nil
			}
			if rsp.stored() > 0 {
				overlaps[i].last = time.Since(since)
			}
			pause(ctx, 100*time.Millisecond)
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.Logf("all old sessions looked at %v after the cut", time.Since(cut))
	l.link("chat1-rpc").Heal()
	var worst time.Duration
	open := int64(0)
	for _, o := range overlaps {
		worst = max(worst, o.last)
		if o.open {
			open++
		}
	}
	r.Note("users moved", len(all))
	r.Zero(fmt.Sprintf("old sessions open after %v", limit), open)
	AtMost(r, "longest overlap", worst, 15*time.Second)
	return nil
}

// lostKey is P11.
func lostKey(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	n := w.N(50, 20)
	all, closeThem, err := l.movers(ctx, n)
	if closeThem != nil {
		defer closeThem()
	}
	if err != nil {
		return err
	}
	uids := make([]int32, n)
	for i, m := range all {
		uids[i] = m.uid
		if err := l.rdb.Del(ctx, "usession_"+l.userKey(m.uid)).Err(); err != nil {
			return err
		}
	}
	deleted := time.Now()
	// One half logs in elsewhere at once: the lost key does not tell the node where the old session is.
	early := all[:n/2]
	if err := l.move(ctx, early); err != nil {
		return err
	}
	err = until(ctx, 2*time.Minute, "all are online again", func() (bool, error) {
		online, err := l.countOnline(ctx, uids)
		return err == nil && online == n, fmt.Errorf("%d of %d, %v", online, n, err)
	})
	took := time.Since(deleted)
	r.Is("keys written back", err == nil, err)
	AtMost(r, "within", took, 2*time.Minute)
	if err := l.move(ctx, all[n/2:]); err != nil {
		return err
	}
	var open atomic.Int64
	_ = each(n, n, func(i int) error {
		if all[i].old.awaitClosed(time.Until(deleted.Add(130*time.Second))) != nil {
			open.Add(1)
		}
		return nil
	})
	r.Zero("old sessions that outlive a newer login", open.Load())
	return nil
}
