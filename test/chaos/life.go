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
	"parley/internal/store"
)

// textOf is the content of a text of G1 in one of its versions: 0 is as it was sent, the others are edits.
func textOf(id string, version int) string { return fmt.Sprintf("%s%d.", textHead(id), version) }

// textHead is what no other text has.
func textHead(id string) string { return "text " + id + " version " }

// versionOf is the inverse of textOf, -1 for something else.
func versionOf(id, content string) int {
	v := -1
	if _, err := fmt.Sscanf(strings.TrimPrefix(content, textHead(id)), "%d.", &v); err != nil || textOf(id, v) != content {
		return -1
	}
	return v
}

// textLife is what was asked for and answered about a text. It is changed by one goroutine at a time, which has taken it.
type textLife struct {
	id          string
	thread, seq int64
	author      *groupUser

	asked, edited       int // the newest version asked for, and answered
	recalling, recalled bool
	unclear             bool // what became of a change; there are no more
}

// lives are the texts that may be edited and recalled. It is safe for concurrent use.
type lives struct {
	mu   sync.Mutex // guards the following
	all  map[string]*textLife
	free []*textLife // young ones that nobody has taken

	edits, recalls, marks, refused, unclear, backwards atomic.Int64
}

// young is how many texts are changed; older ones are not.
const young = 400

func (l *lives) add(t *textLife) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[t.id] = t
	if l.free = append(l.free, t); len(l.free) > young {
		l.free = slices.Delete(l.free, 0, 1)
	}
}

// take returns a text for the caller alone, nil if there is none.
func (l *lives) take(rng *rand.Rand) *textLife {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) == 0 {
		return nil
	}
	i := rng.IntN(len(l.free))
	t := l.free[i]
	l.free = slices.Delete(l.free, i, i+1)
	return t
}

func (l *lives) put(t *textLife) {
	if t.recalled || t.unclear {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, t)
}

// change edits, recalls and marks until ctx ends.
func (c *groupCrowd) change(ctx context.Context, rng *rand.Rand) {
	for {
		pause(ctx, time.Duration(20+rng.IntN(60))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		// Changes go on when ctx ends, so that their outcome is known.
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		if rng.IntN(2) == 0 {
			c.mark(cctx, rng)
		} else if t := c.lives.take(rng); t != nil {
			c.alter(cctx, t, rng)
			c.lives.put(t)
		}
		cancel()
	}
}

// alter edits a text, or has its author or the owner of the group recall it.
func (c *groupCrowd) alter(ctx context.Context, t *textLife, rng *rand.Rand) {
	var err error
	roll := rng.IntN(10)
	if roll < 5 {
		t.asked++
		if err = t.author.Edit(ctx, t.thread, t.seq, textOf(t.id, t.asked)); err == nil {
			t.edited = t.asked
			c.lives.edits.Add(1)
		}
	} else {
		by := t.author
		if roll == 9 {
			by = c.users[slices.Index(c.threads, t.thread)]
		}
		t.recalling = true
		if err = by.Recall(ctx, t.thread, t.seq); err == nil {
			t.recalled = true
			c.lives.recalls.Add(1)
		}
	}
	c.outcome(err, "change of text "+t.id, func() { t.unclear = true })
}

// outcome counts an error that says no, and calls unclear for one that says nothing.
func (c *groupCrowd) outcome(err error, what string, unclear func()) {
	switch {
	case err == nil:
	case client.CodeOf(err) == client.CodeNotAllowed: // the user has left, or is muted
		c.lives.refused.Add(1)
	default:
		c.lives.unclear.Add(1)
		c.w.Logf("%s: %v", what, err)
		unclear()
	}
}

// marked is how far a user was asked to be marked as having read, and was answered to be.
type marked struct{ asked, answered int64 }

// mark marks a row as read from one of a user's two devices. The answer must be no less than one that was there before.
func (c *groupCrowd) mark(ctx context.Context, rng *rand.Rand) {
	u, thread := c.users[rng.IntN(len(c.users))], c.threads[rng.IntN(len(c.threads))]
	u.mu.Lock()
	got := u.got[thread]
	if len(got) == 0 {
		u.mu.Unlock()
		return
	}
	seq := got[rng.IntN(len(got))].ID
	of := u.marks[thread]
	if of == nil {
		of = new(marked)
		u.marks[thread] = of
	}
	of.asked = max(of.asked, seq)
	before := of.answered
	u.mu.Unlock()

	var m client.Mark
	var err error
	if rng.IntN(2) == 0 && u.watch.Err() == nil {
		if m, err = u.watch.Mark(ctx, thread, seq, 0); u.watch.Err() != nil {
			return // its node was killed
		}
	} else {
		m, err = u.Mark(ctx, thread, seq)
	}
	c.outcome(err, fmt.Sprintf("mark of user %d", u.uid), func() {})
	if err != nil {
		return
	}
	c.lives.marks.Add(1)
	if m.Read < max(before, seq) {
		c.lives.backwards.Add(1)
		c.w.Logf("group %d: user %d marked row %d, %d was answered before, and %d now", thread, u.uid, seq, before, m.Read)
	}
	u.mu.Lock()
	of.answered = max(of.answered, m.Read)
	u.mu.Unlock()
}

// judgeMarks compares the marks that two devices of each user are told with each other and with what was answered.
func (c *groupCrowd) judgeMarks(ctx context.Context, l *Lab, r *Report) error {
	var differ, wrong atomic.Int64
	err := each(len(c.users), 8, func(i int) error {
		u := c.users[i]
		second, err := l.dial(ctx, u.uid, (i+1)%len(l.Chat), client.Options{Device: "second"})
		if err != nil {
			return err
		}
		defer second.Close()
		var a, b map[int64]client.ThreadMarks
		// A session marks by itself, once per second, what it has received.
		if err := until(ctx, 30*time.Second, "two devices know the same marks", func() (bool, error) {
			var err error
			if a, err = marksOf(u.Threads(ctx)); err == nil {
				b, err = marksOf(second.Threads(ctx))
			}
			return err == nil && len(a) > 0 && equalMarks(a, b), err
		}); err != nil {
			differ.Add(1)
			c.w.Logf("user %d: %v: %v and %v", u.uid, err, a, b)
		}
		for thread, m := range a {
			of := u.marks[thread]
			if of == nil {
				of = new(marked)
			}
			if m.Read < of.answered || m.Read > of.asked {
				wrong.Add(1)
				c.w.Logf("group %d: user %d has read up to %d; asked for was %d, answered %d", thread, u.uid, m.Read, of.asked, of.answered)
			}
		}
		return nil
	})
	r.Note("marks", c.lives.marks.Load())
	r.Zero("marks that moved back", c.lives.backwards.Load())
	r.Zero("users whose devices know other marks", differ.Load())
	r.Zero("marks lost or made up", wrong.Load())
	return err
}

func marksOf(list []client.Thread, err error) (map[int64]client.ThreadMarks, error) {
	marks := make(map[int64]client.ThreadMarks, len(list))
	for _, th := range list {
		if !th.Private {
			marks[th.ID] = th.ThreadMarks
		}
	}
	return marks, err
}

func equalMarks(a, b map[int64]client.ThreadMarks) bool {
	for thread, m := range a {
		if b[thread] != m {
			return false
		}
	}
	return len(a) == len(b)
}

// judgeLives compares texts with what was asked for and answered about them. found says whether a content that nobody may have any
// more is in a page or in Redis.
func (f *groupFaults) judgeLives(rows map[int64][]groupRow, all map[string]*textLife, found func(head string) bool) {
	at := make(map[string]*groupRow)
	for _, list := range rows {
		for i := range list {
			at[list[i].id] = &list[i]
		}
	}
	for id, t := range all {
		row := at[id]
		if row == nil {
			continue // lost, as judgeStored says
		}
		v := versionOf(id, row.content)
		switch {
		case row.status == store.StatusRecalled:
			f.recalled++
			if !t.recalling || row.content != "" {
				f.note(&f.kept, "text %s is recalled: %+v, %+v", id, t, row)
			}
			elsewhere := found(textHead(id))
			for _, list := range rows {
				elsewhere = elsewhere || slices.ContainsFunc(list, func(r groupRow) bool { return strings.Contains(r.content, textHead(id)) })
			}
			if elsewhere {
				f.note(&f.leaked, "text %s was recalled, and its content is somewhere", id)
			}
		case t.recalled:
			f.note(&f.kept, "text %s was recalled and is %+v", id, row)
		case v < t.edited || v > t.asked:
			f.note(&f.unedited, "text %s has version %d; asked for was %d, answered %d", id, v, t.asked, t.edited)
		}
	}
}

// judgeView applies the changes that a user got to the texts that it got, and compares with what is stored, where the text and all
// its changes are of one time in the group: who comes back may not read what was before, and is not told how it was edited.
func (f *groupFaults) judgeView(thread int64, rows []groupRow, uid int32, got []client.Message) {
	times := intervals(rows, uid)
	elsewhere := make(map[int64]bool) // texts with a change in another time, or in none
	for i := range rows {
		if t := rows[i].target; t > 0 && !slices.ContainsFunc(times, func(at interval) bool { return at.has(t) && at.has(rows[i].seq) }) {
			elsewhere[t] = true
		}
	}
	type view struct {
		text     string
		recalled bool
	}
	shown := make(map[int64]view)
	for _, m := range got {
		switch m.Kind {
		case client.KindText:
			shown[m.ID] = view{m.Text, m.Recalled}
		case client.KindRecall:
			shown[m.Target] = view{recalled: true}
		case client.KindEdit:
			if !m.Edited.IsZero() && !shown[m.Target].recalled {
				shown[m.Target] = view{text: m.Text}
			}
		}
	}
	for i := range rows {
		row := &rows[i]
		if row.kind != store.KindText || row.changed == 0 || !within(times, row.seq) || elsewhere[row.seq] {
			continue
		}
		if want := (view{row.content, row.status == store.StatusRecalled}); shown[row.seq] != want {
			f.note(&f.views, "group %d: user %d has text %d as %+v, stored is %+v", thread, uid, row.seq, shown[row.seq], want)
		}
	}
}
