package main

import (
	"fmt"
	"slices"

	"parley/client"
)

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
