package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"parley/client"
)

// recipient is to whom texts go: a friend or a group.
type recipient struct {
	uid    int32
	thread int64
	name   string
}

func (r recipient) none() bool { return r.uid == 0 && r.thread == 0 }

func (r recipient) dest() client.To {
	if r.thread != 0 {
		return client.InThread(r.thread)
	}
	return client.User(r.uid)
}

// String says who it is, and the number by which it can be told from others of the name.
func (r recipient) String() string {
	if r.thread != 0 {
		return fmt.Sprintf("the group %s (#%d)", printable(r.name), r.thread)
	}
	return fmt.Sprintf("%s (uid %d)", printable(r.name), r.uid)
}

func (t *talk) setRecipient(to recipient) {
	t.mu.Lock()
	t.to = to
	t.mu.Unlock()
	t.print.notice("texts go to %s", to)
}

const groupHelp = `/to GROUP                talk to this group; #12 is the group with that number
/group                   list your groups
/group new NAME          make a group, and talk to it
/group join CODE         join a group with a code that a member gave you
These are about the group that you talk to:
/group info              show its name, its settings and your role
/group members           list the members
/group leave             leave it
These are for its owner and its admins:
/group invite FRIEND...  add friends
/group remove NAME       remove a member
/group rename NAME       change the name
/group mute NAME TIME    refuse a member's texts for a time such as 10m or 24h; off ends it
/group mute all on|off   refuse the texts of all members who are not admins
/group history on|off    let new members read what was written before they joined
/group link [TIME USES]  make a code to join with; without more: for one person, within 7 days
/group links             list the codes
/group revoke CODE       make a code useless
These are for the owner:
/group role NAME ROLE    change a member's role to admin, member or owner
/group dissolve NAME     end the group for everybody; repeat its name to confirm`

// errNoGroup refuses a command about the current group when there is none.
var errNoGroup = errors.New("you are not talking to a group: choose one with /to GROUP")

// group executes a /group command.
func (t *talk) group(ctx context.Context, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "":
		return t.listGroups(ctx)
	case "help":
		_, err := t.command(ctx, "/help group")
		return err
	case "new":
		return t.newGroup(ctx, rest)
	case "join":
		return t.joinGroup(ctx, rest)
	}
	commands := map[string]func(context.Context, client.Group, string) error{
		"info": t.groupInfo, "members": t.groupMembers, "leave": t.leaveGroup,
		"invite": t.inviteFriends, "remove": t.removeMember, "rename": t.renameGroup, "mute": t.mute, "history": t.openHistory,
		"link": t.createLink, "links": t.listLinks, "revoke": t.revokeLink, "role": t.setRole, "dissolve": t.dissolve,
	}
	command := commands[word]
	if command == nil {
		return fmt.Errorf("no command /group %s; /help group lists them", printable(word))
	}
	t.mu.Lock()
	to := t.to
	t.mu.Unlock()
	if to.thread == 0 {
		return errNoGroup
	}
	g, err := t.s.Group(ctx, to.thread)
	switch {
	case err != nil:
		return err
	case g.Dissolved && word != "info":
		return fmt.Errorf("the group %s was dissolved", printable(g.Name))
	case g.Left > 0 && word != "info":
		return fmt.Errorf("you are no longer in the group %s", printable(g.Name))
	case word == "info" || word == "members" || word == "leave":
		return command(ctx, g, rest)
	case g.Role < client.RoleOwner && (word == "role" || word == "dissolve"):
		return errors.New("only the owner of the group can do that")
	case g.Role < client.RoleAdmin:
		return errors.New("only the owner and admins of the group can do that")
	}
	err = command(ctx, g, rest)
	if client.CodeOf(err) == client.CodeNotAllowed && (word == "remove" || word == "mute") {
		return errors.New("you can do that only to members with a lower role than yours")
	}
	return err
}

// groupLine describes a group in a list.
func groupLine(th client.Thread) string {
	line := fmt.Sprintf("the group %s (#%d)", printable(th.Name), th.ID)
	if th.Left > 0 {
		return line + ", which you are no longer in"
	}
	return fmt.Sprintf("%s, %s, you are %s", line, count(th.Members, "member"), roleName(th.Role))
}

func roleName(r client.Role) string {
	switch r {
	case client.RoleOwner:
		return "the owner"
	case client.RoleAdmin:
		return "an admin"
	}
	return "a member"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// threadsKnown lists the threads and remembers which are groups, and their names.
func (t *talk) threadsKnown(ctx context.Context) ([]client.Thread, error) {
	threads, err := t.s.Threads(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, th := range threads {
		t.groups[th.ID] = th.Name
	}
	return threads, err
}

// presentThreads lists the threads as threadsKnown does; none if they cannot be read now.
func (t *talk) presentThreads(ctx context.Context) []client.Thread {
	ctx, cancel := context.WithTimeout(ctx, t.cmd.Timeout)
	defer cancel()
	threads, err := t.threadsKnown(ctx)
	if err != nil {
		return nil
	}
	return threads
}

// present returns those of threads that are groups that the user is in.
func present(threads []client.Thread) (groups []client.Thread) {
	for _, th := range threads {
		if !th.Private && th.Left == 0 {
			groups = append(groups, th)
		}
	}
	return groups
}

// groupName returns the name of a thread's group; "" for a private thread, and while a group's name cannot be read.
func (t *talk) groupName(thread int64) string {
	t.mu.Lock()
	name, known := t.groups[thread]
	t.mu.Unlock()
	if known {
		return name
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := t.threadsKnown(ctx); err != nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.groups[thread]
}

// findGroup finds a group by its number with # before it, else by name, one that the user is in before one that it has left,
// else by a name written in other capitals.
func (t *talk) findGroup(ctx context.Context, who string) (client.Thread, bool, error) {
	threads, err := t.threadsKnown(ctx)
	if err != nil {
		return client.Thread{}, false, err
	}
	matches := []func(client.Thread) bool{
		func(th client.Thread) bool { return "#"+strconv.FormatInt(th.ID, 10) == who },
		func(th client.Thread) bool { return th.Left == 0 && th.Name == who },
		func(th client.Thread) bool { return th.Left == 0 && strings.EqualFold(th.Name, who) },
		func(th client.Thread) bool { return strings.EqualFold(th.Name, who) },
	}
	for _, match := range matches {
		var found []client.Thread
		for _, th := range threads {
			if !th.Private && match(th) {
				found = append(found, th)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], true, nil
		}
		numbers := make([]string, len(found))
		for i, th := range found {
			numbers[i] = fmt.Sprintf("#%d", th.ID)
		}
		return client.Thread{}, false, fmt.Errorf("you have %d groups called %s: choose by number, %s", len(found), printable(who), join(numbers, "or"))
	}
	return client.Thread{}, false, nil
}

// join lists things as a sentence does: "a, b and c".
func join(list []string, word string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " " + word + " " + list[last]
}

// who returns what to call a user in a sentence.
func (t *talk) who(uid int32) string {
	if uid == t.self.UID {
		return "you"
	}
	return printable(t.name(uid))
}

func (t *talk) whoAll(uids []int32) string {
	const most = 10
	var list []string
	for _, uid := range uids[:min(len(uids), most)] {
		list = append(list, t.who(uid))
	}
	if more := len(uids) - most; more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return join(list, "and")
}

// sentence tells of an event.
func (t *talk) sentence(e *client.GroupEvent) string {
	by, whom := t.who(e.By), t.whoAll(e.UIDs)
	either := func(on, off string) string {
		if e.On {
			return by + " " + on
		}
		return by + " " + off
	}
	switch e.What {
	case client.GroupCreated:
		if whom == "" {
			return by + " made the group"
		}
		return fmt.Sprintf("%s made the group, with %s", by, whom)
	case client.GroupJoined:
		return by + " joined by a link"
	case client.GroupInvited:
		return fmt.Sprintf("%s added %s", by, whom)
	case client.GroupLeft:
		return by + " left"
	case client.GroupRemoved:
		return fmt.Sprintf("%s removed %s", by, whom)
	case client.GroupRole:
		if e.Role == client.RoleAdmin {
			return fmt.Sprintf("%s made %s an admin", by, whom)
		}
		return fmt.Sprintf("%s made %s an ordinary member", by, whom)
	case client.GroupOwner:
		return fmt.Sprintf("%s made %s the owner", by, whom)
	case client.GroupRenamed:
		return fmt.Sprintf("%s named the group %s", by, printable(e.Name))
	case client.GroupMuted:
		return fmt.Sprintf("%s muted %s until %s", by, whom, t.print.clock(e.Until))
	case client.GroupUnmuted:
		return fmt.Sprintf("%s let %s write again", by, whom)
	case client.GroupMuteAll:
		return either("muted everybody but the admins", "let everybody write again")
	case client.GroupHistory:
		return either("opened the earlier messages to new members", "closed the earlier messages to new members")
	case client.GroupDissolved:
		return by + " dissolved the group"
	}
	return fmt.Sprintf("%s changed the group (%s)", by, printable(string(e.What)))
}

// membership follows what an event that has just come by changes for this user.
func (t *talk) membership(m client.Message) {
	e := m.Event
	if e == nil {
		return
	}
	if (e.What == client.GroupCreated || e.What == client.GroupInvited) && slices.Contains(e.UIDs, t.self.UID) {
		t.print.notice("to write to this group: /to %s", printable(t.groupName(m.ThreadID)))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case e.What == client.GroupRenamed:
		t.groups[m.ThreadID] = e.Name
		if t.to.thread == m.ThreadID {
			t.to.name = e.Name
		}
	case e.What == client.GroupDissolved, e.What == client.GroupLeft && e.By == t.self.UID,
		e.What == client.GroupRemoved && slices.Contains(e.UIDs, t.self.UID):
		if t.to.thread == m.ThreadID {
			t.to = recipient{}
		}
	}
}

func (t *talk) listGroups(ctx context.Context) error {
	threads, err := t.threadsKnown(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, th := range threads {
		if !th.Private {
			t.print.notice("%s", groupLine(th))
			n++
		}
	}
	if n == 0 {
		t.print.notice("you are in no group; /group new NAME makes one")
	}
	return nil
}

func (t *talk) newGroup(ctx context.Context, name string) error {
	if name == "" {
		return errors.New("usage: /group new NAME")
	}
	if err := nameTooLong(name); err != nil {
		return err
	}
	g, err := t.s.CreateGroup(ctx, client.GroupDraft{Name: name})
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.groups[g.ThreadID] = name
	t.shown[g.ThreadID] = 1 // all of it is shown as it comes
	t.mu.Unlock()
	t.setRecipient(recipient{thread: g.ThreadID, name: name})
	t.print.notice("add friends with /group invite NAME")
	return nil
}

func nameTooLong(name string) error {
	if n := utf8.RuneCountInString(name); n > client.MaxGroupName {
		return fmt.Errorf("the name has %d characters; at most %d are possible", n, client.MaxGroupName)
	}
	return nil
}

func (t *talk) joinGroup(ctx context.Context, code string) error {
	if code == "" {
		return errors.New("usage: /group join CODE")
	}
	thread, name, err := t.s.JoinByLink(ctx, code)
	if client.CodeOf(err) == client.CodeNotAllowed {
		return errors.New("the code is wrong, used up, expired or revoked; or you were removed from its group, and need an invitation")
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.groups[thread] = name
	t.mu.Unlock()
	t.setRecipient(recipient{thread: thread, name: name})
	return nil
}

func (t *talk) groupInfo(_ context.Context, g client.Group, _ string) error {
	t.print.notice("the group %s (#%d), made on %s", printable(g.Name), g.ThreadID, g.Created.Local().Format("2006-01-02 15:04"))
	switch {
	case g.Dissolved:
		t.print.notice("it was dissolved")
		return nil
	case g.Left > 0:
		t.print.notice("you are no longer in it; /history prints what you may still read")
		return nil
	}
	t.print.notice("%s; the owner is %s; you are %s", count(g.Members, "member"), t.who(g.Owner), roleName(g.Role))
	if g.MuteAll {
		t.print.notice("only the owner and admins may write")
	}
	if g.MutedUntil.After(time.Now()) {
		t.print.notice("you are muted until %s", t.print.clock(g.MutedUntil))
	}
	if g.HistoryForNew {
		t.print.notice("new members can read what was written before they joined")
	} else {
		t.print.notice("new members can read what is written from their joining on")
	}
	return nil
}

func (t *talk) groupMembers(ctx context.Context, g client.Group, _ string) error {
	now := time.Now()
	for m, err := range t.s.GroupMembers(ctx, g.ThreadID) {
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s (uid %d)", printable(m.Name), m.UID)
		if m.Role != client.RoleMember {
			line += ", " + m.Role.String()
		}
		if m.MutedUntil.After(now) {
			line += ", muted until " + t.print.clock(m.MutedUntil)
		}
		t.print.notice("%s", line)
	}
	return nil
}

func (t *talk) leaveGroup(ctx context.Context, g client.Group, _ string) error {
	if g.Role == client.RoleOwner {
		return errors.New("you are the owner: make another member the owner first (/group role NAME owner), or end the group (/group dissolve NAME)")
	}
	return t.s.LeaveGroup(ctx, g.ThreadID)
}

func (t *talk) inviteFriends(ctx context.Context, g client.Group, rest string) error {
	names := strings.Fields(rest)
	if len(names) == 0 {
		return errors.New("usage: /group invite NAME, or several names")
	}
	var uids []int32
	friends := t.s.Friends()
	for _, name := range names {
		friend, ok := findFriend(friends, name)
		if !ok {
			return fmt.Errorf("%s is not your friend; you can give a code instead: /group link", printable(name))
		}
		uids = append(uids, friend.UID)
	}
	refused, err := t.s.Invite(ctx, g.ThreadID, uids...)
	if err == nil && len(refused) > 0 {
		return fmt.Errorf("not added: %s", t.whoAll(refused))
	}
	return err
}

// member finds a member by name or uid.
func (t *talk) member(ctx context.Context, g client.Group, who string) (client.GroupMember, error) {
	for m, err := range t.s.GroupMembers(ctx, g.ThreadID) {
		if err != nil {
			return m, err
		}
		if strings.EqualFold(m.Name, who) || strconv.Itoa(int(m.UID)) == who {
			return m, nil
		}
	}
	return client.GroupMember{}, fmt.Errorf("there is no %s in the group; /group members lists the members", printable(who))
}

func (t *talk) removeMember(ctx context.Context, g client.Group, who string) error {
	if who == "" {
		return errors.New("usage: /group remove NAME")
	}
	m, err := t.member(ctx, g, who)
	if err != nil {
		return err
	}
	if m.UID == t.self.UID {
		return errors.New("that is you: /group leave leaves the group")
	}
	return t.s.RemoveMember(ctx, g.ThreadID, m.UID)
}

func (t *talk) setRole(ctx context.Context, g client.Group, rest string) error {
	who, name, _ := strings.Cut(rest, " ")
	roles := map[string]client.Role{"member": client.RoleMember, "admin": client.RoleAdmin, "owner": client.RoleOwner}
	role, ok := roles[strings.TrimSpace(name)]
	if !ok {
		return errors.New("usage: /group role NAME admin, or member, or owner")
	}
	m, err := t.member(ctx, g, who)
	switch {
	case err != nil:
		return err
	case m.Role == role:
		return fmt.Errorf("%s is %s already", t.who(m.UID), roleName(role))
	case m.Role == client.RoleOwner:
		return errors.New("the owner stays the owner until another member becomes it: /group role NAME owner")
	}
	return t.s.SetRole(ctx, g.ThreadID, m.UID, role)
}

func (t *talk) renameGroup(ctx context.Context, g client.Group, name string) error {
	if name == "" {
		return errors.New("usage: /group rename NAME")
	}
	if err := nameTooLong(name); err != nil {
		return err
	}
	return t.s.RenameGroup(ctx, g.ThreadID, name)
}

func (t *talk) mute(ctx context.Context, g client.Group, rest string) error {
	usage := errors.New("usage: /group mute NAME TIME, with a time such as 10m, 24h or off; or /group mute all on, or off")
	who, arg, _ := strings.Cut(rest, " ")
	arg = strings.TrimSpace(arg)
	if who == "all" {
		on, ok := onOff(arg)
		if !ok {
			return usage
		}
		return t.s.MuteGroup(ctx, g.ThreadID, on)
	}
	var until time.Time
	if arg != "off" {
		d, err := time.ParseDuration(arg)
		if err != nil || d <= 0 {
			return usage
		}
		until = time.Now().Add(d)
	}
	m, err := t.member(ctx, g, who)
	if err != nil {
		return err
	}
	return t.s.MuteMember(ctx, g.ThreadID, m.UID, until)
}

func onOff(s string) (on, ok bool) { return s == "on", s == "on" || s == "off" }

func (t *talk) openHistory(ctx context.Context, g client.Group, arg string) error {
	on, ok := onOff(arg)
	if !ok {
		return errors.New("usage: /group history on, or off")
	}
	return t.s.SetHistoryForNew(ctx, g.ThreadID, on)
}

func (t *talk) createLink(ctx context.Context, g client.Group, rest string) error {
	usage := errors.New("usage: /group link, or /group link TIME USES, with a time such as 1h or 72h")
	var ttl time.Duration
	var uses int
	fields := strings.Fields(rest)
	if len(fields) > 2 {
		return usage
	}
	for i, f := range fields {
		var err error
		if i == 0 {
			ttl, err = time.ParseDuration(f)
		} else {
			uses, err = strconv.Atoi(f)
		}
		if err != nil {
			return usage
		}
	}
	l, err := t.s.CreateLink(ctx, g.ThreadID, ttl, uses)
	if err != nil {
		return err
	}
	t.print.notice("code %s, for %s until %s: they join with /group join %s", l.Code, people(l.Uses), t.print.clock(l.Expires), l.Code)
	return nil
}

func people(n int) string {
	if n == 1 {
		return "1 person"
	}
	return fmt.Sprintf("%d people", n)
}

func (t *talk) listLinks(ctx context.Context, g client.Group, _ string) error {
	links, err := t.s.Links(ctx, g.ThreadID)
	if err != nil {
		return err
	}
	for _, l := range links {
		t.print.notice("code %s, made by %s, for %s until %s", l.Code, t.who(l.By), people(l.Uses), t.print.clock(l.Expires))
	}
	if len(links) == 0 {
		t.print.notice("there is no code; /group link makes one")
	}
	return nil
}

func (t *talk) revokeLink(ctx context.Context, g client.Group, code string) error {
	if code == "" {
		return errors.New("usage: /group revoke CODE")
	}
	if err := t.s.RevokeLink(ctx, g.ThreadID, code); err != nil {
		return err
	}
	t.print.notice("the code %s is useless now", printable(code))
	return nil
}

func (t *talk) dissolve(ctx context.Context, g client.Group, name string) error {
	if name != g.Name {
		return fmt.Errorf("to end the group for everybody, type /group dissolve %s", printable(g.Name))
	}
	return t.s.DissolveGroup(ctx, g.ThreadID)
}
