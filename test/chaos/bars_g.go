//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/lab/launch"
	"parley/test/rights"
)

// groupBars: each member of a group has the rows of its membership, and nobody else has any.
var groupBars = []Bar{
	{
		ID: "G1", Run: groupChurn, Limit: 10 * time.Minute,
		Fault: "20,000 texts into 5 groups of 40 users who join by link, are invited, leave, are removed, muted and unmuted; one of three nodes killed with SIGKILL, another paused for 15 s",
		Want:  "each user has the rows from its joining to its leaving, once and in order, and is pushed no other; acknowledged and lost 0; texts of non-members and muted members stored 0",
	},
	{
		ID: "G2", Run: removalRaces, Limit: 20 * time.Minute,
		Fault: "a member removed from a group while it sends without pause from another node, and others send, 10,000 times",
		Want:  "its texts stored after the removal 0, those sent after its answer and acknowledged 0; later rows pushed to its connections 0",
	},
	{
		ID: "G3", Run: loginsIntoStream, Limit: 10 * time.Minute,
		Fault: "a member logs in on a random node at a random moment of a stream of texts from two nodes, 2,000 times",
		Want:  "texts missed, doubled or reordered 0; all there within 5 s of the last (judged at 15 s), by push or sync",
	},
}

// unlimited takes the limits of users away.
func unlimited(n *launch.Node, _ int, f *launch.INI) error {
	if n.Role() != launch.Chat {
		return nil
	}
	f.Set("Limits", "TextRate", "0")
	f.Set("Limits", "RequestRate", "0")
	return nil
}

// groupUser is a user of G1: a session, and a plain connection on another node that shows what is really pushed.
type groupUser struct {
	uid int32
	*client.Session
	watch  *client.Conn
	pushed *pushLog
	posted chan *client.Posted
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards the following
	got     map[int64][]client.Message
	member  map[int64]bool // as the rows that were got say; a group without an entry was never joined
	acked   map[int64]map[string]int64
	refused int64
	unknown int64
}

func (l *Lab) groupUser(ctx context.Context, uid int32, node int) (*groupUser, error) {
	t, err := l.ticket(ctx, uid, node)
	if err != nil {
		return nil, err
	}
	s, err := client.Open(ctx, client.SessionOptions{
		Ticket: t, Nodes: l.clientAddrs(), Gate: l.gate, Email: email(uid), Password: password(uid), SyncEvery: groupSync,
	})
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	u := &groupUser{
		uid: uid, Session: s, pushed: newPushLog(), posted: make(chan *client.Posted, 4096), stop: stop,
		got: make(map[int64][]client.Message), member: make(map[int64]bool), acked: make(map[int64]map[string]int64),
	}
	u.wg.Go(func() { u.read(run) })
	u.wg.Go(func() { u.answers(run) })
	u.watch, err = l.dial(ctx, uid, (node+1)%len(l.Chat), client.Options{Device: "watch", OnEvent: u.pushed.event})
	if err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

// groupSync is how often the sessions of G1 look for rows whose push was lost with a node: a user who was removed gets no
// later push that would show the hole.
const groupSync = 15 * time.Second

func (u *groupUser) read(ctx context.Context) {
	for {
		ev, err := u.Next(ctx)
		if err != nil {
			return
		}
		texts, ok := ev.(client.Texts)
		if !ok {
			continue
		}
		u.mu.Lock()
		for _, m := range texts.Messages {
			u.got[m.ThreadID] = append(u.got[m.ThreadID], m)
			if e := m.Event; e != nil {
				switch {
				case admits(string(e.What), e.By, e.UIDs, u.uid):
					u.member[m.ThreadID] = true
				case parts(string(e.What), e.By, e.UIDs, u.uid):
					u.member[m.ThreadID] = false
				}
			}
		}
		u.mu.Unlock()
	}
}

func (u *groupUser) answers(ctx context.Context) {
	for {
		select {
		case posted := <-u.posted:
			sent, err := posted.Wait(ctx)
			u.mu.Lock()
			switch {
			case err == nil:
				if u.acked[sent.ThreadID] == nil {
					u.acked[sent.ThreadID] = make(map[string]int64)
				}
				u.acked[sent.ThreadID][sent.UniqueID] = sent.MessageID
			case client.CodeOf(err) != client.CodeOK:
				u.refused++
			default:
				u.unknown++
			}
			u.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// in says whether the user is a member, as far as it was told, and whether it ever was.
func (u *groupUser) in(thread int64) (member, ever bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	member, ever = u.member[thread]
	return member, ever
}

func (u *groupUser) count(thread int64) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.got[thread])
}

func (u *groupUser) close() {
	u.Session.Close()
	if u.watch != nil {
		u.watch.Close()
		<-u.watch.Done()
	}
	u.stop()
	u.wg.Wait()
}

// groupCrowd is what G1 runs: user i owns group i.
type groupCrowd struct {
	w       *World
	users   []*groupUser
	threads []int64
	links   []string

	refused, unclear atomic.Int64 // changes
}

// groupChurn is G1.
func groupChurn(ctx context.Context, w *World, r *Report) error {
	layout := standard
	layout.Configure = unlimited
	l, err := w.Start(ctx, layout)
	if err != nil {
		return err
	}
	c, err := l.groupCrowd(ctx, w.N(40, 16), 5)
	if err != nil {
		return err
	}
	defer c.close()

	texts, rate := w.N(20_000, 1_500), float64(w.N(250, 100))
	long := time.Duration(float64(texts) / rate * float64(time.Second))
	cctx, hush := context.WithCancel(ctx)
	defer hush()
	var churn, talk sync.WaitGroup
	for g := range c.threads {
		rng := rand.New(rand.NewPCG(w.Rand.Uint64(), uint64(g)))
		churn.Go(func() { c.churn(cctx, g, rng) })
	}
	rng := rand.New(rand.NewPCG(w.Rand.Uint64(), 99))
	talk.Go(func() { c.talk(ctx, texts, rate, rng) })

	dead := w.Rand.IntN(len(l.Chat))
	pause(ctx, long/5)
	w.Logf("kill %s", l.Chat[dead].Name())
	if err = l.Chat[dead].Kill(); err == nil {
		pause(ctx, 2*time.Second)
		err = l.Chat[dead].Start(ctx)
	}
	if err == nil {
		pause(ctx, long/5)
		paused := l.Chat[(dead+1)%len(l.Chat)]
		w.Logf("pause %s", paused.Name())
		if err = paused.Pause(); err == nil {
			pause(ctx, w.D(15*time.Second, 3*time.Second))
			err = paused.Resume()
		}
	}
	talk.Wait()
	hush()
	churn.Wait()
	if err != nil {
		return err
	}
	return c.verdict(ctx, l, r, texts)
}

// groupCrowd logs users in and has the first of them make groups of half of the others each.
func (l *Lab) groupCrowd(ctx context.Context, users, groups int) (_ *groupCrowd, err error) {
	first, err := l.users(ctx, users)
	if err != nil {
		return nil, err
	}
	var friends [][2]int32
	for i := range groups {
		for k := i + 1; k < users; k++ {
			friends = append(friends, [2]int32{first + int32(i), first + int32(k)})
		}
	}
	if _, err := l.store.SeedFriends(ctx, friends); err != nil {
		return nil, err
	}
	c := &groupCrowd{w: l.w, users: make([]*groupUser, users)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	err = each(users, 16, func(i int) (err error) {
		c.users[i], err = l.groupUser(ctx, first+int32(i), i%len(l.Chat))
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range groups {
		d := client.GroupDraft{Name: fmt.Sprintf("group %d", i)}
		for k := range users {
			if k != i && (k+i)%2 == 0 {
				d.Members = append(d.Members, first+int32(k))
			}
		}
		made, err := c.users[i].CreateGroup(ctx, d)
		if err != nil {
			return nil, err
		}
		link, err := c.users[i].CreateLink(ctx, made.ThreadID, time.Hour, 10_000)
		if err != nil {
			return nil, err
		}
		c.threads, c.links = append(c.threads, made.ThreadID), append(c.links, link.Code)
	}
	return c, nil
}

func (c *groupCrowd) close() {
	_ = each(len(c.users), len(c.users), func(i int) error {
		if c.users[i] != nil {
			c.users[i].close()
		}
		return nil
	})
}

// talk posts texts: nine of ten by members, the others by users who were members once.
func (c *groupCrowd) talk(ctx context.Context, n int, rate float64, rng *rand.Rand) {
	begin := time.Now()
	for i := 0; i < n && ctx.Err() == nil; {
		pause(ctx, time.Until(begin.Add(time.Duration(float64(i)/rate*float64(time.Second)))))
		u, thread := c.users[rng.IntN(len(c.users))], c.threads[rng.IntN(len(c.threads))]
		if member, ever := u.in(thread); !ever || !member && rng.IntN(10) > 0 {
			continue
		}
		i++
		id := fmt.Sprintf("g1-%d-%d", u.uid, i)
		posted, err := u.Post(ctx, client.InThread(thread), client.Draft{UniqueID: id, Text: "text " + id})
		if err != nil {
			continue // the verdict counts texts
		}
		select {
		case u.posted <- posted:
		case <-ctx.Done():
		}
	}
}

// churn changes one group until ctx ends. A user comes back only after it was told that it had left: what is not read of an
// earlier membership cannot be read later. So a user of whom it is not known what happened is left alone.
func (c *groupCrowd) churn(ctx context.Context, group int, rng *rand.Rand) {
	owner, thread := c.users[group], c.threads[group]
	removed, unclear := make(map[int32]bool), make(map[int32]bool)
	for {
		pause(ctx, time.Duration(20+rng.IntN(60))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		u := c.users[rng.IntN(len(c.users))]
		if u == owner || unclear[u.uid] {
			continue
		}
		member, _ := u.in(thread)
		// Changes go on when ctx ends, so that their outcome is known.
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		var err error
		switch roll := rng.IntN(10); {
		case !member && (removed[u.uid] || roll < 5):
			if _, err = owner.Invite(cctx, thread, u.uid); err == nil {
				delete(removed, u.uid)
			}
		case !member:
			_, _, err = u.JoinByLink(cctx, c.links[group])
		case roll < 2:
			err = u.LeaveGroup(cctx, thread)
		case roll < 4:
			removed[u.uid] = true
			err = owner.RemoveMember(cctx, thread, u.uid)
		case roll < 5:
			err = owner.MuteMember(cctx, thread, u.uid, time.Now().Add(time.Hour))
		default:
			err = owner.MuteMember(cctx, thread, u.uid, time.Time{})
		}
		cancel()
		switch {
		case err == nil:
		case client.CodeOf(err) == client.CodeNotAllowed:
			c.refused.Add(1) // it was no member any more, or is one already
		default:
			c.unclear.Add(1)
			unclear[u.uid] = true
			c.w.Logf("group %d, user %d: %v", thread, u.uid, err)
		}
	}
}

// verdict waits until all is answered and delivered, and judges.
func (c *groupCrowd) verdict(ctx context.Context, l *Lab, r *Report, texts int) error {
	var stuck atomic.Int64
	fctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_ = each(len(c.users), len(c.users), func(i int) error {
		u := c.users[i]
		if u.Flush(fctx) != nil || until(fctx, time.Minute, "answers are entered", func() (bool, error) { return len(u.posted) == 0, nil }) != nil {
			stuck.Add(1)
		}
		return nil
	})
	pause(ctx, 50*time.Millisecond)
	rows := make(map[int64][]groupRow)
	for _, thread := range c.threads {
		var err error
		if rows[thread], err = l.readGroup(ctx, thread); err != nil {
			return err
		}
	}
	expected := func(u *groupUser, thread int64) (n int) {
		times := intervals(rows[thread], u.uid)
		for _, row := range rows[thread] {
			if within(times, row.seq) {
				n++
			}
		}
		return n
	}
	begin := time.Now()
	for _, u := range c.users {
		for _, thread := range c.threads {
			want := expected(u, thread)
			// An error says that rows are missing; so do the figures.
			_ = until(ctx, time.Until(begin.Add(time.Minute)), "all rows came", func() (bool, error) { return u.count(thread) >= want, nil })
		}
	}
	took := time.Since(begin)

	f := &groupFaults{log: c.w.Logf}
	var acked, refused, unknown, strays int64
	for _, u := range c.users {
		u.mu.Lock()
		refused += u.refused
		unknown += u.unknown
	}
	for _, thread := range c.threads {
		all := make(map[string]int64)
		for _, u := range c.users {
			for id, seq := range u.acked[thread] {
				all[id] = seq
			}
		}
		acked += int64(len(all))
		f.judgeStored(thread, rows[thread], all)
		for _, u := range c.users {
			f.judgeMember(thread, rows[thread], u.uid, u.got[thread])
			times := intervals(rows[thread], u.uid)
			for _, seq := range u.pushed.take(thread) {
				if !within(times, seq) {
					strays++
					c.w.Logf("group %d: user %d was pushed row %d, its times are %v", thread, u.uid, seq, times)
				}
			}
		}
	}
	for _, u := range c.users {
		u.mu.Unlock()
	}
	r.Note("texts", texts)
	r.Note("acked", acked)
	r.Note("refused", refused)
	r.Note("changes refused", c.refused.Load())
	r.Note("changes of unknown outcome", c.unclear.Load())
	r.Zero("users with unanswered texts", stuck.Load())
	r.Zero("texts of unknown outcome", unknown)
	f.report(r)
	r.Zero("pushed outside a membership", strays)
	AtMost(r, "all there", took, 45*time.Second)
	return nil
}

// removalRaces is G2. Bar V7 runs it too, with nodes that ignore membership in two ways.
func removalRaces(ctx context.Context, w *World, r *Report) error {
	return removalRacesOn(ctx, w, r, Layout{Chat: 2}, w.N(10_000, 304))
}

// linked waits until each chat node knows the others. Until then a login does not tell them that a user has another device,
// and they do not look for it.
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

// removalRaceGroups is how many races run at a time.
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

// removal is a group of three: owner, the user who is removed again and again, and a third, who goes on sending.
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
	if _, err := l.store.SeedFriends(ctx, [][2]int32{{first, first + 1}, {first, first + 2}}); err != nil {
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

// await waits until connections were pushed a row or a later one.
func (g *removal) await(ctx context.Context, seq int64, conns ...int) error {
	for _, i := range conns {
		what := fmt.Sprintf("connection %d has row %d of group %d", i, seq, g.thread)
		if err := until(ctx, 20*time.Second, what, func() (bool, error) { return g.logs[i].reached(g.thread, seq), g.conns[i].Err() }); err != nil {
			return err
		}
	}
	return nil
}

// changed returns the number of the event that changed the membership last.
func (g *removal) changed(ctx context.Context) (seq int64, err error) {
	err = g.l.db.QueryRowContext(ctx, "SELECT last_seq FROM membership_change WHERE thread_id = ? ORDER BY ver DESC LIMIT 1", g.thread).Scan(&seq)
	return seq, err
}

// race removes the victim while it and the third send, and takes it in again. before and after count what was pushed to
// the victim's connections, after being what it must not get.
func (g *removal) race(ctx context.Context) (res rights.Result, before, after int64, err error) {
	owner, third := g.conns[ownerHere], g.conns[thirdHere]
	rctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var failed error // the third's, once wg has been waited for
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
	// Members on both nodes have it: so would the victim.
	if err := g.await(ctx, last.MessageID, ownerHere, thirdThere); err != nil {
		return res, 0, 0, err
	}
	for _, i := range []int{victimThere, victimHere} {
		if _, err := g.conns[i].Group(ctx, g.thread); err != nil { // the answer comes after what was pushed
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

// loginsIntoStream is G3.
func loginsIntoStream(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 3, Configure: unlimited})
	if err != nil {
		return err
	}
	const groups = 4
	first, err := l.users(ctx, 3*groups)
	if err != nil {
		return err
	}
	seeds := make([]uint64, groups)
	for i := range seeds {
		seeds[i] = w.Rand.Uint64()
	}
	trials := w.N(2_000, 60) / groups
	var sum streamFaults
	var mu sync.Mutex // guards sum
	var slowest widest
	err = each(groups, groups, func(i int) error {
		s, err := l.newStream(ctx, first+int32(3*i), seeds[i])
		defer s.close()
		for n := 0; err == nil && n < trials; n++ {
			var f streamFaults
			var took time.Duration
			f, took, err = s.trial(ctx, n%2 == 0)
			slowest.add(took)
			mu.Lock()
			sum.add(f)
			mu.Unlock()
		}
		return err
	})
	if err != nil {
		return err
	}
	r.Note("logins", trials*groups)
	r.Note("texts brought", sum.brought)
	r.Zero("missed", sum.missed)
	r.Zero("doubled or reordered", sum.again)
	AtMost(r, "all there", slowest.get(), 15*time.Second)
	return nil
}

// streamFaults counts what logins into a stream of texts brought, and what was wrong with it.
type streamFaults struct{ brought, missed, again int64 }

func (f *streamFaults) add(o streamFaults) {
	f.brought += o.brought
	f.missed += o.missed
	f.again += o.again
}

// stream is a group of three: two send from two nodes, the third logs in.
type stream struct {
	l       *Lab
	thread  int64
	member  int32
	senders []*client.Conn
	rng     *rand.Rand
	cursors []client.Cursor
}

func (l *Lab) newStream(ctx context.Context, first int32, seed uint64) (*stream, error) {
	s := &stream{l: l, member: first + 2, rng: rand.New(rand.NewPCG(seed, 0)), cursors: []client.Cursor{}}
	if _, err := l.store.SeedFriends(ctx, [][2]int32{{first, first + 1}, {first, first + 2}}); err != nil {
		return s, err
	}
	for i := range 2 {
		c, err := l.dial(ctx, first+int32(i), i, client.Options{OnEvent: func(client.Event) {}})
		if err != nil {
			return s, err
		}
		s.senders = append(s.senders, c)
	}
	made, err := s.senders[0].CreateGroup(ctx, client.GroupDraft{Name: "stream", Members: []int32{first + 1, first + 2}})
	s.thread = made.ThreadID
	return s, err
}

func (s *stream) close() {
	for _, c := range s.senders {
		c.Close()
		<-c.Done()
	}
}

// trial has the member log in while the others send, and waits until it has all. With resume it goes on where it ended
// before; otherwise it begins at the present, and is owed what is sent once it is logged in.
func (s *stream) trial(ctx context.Context, resume bool) (f streamFaults, took time.Duration, err error) {
	rctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	last, failed := make([]int64, len(s.senders)), make([]error, len(s.senders))
	for i, c := range s.senders {
		wg.Go(func() {
			for rctx.Err() == nil && failed[i] == nil {
				var sent client.Sent
				sent, failed[i] = c.SendText(ctx, client.InThread(s.thread), "on and on")
				last[i] = max(last[i], sent.MessageID)
				pause(rctx, time.Millisecond)
			}
		})
	}
	end := func() error {
		stop()
		wg.Wait()
		return errors.Join(failed...)
	}
	pause(ctx, time.Duration(s.rng.IntN(50_000))*time.Microsecond)
	t, err := s.l.ticket(ctx, s.member, s.rng.IntN(len(s.l.Chat)))
	if err != nil {
		return f, 0, errors.Join(err, end())
	}
	o := client.SessionOptions{Ticket: t, SyncEvery: -1}
	next := int64(0) // the first that the member is owed
	if resume {
		o.Cursors, next = s.cursors, 1
		for _, c := range s.cursors {
			if c.ThreadID == s.thread {
				next = c.LastID + 1
			}
		}
	}
	m, err := client.Open(ctx, o)
	if err != nil {
		return f, 0, errors.Join(err, end())
	}
	defer m.Close()
	if !resume {
		sent, err := s.senders[0].SendText(ctx, client.InThread(s.thread), "from here on")
		if err != nil {
			return f, 0, errors.Join(err, end())
		}
		next = sent.MessageID
	}
	pause(ctx, time.Duration(s.rng.IntN(50_000))*time.Microsecond)
	if err := end(); err != nil {
		return f, 0, err
	}
	begin := time.Now()
	nctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	known := int64(0) // the row that came last
	for goal := max(last[0], last[1], next-1); known < goal; {
		ev, err := m.Next(nctx)
		if err != nil {
			if ctx.Err() != nil || nctx.Err() == nil {
				return f, 0, fmt.Errorf("user %d has row %d of %d: %w", s.member, known, goal, err)
			}
			s.l.w.Logf("group %d: the login did not bring rows %d to %d", s.thread, max(known+1, next), goal)
			f.missed += goal - max(known, next-1)
			break
		}
		texts, ok := ev.(client.Texts)
		if !ok || texts.ThreadID != s.thread {
			continue
		}
		for _, msg := range texts.Messages {
			f.brought++
			due := known + 1
			if known == 0 {
				due = next
			}
			switch {
			case msg.ID <= known || resume && msg.ID < next:
				f.again++
				s.l.w.Logf("group %d: row %d came after %d", s.thread, msg.ID, known)
			case msg.ID > due:
				f.missed += msg.ID - due
				s.l.w.Logf("group %d: row %d came where %d was due", s.thread, msg.ID, due)
			}
			known = max(known, msg.ID)
		}
	}
	s.cursors = m.Cursors()
	return f, time.Since(begin), nil
}
