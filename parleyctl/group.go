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

// groupHelp is what /help group prints.
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

// groups is the commands about groups, and what follows from their events.
type groups struct {
	*shared
	directory     *directory
	conversations *conversations
	transcript    *transcript
	links         *links
}

// errNoGroup refuses a command about the current group when there is none.
var errNoGroup = errors.New("you are not talking to a group: choose one with /to GROUP")

// command executes a /group command.
func (gs *groups) command(ctx context.Context, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "":
		return gs.list(ctx)
	case "help":
		gs.print.notices(groupHelp)
		return nil
	case "new":
		return gs.create(ctx, rest)
	case "join":
		return gs.join(ctx, rest)
	}
	commands := map[string]func(context.Context, client.Group, string) error{
		"info": gs.info, "members": gs.members, "leave": gs.leave,
		"invite": gs.invite, "remove": gs.remove, "rename": gs.rename, "mute": gs.mute, "history": gs.openHistory,
		"link": gs.links.create, "links": gs.links.list, "revoke": gs.links.revoke, "role": gs.setRole, "dissolve": gs.dissolve,
	}
	command := commands[word]
	if command == nil {
		return fmt.Errorf("no command /group %s; /help group lists them", printable(word))
	}
	to := gs.conversations.recipient()
	if to.thread == 0 {
		return errNoGroup
	}
	g, err := gs.s.Group(ctx, to.thread)
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

// roleName returns what a sentence calls a role.
func roleName(r client.Role) string {
	switch r {
	case client.RoleOwner:
		return "the owner"
	case client.RoleAdmin:
		return "an admin"
	}
	return "a member"
}

// list prints which groups this user is in, or was.
func (gs *groups) list(ctx context.Context) error {
	threads, err := gs.directory.threads(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, th := range threads {
		if !th.Private {
			gs.print.notice("%s", groupLine(th))
			n++
		}
	}
	if n == 0 {
		gs.print.notice("you are in no group; /group new NAME makes one")
	}
	return nil
}

// create makes a group, and talks to it.
func (gs *groups) create(ctx context.Context, name string) error {
	if name == "" {
		return errors.New("usage: /group new NAME")
	}
	if err := nameTooLong(name); err != nil {
		return err
	}
	g, err := gs.s.CreateGroup(ctx, client.GroupDraft{Name: name})
	if err != nil {
		return err
	}
	gs.directory.nameGroup(g.ThreadID, name)
	gs.transcript.showsFrom(g.ThreadID, 1) // all of it is shown as it comes
	gs.conversations.choose(recipient{thread: g.ThreadID, name: name})
	gs.print.notice("add friends with /group invite NAME")
	return nil
}

// join joins a group with a code, and talks to it.
func (gs *groups) join(ctx context.Context, code string) error {
	if code == "" {
		return errors.New("usage: /group join CODE")
	}
	thread, name, err := gs.s.JoinByLink(ctx, code)
	if client.CodeOf(err) == client.CodeNotAllowed {
		return errors.New("the code is wrong, used up, expired or revoked; or you were removed from its group, and need an invitation")
	}
	if err != nil {
		return err
	}
	gs.directory.nameGroup(thread, name)
	gs.conversations.choose(recipient{thread: thread, name: name})
	return nil
}

// nameTooLong refuses a name of a group.
func nameTooLong(name string) error {
	if n := utf8.RuneCountInString(name); n > client.MaxGroupName {
		return fmt.Errorf("the name has %d characters; at most %d are possible", n, client.MaxGroupName)
	}
	return nil
}

// info prints what the group is like.
func (gs *groups) info(_ context.Context, g client.Group, _ string) error {
	gs.print.notice("the group %s (#%d), made on %s", printable(g.Name), g.ThreadID, g.Created.Local().Format("2006-01-02 15:04"))
	switch {
	case g.Dissolved:
		gs.print.notice("it was dissolved")
		return nil
	case g.Left > 0:
		gs.print.notice("you are no longer in it; /history prints what you may still read")
		return nil
	}
	gs.print.notice("%s; the owner is %s; you are %s", count(g.Members, "member"), gs.directory.who(g.Owner), roleName(g.Role))
	if g.MuteAll {
		gs.print.notice("only the owner and admins may write")
	}
	if g.MutedUntil.After(time.Now()) {
		gs.print.notice("you are muted until %s", gs.print.clock(g.MutedUntil))
	}
	if g.HistoryForNew {
		gs.print.notice("new members can read what was written before they joined")
	} else {
		gs.print.notice("new members can read what is written from their joining on")
	}
	return nil
}

// members prints who is in the group.
func (gs *groups) members(ctx context.Context, g client.Group, _ string) error {
	now := time.Now()
	for m, err := range gs.s.GroupMembers(ctx, g.ThreadID) {
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s (uid %d)", printable(m.Name), m.UID)
		if m.Role != client.RoleMember {
			line += ", " + m.Role.String()
		}
		if m.MutedUntil.After(now) {
			line += ", muted until " + gs.print.clock(m.MutedUntil)
		}
		gs.print.notice("%s", line)
	}
	return nil
}

// leave leaves the group; its owner cannot.
func (gs *groups) leave(ctx context.Context, g client.Group, _ string) error {
	if g.Role == client.RoleOwner {
		return errors.New("you are the owner: make another member the owner first (/group role NAME owner), or end the group (/group dissolve NAME)")
	}
	return gs.s.LeaveGroup(ctx, g.ThreadID)
}

// invite adds friends to the group.
func (gs *groups) invite(ctx context.Context, g client.Group, rest string) error {
	names := strings.Fields(rest)
	if len(names) == 0 {
		return errors.New("usage: /group invite NAME, or several names")
	}
	var uids []int32
	friends := gs.s.Friends()
	for _, name := range names {
		friend, ok := findFriend(friends, name)
		if !ok {
			return fmt.Errorf("%s is not your friend; you can give a code instead: /group link", printable(name))
		}
		uids = append(uids, friend.UID)
	}
	refused, err := gs.s.Invite(ctx, g.ThreadID, uids...)
	if err == nil && len(refused) > 0 {
		return fmt.Errorf("not added: %s", gs.directory.whoAll(refused))
	}
	return err
}

// findMember finds a member by name or uid.
func (gs *groups) findMember(ctx context.Context, g client.Group, who string) (client.GroupMember, error) {
	for m, err := range gs.s.GroupMembers(ctx, g.ThreadID) {
		if err != nil {
			return m, err
		}
		if strings.EqualFold(m.Name, who) || strconv.Itoa(int(m.UID)) == who {
			return m, nil
		}
	}
	return client.GroupMember{}, fmt.Errorf("there is no %s in the group; /group members lists the members", printable(who))
}

// remove removes a member from the group.
func (gs *groups) remove(ctx context.Context, g client.Group, who string) error {
	if who == "" {
		return errors.New("usage: /group remove NAME")
	}
	m, err := gs.findMember(ctx, g, who)
	if err != nil {
		return err
	}
	if m.UID == gs.self.UID {
		return errors.New("that is you: /group leave leaves the group")
	}
	return gs.s.RemoveMember(ctx, g.ThreadID, m.UID)
}

// setRole changes the role of a member.
func (gs *groups) setRole(ctx context.Context, g client.Group, rest string) error {
	who, name, _ := strings.Cut(rest, " ")
	roles := map[string]client.Role{"member": client.RoleMember, "admin": client.RoleAdmin, "owner": client.RoleOwner}
	role, ok := roles[strings.TrimSpace(name)]
	if !ok {
		return errors.New("usage: /group role NAME admin, or member, or owner")
	}
	m, err := gs.findMember(ctx, g, who)
	switch {
	case err != nil:
		return err
	case m.Role == role:
		return fmt.Errorf("%s is %s already", gs.directory.who(m.UID), roleName(role))
	case m.Role == client.RoleOwner:
		return errors.New("the owner stays the owner until another member becomes it: /group role NAME owner")
	}
	return gs.s.SetRole(ctx, g.ThreadID, m.UID, role)
}

// rename changes the name of the group.
func (gs *groups) rename(ctx context.Context, g client.Group, name string) error {
	if name == "" {
		return errors.New("usage: /group rename NAME")
	}
	if err := nameTooLong(name); err != nil {
		return err
	}
	return gs.s.RenameGroup(ctx, g.ThreadID, name)
}

// mute refuses the texts of a member, or of all but the admins, or takes them again.
func (gs *groups) mute(ctx context.Context, g client.Group, rest string) error {
	usage := errors.New("usage: /group mute NAME TIME, with a time such as 10m, 24h or off; or /group mute all on, or off")
	who, arg, _ := strings.Cut(rest, " ")
	arg = strings.TrimSpace(arg)
	if who == "all" {
		on, ok := onOff(arg)
		if !ok {
			return usage
		}
		return gs.s.MuteGroup(ctx, g.ThreadID, on)
	}
	var until time.Time
	if arg != "off" {
		d, err := time.ParseDuration(arg)
		if err != nil || d <= 0 {
			return usage
		}
		until = time.Now().Add(d)
	}
	m, err := gs.findMember(ctx, g, who)
	if err != nil {
		return err
	}
	return gs.s.MuteMember(ctx, g.ThreadID, m.UID, until)
}

// onOff reads an argument that is on or off.
func onOff(s string) (on, ok bool) { return s == "on", s == "on" || s == "off" }

// openHistory says whether new members may read what was written before they joined.
func (gs *groups) openHistory(ctx context.Context, g client.Group, arg string) error {
	on, ok := onOff(arg)
	if !ok {
		return errors.New("usage: /group history on, or off")
	}
	return gs.s.SetHistoryForNew(ctx, g.ThreadID, on)
}

// dissolve ends the group, whose name confirms it.
func (gs *groups) dissolve(ctx context.Context, g client.Group, name string) error {
	if name != g.Name {
		return fmt.Errorf("to end the group for everybody, type /group dissolve %s", printable(g.Name))
	}
	return gs.s.DissolveGroup(ctx, g.ThreadID)
}
