package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// Rights tell who may read and write in which threads.
type Rights struct{ db *database }

var qAccess = sameList(`SELECT p.thread_id,p.user1_id,p.user2_id,
			CASE WHEN f1.self_id IS NOT NULL AND f2.self_id IS NOT NULL THEN 1 ELSE 0 END,t.member_ver
		FROM private_chat p JOIN chat_thread t ON t.id=p.thread_id
		LEFT JOIN friend f1 ON f1.self_id=p.user1_id AND f1.friend_id=p.user2_id
		LEFT JOIN friend f2 ON f2.self_id=p.user2_id AND f2.friend_id=p.user1_id
		WHERE p.thread_id IN (@)`, "?", ",")

// What the members of a group may do. The table below is all there is of it: the store asks it inside the transaction that
// makes the change, and its callers before they answer reads.

// Role is a member's rank in a group.
type Role int8

const (
	RoleMember Role = iota
	RoleAdmin
	RoleOwner // exactly one in each group that is not dissolved
)

// Standing is how a user stands to a group at one moment.
type Standing int8

const (
	StandingOutsider Standing = iota // never was a member
	StandingFormer                   // left, was removed, or the group was dissolved
	StandingMuted                    // a member who may not write, or any member while the group is muted
	StandingMember
	StandingAdmin
	StandingOwner
	standings
)

func (s Standing) String() string {
	if s < 0 || s >= standings {
		return "unknown"
	}
	return [standings]string{"outsider", "former", "muted", "member", "admin", "owner"}[s]
}

// Verb is what a user may do with a group.
type Verb int8

const (
	VerbRead       Verb = iota // the rows of the user's own interval; see Membership.Reads
	VerbWrite                  // texts
	VerbInfo                   // see Groups.Info
	VerbMembers                // list the members
	VerbInvite                 // friends
	VerbLink                   // create a link
	VerbLinks                  // list the links
	VerbRevokeLink             // end a link
	VerbRename                 // the group
	VerbMuteMember             // of a lower role; also to end that
	VerbMuteGroup              // so that only admins and the owner write; also to end that
	VerbHistory                // say whether new members read what was before
	VerbRemove                 // a member of a lower role
	VerbSetRole                // of another member
	VerbTransfer               // make another member the owner
	VerbDissolve               // the group
	VerbLeave                  // the group; its owner transfers or dissolves it first
	VerbJoin                   // by a link; who is a member stays one
	verbs
)

func (v Verb) String() string {
	if v < 0 || v >= verbs {
		return "unknown"
	}
	return [verbs]string{
		"read", "write", "info", "members", "invite", "link", "links", "revoke link", "rename", "mute member", "mute group",
		"history", "remove", "set role", "transfer", "dissolve", "leave", "join",
	}[v]
}

// Sets of standings.
const (
	outsiders = 1 << StandingOutsider
	formers   = 1 << StandingFormer
	silenced  = 1 << StandingMuted
	plain     = 1 << StandingMember
	admins    = 1 << StandingAdmin
	owners    = 1 << StandingOwner
	leaders   = admins | owners
	inside    = silenced | plain | leaders
)

// may holds the standings that may do each verb.
var may = [verbs]uint8{
	VerbRead:       formers | inside,
	VerbWrite:      plain | leaders,
	VerbInfo:       formers | inside,
	VerbMembers:    inside,
	VerbInvite:     leaders,
	VerbLink:       leaders,
	VerbLinks:      leaders,
	VerbRevokeLink: leaders,
	VerbRename:     leaders,
	VerbMuteMember: leaders,
	VerbMuteGroup:  leaders,
	VerbHistory:    leaders,
	VerbRemove:     leaders,
	VerbSetRole:    owners,
	VerbTransfer:   owners,
	VerbDissolve:   owners,
	VerbLeave:      silenced | plain | admins,
	VerbJoin:       outsiders | formers | inside,
}

// May reports whether a user of that standing may do v.
func May(v Verb, s Standing) bool {
	return v >= 0 && v < verbs && s >= 0 && s < standings && may[v]&(1<<s) != 0
}

// Verbs returns all verbs.
func Verbs() []Verb {
	all := make([]Verb, verbs)
	for i := range all {
		all[i] = Verb(i)
	}
	return all
}

// Standings returns all standings.
func Standings() []Standing {
	all := make([]Standing, standings)
	for i := range all {
		all[i] = Standing(i)
	}
	return all
}

// refusal is the error for a verb that a standing does not permit.
func refusal(v Verb, s Standing) error {
	switch {
	case s <= StandingFormer:
		return ErrNotMember
	case v == VerbLeave:
		return ErrOwner
	}
	return ErrNotAllowed
}

// Membership is a user's place in a group, present or former. The zero value is an outsider's.
type Membership struct {
	UID                    int32
	Role                   Role
	JoinedMS, MutedUntilMS int64
	// FromSeq is the first row that the user may read, LeftSeq the last; 0 while the user is a member.
	FromSeq, LeftSeq int64
}

func (m *Membership) dest() []any {
	return []any{&m.UID, &m.Role, &m.JoinedMS, &m.MutedUntilMS, &m.FromSeq, &m.LeftSeq}
}

// Present reports whether the user is a member.
func (m Membership) Present() bool { return m.FromSeq > 0 && m.LeftSeq == 0 }

// Reads reports whether the user may read a row.
func (m Membership) Reads(seq int64) bool {
	return m.FromSeq > 0 && seq >= m.FromSeq && (m.LeftSeq == 0 || seq <= m.LeftSeq)
}

// LastReadable returns the last row that the user may read of a group whose last row is lastSeq.
func (m Membership) LastReadable(lastSeq int64) int64 {
	if m.LeftSeq > 0 {
		return m.LeftSeq
	}
	return lastSeq
}

// Standing returns how the user stands to the group at a moment of Unix time in milliseconds.
func (m Membership) Standing(groupMuted bool, nowMS int64) Standing {
	switch {
	case m.FromSeq == 0:
		return StandingOutsider
	case m.LeftSeq > 0:
		return StandingFormer
	case m.Role == RoleOwner:
		return StandingOwner
	case m.Role == RoleAdmin:
		return StandingAdmin
	case groupMuted || m.MutedUntilMS > nowMS:
		return StandingMuted
	}
	return StandingMember
}

// outranks reports whether m may act on o. Both are members.
func (m Membership) outranks(o Membership) bool { return m.Role > o.Role }

// GroupKey names a user in a group.
type GroupKey struct {
	Thread int64
	UID    int32
}

// GroupRight is what a user may do with a group, as of Ver: every change of it raises the version, in the transaction that
// makes the change, under the thread's lock. Only the end of a mute comes with time alone.
type GroupRight struct {
	Membership
	GroupMuted bool
	Ver        int32
}

// Standing returns the user's standing at a moment of Unix time in milliseconds.
func (r GroupRight) Standing(nowMS int64) Standing { return r.Membership.Standing(r.GroupMuted, nowMS) }

// MayWrite reports whether the user may write to the group then.
func (r GroupRight) MayWrite(nowMS int64) bool { return May(VerbWrite, r.Standing(nowMS)) }

// InGroups reads the rights of users in groups, 256 in one statement. Outsiders are missing in the result. It sees what
// was committed before the call.
func (s *Rights) InGroups(ctx context.Context, keys []GroupKey) (map[GroupKey]GroupRight, error) {
	rights := make(map[GroupKey]GroupRight, len(keys))
	for part := range slices.Chunk(keys, maxList) {
		args := groupArgs(nil, part)
		err := s.db.each(ctx, qGroupRights, len(args)/2, args, func(rows *sql.Rows) error { return scanRight(rows, rights) })
		if err != nil {
			return nil, fmt.Errorf("store: rights of %d users in groups: %w", len(keys), err)
		}
	}
	return rights, nil
}

// groupArgs appends the arguments of qGroupRights.
func groupArgs(args []any, keys []GroupKey) []any {
	for i := range padded(len(keys)) {
		k := keys[min(i, len(keys)-1)]
		args = append(args, k.Thread, k.UID)
	}
	return args
}

// scanRight reads a row of qGroupRights.
func scanRight(rows *sql.Rows, rights map[GroupKey]GroupRight) error {
	var thread int64
	var r GroupRight
	err := rows.Scan(append([]any{&thread, &r.GroupMuted, &r.Ver}, r.dest()...)...)
	rights[GroupKey{thread, r.UID}] = r
	return err
}

// Access tells who may use a private thread. Friends means that each is in the other's list. Ver is the version of all
// that: every change of who may write or read raises it, in the transaction that makes the change, under the thread's lock.
type Access struct {
	User1, User2 int32
	Friends      bool
	Ver          int32
}

// MayWrite reports whether uid may write to the thread.
func (a Access) MayWrite(uid int32) bool { return a.Friends && (uid == a.User1 || uid == a.User2) }

// Peer returns the other member, or ErrNotMember if uid is none.
func (a Access) Peer(uid int32) (int32, error) {
	switch uid {
	case a.User1:
		return a.User2, nil
	case a.User2:
		return a.User1, nil
	}
	return 0, ErrNotMember
}

// Access reads the access of private threads, 256 in one statement. Threads that do not exist or are not private are
// missing in the result. It sees what was committed before the call.
func (s *Rights) Access(ctx context.Context, threads []int64) (map[int64]Access, error) {
	access := make(map[int64]Access, len(threads))
	err := eachOf(ctx, s.db, qAccess, threads, func(rows *sql.Rows) error {
		id, a, err := scanAccess(rows)
		access[id] = a
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: access to %d threads: %w", len(threads), err)
	}
	return access, nil
}

// scanAccess reads a row of qAccess.
func scanAccess(rows *sql.Rows) (id int64, a Access, err error) {
	err = rows.Scan(&id, &a.User1, &a.User2, &a.Friends, &a.Ver)
	return id, a, err
}
