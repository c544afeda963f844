package store

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
	VerbInfo                   // see GroupInfo
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
