package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"parley/client"
)

// talk is one run of the chat: it reads what is typed and shows what the session brings. Each topic is one of its parts.
type talk struct {
	*shared
	outbox        *outbox
	directory     *directory
	conversations *conversations
	transcript    *transcript
	edits         *edits
	reading       *reading
	presence      *presence
	typing        *typing
	friends       *friends
	groups        *groups

	fresh     bool // nothing is known of what this user has seen before
	connected bool // owned by show
}

func newTalk(cmd *chatCmd, e *environment, s *client.Session) *talk {
	sh := &shared{cmd: cmd, s: s, self: s.Profile(), print: &printer{out: e.out, err: e.err, now: time.Now}}
	o := newOutbox(sh)
	d := newDirectory(sh)
	ty := &typing{shared: sh, directory: d}
	c := &conversations{shared: sh, outbox: o, directory: d, typing: ty}
	t := &talk{
		shared: sh, outbox: o, directory: d, conversations: c,
		transcript: newTranscript(sh, d, c),
		edits:      &edits{shared: sh, conversations: c},
		reading:    newReading(sh, d, c),
		presence:   &presence{shared: sh, directory: d},
		typing:     ty,
	}
	t.friends = &friends{shared: sh, directory: d, conversations: c, presence: t.presence}
	t.groups = &groups{shared: sh, directory: d, conversations: c, transcript: t.transcript, links: &links{shared: sh, directory: d}}
	return t
}

// run returns why the chat ended: nil if the user wanted it to.
func (t *talk) run(e *environment, typed lines) error {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	t.greet(ctx)
	t.presence.friendsMoved()
	t.wg.Go(t.show)
	t.wg.Go(t.outbox.report)
	defer close(t.outbox.acks)
	if t.cmd.To != "" {
		if err := t.begin(ctx); err != nil {
			return err
		}
	}
	asked, err := t.read(ctx, typed)
	switch {
	case e.ctx.Err() != nil:
		// Interrupted: what is answered within a moment is fine, the rest is told.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return t.outbox.confirmed(ctx)
	case err != nil:
		return err
	}
	if !errors.Is(t.s.Err(), client.ErrLoggedOut) { // /logout has waited for what was sent
		if err := t.outbox.flush(ctx, t.cmd.Timeout); err != nil {
			return err
		}
	}
	if !asked && t.cmd.Wait > 0 {
		wait := time.NewTimer(t.cmd.Wait)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-e.ctx.Done():
		case <-t.s.Done():
			return t.s.Err()
		}
	}
	t.reading.store(ctx)
	if t.failed.Load() && !e.person {
		return errSomeFailed
	}
	return nil
}

// greet tells who logged in, and what waits for this user.
func (t *talk) greet(ctx context.Context) {
	t.print.notice("logged in as %s (uid %d)%s", printable(t.self.Name), t.self.UID, onNode(t.s.Node()))
	if friends := t.s.Friends(); len(friends) > 0 && len(friends) <= 20 {
		names := make([]string, len(friends))
		for i, f := range friends {
			names[i] = printable(f.Name)
		}
		t.print.notice("friends: %s", strings.Join(names, ", "))
	} else {
		t.print.notice("%d friends; see /help", len(friends))
	}
	threads := t.directory.presentThreads(ctx)
	if groups := present(threads); len(groups) > 0 && len(groups) <= 20 {
		names := make([]string, len(groups))
		for i, g := range groups {
			names[i] = printable(g.Name)
		}
		t.print.notice("groups: %s", strings.Join(names, ", "))
	}
	t.reading.unreadTexts(threads)
	for _, a := range t.s.Applications() {
		t.friends.applied(a)
	}
}

// onNode says where; a server need not tell.
func onNode(node string) string {
	if node == "" {
		return ""
	}
	return ", on node " + printable(node)
}

// read takes lines until they end, and reports whether the user asked to leave.
func (t *talk) read(ctx context.Context, typed lines) (asked bool, err error) {
	next := make(chan string)
	ended := make(chan error, 1)
	// A read of standard input cannot be interrupted: this goroutine may outlive us, with nothing to do.
	go func() {
		for {
			line, err := typed.ReadLine()
			if err != nil {
				ended <- err
				return
			}
			select {
			case next <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case line := <-next:
			if quit := t.line(ctx, line); quit {
				return true, nil
			}
		case err := <-ended:
			if err != io.EOF {
				return false, fmt.Errorf("standard input: %w", err)
			}
			return false, nil
		case <-t.s.Done():
			return false, t.s.Err()
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// line handles a line and reports whether it was the wish to leave.
func (t *talk) line(ctx context.Context, line string) (quit bool) {
	line = strings.TrimSuffix(line, "\r")
	text, isText := line, !strings.HasPrefix(line, "/")
	if strings.HasPrefix(line, "//") {
		text, isText = line[1:], true
	}
	var err error
	switch {
	case strings.TrimSpace(line) == "":
	case isText:
		err = t.outbox.send(ctx, t.conversations.recipient(), text)
	default:
		ctx, cancel := context.WithTimeout(ctx, t.cmd.Timeout)
		defer cancel()
		quit, err = t.command(ctx, line)
	}
	if err != nil {
		t.fail(err)
	}
	return quit
}

// address chooses whom to talk to.
func (t *talk) address(ctx context.Context, who string) error {
	if who == "" {
		if to := t.conversations.recipient(); to.none() {
			t.print.notice("no current conversation")
		} else {
			t.print.notice("texts go to %s", to)
		}
		return nil
	}
	to := recipient{}
	if friend, ok := findFriend(t.s.Friends(), who); ok {
		to = recipient{uid: friend.UID, name: friend.Name}
	} else if g, ok, err := t.directory.findGroup(ctx, who); err != nil {
		return err
	} else if ok {
		if g.Left > 0 {
			t.print.notice("you are no longer in this group; /history prints what you may still read")
		}
		to = recipient{thread: g.ID, name: g.Name}
	} else {
		p, err := t.directory.findUser(ctx, who)
		if client.CodeOf(err) == client.CodeUIDInvalid {
			return fmt.Errorf("%w, and you have no group of that name", err)
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("%s is not your friend; apply with /add %s GREETING", printable(p.Name), printable(p.Name))
	}
	t.conversations.choose(to)
	if !t.person {
		return nil
	}
	if t.fresh {
		if err := t.transcript.recent(ctx); err != nil {
			return err
		}
	}
	return t.reading.readShown(ctx)
}

// begin chooses whom to talk to at the start. That what was said before cannot be shown just now ends no chat.
func (t *talk) begin(ctx context.Context) error {
	err := t.address(ctx, t.cmd.To)
	if err != nil && !t.conversations.recipient().none() {
		t.fail(err)
		return nil
	}
	return err
}
