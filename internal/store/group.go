package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Groups are the groups and their members.
type Groups struct{ db *database }

// A group is a thread of any number of members. Each change of it is one transaction, which locks the thread's row before
// it reads what it decides by, and appends a row to the thread that tells of the change: so all members see the changes and
// the texts in one order. Where a change touches who may read or write, it raises the thread's version, as relation.go
// explains. What joins users to a group locks their rows of user first.

const (
	// MaxGroupName bounds a group's name, in characters.
	MaxGroupName = 64
	// MaxGroups is how many groups a user may be in.
	MaxGroups = 1000
	// MaxGroupUIDs bounds the users of one call.
	MaxGroupUIDs = 100
	// DefaultGroupMembers is how many members a group may have unless Groups.SetMaxMembers says otherwise.
	DefaultGroupMembers = 10000

	// maxUntilMS is the end of the year 9999.
	maxUntilMS = 253402300799999
)

var (
	qGroupThreadNew = same("INSERT INTO chat_thread(type,last_seq,member_ver,created_ms) VALUES('group',1,1,?)")
	qGroupThreadPut = same("UPDATE chat_thread SET last_seq=?,member_ver=? WHERE id=?")
	qGroupPut       = same("INSERT INTO group_chat(thread_id,name,owner_id,members,created_ms) VALUES(?,?,?,?,?)")
	qGroupRead      = same("SELECT name,owner_id,muted,history_for_new,members,dissolved_ms FROM group_chat WHERE thread_id=?")
	qGroupName      = same("UPDATE group_chat SET name=? WHERE thread_id=?")
	qGroupMuted     = same("UPDATE group_chat SET muted=? WHERE thread_id=?")
	qGroupHistory   = same("UPDATE group_chat SET history_for_new=? WHERE thread_id=?")
	qGroupOwner     = same("UPDATE group_chat SET owner_id=? WHERE thread_id=?")
	qGroupSize      = same("UPDATE group_chat SET members=members+? WHERE thread_id=?")
	qGroupDissolve  = same("UPDATE group_chat SET members=0,owner_id=0,dissolved_ms=? WHERE thread_id=?")

	qGroupInfo = same(`SELECT g.name,g.owner_id,g.members,g.muted,g.history_for_new,g.dissolved_ms,g.created_ms,
			t.last_seq,t.member_ver,m.left_name,m.user_id,m.role,m.joined_ms,m.muted_until_ms,m.from_seq,m.left_seq
		FROM group_chat_member m JOIN group_chat g ON g.thread_id=m.thread_id JOIN chat_thread t ON t.id=m.thread_id
		WHERE m.thread_id=? AND m.user_id=?`)

	// The row of Groups.Create's unique id.
	qCreated = same(`SELECT m.thread_id,m.seq,m.kind,m.content,m.created_ms,t.member_ver
		FROM chat_message m JOIN chat_thread t ON t.id=m.thread_id WHERE m.sender_id=? AND m.unique_id=?`)
)

// Events of a group.
const (
	EventCreated   = "created"
	EventJoined    = "joined" // by a link
	EventInvited   = "invited"
	EventLeft      = "left"
	EventRemoved   = "removed"
	EventRole      = "role"
	EventOwner     = "owner"
	EventRenamed   = "renamed"
	EventMuted     = "muted"
	EventUnmuted   = "unmuted"
	EventMuteAll   = "mute_all"
	EventHistory   = "history"
	EventDissolved = "dissolved"
)

// Event is the content of a row of KindEvent, as JSON. By is the user who made the change, UIDs are those it concerns.
type Event struct {
	Event   string  `json:"event"`
	By      int32   `json:"by"`
	UIDs    []int32 `json:"uids,omitempty"`
	Name    string  `json:"name,omitempty"`
	Role    *int    `json:"role,omitempty"`
	UntilMS int64   `json:"until_ms,omitempty"`
	On      *bool   `json:"on,omitempty"`
}

// content returns the event as it is stored.
func (e *Event) content() (string, error) {
	b, err := json.Marshal(e)
	return string(b), err
}

// Group is a group as one of its members, present or former, sees it. Members is how many are present.
type Group struct {
	ThreadID                        int64
	Name                            string
	Owner                           int32
	Members                         int
	Muted, HistoryForNew, Dissolved bool
	CreatedMS, LastSeq              int64
	Ver                             int32 // of the membership; see Access
	Mine                            Membership
}

// GroupChange is what a change of a group did.
type GroupChange struct {
	// Ver is the version of the membership after the change.
	Ver int32
	// Event is the row that tells of the change. Its Seq is 0 when there was nothing to do; its ThreadID is always set.
	Event Message
	// Members are the users who were added, or whose membership ended or changed. It is nil for a group that was dissolved.
	Members []int32
	// Refused are the users who were not added.
	Refused []int32
}

// SetMaxMembers sets how many members a group may have. It must be called before the store is used.
func (s *Groups) SetMaxMembers(n int) { s.db.groupMembers = n }

// validGroupName reports whether a group may be called that: printable characters, and the joiners that scripts and emoji
// need.
func validGroupName(name string) bool {
	if !utf8.ValidString(name) || name == "" || utf8.RuneCountInString(name) > MaxGroupName {
		return false
	}
	for _, r := range name {
		if !unicode.IsPrint(r) && r != '\u200c' && r != '\u200d' {
			return false
		}
	}
	return true
}

// Info returns a group as uid sees it: a former member as of leaving, without what only members know. It returns
// ErrNotMember for all others.
func (s *Groups) Info(ctx context.Context, thread int64, uid int32) (Group, error) {
	g := Group{ThreadID: thread}
	var dissolved int64
	var leftName string
	found := false
	err := s.db.each(ctx, qGroupInfo, 1, []any{thread, uid}, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(append([]any{
			&g.Name, &g.Owner, &g.Members, &g.Muted, &g.HistoryForNew, &dissolved, &g.CreatedMS, &g.LastSeq, &g.Ver, &leftName,
		}, g.Mine.dest()...)...)
	})
	if err == nil && !found {
		err = ErrNotMember
	}
	if err != nil {
		return Group{}, fmt.Errorf("store: group %d for user %d: %w", thread, uid, err)
	}
	if left := g.Mine.LeftSeq; left > 0 {
		// Nothing follows the end of a group: who read its last row was there.
		g = Group{
			ThreadID: thread, Name: leftName, Dissolved: dissolved > 0 && g.LastSeq == left, CreatedMS: g.CreatedMS,
			LastSeq: left, Ver: g.Ver, Mine: g.Mine,
		}
	}
	return g, nil
}

// Create makes a group of owner and of those of members, MaxGroupUIDs at most, who are friends of owner and may be in
// one more group, under node's fence. The others are in Refused. uniqueID is the owner's as that of a text: called again
// with it, Create returns the first group. It returns ErrInvalid, ErrNotFound if there is no such owner,
// ErrTooManyGroups, ErrGroupFull, ErrUniqueIDTaken and ErrFenced.
func (s *Groups) Create(ctx context.Context, node, boot string, owner int32, name, uniqueID string, members []int32) (GroupChange, error) {
	change, err := s.create(ctx, node, boot, owner, name, uniqueID, members)
	if err != nil {
		return GroupChange{}, fmt.Errorf("store: user %d creates a group: %w", owner, err)
	}
	return change, nil
}

func (s *Groups) create(ctx context.Context, node, boot string, owner int32, name, uniqueID string, members []int32) (GroupChange, error) {
	if !validGroupName(name) || uniqueID == "" || len(uniqueID) > maxUnique || !utf8.ValidString(uniqueID) || len(members) > MaxGroupUIDs {
		return GroupChange{}, ErrInvalid
	}
	asked := others(members, owner)
	var change GroupChange
	err := s.db.transact(ctx, retryAll, func(ctx context.Context, t *tx) error {
		if err := t.checkFence(ctx, node, boot); err != nil {
			return err
		}
		exist, err := t.lockAll(ctx, append(asked[:len(asked):len(asked)], owner))
		if err != nil {
			return err
		}
		if !exist[owner] {
			return ErrNotFound
		}
		var found bool
		if change, found, err = findCreated(ctx, t, owner, uniqueID, asked); err != nil || found {
			return err
		}
		counts, err := groupCounts(ctx, t, append(asked[:len(asked):len(asked)], owner))
		if err != nil {
			return err
		}
		if counts[owner] >= MaxGroups {
			return ErrTooManyGroups
		}
		added, refused, err := invitable(ctx, t, owner, asked, exist, counts)
		if err != nil {
			return err
		}
		if 1+len(added) > s.db.groupMembers {
			return ErrGroupFull
		}
		now := s.db.ms()
		res, err := t.exec(ctx, qGroupThreadNew, 1, now)
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return fmt.Errorf("new thread id: %w", err)
		}
		if _, err := t.exec(ctx, qGroupPut, 1, id, name, owner, 1+len(added), now); err != nil {
			return err
		}
		rows := []Membership{{UID: owner, Role: RoleOwner, JoinedMS: now, FromSeq: 1}}
		for _, uid := range added {
			rows = append(rows, Membership{UID: uid, JoinedMS: now, FromSeq: 1})
		}
		if err := t.putMembers(ctx, id, rows); err != nil {
			return err
		}
		if err := t.touch(ctx, id); err != nil {
			return err
		}
		event := Event{Event: EventCreated, By: owner, UIDs: added, Name: name}
		m := Message{ThreadID: id, Seq: 1, Sender: owner, UniqueID: uniqueID, CreatedMS: now, Kind: KindEvent}
		if m.Content, err = event.content(); err != nil {
			return err
		}
		if err := t.putEvents(ctx, m); err != nil {
			return err
		}
		change = GroupChange{Ver: 1, Event: m, Members: added, Refused: refused}
		return nil
	})
	return change, err
}

// others returns uids sorted, each once, without self.
func others(uids []int32, self int32) []int32 {
	list := slices.DeleteFunc(slices.Clone(uids), func(uid int32) bool { return uid == self })
	slices.Sort(list)
	return slices.Compact(list)
}

// findCreated finds the group that owner has created under a unique id.
func findCreated(ctx context.Context, t *tx, owner int32, uniqueID string, asked []int32) (change GroupChange, found bool, err error) {
	m := Message{Sender: owner, UniqueID: uniqueID}
	found, err = t.one(ctx, qCreated, []any{owner, uniqueID}, &m.ThreadID, &m.Seq, &m.Kind, &m.Content, &m.CreatedMS, &change.Ver)
	if err != nil || !found {
		return GroupChange{}, false, err
	}
	var event Event
	if m.Kind != KindEvent || m.Seq != 1 || json.Unmarshal([]byte(m.Content), &event) != nil {
		return GroupChange{}, false, ErrUniqueIDTaken
	}
	change.Event, change.Members = m, event.UIDs
	for _, uid := range asked {
		if !slices.Contains(event.UIDs, uid) {
			change.Refused = append(change.Refused, uid)
		}
	}
	return change, true, nil
}

// groupCall says who wants to change which group, and how.
type groupCall struct {
	node, boot string
	by         int32
	thread     int64
	verb       Verb
	uid        int32   // the member whom it concerns; 0: none
	users      []int32 // to be locked
}

// groupTx is a transaction that has locked a group.
type groupTx struct {
	*tx
	id, last             int64
	ver                  int32
	name                 string
	owner                int32
	muted, historyForNew bool
	members              int
	dissolved            bool
	nowMS                int64
	exist                map[int32]bool       // of groupCall.users
	of                   map[int32]membership // of by, uid and users
	me                   membership
}

// membership is a Membership as only this package needs to know it.
type membership struct {
	Membership
	removed bool
}

// groupStep is a change that has been made but for its row.
type groupStep struct {
	event            Event
	members, refused []int32
	sameRights       bool // nobody may read or write other than before
}

// seq is the number of the row that will tell of the change.
func (g *groupTx) seq() int64 { return g.last + 1 }

// change runs fn in a transaction that has checked the fence, locked the users and the group of c, and made sure
// that c.by may do c.verb. fn returns nil if there is nothing to tell of.
func (s *Groups) change(ctx context.Context, c groupCall, fn func(context.Context, *groupTx) (*groupStep, error)) (GroupChange, error) {
	uniqueID := newUniqueID()
	var result GroupChange
	err := s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
		g, err := lockGroup(ctx, t, c)
		if err != nil {
			return err
		}
		if t.unclear {
			// Only now: with the group locked nothing of an earlier attempt can still be under way.
			var m Message
			found, err := t.one(ctx, qMessageByID, []any{c.by, uniqueID}, &m.ThreadID, &m.Seq, &m.Content, &m.Status, &m.CreatedMS)
			if err != nil || found {
				return err // result is of that attempt
			}
		}
		if st := g.me.Standing(g.muted, g.nowMS); !May(c.verb, st) {
			return refusal(c.verb, st)
		}
		step, err := fn(ctx, g)
		if err != nil {
			return err
		}
		result = GroupChange{Ver: g.ver, Event: Message{ThreadID: g.id}}
		if step == nil {
			return nil
		}
		result.Members, result.Refused = step.members, step.refused
		if step.event.Event == "" {
			return nil
		}
		step.event.By = c.by
		result.Event, err = g.tell(ctx, c.by, uniqueID, step)
		result.Ver = g.ver
		return err
	})
	if err != nil {
		return GroupChange{}, fmt.Errorf("store: user %d, group %d, %v: %w", c.by, c.thread, c.verb, err)
	}
	return result, nil
}

// lockGroup locks a group and reads what a change of it is decided by. A thread that is no group has no members.
func lockGroup(ctx context.Context, t *tx, c groupCall) (*groupTx, error) {
	if err := t.checkFence(ctx, c.node, c.boot); err != nil {
		return nil, err
	}
	g := &groupTx{tx: t, id: c.thread, nowMS: t.db.ms()}
	var err error
	if len(c.users) > 0 {
		if g.exist, err = t.lockAll(ctx, c.users); err != nil {
			return nil, err
		}
	}
	var id, dissolvedMS int64
	found, err := t.one(ctx, qThreadsLock, []any{c.thread}, &id, &g.last, &g.ver)
	if err == nil && found {
		found, err = t.one(ctx, qGroupRead, []any{c.thread}, &g.name, &g.owner, &g.muted, &g.historyForNew, &g.members, &dissolvedMS)
	}
	if err == nil && !found {
		err = ErrNotMember
	}
	if err != nil {
		return nil, err
	}
	g.dissolved = dissolvedMS > 0
	g.of, err = memberships(ctx, t, c.thread, append(c.users[:len(c.users):len(c.users)], c.by, c.uid))
	g.me = g.of[c.by]
	return g, err
}

// tell appends the row that tells of a change, and raises the version unless nobody's rights have changed.
func (g *groupTx) tell(ctx context.Context, by int32, uniqueID string, step *groupStep) (Message, error) {
	if g.last >= maxSeq {
		return Message{}, ErrThreadFull
	}
	content, err := step.event.content()
	if err != nil {
		return Message{}, err
	}
	m := Message{ThreadID: g.id, Seq: g.seq(), Sender: by, UniqueID: uniqueID, Content: content, CreatedMS: g.nowMS, Kind: KindEvent}
	if err := g.putEvents(ctx, m); err != nil {
		return Message{}, err
	}
	g.last++
	if !step.sameRights {
		g.ver++
	}
	if _, err = g.exec(ctx, qGroupThreadPut, 1, g.last, g.ver, g.id); err != nil {
		return Message{}, err
	}
	return m, g.touch(ctx, g.id)
}

// putEvents inserts rows that are no texts.
func (t *tx) putEvents(ctx context.Context, events ...Message) error {
	for len(events) > 0 {
		n := insertShape(len(events))
		args := make([]any, 0, longColumns*n)
		for i := range events[:n] {
			m := &events[i]
			args = append(args, m.ThreadID, m.Seq, m.Sender, m.UniqueID, m.Content, m.CreatedMS, m.Kind)
		}
		if _, err := t.exec(ctx, qEventsPut, n, args...); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// Rename gives a group another name: 1 to MaxGroupName printable characters, else ErrInvalid. It returns
// ErrNotMember, ErrNotAllowed and ErrFenced.
func (s *Groups) Rename(ctx context.Context, node, boot string, by int32, thread int64, name string) (GroupChange, error) {
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbRename}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		if !validGroupName(name) {
			return nil, ErrInvalid
		}
		if g.name == name {
			return nil, nil
		}
		_, err := g.exec(ctx, qGroupName, 1, name, g.id)
		return &groupStep{event: Event{Event: EventRenamed, Name: name}, sameRights: true}, err
	})
}

// Mute says whether only admins and the owner may write. Errors are as of Rename.
func (s *Groups) Mute(ctx context.Context, node, boot string, by int32, thread int64, on bool) (GroupChange, error) {
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbMuteGroup}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		if g.muted == on {
			return nil, nil
		}
		_, err := g.exec(ctx, qGroupMuted, 1, bit(on), g.id)
		return &groupStep{event: Event{Event: EventMuteAll, On: &on}}, err
	})
}

// SetHistoryForNew says whether users who join from now on read the group from its beginning. Errors are as of Rename.
func (s *Groups) SetHistoryForNew(ctx context.Context, node, boot string, by int32, thread int64, on bool) (GroupChange, error) {
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbHistory}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		if g.historyForNew == on {
			return nil, nil
		}
		_, err := g.exec(ctx, qGroupHistory, 1, bit(on), g.id)
		return &groupStep{event: Event{Event: EventHistory, On: &on}, sameRights: true}, err
	})
}

// Dissolve ends a group for good: all its members are former ones after it. Errors are as of Rename.
func (s *Groups) Dissolve(ctx context.Context, node, boot string, by int32, thread int64) (GroupChange, error) {
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbDissolve}
	return s.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		if _, err := g.exec(ctx, qMembersLeft, 1, g.seq(), g.name, g.id); err != nil {
			return nil, err
		}
		return &groupStep{event: Event{Event: EventDissolved}}, g.close(ctx, g.id)
	})
}

// close marks a group as dissolved and ends its links. Its members have left.
func (t *tx) close(ctx context.Context, thread int64) error {
	if _, err := t.exec(ctx, qGroupDissolve, 1, t.db.ms(), thread); err != nil {
		return err
	}
	_, err := t.exec(ctx, qLinksDrop, 1, thread)
	return err
}

// bit is how a flag is stored.
func bit(on bool) int {
	if on {
		return 1
	}
	return 0
}
