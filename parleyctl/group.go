package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"parley/client"
)

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

// join lists things as a sentence does: "a, b and c".
func join(list []string, word string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " " + word + " " + list[last]
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

func (t *talk) dissolve(ctx context.Context, g client.Group, name string) error {
	if name != g.Name {
		return fmt.Errorf("to end the group for everybody, type /group dissolve %s", printable(g.Name))
	}
	return t.s.DissolveGroup(ctx, g.ThreadID)
}
