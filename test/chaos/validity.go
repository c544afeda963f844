//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/launch"
)

// hostileFrames implements bar V2.
func hostileFrames(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Configure: func(_ *launch.Node, _ int, f *launch.INI) error {
		f.Set("Limits", "LoginTimeout", "2s")
		f.Set("Limits", "Linger", "200ms")
		return nil
	}})
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, 4, nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	begun := time.Now()
	c.talk(ctx, 20, 0)
	const attackers = 8
	first, err := l.users(ctx, attackers)
	if err != nil {
		return err
	}
	frames := w.N(1_000_000, 20_000)
	var sent, connections, stuck atomic.Int64
	attack := func(frames int, seed uint64) error {
		return each(attackers, attackers, func(i int) error {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for left := frames / attackers; left > 0 && ctx.Err() == nil; {
				n, err := l.hostileLife(ctx, rng, first+int32(i), min(left, 40))
				left -= n
				sent.Add(int64(n))
				connections.Add(1)
				if errors.Is(err, errStillOpen) {
					stuck.Add(1)
				} else if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := attack(frames/10, w.Seed); err != nil { // growth on first use is not a leak
		return err
	}
	before := rssOf(l.Chat[0].Pid())
	stop := peak(l.Chat[0].Pid())
	if err := attack(frames, w.Seed+1); err != nil {
		return err
	}
	rss := stop()
	m, err := metrics(ctx, l.Chat[0])
	if err != nil {
		return err
	}
	drops := 0
	for _, p := range c.People {
		drops += p.disconnections(begun, time.Now())
	}
	r.Note("frames", sent.Load())
	r.Note("connections", connections.Load())
	r.Zero("panics", int64(m["parley_chat_panics_total"]))
	r.Zero("connections neither answered nor closed", stuck.Load())
	r.memory("more memory", rss-before, 48<<20)
	r.Zero("bystanders dropped", int64(drops))
	return c.end(ctx, r, 20*time.Second)
}

// hostileLife makes one hostile connection, with or without a login, and sends up to most frames until the node
// closes it.
func (l *Lab) hostileLife(ctx context.Context, rng *rand.Rand, uid int32, most int) (sent int, err error) {
	var raw *Raw
	if rng.IntN(4) > 0 {
		t, err := l.ticket(ctx, uid, 0)
		if err != nil {
			return 0, err
		}
		extra := native("device", fmt.Sprintf("d%d", rng.IntN(8)))
		if rng.IntN(3) == 0 {
			extra = nil
		}
		if raw, err = loginRaw(ctx, t, extra, rawOptions{}); err != nil {
			raw = nil // hostile users are subject to the per-user limits too
		}
	}
	if raw == nil {
		if raw, err = dialRaw(ctx, l.Chat[0].Addr(), rawOptions{}); err != nil {
			return 0, err
		}
	}
	defer raw.Close()
	_ = raw.SetWriteDeadline(time.Now().Add(5 * time.Second))
	for sent < most {
		sent++
		if _, err := raw.Write(hostileFrame(rng, uid)); err != nil {
			return sent, nil // the node may close it
		}
	}
	if err := raw.CloseWrite(); err != nil {
		return sent, nil // the same
	}
	return sent, raw.awaitClosed(20 * time.Second)
}

// hostileFrame returns a frame that no well-behaved client sends.
func hostileFrame(rng *rand.Rand, uid int32) []byte {
	ids := []wire.MsgID{
		wire.MsgLogin, wire.MsgSearch, wire.MsgApply, wire.MsgApprove, wire.MsgText, wire.MsgThreads, wire.MsgOpenThread, wire.MsgHistory,
		wire.MsgSync, wire.MsgHeartbeat, wire.MsgTextPush, wire.MsgGoodbye, 0, 1, 0x7fff, 0xffff,
	}
	id := ids[rng.IntN(len(ids))]
	switch rng.IntN(10) {
	case 0:
		return []byte{byte(id >> 8), byte(id), 0xff, 0xff}
	case 1:
		return []byte{byte(id >> 8), byte(id), 0, 0}
	case 2:
		b := make([]byte, rng.IntN(2000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return append(wire.AppendHeader(nil, id, len(b)), b...)
	case 3:
		return frame(id, strings.Repeat("[", 1+rng.IntN(16000)))
	case 4:
		return frame(id, strings.Repeat(`{"a":`, 1+rng.IntN(3000)))
	case 5:
		return frame(id, fmt.Sprintf(`{"uid":%d,"touid":-1,"thread_id":%d,"text_array":[{"content":"%s","unique_id":"x"}]}`, uid, rng.Int64(), "\xff\xfe"))
	case 6:
		return frame(id, fmt.Sprintf(`{"uid":1e308,"touid":"%d","thread_id":{},"text_array":"x","cursors":[1,2,{}],"message_id":null}`, uid))
	case 7:
		return frame(wire.MsgLogin, fmt.Sprintf(`{"uid":%d,"token":"x"}`, uid))
	case 8:
		b := make([]byte, 4)
		binary.BigEndian.PutUint32(b, rng.Uint32())
		return b
	default:
		return frame(id, fmt.Sprintf(`{"uid":%d,"touid":%d,"thread_id":%d,"message_id":%d,"text_array":[]}`, uid, rng.Int32(), rng.Int32(), rng.Int32()))
	}
}

// seededBugs implements bar V7. It checks pushes as they arrive on a plain connection, because client.Session repairs
// dropped, duplicated and swapped pushes.
func seededBugs(ctx context.Context, w *World, r *Report) error {
	bin, err := w.suite.seededBin(ctx)
	if err != nil {
		return err
	}
	servers, err := w.Start(ctx, Layout{})
	if err != nil {
		return err
	}
	for _, bug := range []struct{ name, by string }{
		{"", ""},
		{"drop", "not delivered"},
		{"duplicate", "doubled"},
		{"swap", "reordered"},
		{"corrupt", "otherwise wrong"},
		{"misroute", "otherwise wrong"},
		{"ack", "lost"},
		{"lose", "lost"},
	} {
		got := &Report{}
		if err := servers.withBug(ctx, w, bin, bug.name, got); err != nil {
			return fmt.Errorf("bug %q: %w", bug.name, err)
		}
		if bug.name == "" {
			r.Is("no bug: nothing found", !got.Missed(), got.Figures())
			continue
		}
		r.Is("bug "+bug.name+" caught", got.missedBy(bug.by), got.Figures())
	}
	// The bars whose promises these bugs break must miss, with the figure of that promise.
	for _, bug := range []struct {
		name, bar, by string
		run           func(ctx context.Context, w *World, r *Report, l Layout) error
		layout        Layout
	}{
		{"fence", "P4", "stale texts stored", pausedNodeOf, Layout{Chat: 2}},
		{"membership", "S19", "stored after the change", blockRacesOn, Layout{Chat: 2}},
		{"membership", "G2", "stored after the removal", fewRemovals, Layout{Chat: 2}},
		{"index", "G2", "pushed after the removal", fewRemovals, Layout{Chat: 2}},
	} {
		got := &Report{}
		bug.layout.Bin, bug.layout.Env = bin, []string{"PARLEY_SEEDED_BUG=" + bug.name}
		if err := bug.run(ctx, w, got, bug.layout); err != nil {
			return fmt.Errorf("bug %q: %w", bug.name, err)
		}
		r.Is("bug "+bug.name+" caught by "+bug.bar, got.missedBy(bug.by), got.Figures())
	}
	return nil
}

// withBug has some pairs exchange texts over plain connections to nodes with a bug, and reports the oracle's verdict.
func (l *Lab) withBug(ctx context.Context, w *World, bin, bug string, r *Report) error {
	dir := filepath.Join(w.Dir, "bug-"+bug)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	nodes, err := launch.Start(ctx, launch.Options{
		Chat: 2, Dir: dir, Bin: bin, NoRedis: true, NoMariaDB: true, Log: w.log, Env: []string{"PARLEY_SEEDED_BUG=" + bug},
		Configure: func(n *launch.Node, _ int, f *launch.INI) error { return l.storesOf(f, l.MariaDB.Schema) },
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := nodes.Close(); err != nil {
			w.Logf("nodes with bug %q: %v", bug, err)
		}
	}()
	view := &Lab{Cluster: nodes, w: w, db: l.db, store: l.store, rdb: l.rdb, presence: l.presence}
	view.nextUID.Store(l.nextUID.Add(2_000))
	const pairs, texts = 6, 240
	first, threads, err := view.pairs(ctx, pairs)
	if err != nil {
		return err
	}
	o := newOracle(w)
	conns := make([]*client.Conn, 2*pairs)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
				<-c.Done()
			}
		}
	}()
	for i, thread := range threads {
		o.pair(first+int32(2*i), first+int32(2*i)+1, thread)
	}
	for i := range conns {
		uid := first + int32(i)
		conns[i], err = view.dial(ctx, uid, i%2, client.Options{OnEvent: func(ev client.Event) {
			if t, ok := ev.(client.Texts); ok {
				for _, m := range t.Messages {
					o.delivered(uid, m)
				}
			}
		}})
		if err != nil {
			return err
		}
	}
	err = each(len(conns), len(conns), func(i int) error {
		for range texts / len(conns) {
			sent, err := conns[i].SendTexts(ctx, client.InThread(threads[i/2]), o.draft(first+int32(i)))
			if err != nil {
				return err
			}
			o.answered(sent[0])
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, _ = o.settle(ctx, 2*time.Second) // a dropped push never arrives
	return o.verdict(ctx, view, r)
}

// fewRemovals runs bar G2 with as many races as a bug needs to show.
func fewRemovals(ctx context.Context, w *World, r *Report, l Layout) error {
	return removalRacesOn(ctx, w, r, l, 10*removalRaceGroups)
}

// missedBy reports whether a figure missed its bound.
func (r *Report) missedBy(name string) bool {
	return slices.ContainsFunc(r.Figures(), func(f Figure) bool { return f.Name == name && !f.OK })
}
