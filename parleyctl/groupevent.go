package main

import (
	"fmt"
	"slices"

	"parley/client"
)

// sentence returns what is printed of an event.
func (t *transcript) sentence(e *client.GroupEvent) string {
	by, whom := t.directory.who(e.By), t.directory.whoAll(e.UIDs)
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

// follow does what an event that has just come by changes for this user.
func (gs *groups) follow(m client.Message) {
	e := m.Event
	if e == nil {
		return
	}
	if (e.What == client.GroupCreated || e.What == client.GroupInvited) && slices.Contains(e.UIDs, gs.self.UID) {
		gs.print.notice("to write to this group: /to %s", printable(gs.directory.groupName(m.ThreadID)))
	}
	switch {
	case e.What == client.GroupRenamed:
		gs.directory.nameGroup(m.ThreadID, e.Name)
		gs.conversations.renamed(m.ThreadID, e.Name)
	case e.What == client.GroupDissolved, e.What == client.GroupLeft && e.By == gs.self.UID,
		e.What == client.GroupRemoved && slices.Contains(e.UIDs, gs.self.UID):
		gs.conversations.left(m.ThreadID)
	}
}
