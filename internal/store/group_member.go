package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

var (
	qMembersOf = sameList(`SELECT user_id,role,joined_ms,muted_until_ms,from_seq,left_seq,removed
		FROM group_chat_member WHERE thread_id=? AND user_id IN (@)`, "?", ",")
	qGroupCounts = sameList(`SELECT user_id,COUNT(*) FROM group_chat_member
		WHERE left_seq=0 AND user_id IN (@) GROUP BY user_id`, "?", ",")
	qFriendsAmong = sameList(`SELECT f.friend_id FROM friend f JOIN friend g ON g.self_id=f.friend_id AND g.friend_id=f.self_id
		WHERE f.self_id=? AND f.friend_id IN (@)`, "?", ",")
	qMemberLeft   = same(`UPDATE group_chat_member SET left_seq=?,left_name=?,removed=?,role=0 WHERE thread_id=? AND user_id=?`)
	qMembersLeft  = same(`UPDATE group_chat_member SET left_seq=?,left_name=?,role=0 WHERE thread_id=? AND left_seq=0`)
	qMemberBarred = same("UPDATE group_chat_member SET removed=1 WHERE thread_id=? AND user_id=?")
	qMemberRole   = same("UPDATE group_chat_member SET role=? WHERE thread_id=? AND user_id=?")
	qMemberMuted  = same("UPDATE group_chat_member SET muted_until_ms=? WHERE thread_id=? AND user_id=?")

	qGroupMembers = same(`SELECT m.user_id,m.role,m.joined_ms,m.muted_until_ms,m.from_seq,m.left_seq,
			u.uid,u.name,u.nick,u.desc,u.icon,u.sex
		FROM group_chat_member m JOIN user u ON u.uid=m.user_id
		WHERE m.thread_id=? AND m.user_id>? AND m.left_seq=0 ORDER BY m.user_id LIMIT ?`)
	qMemberships = sameList(`SELECT m.thread_id,t.member_ver,m.user_id,m.role,m.joined_ms,m.muted_until_ms,m.from_seq,m.left_seq
		FROM group_chat_member m JOIN chat_thread t ON t.id=m.thread_id
		WHERE m.user_id IN (@) AND m.left_seq=0 ORDER BY m.user_id,m.thread_id`, "?", ",")
	// One row at least, for the version.
	qLocalMembers = sameList(`SELECT t.member_ver,COALESCE(m.user_id,0),COALESCE(m.role,0),COALESCE(m.joined_ms,0),
			COALESCE(m.muted_until_ms,0),COALESCE(m.from_seq,0),COALESCE(m.left_seq,0)
		FROM chat_thread t LEFT JOIN group_chat_member m ON m.thread_id=t.id AND m.user_id IN (@) WHERE t.id=?`, "?", ",")
)

// Invite adds those of uids, MaxGroupUIDs at most, who are friends of by and may be in one more group. Those who are
// members already stay so; all others are in Refused. It returns ErrInvalid, ErrNotMember, ErrNotAllowed, ErrGroupFull if
// not all of them fit into the group, and ErrFenced.
func (s *Groups) Invite(ctx context.Context, node, boot string, by int32, thread int64, uids []int32) (GroupChange, error) {
	if len(uids) > MaxGroupUIDs {
		return GroupChange{}, fmt.Errorf("store: user %d invites %d users: %w", by, len(uids), ErrInvalid)
	}
	asked := others(uids, by)
	c := groupCall{
		node: node, boot: boot, by: by, thread: thread, verb: VerbInvite, users: append(asked[:len(asked):len(asked)], by),
	}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		asked := slices.DeleteFunc(slices.Clone(asked), func(uid int32) bool { return g.of[uid].Present() })
		counts, err := groupCounts(ctx, g.tx, asked)
		if err != nil {
			return nil, err
		}
		added, refused, err := invitable(ctx, g.tx, by, asked, g.exist, counts)
		if err != nil {
			return nil, err
		}
		step := &groupStep{members: added, refused: refused}
		if len(added) > 0 {
			step.event = Event{Event: EventInvited, UIDs: added}
			err = g.add(ctx, added)
		}
		return step, err
	})
}

// add makes members of users who are none.
func (g *groupTx) add(ctx context.Context, uids []int32) error {
	if g.members+len(uids) > g.db.groupMembers {
		return ErrGroupFull
	}
	from := g.seq()
	if g.historyForNew {
		from = 1
	}
	rows := make([]Membership, len(uids))
	for i, uid := range uids {
		// Coming back ends no mute.
		rows[i] = Membership{UID: uid, JoinedMS: g.nowMS, MutedUntilMS: g.of[uid].MutedUntilMS, FromSeq: from}
	}
	if err := g.putMembers(ctx, g.id, rows); err != nil {
		return err
	}
	_, err := g.exec(ctx, qGroupSize, 1, len(uids), g.id)
	return err
}

// Leave ends the membership of uid. It returns ErrOwner for the owner, ErrNotMember and ErrFenced.
func (s *Groups) Leave(ctx context.Context, node, boot string, uid int32, thread int64) (GroupChange, error) {
	c := groupCall{node: node, boot: boot, by: uid, thread: thread, verb: VerbLeave}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		return g.end(ctx, EventLeft, uid)
	})
}

// RemoveMember ends the membership of a member of a lower role than by, who comes back by invitation only; so does one who
// has left. It returns ErrSelf, ErrNotMember, ErrNotAllowed and ErrFenced.
func (s *Groups) RemoveMember(ctx context.Context, node, boot string, by int32, thread int64, uid int32) (GroupChange, error) {
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbRemove, uid: uid}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		m := g.of[uid]
		switch {
		case by == uid:
			return nil, ErrSelf
		case m.LeftSeq > 0:
			_, err := g.exec(ctx, qMemberBarred, 1, g.id, uid)
			return nil, err
		}
		if err := g.mayActOn(uid); err != nil {
			return nil, err
		}
		return g.end(ctx, EventRemoved, uid)
	})
}

// end ends a membership.
func (g *groupTx) end(ctx context.Context, event string, uid int32) (*groupStep, error) {
	if _, err := g.exec(ctx, qMemberLeft, 1, g.seq(), g.name, bit(event == EventRemoved), g.id, uid); err != nil {
		return nil, err
	}
	_, err := g.exec(ctx, qGroupSize, 1, -1, g.id)
	return &groupStep{event: Event{Event: event, UIDs: []int32{uid}}, members: []int32{uid}}, err
}

// mayActOn returns nil if uid is a member of a lower role than the caller.
func (g *groupTx) mayActOn(uid int32) error {
	switch m := g.of[uid]; {
	case !m.Present():
		return ErrNotMember
	case !g.me.outranks(m.Membership):
		return ErrNotAllowed
	}
	return nil
}

// SetRole makes uid an admin or a plain member. It returns ErrInvalid for RoleOwner, which Transfer gives, ErrOwner
// if uid is the owner, ErrNotMember, ErrNotAllowed and ErrFenced.
func (s *Groups) SetRole(ctx context.Context, node, boot string, by int32, thread int64, uid int32, role Role) (GroupChange, error) {
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbSetRole, uid: uid}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		m := g.of[uid]
		switch {
		case role != RoleMember && role != RoleAdmin:
			return nil, ErrInvalid
		case !m.Present():
			return nil, ErrNotMember
		case m.Role == RoleOwner:
			return nil, ErrOwner
		case m.Role == role:
			return nil, nil
		}
		_, err := g.exec(ctx, qMemberRole, 1, role, g.id, uid)
		n := int(role)
		return &groupStep{event: Event{Event: EventRole, UIDs: []int32{uid}, Role: &n}, members: []int32{uid}}, err
	})
}

// Transfer makes uid the owner, and the owner by an admin. It returns ErrNotMember, ErrNotAllowed and ErrFenced.
func (s *Groups) Transfer(ctx context.Context, node, boot string, by int32, thread int64, uid int32) (GroupChange, error) {
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbTransfer, uid: uid}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		switch {
		case !g.of[uid].Present():
			return nil, ErrNotMember
		case uid == by:
			return nil, nil
		}
		if _, err := g.exec(ctx, qMemberRole, 1, RoleAdmin, g.id, by); err != nil {
			return nil, err
		}
		err := g.crown(ctx, g.id, uid)
		return &groupStep{event: Event{Event: EventOwner, UIDs: []int32{uid}}, members: []int32{uid, by}}, err
	})
}

// crown makes a member the owner. The former owner has another role by now, or is about to leave.
func (t *tx) crown(ctx context.Context, thread int64, uid int32) error {
	if _, err := t.exec(ctx, qMemberRole, 1, RoleOwner, thread, uid); err != nil {
		return err
	}
	_, err := t.exec(ctx, qGroupOwner, 1, uid, thread)
	return err
}

// MuteMember forbids a member of a lower role than by to write before a moment of Unix time in milliseconds, by the clock of
// the node that stores the text; with a moment that has passed it ends that. It returns ErrInvalid, ErrNotMember,
// ErrNotAllowed and ErrFenced.
func (s *Groups) MuteMember(ctx context.Context, node, boot string, by int32, thread int64, uid int32, untilMS int64) (GroupChange, error) {
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbMuteMember, uid: uid}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		if untilMS < 0 || untilMS > maxUntilMS {
			return nil, ErrInvalid
		}
		if err := g.mayActOn(uid); err != nil {
			return nil, err
		}
		event := Event{Event: EventMuted, UIDs: []int32{uid}, UntilMS: untilMS}
		if untilMS <= g.nowMS {
			event.Event, event.UntilMS = EventUnmuted, 0
		}
		was := g.of[uid].MutedUntilMS
		if was == event.UntilMS || was <= g.nowMS && event.UntilMS == 0 {
			return nil, nil
		}
		_, err := g.exec(ctx, qMemberMuted, 1, event.UntilMS, g.id, uid)
		return &groupStep{event: event, members: []int32{uid}}, err
	})
}

// lockAll locks users by ascending uid and tells which of them exist.
func (t *tx) lockAll(ctx context.Context, uids []int32) (map[int32]bool, error) {
	exist := make(map[int32]bool, len(uids))
	args := appendPadded(nil, slices.Sorted(slices.Values(uids)))
	err := t.each(ctx, qUsersLock, len(args), args, func(rows *sql.Rows) error {
		var uid int32
		err := rows.Scan(&uid)
		exist[uid] = true
		return err
	})
	return exist, err
}

// memberships reads the memberships of some users in one group. Outsiders are missing in the result.
func memberships(ctx context.Context, t *tx, thread int64, uids []int32) (map[int32]membership, error) {
	args := appendPadded([]any{thread}, uids)
	of := make(map[int32]membership, len(uids))
	err := t.each(ctx, qMembersOf, len(args)-1, args, func(rows *sql.Rows) error {
		var m membership
		err := rows.Scan(append(m.dest(), &m.removed)...)
		of[m.UID] = m
		return err
	})
	return of, err
}

// groupCounts tells in how many groups users are.
func groupCounts(ctx context.Context, t *tx, uids []int32) (map[int32]int, error) {
	counts := make(map[int32]int, len(uids))
	if len(uids) == 0 {
		return counts, nil
	}
	args := appendPadded(nil, uids)
	err := t.each(ctx, qGroupCounts, len(args), args, func(rows *sql.Rows) error {
		var uid int32
		var n int
		err := rows.Scan(&uid, &n)
		counts[uid] = n
		return err
	})
	return counts, err
}

// invitable sorts users into those whom by may add to a group, and others. All are locked.
func invitable(ctx context.Context, t *tx, by int32, uids []int32, exist map[int32]bool, counts map[int32]int) (added, refused []int32, err error) {
	if len(uids) == 0 {
		return nil, nil, nil
	}
	friends := make(map[int32]bool, len(uids))
	args := appendPadded([]any{by}, uids)
	err = t.each(ctx, qFriendsAmong, len(args)-1, args, func(rows *sql.Rows) error {
		var uid int32
		err := rows.Scan(&uid)
		friends[uid] = true
		return err
	})
	for _, uid := range uids {
		if exist[uid] && friends[uid] && counts[uid] < MaxGroups {
			added = append(added, uid)
		} else {
			refused = append(refused, uid)
		}
	}
	return added, refused, err
}

// putMembers writes the rows of present members, new ones or of users who come back.
func (t *tx) putMembers(ctx context.Context, thread int64, members []Membership) error {
	for len(members) > 0 {
		n := insertShape(len(members))
		args := make([]any, 0, 6*n)
		for _, m := range members[:n] {
			args = append(args, thread, m.UID, m.Role, m.JoinedMS, m.MutedUntilMS, m.FromSeq)
		}
		if _, err := t.exec(ctx, qMembersPut, n, args...); err != nil {
			return err
		}
		members = members[n:]
	}
	return nil
}

// GroupMember is a present member of a group.
type GroupMember struct {
	Membership
	Profile
}

// Members returns up to limit present members of a group, by ascending uid, whose uid is greater than after. Who may
// ask is the caller's business.
func (s *Groups) Members(ctx context.Context, thread int64, after int32, limit int) ([]GroupMember, error) {
	var list []GroupMember
	err := s.db.each(ctx, qGroupMembers, 1, []any{thread, after, max(limit, 0)}, func(rows *sql.Rows) error {
		var m GroupMember
		err := rows.Scan(append(m.Membership.dest(), m.Profile.dest()...)...)
		list = append(list, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: members of group %d: %w", thread, err)
	}
	return list, nil
}

// ThreadMembership is a user's membership in a group, as of Ver.
type ThreadMembership struct {
	Thread int64
	Ver    int32
	Membership
}

// Memberships returns the groups in which many users are, 256 users in one statement, each user's by ascending thread.
func (s *Groups) Memberships(ctx context.Context, uids []int32) (map[int32][]ThreadMembership, error) {
	uids = slices.Compact(slices.Sorted(slices.Values(uids))) // in two statements, one user's groups would come twice
	groups := make(map[int32][]ThreadMembership, len(uids))
	var m ThreadMembership
	dest := append([]any{&m.Thread, &m.Ver}, m.dest()...)
	err := eachOf(ctx, s.db, qMemberships, uids, func(rows *sql.Rows) error {
		err := rows.Scan(dest...)
		groups[m.UID] = append(groups[m.UID], m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: groups of %d users: %w", len(uids), err)
	}
	return groups, nil
}

// LocalMembers returns the memberships, present and former, that some users have in a group, and the version of which they
// are: with more than 256 users the lowest of several. It returns ErrNotFound if there is no such thread.
func (s *Groups) LocalMembers(ctx context.Context, thread int64, uids []int32) (ver int32, of map[int32]Membership, err error) {
	of = make(map[int32]Membership, len(uids))
	found := false
	var v int32
	var m Membership
	dest := append([]any{&v}, m.dest()...)
	read := func(part []int32) error {
		args := append(appendPadded(nil, part), thread)
		return s.db.each(ctx, qLocalMembers, len(args)-1, args, func(rows *sql.Rows) error {
			if err := rows.Scan(dest...); err != nil {
				return err
			}
			if ver = min(ver, v); !found {
				ver, found = v, true
			}
			if m.UID != 0 {
				of[m.UID] = m
			}
			return nil
		})
	}
	if len(uids) == 0 {
		uids = []int32{0} // for the version
	}
	for part := range slices.Chunk(uids, maxList) {
		if err = read(part); err != nil {
			break
		}
	}
	if err == nil && !found {
		err = ErrNotFound
	}
	if err != nil {
		return 0, nil, fmt.Errorf("store: %d members of group %d: %w", len(uids), thread, err)
	}
	return ver, of, nil
}
