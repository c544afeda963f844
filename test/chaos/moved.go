//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/faultproxy"
)

// lease is how long a killed node counts as alive.
const lease = 10 * time.Second

// moved is a user whose old session is on node 1 and who then logs in on node 2.
type moved struct {
	uid, friend int32
	thread      int64
	old         *Raw
	friendConn  *client.Conn
	newer       *client.Conn
}

// movers logs in n users on the first node, and their friends on the second.
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
				_ = m.old.Close() // the client disconnects
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
		// Without the capability "gap", a session that Redis had lost for a while is closed, because nothing tells
		// what it missed.
		if m.old, err = loginRaw(ctx, t, native("caps", []string{"gap"}), rawOptions{}); err != nil {
			return err
		}
		m.friendConn, err = l.dial(ctx, m.friend, 1, client.Options{Heartbeat: time.Minute})
		return err
	})
	return all, closeThem, err
}

// move logs them in on the second node. They use the device of the raw login, so the newer session replaces the older
// one.
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

// pausedNode implements bar P4. Bar V7 also runs it, with a node that ignores the fence.
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
	// What the old clients send waits in the sockets of the paused node, and is the first thing it reads when it
	// wakes.
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

// isTimeout reports whether a read ended because of its deadline.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// cutFromRedis implements bar P5.
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
	// One half moves: from then on, nothing may be stored for their old sessions.
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

// silentKicks implements bar P10.
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
		last time.Duration // latest store of a text by an old session, after the newer login
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

// lostKey implements bar P11.
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
	// One half logs in elsewhere at once: because of the lost key, the node does not learn where the old session is.
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
