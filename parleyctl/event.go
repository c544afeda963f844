package main

import (
	"context"
	"errors"
	"time"

	"parley/client"
)

// saveEvery is how often a changed state is written while texts come.
const saveEvery = time.Second

// show prints what the session brings until it ends, and keeps the state file current.
func (t *talk) show() {
	saved, dirty := time.Now(), true
	for {
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		if dirty && t.cmd.State != "" {
			ctx, cancel = context.WithDeadline(ctx, saved.Add(saveEvery))
		}
		ev, err := t.s.Next(ctx)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			if err := saveState(t.cmd.State, t.cmd.Gate, t.cmd.Email, t.s.Data(), t.s.Cursors()); err != nil {
				t.fail(err)
			}
			saved, dirty = time.Now(), false
			continue
		case err != nil:
			return
		}
		_, isTexts := ev.(client.Texts)
		dirty = dirty || isTexts
		t.event(ev)
	}
}

// event prints what an event says, and has the parts follow it.
func (t *talk) event(ev client.Event) {
	switch ev := ev.(type) {
	case client.Texts:
		for _, m := range ev.Messages {
			own := t.outbox.arrived(m)
			t.transcript.noteTime(m)
			t.reading.note(m)
			t.typing.heard(m)
			if own && !t.cmd.Echo {
				continue
			}
			t.transcript.showsFrom(ev.ThreadID, m.ID)
			t.transcript.message(m, own && t.person)
			t.groups.follow(m)
		}
	case client.Applied:
		t.friends.applied(ev.Application)
	case client.Approved:
		t.friends.befriended(ev.Friend.Name)
	case client.Online:
		t.presence.online(ev)
	case client.Typing:
		t.typing.show(ev)
	case client.FriendsChanged:
		t.friends.changed(ev)
	case client.Hidden:
		t.print.notice("another of your devices deleted %s for you", count(len(ev.IDs), "text"))
	case client.MarksMoved:
		t.reading.moved(ev)
	case client.Disconnected:
		if t.s.Err() == nil && !errors.Is(ev.Err, client.ErrLoggedOut) {
			t.print.notice("connection lost: %s; next attempt in %v", explain(ev.Err), ev.Retry.Round(time.Millisecond))
		}
	case client.Connected:
		if t.connected { // greet told of the first
			t.print.notice("connected again%s", onNode(ev.Node))
		}
		t.connected = true
	case client.DataReplaced:
		t.replaced(ev)
	case client.CaughtUp:
		t.outbox.caughtUp()
	}
	t.outbox.shown()
}

// replaced tells that the conversations are not what they were. Own texts that were not seen in them yet may never come.
func (t *talk) replaced(ev client.DataReplaced) {
	if ev.ThreadID == 0 {
		t.print.notice("the server's data was replaced; what it holds now follows")
	} else {
		t.print.notice("the server's data was set back: conversation %d ends at text %d now", ev.ThreadID, ev.LastID)
	}
	t.outbox.forget()
	t.directory.forgetGroups()
	t.reading.forget()
}
