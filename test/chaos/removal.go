//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"parley/client"
	"parley/test/rights"
)

// removalRaces implements bar G2. Bar V7 also runs it, with nodes that ignore membership in two ways.
func removalRaces(ctx context.Context, w *World, r *Report) error {
	return removalRacesOn(ctx, w, r, Layout{Chat: 2}, w.N(10_000, 304))
}

// linked waits until each chat node knows the others. Before that, a login does not tell them that a user has another
// device, and they do not look for it.
func (l *Lab) linked(ctx context.Context) error {
	for _, n := range l.Chat {
		err := until(ctx, 30*time.Second, n.Name()+" knows the others", func() (bool, error) {
			m, err := metrics(ctx, n)
			return m["parley_peer_links"] == float64(len(l.Chat)-1), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removalRaceGroups is the number of concurrent races.
const removalRaceGroups = 8

func removalRacesOn(ctx context.Context, w *World, r *Report, layout Layout, races int) error {
	layout.Configure = unlimited
	l, err := w.Start(ctx, layout)
	if err != nil {
		return err
	}
	if err := rights.Watch(ctx, l.db, true); err != nil {
		return err
	}
	first, err := l.users(ctx, 3*removalRaceGroups)
	if err != nil {
		return err
	}
	if err := l.linked(ctx); err != nil {
		return err
	}
	var mu sync.Mutex // guards the following
	var sum rights.Result
	var late, seen int64
	err = each(removalRaceGroups, removalRaceGroups, func(i int) error {
		g, err := l.newRemoval(ctx, first+int32(3*i))
		defer g.close()
		for n := 0; err == nil && n < races/removalRaceGroups; n++ {
			var got rights.Result
			var after, before int64
			got, before, after, err = g.race(ctx)
			mu.Lock()
			sum.Add(got)
			seen += before
			late += after
			mu.Unlock()
		}
		return err
	})
	if err != nil {
		return err
	}
	r.Note("races", sum.Races)
	AtLeast(r, "texts stored before the removal", sum.Stored, sum.Races)
	AtLeast(r, "texts refused after it", sum.Denied, sum.Races)
	r.Note("rows pushed before it", seen)
	r.Zero("stored after the removal", int64(sum.Late))
	r.Zero("acknowledged after its answer", int64(sum.Allowed))
	r.Zero("pushed after the removal", late)
	return nil
}

// removal is a group of three: the owner, a user who is removed repeatedly, and a third member who keeps sending.
type removal struct {
	l      *Lab
	thread int64
	victim int32
	conns  []*client.Conn
	logs   []*pushLog
}

// The connections of a removal. Each user but the owner has one on each node.
const (
	ownerHere = iota
	victimThere
	victimHere
	thirdHere
	thirdThere
)

func (l *Lab) newRemoval(ctx context.Context, first int32) (*removal, error) {
	g := &removal{l: l, victim: first + 1}
	if _, err := l.store.Seed.Friends(ctx, [][2]int32{{first, first + 1}, {first, first + 2}}); err != nil {
		return g, err
	}
	for _, c := range []struct {
		uid    int32
		node   int
		device string
	}{{first, 0, "a"}, {first + 1, 1, "a"}, {first + 1, 0, "b"}, {first + 2, 0, "a"}, {first + 2, 1, "b"}} {
		log := newPushLog()
		conn, err := l.dial(ctx, c.uid, c.node, client.Options{Device: c.device, OnEvent: log.event})
		if err != nil {
			return g, err
		}
		g.conns, g.logs = append(g.conns, conn), append(g.logs, log)
	}
	made, err := g.conns[ownerHere].CreateGroup(ctx, client.GroupDraft{Name: "removals", Members: []int32{first + 1, first + 2}})
	if err != nil {
		return g, err
	}
	g.thread = made.ThreadID
	return g, g.await(ctx, 1, victimThere, victimHere, thirdThere)
}

func (g *removal) close() {
	for _, c := range g.conns {
		c.Close()
		<-c.Done()
	}
}

// await waits until connections were pushed a given row or a later one.
func (g *removal) await(ctx context.Context, seq int64, conns ...int) error {
	for _, i := range conns {
		what := fmt.Sprintf("connection %d has row %d of group %d", i, seq, g.thread)
		if err := until(ctx, 20*time.Second, what, func() (bool, error) { return g.logs[i].reached(g.thread, seq), g.conns[i].Err() }); err != nil {
			return err
		}
	}
	return nil
}

// changed returns the number of the event of the latest membership change.
func (g *removal) changed(ctx context.Context) (seq int64, err error) {
	err = g.l.db.QueryRowContext(ctx, "SELECT last_seq FROM membership_change WHERE thread_id = ? ORDER BY ver DESC LIMIT 1", g.thread).Scan(&seq)
	return seq, err
}

// race removes the victim while it and the third member send, and adds it again. before and after count the pushes to
// the victim's connections; after counts those that it must not receive.
func (g *removal) race(ctx context.Context) (res rights.Result, before, after int64, err error) {
	owner, third := g.conns[ownerHere], g.conns[thirdHere]
	rctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var failed error // error of the third member, valid after wg.Wait
	wg.Go(func() {
		for rctx.Err() == nil && failed == nil {
			_, failed = third.SendText(ctx, client.InThread(g.thread), "I may")
		}
	})
	res, err = rights.Race(ctx, g.l.db, g.conns[victimThere], g.thread, func(ctx context.Context) error {
		return owner.RemoveMember(ctx, g.thread, g.victim)
	})
	stop()
	wg.Wait()
	if err = errors.Join(err, failed); err != nil {
		return res, 0, 0, err
	}
	removed, err := g.changed(ctx)
	if err != nil {
		return res, 0, 0, err
	}
	last, err := third.SendText(ctx, client.InThread(g.thread), "the last")
	if err != nil {
		return res, 0, 0, err
	}
	// Members on both nodes have received it, so the victim would have too.
	if err := g.await(ctx, last.MessageID, ownerHere, thirdThere); err != nil {
		return res, 0, 0, err
	}
	for _, i := range []int{victimThere, victimHere} {
		if _, err := g.conns[i].Group(ctx, g.thread); err != nil { // the answer comes after all earlier pushes
			return res, 0, 0, err
		}
		for _, seq := range g.logs[i].take(g.thread) {
			if seq > removed {
				after++
			} else {
				before++
			}
		}
	}
	if _, err := owner.Invite(ctx, g.thread, g.victim); err != nil {
		return res, before, after, err
	}
	invited, err := g.changed(ctx)
	if err == nil {
		err = g.await(ctx, invited, victimThere, victimHere)
	}
	return res, before, after, err
}
