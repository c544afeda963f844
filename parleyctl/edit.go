package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"parley/client"
)

// edits is what a user does to texts that are stored: recalling, editing and deleting them.
type edits struct {
	*shared
	conversations *conversations
}

// pickFrom is how many of the last messages of a conversation /recall, /edit and /delete look at for the text they are about.
const pickFrom = 500

// pick finds a text of the conversation: the one of a number, written as #12, else the newest that holds the words. Without words that
// is the newest of all. own is for texts of this user alone.
func (e *edits) pick(ctx context.Context, which string, own bool) (client.Message, error) {
	th, ok, err := e.conversations.current(ctx)
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
	for m, err := range e.s.Messages(ctx, th.ID, after) {
		if !ok || err != nil || number > 0 && m.ID > number {
			break
		}
		switch {
		case m.Kind != client.KindText, m.Hidden, m.Recalled, own && m.Sender != e.self.UID:
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
func (e *edits) recall(ctx context.Context, which string) error {
	// The admins of a group may recall any text, which they name by its number.
	m, err := e.pick(ctx, which, !strings.HasPrefix(which, "#"))
	if err != nil {
		return err
	}
	if err := e.s.Recall(ctx, m.ThreadID, m.ID); err != nil {
		return notChanged("recalled", err)
	}
	return nil
}

// edit replaces the newest own text of the conversation, or that of a number.
func (e *edits) edit(ctx context.Context, rest string) error {
	which := ""
	if strings.HasPrefix(rest, "#") {
		which, rest, _ = strings.Cut(rest, " ")
	}
	if rest = strings.TrimSpace(rest); rest == "" {
		return errors.New("usage: /edit TEXT, or /edit #NUMBER TEXT")
	}
	m, err := e.pick(ctx, which, true)
	if err != nil {
		return err
	}
	if err := e.s.Edit(ctx, m.ThreadID, m.ID, rest); err != nil {
		return notChanged("edited", err)
	}
	return nil
}

// remove hides a text from this user.
func (e *edits) remove(ctx context.Context, which string) error {
	m, err := e.pick(ctx, which, false)
	if err != nil {
		return err
	}
	if err := e.s.Hide(ctx, m.ThreadID, m.ID); err != nil {
		return err
	}
	e.print.notice("text %d, %q, is deleted for you; others still see it", m.ID, printable(abridged(m.Text)))
	return nil
}

// notChanged explains a refusal.
func notChanged(how string, err error) error {
	if client.CodeOf(err) == client.CodeNotAllowed {
		return fmt.Errorf("it cannot be %s: it is not yours or too old, or you may not write here any more", how)
	}
	return err
}
