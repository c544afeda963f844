//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/client"
)

// groupUser is a user of G1: a session, and a plain connection to another node that shows what is really pushed.
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
	member  map[int64]bool // according to the rows received; a group without an entry was never joined
	acked   map[int64]map[string]int64
	marks   map[int64]*marked
	refused int64
	unknown int64
}

func (l *Lab) groupUser(ctx context.Context, uid int32, node int, all *lives) (*groupUser, error) {
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
		marks: make(map[int64]*marked),
	}
	u.wg.Go(func() { u.read(run) })
	u.wg.Go(func() { u.answers(run, all) })
	u.watch, err = l.dial(ctx, uid, (node+1)%len(l.Chat), client.Options{Device: "watch", OnEvent: u.pushed.event})
	if err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

// groupSync is how often the sessions of G1 look for rows whose push was lost with a node. A removed user needs it,
// because no later push shows the hole.
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

// answers enters the answers to texts.
func (u *groupUser) answers(ctx context.Context, all *lives) {
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
				all.add(&textLife{id: sent.UniqueID, thread: sent.ThreadID, seq: sent.MessageID, author: u})
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

// in reports whether the user is a member as far as it was told, and whether it ever was.
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

// groupCrowd is the users of G1; user i owns group i.
type groupCrowd struct {
	w       *World
	users   []*groupUser
	threads []int64
	links   []string
	lives   *lives

	refused, unclear atomic.Int64 // changes
}

// changers is how many at a time edit, recall and mark.
const changers = 6

// groupChurn implements bar G1.
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
	for i := range changers {
		rng := rand.New(rand.NewPCG(w.Rand.Uint64(), uint64(1000+i)))
		churn.Go(func() { c.change(cctx, rng) })
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

// groupCrowd logs users in and has the first ones create groups, each with half of the others.
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
	if _, err := l.store.Seed.Friends(ctx, friends); err != nil {
		return nil, err
	}
	c := &groupCrowd{w: l.w, users: make([]*groupUser, users), lives: &lives{all: make(map[string]*textLife)}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	err = each(users, 16, func(i int) (err error) {
		c.users[i], err = l.groupUser(ctx, first+int32(i), i%len(l.Chat), c.lives)
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

// talk posts texts: nine of ten by members, the rest by former members.
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
		posted, err := u.Post(ctx, client.InThread(thread), client.Draft{UniqueID: id, Text: textOf(id, 0)})
		if err != nil {
			continue // verdict counts the texts
		}
		select {
		case u.posted <- posted:
		case <-ctx.Done():
		}
	}
}

// churn changes one group until ctx ends. A user returns only after it was told that it had left, because rows of an
// earlier membership cannot be read later. So a user is left alone if the outcome of its change is unknown.
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
		// Do not cancel changes when ctx ends, so that their outcome is known.
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
			c.refused.Add(1) // the user was not a member any more, or already is one
		default:
			c.unclear.Add(1)
			unclear[u.uid] = true
			c.w.Logf("group %d, user %d: %v", thread, u.uid, err)
		}
	}
}

// verdict waits until everything is answered and delivered, and then reports the figures.
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
			// On an error rows are missing, and the figures show that too.
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
			f.judgeView(thread, rows[thread], u.uid, u.got[thread])
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
	elsewhere, err := c.pages(ctx, l)
	if err != nil {
		return err
	}
	f.judgeLives(rows, c.lives.all, func(head string) bool {
		return slices.ContainsFunc(elsewhere, func(s string) bool { return strings.Contains(s, head) })
	})
	r.Note("texts", texts)
	r.Note("acked", acked)
	r.Note("refused", refused)
	r.Note("changes refused", c.refused.Load())
	r.Note("changes of unknown outcome", c.unclear.Load())
	r.Zero("users with unanswered texts", stuck.Load())
	r.Zero("texts of unknown outcome", unknown)
	f.report(r)
	r.Zero("pushed outside a membership", strays)
	r.Note("edits and recalls answered", fmt.Sprintf("%d and %d", c.lives.edits.Load(), c.lives.recalls.Load()))
	r.Note("edits, recalls and marks refused", c.lives.refused.Load())
	r.Note("of unknown outcome", c.lives.unclear.Load())
	AtMost(r, "all there", took, 45*time.Second)
	return c.judgeMarks(ctx, l, r)
}

// pages returns all that the owners of the groups are shown of them now, and all values in Redis.
func (c *groupCrowd) pages(ctx context.Context, l *Lab) (all []string, err error) {
	for i, thread := range c.threads {
		for m, err := range c.users[i].Messages(ctx, thread, 0) {
			if err != nil {
				return nil, err
			}
			all = append(all, m.Text)
		}
	}
	words, err := l.dump(ctx)
	return append(all, words...), err
}
