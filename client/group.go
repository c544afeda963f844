package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"parley/internal/wire"
)

// ErrNoGroups refuses requests about groups where the server did not grant the capability "groups", as older ones do not.
var ErrNoGroups = errors.New("client: the server does not support groups")

// Limits of groups.
const (
	// MaxGroupName is the longest name of a group, in characters.
	MaxGroupName = wire.MaxGroupName
	// MaxGroupUIDs is how many users one request may add to a group.
	MaxGroupUIDs = wire.MaxGroupUIDs
)

// Role is a member's role in a group. An admin invites, removes and mutes members, renames the group and makes links. The
// owner, of whom there is exactly one, also appoints admins, hands the group over and dissolves it.
type Role int8

// The roles, from the lowest to the highest.
const (
	RoleMember Role = wire.RoleMember
	RoleAdmin  Role = wire.RoleAdmin
	RoleOwner  Role = wire.RoleOwner
)

// String returns the role in English.
func (r Role) String() string {
	switch r {
	case RoleMember:
		return "member"
	case RoleAdmin:
		return "admin"
	case RoleOwner:
		return "owner"
	}
	return fmt.Sprintf("role %d", int8(r))
}

// Group is what a user may know of a group.
type Group struct {
	ThreadID      int64
	Name          string
	Owner         int32
	Members       int
	MuteAll       bool // only the owner and admins may write
	HistoryForNew bool // new members may read what was stored before they joined
	Dissolved     bool
	Created       time.Time
	// Role and MutedUntil are this user's. MutedUntil is zero for a user who is not muted.
	Role       Role
	MutedUntil time.Time
	// First is the id of the first message that this user may read.
	First int64
	// LastID is the id of the newest message.
	LastID int64
	// Left is the id of the message by which this user ceased to be a member, and the last that it may read; 0 for a member.
	Left int64
}

// GroupMember is a member of a group.
type GroupMember struct {
	Profile
	Role       Role
	Joined     time.Time
	MutedUntil time.Time // zero if not muted
}

// Link is a code by which users can join a group until it expires, is used up or is revoked. A code is a secret of those who
// have it.
type Link struct {
	Code    string
	By      int32 // who made it
	Created time.Time
	Expires time.Time
	Uses    int // how often it may still be used
}

// GroupDraft describes a new group. A second draft with the same UniqueID by the same user makes no second group.
type GroupDraft struct {
	UniqueID string // at most MaxUniqueID bytes; empty: one is made
	Name     string // 1 to MaxGroupName printable characters
	// Members are friends to add at once, at most MaxGroupUIDs. The user itself becomes the owner.
	Members []int32
}

// CreatedGroup is a group that was made.
type CreatedGroup struct {
	ThreadID int64
	// Refused are the users who were not added, because they are no friends or can be in no more groups.
	Refused []int32
}

// A GroupChange is what an event of a group tells of.
type GroupChange string

// The changes. A server may send others.
const (
	GroupCreated   GroupChange = wire.EventCreated   // By made it, with UIDs as members
	GroupJoined    GroupChange = wire.EventJoined    // By joined by a link
	GroupInvited   GroupChange = wire.EventInvited   // By added UIDs
	GroupLeft      GroupChange = wire.EventLeft      // By left
	GroupRemoved   GroupChange = wire.EventRemoved   // By removed UIDs
	GroupRole      GroupChange = wire.EventRole      // By made UIDs members or admins, see Role
	GroupOwner     GroupChange = wire.EventOwner     // By made UIDs[0] the owner
	GroupRenamed   GroupChange = wire.EventRenamed   // By named it Name
	GroupMuted     GroupChange = wire.EventMuted     // By muted UIDs until Until
	GroupUnmuted   GroupChange = wire.EventUnmuted   // By lets UIDs write again
	GroupMuteAll   GroupChange = wire.EventMuteAll   // By muted all members, or not any more, see On
	GroupHistory   GroupChange = wire.EventHistory   // By opened the history to new members, or closed it, see On
	GroupDissolved GroupChange = wire.EventDissolved // By dissolved the group
)

// GroupEvent is the content of a message of KindEvent: a change of a group, in its place among the texts.
type GroupEvent struct {
	What  GroupChange
	By    int32
	UIDs  []int32
	Name  string
	Role  Role
	Until time.Time
	On    bool
}

// groupEventOf decodes an event. What cannot be read is an event of no known change.
func groupEventOf(content string) *GroupEvent {
	var w wire.GroupEvent
	if wire.Decode([]byte(content), &w) != nil {
		return new(GroupEvent)
	}
	e := &GroupEvent{
		What: GroupChange(w.Event), By: w.By, UIDs: w.UIDs, Name: w.Name, Until: timeOf(w.UntilMS, ""),
		On: w.On != nil && *w.On,
	}
	if w.Role != nil {
		e.Role = Role(*w.Role)
	}
	return e
}

// admits reports whether the event makes the user a member.
func (e *GroupEvent) admits(uid int32) bool {
	switch e.What {
	case GroupCreated, GroupJoined:
		return e.By == uid || slices.Contains(e.UIDs, uid)
	case GroupInvited:
		return slices.Contains(e.UIDs, uid)
	}
	return false
}

// parts reports whether the user is no member after the event.
func (e *GroupEvent) parts(uid int32) bool {
	switch e.What {
	case GroupLeft:
		return e.By == uid
	case GroupRemoved:
		return slices.Contains(e.UIDs, uid)
	case GroupDissolved:
		return true
	}
	return false
}

// changeGroup asks for a change of a group.
func (c *Conn) changeGroup(ctx context.Context, op string, id wire.MsgID, body any) error {
	return c.changeRow(ctx, wire.CapGroups, op, id, body)
}

// changeRow asks for a change that a row of the thread tells of.
func (c *Conn) changeRow(ctx context.Context, capability, op string, id wire.MsgID, body any) error {
	var reply wire.GroupReply
	err := c.requestFor(ctx, capability, op, id, body, &reply)
	c.changed(reply, err)
	return err
}

// stored says that the thread has messages up to an id, by this user's own doing. Only a Session gets it.
type stored struct {
	thread, id int64
}

func (stored) event() {}

// changed has a Session look for the event of its own change, in case the push is lost.
func (c *Conn) changed(reply wire.GroupReply, err error) {
	if c.echo && err == nil && reply.EventID > 0 {
		c.events.put(stored{reply.ThreadID, reply.EventID}, eventCost)
	}
}

func groupThread(thread int64) wire.GroupRequest { return wire.GroupRequest{ThreadID: thread} }

// CreateGroup makes a group, with this user as its owner. Texts go to it by InThread.
func (c *Conn) CreateGroup(ctx context.Context, d GroupDraft) (CreatedGroup, error) {
	if d.UniqueID == "" {
		d.UniqueID = NewDraft("").UniqueID
	}
	var reply wire.GroupInviteReply
	err := c.requestFor(ctx, wire.CapGroups, "create group", wire.MsgGroupCreate,
		wire.GroupCreateRequest{Name: d.Name, UniqueID: d.UniqueID, UIDs: d.Members}, &reply)
	c.changed(reply.GroupReply, err)
	return CreatedGroup{ThreadID: reply.ThreadID, Refused: reply.Refused}, err
}

// Group returns a group. A user who has left sees it as it was then; one who was never a member is refused with
// CodeNotAllowed.
func (c *Conn) Group(ctx context.Context, thread int64) (Group, error) {
	var r wire.GroupInfoReply
	if err := c.requestFor(ctx, wire.CapGroups, "group", wire.MsgGroupInfo, groupThread(thread), &r); err != nil {
		return Group{}, err
	}
	return Group{
		ThreadID: r.ThreadID, Name: r.Name, Owner: r.Owner, Members: r.Members, MuteAll: r.MuteAll,
		HistoryForNew: r.HistoryForNew, Dissolved: r.Dissolved, Created: timeOf(r.CreatedMS, ""), Role: Role(r.Role),
		MutedUntil: timeOf(r.MutedUntilMS, ""), First: r.FirstID, LastID: r.LastSeq, Left: r.Left,
	}, nil
}

// GroupMembers iterates over the members of a group, by ascending uid, asking for pages as needed. While the server refuses
// for too many requests it waits and asks again, a few times; another error ends it.
func (c *Conn) GroupMembers(ctx context.Context, thread int64) iter.Seq2[GroupMember, error] {
	return groupMembers(ctx, thread, c.membersPage)
}

// membersPage asks for the members above a uid.
func (c *Conn) membersPage(ctx context.Context, thread int64, after int32) (wire.GroupMembersReply, error) {
	var reply wire.GroupMembersReply
	err := c.requestFor(ctx, wire.CapGroups, "group members", wire.MsgGroupMembers,
		wire.GroupMembersRequest{GroupRequest: groupThread(thread), After: after, Limit: pageLimit}, &reply)
	if err == nil && reply.LoadMore && reply.LastUID <= after {
		err = fmt.Errorf("group members: %w: the cursor stands still", ErrProtocol)
	}
	return reply, err
}

func groupMembers(
	ctx context.Context, thread int64, page func(context.Context, int64, int32) (wire.GroupMembersReply, error),
) iter.Seq2[GroupMember, error] {
	return func(yield func(GroupMember, error) bool) {
		for after := int32(0); ; {
			reply, err := patiently(ctx, func() (wire.GroupMembersReply, error) { return page(ctx, thread, after) })
			if err != nil {
				yield(GroupMember{}, err)
				return
			}
			for _, m := range reply.Members {
				member := GroupMember{
					Profile: profileOf(m.Profile), Role: Role(m.Role), Joined: timeOf(m.JoinedMS, ""), MutedUntil: timeOf(m.MutedUntilMS, ""),
				}
				if !yield(member, nil) {
					return
				}
			}
			if !reply.LoadMore {
				return
			}
			after = reply.LastUID
		}
	}
}

// Invite adds friends to a group, at most MaxGroupUIDs at once, and returns those who were not added because they are no
// friends or can be in no more groups. It takes an admin or the owner. A user who is a member already stays one.
func (c *Conn) Invite(ctx context.Context, thread int64, uids ...int32) (refused []int32, err error) {
	var reply wire.GroupInviteReply
	err = c.requestFor(ctx, wire.CapGroups, "invite", wire.MsgGroupInvite, wire.GroupInviteRequest{GroupRequest: groupThread(thread), UIDs: uids}, &reply)
	c.changed(reply.GroupReply, err)
	return reply.Refused, err
}

// LeaveGroup ends this user's membership. What was stored until then stays readable. The owner cannot leave: hand the group
// over or dissolve it first.
func (c *Conn) LeaveGroup(ctx context.Context, thread int64) error {
	return c.changeGroup(ctx, "leave group", wire.MsgGroupLeave, groupThread(thread))
}

// RemoveMember ends the membership of a user with a lower role. It takes an admin or the owner. Nothing that the user sends
// after that is stored, on any node.
func (c *Conn) RemoveMember(ctx context.Context, thread int64, uid int32) error {
	return c.changeGroup(ctx, "remove member", wire.MsgGroupRemove, wire.GroupRemoveRequest{GroupRequest: groupThread(thread), UID: uid})
}

// SetRole makes a member an admin or an admin a member. It takes the owner. RoleOwner does what TransferGroup does.
func (c *Conn) SetRole(ctx context.Context, thread int64, uid int32, role Role) error {
	return c.changeGroup(ctx, "set role", wire.MsgGroupRole,
		wire.GroupRoleRequest{GroupRequest: groupThread(thread), UID: uid, Role: int(role)})
}

// TransferGroup makes another member the owner; this user becomes an admin. It takes the owner.
func (c *Conn) TransferGroup(ctx context.Context, thread int64, uid int32) error {
	return c.SetRole(ctx, thread, uid, RoleOwner)
}

// RenameGroup gives a group another name. It takes an admin or the owner.
func (c *Conn) RenameGroup(ctx context.Context, thread int64, name string) error {
	return c.changeGroup(ctx, "rename group", wire.MsgGroupChange,
		wire.GroupChangeRequest{GroupRequest: groupThread(thread), Name: &name})
}

// MuteGroup lets only admins and the owner write, or all members again. It takes an admin or the owner.
func (c *Conn) MuteGroup(ctx context.Context, thread int64, on bool) error {
	return c.changeGroup(ctx, "mute group", wire.MsgGroupChange,
		wire.GroupChangeRequest{GroupRequest: groupThread(thread), MuteAll: &on})
}

// SetHistoryForNew lets users who join from now on read what was stored before, or not. It takes an admin or the owner.
func (c *Conn) SetHistoryForNew(ctx context.Context, thread int64, on bool) error {
	return c.changeGroup(ctx, "set history for new members", wire.MsgGroupChange,
		wire.GroupChangeRequest{GroupRequest: groupThread(thread), HistoryForNew: &on})
}

// MuteMember refuses the texts of a member with a lower role until a time; the zero time lets the member write again. It
// takes an admin or the owner.
func (c *Conn) MuteMember(ctx context.Context, thread int64, uid int32, until time.Time) error {
	r := wire.GroupMuteRequest{GroupRequest: groupThread(thread), UID: uid}
	if !until.IsZero() {
		r.UntilMS = until.UnixMilli()
	}
	return c.changeGroup(ctx, "mute member", wire.MsgGroupMute, r)
}

// DissolveGroup ends a group for all its members. What they could read stays readable. It takes the owner.
func (c *Conn) DissolveGroup(ctx context.Context, thread int64) error {
	return c.changeGroup(ctx, "dissolve group", wire.MsgGroupDissolve, groupThread(thread))
}

// CreateLink makes a code by which users can join a group, uses times (1 to 10,000) within ttl (1 minute to 30 days). Zeros
// leave both to the server, which gives 7 days and one use. It takes an admin or the owner.
func (c *Conn) CreateLink(ctx context.Context, thread int64, ttl time.Duration, uses int) (Link, error) {
	var r wire.GroupLinkReply
	err := c.requestFor(ctx, wire.CapGroups, "create link", wire.MsgGroupLink,
		wire.GroupLinkRequest{GroupRequest: groupThread(thread), TTLS: int(ttl / time.Second), Uses: uses}, &r)
	if err != nil {
		return Link{}, err
	}
	return Link{Code: r.Code, By: c.welcome.UID, Expires: timeOf(r.ExpiresMS, ""), Uses: r.Uses}, nil
}

// Links returns the links of a group that can still be used. It takes an admin or the owner.
func (c *Conn) Links(ctx context.Context, thread int64) ([]Link, error) {
	var r wire.GroupLinksReply
	if err := c.requestFor(ctx, wire.CapGroups, "links", wire.MsgGroupLinks, groupThread(thread), &r); err != nil {
		return nil, err
	}
	out := make([]Link, len(r.Links))
	for i, l := range r.Links {
		out[i] = Link{Code: l.Code, By: l.By, Created: timeOf(l.CreatedMS, ""), Expires: timeOf(l.ExpiresMS, ""), Uses: l.Uses}
	}
	return out, nil
}

// RevokeLink makes a link useless. It takes an admin or the owner.
func (c *Conn) RevokeLink(ctx context.Context, thread int64, code string) error {
	return c.requestFor(ctx, wire.CapGroups, "revoke link", wire.MsgGroupRevoke, wire.GroupRevokeRequest{GroupRequest: groupThread(thread), Code: code}, nil)
}

// JoinByLink makes this user a member of the link's group, and returns its thread and name. It refuses with CodeNotAllowed if
// the link does not exist, has expired, is used up or revoked, and to users who were removed: those come back by invitation.
func (c *Conn) JoinByLink(ctx context.Context, code string) (thread int64, name string, err error) {
	var reply wire.GroupJoinReply
	err = c.requestFor(ctx, wire.CapGroups, "join by link", wire.MsgGroupJoin, wire.GroupJoinRequest{Code: code}, &reply)
	c.changed(reply.GroupReply, err)
	return reply.ThreadID, reply.Name, err
}

// CreateGroup makes a group; see [Conn.CreateGroup].
func (s *Session) CreateGroup(ctx context.Context, d GroupDraft) (CreatedGroup, error) {
	if d.UniqueID == "" {
		d.UniqueID = NewDraft("").UniqueID // the same on every connection
	}
	return ask(ctx, s, func(c *Conn) (CreatedGroup, error) { return c.CreateGroup(ctx, d) })
}

// Group returns a group; see [Conn.Group].
func (s *Session) Group(ctx context.Context, thread int64) (Group, error) {
	return ask(ctx, s, func(c *Conn) (Group, error) { return c.Group(ctx, thread) })
}

// GroupMembers iterates over the members of a group; see [Conn.GroupMembers].
func (s *Session) GroupMembers(ctx context.Context, thread int64) iter.Seq2[GroupMember, error] {
	return groupMembers(ctx, thread, func(ctx context.Context, thread int64, after int32) (wire.GroupMembersReply, error) {
		return ask(ctx, s, func(c *Conn) (wire.GroupMembersReply, error) { return c.membersPage(ctx, thread, after) })
	})
}

// Invite adds friends to a group; see [Conn.Invite].
func (s *Session) Invite(ctx context.Context, thread int64, uids ...int32) (refused []int32, err error) {
	return ask(ctx, s, func(c *Conn) ([]int32, error) { return c.Invite(ctx, thread, uids...) })
}

// LeaveGroup ends this user's membership; see [Conn.LeaveGroup].
func (s *Session) LeaveGroup(ctx context.Context, thread int64) error {
	return s.doOnce(ctx, func(c *Conn) error { return c.LeaveGroup(ctx, thread) }, thread, func(g Group) bool { return g.Left > 0 })
}

// RemoveMember ends a user's membership; see [Conn.RemoveMember].
func (s *Session) RemoveMember(ctx context.Context, thread int64, uid int32) error {
	return s.do(ctx, func(c *Conn) error { return c.RemoveMember(ctx, thread, uid) })
}

// SetRole changes a member's role; see [Conn.SetRole].
func (s *Session) SetRole(ctx context.Context, thread int64, uid int32, role Role) error {
	return s.doOnce(ctx, func(c *Conn) error { return c.SetRole(ctx, thread, uid, role) }, thread,
		func(g Group) bool { return role == RoleOwner && g.Owner == uid })
}

// TransferGroup makes another member the owner; see [Conn.TransferGroup].
func (s *Session) TransferGroup(ctx context.Context, thread int64, uid int32) error {
	return s.SetRole(ctx, thread, uid, RoleOwner)
}

// RenameGroup gives a group another name; see [Conn.RenameGroup].
func (s *Session) RenameGroup(ctx context.Context, thread int64, name string) error {
	return s.do(ctx, func(c *Conn) error { return c.RenameGroup(ctx, thread, name) })
}

// MuteGroup lets only admins and the owner write; see [Conn.MuteGroup].
func (s *Session) MuteGroup(ctx context.Context, thread int64, on bool) error {
	return s.do(ctx, func(c *Conn) error { return c.MuteGroup(ctx, thread, on) })
}

// SetHistoryForNew opens the history to new members; see [Conn.SetHistoryForNew].
func (s *Session) SetHistoryForNew(ctx context.Context, thread int64, on bool) error {
	return s.do(ctx, func(c *Conn) error { return c.SetHistoryForNew(ctx, thread, on) })
}

// MuteMember refuses a member's texts until a time; see [Conn.MuteMember].
func (s *Session) MuteMember(ctx context.Context, thread int64, uid int32, until time.Time) error {
	return s.do(ctx, func(c *Conn) error { return c.MuteMember(ctx, thread, uid, until) })
}

// DissolveGroup ends a group for all its members; see [Conn.DissolveGroup].
func (s *Session) DissolveGroup(ctx context.Context, thread int64) error {
	return s.doOnce(ctx, func(c *Conn) error { return c.DissolveGroup(ctx, thread) }, thread, func(g Group) bool { return g.Dissolved })
}

// CreateLink makes a code by which users can join; see [Conn.CreateLink]. A connection lost in this very moment may leave a
// second link, which Links shows.
func (s *Session) CreateLink(ctx context.Context, thread int64, ttl time.Duration, uses int) (Link, error) {
	return ask(ctx, s, func(c *Conn) (Link, error) { return c.CreateLink(ctx, thread, ttl, uses) })
}

// Links returns the links of a group; see [Conn.Links].
func (s *Session) Links(ctx context.Context, thread int64) ([]Link, error) {
	return ask(ctx, s, func(c *Conn) ([]Link, error) { return c.Links(ctx, thread) })
}

// RevokeLink makes a link useless; see [Conn.RevokeLink].
func (s *Session) RevokeLink(ctx context.Context, thread int64, code string) error {
	return s.do(ctx, func(c *Conn) error { return c.RevokeLink(ctx, thread, code) })
}

// JoinByLink makes this user a member; see [Conn.JoinByLink].
func (s *Session) JoinByLink(ctx context.Context, code string) (thread int64, name string, err error) {
	err = s.do(ctx, func(c *Conn) error {
		var err error
		thread, name, err = c.JoinByLink(ctx, code)
		return err
	})
	return thread, name, err
}

// doOnce is do for a change after which the user may not ask for it again: a refusal of a request that was repeated is
// success if the group shows that the first one took effect.
func (s *Session) doOnce(ctx context.Context, request func(*Conn) error, thread int64, done func(Group) bool) error {
	tries := 0
	err := s.do(ctx, func(c *Conn) error {
		tries++
		return request(c)
	})
	if tries > 1 && CodeOf(err) == CodeNotAllowed {
		if g, infoErr := s.Group(ctx, thread); infoErr == nil && done(g) {
			return nil
		}
	}
	return err
}
