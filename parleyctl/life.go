package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"parley/client"
)

// pickFrom is how many of the last messages of a conversation /recall, /edit and /delete look at for the text they are about.
const pickFrom = 500

// textKey names a text.
type textKey struct{ thread, id int64 }

// maxTimes is of how many texts that the session brought the time is remembered.
const maxTimes = 10000

// noteTime remembers when a text was stored, by which a later recall or edit names it.
func (t *talk) noteTime(m client.Message) {
	if len(t.times) >= maxTimes {
		clear(t.times)
	}
	t.times[textKey{m.ThreadID, m.ID}] = m.Time
}

// change prints a recall or an edit as a sentence.
func (t *talk) change(m client.Message) {
	where := ""
	if group := t.groupName(m.ThreadID); group != "" {
		where = " in " + printable(group)
	}
	who, whose := printable(t.name(m.Sender)), fmt.Sprintf("text %d", m.Target)
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

// shownText returns what is printed of a text.
func shownText(m client.Message) string {
	text := printable(m.Text)
	if m.Type != "" {
		text = "(" + m.Type + ") " + text
	}
	switch {
	case m.Recalled:
		return "(recalled)"
	case !m.Edited.IsZero():
		text += " (edited)"
	}
	return text
}

// pick finds a text of the conversation: the one of a number, written as #12, else the newest that holds the words. Without words that
// is the newest of all. own is for texts of this user alone.
func (t *talk) pick(ctx context.Context, which string, own bool) (client.Message, error) {
	th, ok, err := t.conversation(ctx)
	if err != nil {
		return client.Message{}, err
	}
	var found client.Message
	number := int64(0)
	if after, is := strings.CutPrefix(which, "#"); is {
		if number, err = strconv.ParseInt(after, 10, 32); err != nil || number < 1 {
			return client.Message{}, fmt.Errorf("no number of a text: %s", printable(which))
		}
	}
	after := max(0, th.LastID-pickFrom)
	if number > 0 {
		after = number - 1
	}
	for m, err := range t.s.Messages(ctx, th.ID, after) {
		if !ok || err != nil || number > 0 && m.ID > number {
			break
		}
		switch {
		case m.Kind != client.KindText, m.Hidden, m.Recalled, own && m.Sender != t.self.UID:
		case number > 0, strings.Contains(m.Text, which):
			found = m
		}
	}
	switch {
	case found.ID > 0:
		return found, ctx.Err()
	case own:
		return found, errors.New("no such text of yours in this conversation")
	}
	return found, errors.New("no such text in this conversation")
}

// recall takes back a text of the conversation.
func (t *talk) recall(ctx context.Context, which string) error {
	// The admins of a group may recall any text, which they name by its number.
	m, err := t.pick(ctx, which, !strings.HasPrefix(which, "#"))
	if err != nil {
		return err
	}
	if err := t.s.Recall(ctx, m.ThreadID, m.ID); err != nil {
		return notChanged("recalled", err)
	}
	return nil
}

// edit replaces the newest own text of the conversation, or that of a number.
func (t *talk) edit(ctx context.Context, rest string) error {
	which := ""
	if strings.HasPrefix(rest, "#") {
		which, rest, _ = strings.Cut(rest, " ")
	}
	if rest = strings.TrimSpace(rest); rest == "" {
		return errors.New("usage: /edit TEXT, or /edit #NUMBER TEXT")
	}
	m, err := t.pick(ctx, which, true)
	if err != nil {
		return err
	}
	if err := t.s.Edit(ctx, m.ThreadID, m.ID, rest); err != nil {
		return notChanged("edited", err)
	}
	return nil
}

// remove hides a text from this user.
func (t *talk) remove(ctx context.Context, which string) error {
	m, err := t.pick(ctx, which, false)
	if err != nil {
		return err
	}
	if err := t.s.Hide(ctx, m.ThreadID, m.ID); err != nil {
		return err
	}
	t.print.notice("text %d, %q, is deleted for you; others still see it", m.ID, printable(abridged(m.Text)))
	return nil
}

// notChanged explains a refusal.
func notChanged(how string, err error) error {
	if client.CodeOf(err) == client.CodeNotAllowed {
		return fmt.Errorf("it cannot be %s: it is not yours or too old, or you may not write here any more", how)
	}
	return err
}
