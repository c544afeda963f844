package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"parley/client"
)

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

func (t *talk) event(ev client.Event) {
	switch ev := ev.(type) {
	case client.Texts:
		for _, m := range ev.Messages {
			t.mu.Lock()
			own := t.mine[m.UniqueID] && m.Sender == t.self.UID
			delete(t.mine, m.UniqueID)
			t.mu.Unlock()
			t.noteTime(m)
			if t.noteRead(m); own && !t.cmd.Echo {
				continue
			}
			t.mu.Lock()
			if _, any := t.shown[ev.ThreadID]; !any {
				t.shown[ev.ThreadID] = m.ID
			}
			t.mu.Unlock()
			t.message(m, own && t.person)
			t.membership(m)
		}
	case client.Applied:
		t.applied(ev.Application)
	case client.Approved:
		t.print.notice("%s is your friend now", printable(ev.Friend.Name))
		t.friendsMoved()
	case client.Online:
		t.online(ev)
	case client.Typing:
		t.typing(ev)
	case client.FriendsChanged:
		t.friendsChanged(ev)
	case client.Hidden:
		t.print.notice("another of your devices deleted %s for you", count(len(ev.IDs), "text"))
	case client.MarksMoved:
		t.marksMoved(ev)
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
		t.mu.Lock()
		t.caught = true
		t.mu.Unlock()
	}
	t.mu.Lock()
	t.movedLocked()
	t.mu.Unlock()
}

// replaced tells that the conversations are not what they were. Own texts that were not seen in them yet may never come.
func (t *talk) replaced(ev client.DataReplaced) {
	if ev.ThreadID == 0 {
		t.print.notice("the server's data was replaced; what it holds now follows")
	} else {
		t.print.notice("the server's data was set back: conversation %d ends at text %d now", ev.ThreadID, ev.LastID)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.want)
	clear(t.mine)
	clear(t.groups)
	t.reading = newReading()
}

// name returns what to call a user; a stranger in a group is looked up once.
func (t *talk) name(uid int32) string {
	if uid == t.self.UID {
		return t.self.Name
	}
	t.mu.Lock()
	name, ok := t.names[uid]
	t.mu.Unlock()
	if ok {
		return name
	}
	name = "uid " + strconv.Itoa(int(uid))
	for _, f := range t.s.Friends() {
		if f.UID == uid {
			name, ok = f.Name, true
		}
	}
	if !ok {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p, err := t.s.Search(ctx, strconv.Itoa(int(uid)))
		if err == nil {
			name, ok = p.Name, true
		}
	}
	if ok {
		t.mu.Lock()
		t.names[uid] = name
		t.mu.Unlock()
	}
	return name
}

const helpText = `/to NAME            talk to this friend or group; without a name, show the current one
/friends            list friends and pending applications
/add NAME GREETING  apply for friendship
/accept NAME        accept an application
/unfriend NAME      end a friendship; the conversation stays readable
/block NAME         end the friendship and block the user
/unblock NAME       let a blocked user apply again
/blocks             list blocked users
/who                list friends, those who are online first
/visible [on|off]   say whether friends may see that you are online
/history [N]        print the last N texts (default 20) of the conversation
/read               tell who has read your last text in the conversation
/recall [WORDS|#N]  take back your last text, your last one with these words, or text N
/edit [#N] TEXT     replace your last text, or text N
/delete [WORDS|#N]  delete the last text, the last one with these words, or text N, for you alone
/threads            list conversations
/group              list your groups; /help group explains what you can do with them
/logout [all]       leave, and end this device's resume ticket, or the sessions of all devices
/quit               leave; the end of input does the same`

// command executes a line that begins with a slash.
func (t *talk) command(ctx context.Context, line string) (quit bool, err error) {
	word, rest, _ := strings.Cut(line[1:], " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "help":
		text := helpText
		if rest == "group" {
			text = groupHelp
		}
		for _, l := range strings.Split(text, "\n") {
			t.print.notice("%s", l)
		}
	case "quit", "q":
		return true, nil
	case "to":
		return false, t.address(ctx, rest)
	case "friends":
		t.friends()
	case "add":
		return false, t.add(ctx, rest)
	case "accept":
		return false, t.accept(ctx, rest)
	case "unfriend":
		return false, t.unfriend(ctx, rest)
	case "block":
		return false, t.block(ctx, rest)
	case "unblock":
		return false, t.unblock(ctx, rest)
	case "blocks":
		return false, t.blocks(ctx)
	case "who":
		return false, t.listOnline(ctx)
	case "visible":
		return false, t.visible(ctx, rest)
	case "logout":
		return t.logout(ctx, rest)
	case "history":
		return false, t.history(ctx, rest)
	case "read":
		return false, t.whoHasRead(ctx)
	case "recall":
		return false, t.recall(ctx, rest)
	case "edit":
		return false, t.edit(ctx, rest)
	case "delete":
		return false, t.remove(ctx, rest)
	case "threads":
		return false, t.threads(ctx)
	case "group":
		return false, t.group(ctx, rest)
	default:
		return false, fmt.Errorf("no command /%s; /help lists them, // begins a text with a slash", printable(word))
	}
	return false, nil
}

// address chooses whom to talk to.
func (t *talk) address(ctx context.Context, who string) error {
	if who == "" {
		t.mu.Lock()
		to := t.to
		t.mu.Unlock()
		if to.none() {
			t.print.notice("no current conversation")
		} else {
			t.print.notice("texts go to %s", to)
		}
		return nil
	}
	to := recipient{}
	if friend, ok := findFriend(t.s.Friends(), who); ok {
		to = recipient{uid: friend.UID, name: friend.Name}
	} else if g, ok, err := t.findGroup(ctx, who); err != nil {
		return err
	} else if ok {
		if g.Left > 0 {
			t.print.notice("you are no longer in this group; /history prints what you may still read")
		}
		to = recipient{thread: g.ID, name: g.Name}
	} else {
		p, err := t.find(ctx, who)
		if client.CodeOf(err) == client.CodeUIDInvalid {
			return fmt.Errorf("%w, and you have no group of that name", err)
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("%s is not your friend; apply with /add %s GREETING", printable(p.Name), printable(p.Name))
	}
	t.setRecipient(to)
	if !t.person {
		return nil
	}
	t.typingTo(to)
	if t.fresh {
		if err := t.recent(ctx); err != nil {
			return err
		}
	}
	return t.readShown(ctx)
}

// begin chooses whom to talk to at the start. That what was said before cannot be shown just now ends no chat.
func (t *talk) begin(ctx context.Context) error {
	err := t.address(ctx, t.cmd.To)
	t.mu.Lock()
	chosen := !t.to.none()
	t.mu.Unlock()
	if err != nil && chosen {
		t.fail(err)
		return nil
	}
	return err
}

// recentTexts is how many texts a person is shown of a conversation that was not seen before.
const recentTexts = 20

// recent prints the last texts with whom we talk to, up to those that were shown already.
func (t *talk) recent(ctx context.Context) error {
	th, ok, err := t.conversation(ctx)
	if err != nil || !ok {
		return err
	}
	t.mu.Lock()
	first, any := t.shown[th.ID]
	if !any {
		first = th.LastID + 1
		t.shown[th.ID] = 1 // all of it is, from now on
	}
	t.mu.Unlock()
	return t.past(ctx, th.ID, first-1-recentTexts, first-1)
}

// past prints the texts of a thread after one number up to another.
func (t *talk) past(ctx context.Context, thread, after, last int64) error {
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

// message prints a text or an event. own marks one that was sent here, and is stored.
func (t *talk) message(m client.Message, own bool) {
	group := t.groupName(m.ThreadID)
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
	name := t.name(m.Sender)
	if group != "" {
		name += " (" + group + ")"
	}
	if own {
		t.print.stored(name, m)
	} else {
		t.print.text(name, m)
	}
}

// conversation returns the thread with whom we talk to; false if there is none yet.
func (t *talk) conversation(ctx context.Context) (client.Thread, bool, error) {
	t.mu.Lock()
	to := t.to
	t.mu.Unlock()
	if to.none() {
		return client.Thread{}, false, errors.New("no conversation: choose one with /to NAME")
	}
	threads, err := t.conversations(ctx)
	for _, th := range threads {
		if th.Private && th.Peer == to.uid || th.ID == to.thread {
			return th, true, err
		}
	}
	return client.Thread{}, false, err
}

// find looks a user up by name or uid.
func (t *talk) find(ctx context.Context, who string) (client.Profile, error) {
	p, err := t.s.Search(ctx, who)
	if client.CodeOf(err) == client.CodeUIDInvalid {
		return p, noUser{who, err}
	}
	return p, err
}

// noUser says that a search found nobody.
type noUser struct {
	who string
	err error
}

func (e noUser) Error() string { return "there is no user " + printable(e.who) }

func (e noUser) Unwrap() error { return e.err }

// findFriend finds by name, else by alias, else by uid, else by a name written in other capitals.
func findFriend(friends []client.Friend, who string) (client.Profile, bool) {
	matches := []func(client.Friend) bool{
		func(f client.Friend) bool { return f.Name == who },
		func(f client.Friend) bool { return f.Alias == who },
		func(f client.Friend) bool { return strconv.Itoa(int(f.UID)) == who },
		func(f client.Friend) bool { return strings.EqualFold(f.Name, who) },
	}
	for _, match := range matches {
		for _, f := range friends {
			if match(f) {
				return f.Profile, true
			}
		}
	}
	return client.Profile{}, false
}

func (t *talk) friends() {
	for _, f := range t.s.Friends() {
		alias := ""
		if f.Alias != "" && f.Alias != f.Name {
			alias = ", " + printable(f.Alias)
		}
		t.print.notice("%s (uid %d%s)", printable(f.Name), f.UID, alias)
	}
	for _, a := range t.s.Applications() {
		t.applied(a)
	}
}

func (t *talk) add(ctx context.Context, rest string) error {
	who, greeting, _ := strings.Cut(rest, " ")
	if who == "" {
		return errors.New("usage: /add NAME GREETING")
	}
	if f, ok := findFriend(t.s.Friends(), who); ok {
		return fmt.Errorf("%s is already your friend", printable(f.Name))
	}
	p, err := t.find(ctx, who)
	if err != nil {
		return err
	}
	if err := t.s.Apply(ctx, p.UID, strings.TrimSpace(greeting), ""); err != nil {
		return err
	}
	t.print.notice("%s (uid %d) is asked", printable(p.Name), p.UID)
	return nil
}

func (t *talk) accept(ctx context.Context, who string) error {
	for _, a := range t.s.Applications() {
		if a.Name != who && strconv.Itoa(int(a.UID)) != who {
			continue
		}
		if _, err := t.s.Approve(ctx, a.UID, ""); err != nil {
			return err
		}
		t.print.notice("%s is your friend now", printable(a.Name))
		t.friendsMoved()
		return nil
	}
	return fmt.Errorf("no application from %q", printable(who))
}

// history prints the last n texts with whom we talk to.
func (t *talk) history(ctx context.Context, arg string) error {
	n := int64(20)
	if arg != "" {
		var err error
		if n, err = strconv.ParseInt(arg, 10, 32); err != nil || n < 1 {
			return errors.New("usage: /history N")
		}
	}
	th, ok, err := t.conversation(ctx)
	if err != nil || !ok {
		return err
	}
	return t.past(ctx, th.ID, th.LastID-n, math.MaxInt64)
}

// conversations returns the threads as they are after what was typed before.
func (t *talk) conversations(ctx context.Context) ([]client.Thread, error) {
	if err := t.confirmed(ctx); err != nil {
		return nil, err
	}
	return t.threadsKnown(ctx)
}

func (t *talk) threads(ctx context.Context) error {
	threads, err := t.conversations(ctx)
	if err != nil {
		return err
	}
	for _, th := range threads {
		line := fmt.Sprintf("thread %d with %s, %d texts", th.ID, printable(t.name(th.Peer)), th.LastID)
		if !th.Private {
			line = fmt.Sprintf("thread %d, %s, %s", th.ID, groupLine(th), count(int(th.LastID-th.First+1), "message"))
		}
		if n := unread(th); n != "" {
			line += ", " + n
		}
		t.print.notice("%s", line)
	}
	if len(threads) == 0 {
		t.print.notice("no conversations yet")
	}
	return nil
}
