package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"parley/client"
)

// transcript prints what is said in conversations.
type transcript struct {
	*shared
	directory     *directory
	conversations *conversations

	times map[textKey]time.Time // of texts that the session brought; owned by talk.show

	mu    sync.Mutex      // guards the following
	shown map[int64]int64 // thread -> id of the first text shown of it, for a person
}

func newTranscript(sh *shared, d *directory, c *conversations) *transcript {
	return &transcript{shared: sh, directory: d, conversations: c, times: make(map[textKey]time.Time), shown: make(map[int64]int64)}
}

// message prints a text or an event. own marks one that was sent here, and is stored.
func (t *transcript) message(m client.Message, own bool) {
	group := t.directory.groupName(m.ThreadID)
	if m.Event != nil {
		t.print.event(group, t.sentence(m.Event), m)
		return
	}
	switch {
	case m.Hidden:
		return
	case m.Kind == client.KindRecall, m.Kind == client.KindEdit:
		t.change(m)
		return
	case m.Kind != client.KindText:
		return // of a newer server
	}
	name := t.directory.name(m.Sender)
	if group != "" {
		name += " (" + group + ")"
	}
	if own {
		t.print.stored(name, m)
	} else {
		t.print.text(name, m)
	}
}

// change prints a recall or an edit as a sentence.
func (t *transcript) change(m client.Message) {
	where := ""
	if group := t.directory.groupName(m.ThreadID); group != "" {
		where = " in " + printable(group)
	}
	who, whose := printable(t.directory.name(m.Sender)), fmt.Sprintf("text %d", m.Target)
	if at, ok := t.times[textKey{m.ThreadID, m.Target}]; ok {
		whose = "the text of " + t.print.clock(at)
	}
	switch {
	case m.Kind == client.KindRecall:
		t.print.notice("[%s] %s recalled %s%s", t.print.clock(m.Time), who, whose, where)
	case m.Edited.IsZero():
		t.print.notice("[%s] %s edited %s%s; it cannot be read any more", t.print.clock(m.Time), who, whose, where)
	default:
		t.print.notice("[%s] %s edited %s%s: %s", t.print.clock(m.Time), who, whose, where, printable(m.Text))
	}
}

// textKey names a text.
type textKey struct{ thread, id int64 }

// maxTimes is of how many texts that the session brought the time is remembered.
const maxTimes = 10000

// noteTime remembers when a text was stored, by which a later recall or edit names it.
func (t *transcript) noteTime(m client.Message) {
	if len(t.times) >= maxTimes {
		clear(t.times)
	}
	t.times[textKey{m.ThreadID, m.ID}] = m.Time
}

// showsFrom notes that a thread is shown from a message on, unless it was shown before: then it returns from which message on.
func (t *transcript) showsFrom(thread, id int64) (first int64, before bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if first, before = t.shown[thread]; !before {
		t.shown[thread] = id
	}
	return first, before
}

// history prints the last n texts with whom we talk to.
func (t *transcript) history(ctx context.Context, arg string) error {
	n := int64(20)
	if arg != "" {
		var err error
		if n, err = strconv.ParseInt(arg, 10, 32); err != nil || n < 1 {
			return errors.New("usage: /history N")
		}
	}
	th, ok, err := t.conversations.current(ctx)
	if err != nil || !ok {
		return err
	}
	return t.past(ctx, th.ID, th.LastID-n, math.MaxInt64)
}

// recentTexts is how many texts a person is shown of a conversation that was not seen before.
const recentTexts = 20

// recent prints the last texts with whom we talk to, up to those that were shown already.
func (t *transcript) recent(ctx context.Context) error {
	th, ok, err := t.conversations.current(ctx)
	if err != nil || !ok {
		return err
	}
	first, before := t.showsFrom(th.ID, 1) // all of it is, from now on
	if !before {
		first = th.LastID + 1
	}
	return t.past(ctx, th.ID, first-1-recentTexts, first-1)
}

// past prints the texts of a thread after one number up to another.
func (t *transcript) past(ctx context.Context, thread, after, last int64) error {
	for m, err := range t.s.Messages(ctx, thread, max(0, after)) {
		if err != nil {
			return err
		}
		if m.ID > last {
			return nil
		}
		if m.Kind == client.KindText || m.Kind == client.KindEvent { // the texts are as they are now
			t.message(m, false)
		}
	}
	return nil
}
