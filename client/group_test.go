package client

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// group makes a group whose first event, of which it returns the thread, admits the owner and members.
func (f *fake) group(id int64, owner int32, members ...int32) {
	f.mu.Lock()
	th := &fakeThread{id: id, name: fmt.Sprint("group ", id), members: map[int32]*fakeMember{owner: {role: wire.RoleOwner, from: 1}}}
	for _, uid := range members {
		th.members[uid] = &fakeMember{from: 1}
	}
	f.threads[id] = th
	f.mu.Unlock()
	f.event(id, wire.GroupEvent{Event: wire.EventCreated, By: owner, UIDs: members, Name: th.name})
}

// change stores an event of a group and changes the members as it says, without a push.
func (f *fake) change(thread int64, e wire.GroupEvent) wire.StoredText {
	content, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	th := f.threads[thread]
	id := int64(len(th.msgs) + 1)
	m := wire.StoredText{
		Sender: e.By, MsgID: id, ThreadID: thread, UniqueID: fmt.Sprintf("event-%d-%d", thread, id), Content: string(content), Status: 2,
		CreatedMS: 1_700_000_000_000 + id, Kind: wire.KindEvent,
	}
	th.msgs = append(th.msgs, m)
	switch e.Event {
	case wire.EventInvited:
		for _, uid := range e.UIDs {
			th.members[uid] = &fakeMember{from: id}
		}
	case wire.EventJoined:
		th.members[e.By] = &fakeMember{from: id}
	case wire.EventLeft:
		th.members[e.By].left = id
	case wire.EventRemoved:
		for _, uid := range e.UIDs {
			th.members[uid].left = id
		}
	case wire.EventRenamed:
		th.name = e.Name
	case wire.EventDissolved:
		for _, m := range th.members {
			if m.left == 0 {
				m.left = id
			}
		}
	}
	f.mu.Unlock()
	return m
}

// event is change with a push.
func (f *fake) event(thread int64, e wire.GroupEvent) wire.StoredText {
	m := f.change(thread, e)
	f.push(m)
	return m
}

// fanOut pushes messages of a group to those who may read them.
func (f *fake) fanOut(th *fakeThread, ms []wire.StoredText) {
	for _, c := range f.living(0) {
		var mine []wire.StoredText
		f.mu.Lock()
		for _, m := range ms {
			if th.reads(c.uid, m.MsgID) {
				mine = append(mine, m)
			}
		}
		f.mu.Unlock()
		if len(mine) > 0 {
			c.send(wire.MsgGroupPush, wire.GroupPush{ThreadID: th.id, Chats: mine})
		}
	}
}

func invited(by int32, uids ...int32) wire.GroupEvent {
	return wire.GroupEvent{Event: wire.EventInvited, By: by, UIDs: uids}
}

func removed(by int32, uids ...int32) wire.GroupEvent {
	return wire.GroupEvent{Event: wire.EventRemoved, By: by, UIDs: uids}
}

func left(by int32) wire.GroupEvent { return wire.GroupEvent{Event: wire.EventLeft, By: by} }

func TestGroupRequests(t *testing.T) {
	f := newFake(t)
	var mu sync.Mutex
	asked := map[wire.MsgID]string{}
	answers := map[wire.MsgID]string{
		wire.MsgGroupCreate: `{"error":0,"thread_id":9,"msg_id":1,"refused":[5]}`,
		wire.MsgGroupInfo: `{"error":0,"thread_id":9,"name":"book club","owner":2,"members":3,"mute_all":true,"history_for_new":true,` +
			`"created_ms":1000,"role":1,"muted_until_ms":2000,"first_id":4,"last_seq":8,"left":0}`,
		wire.MsgGroupInvite: `{"error":0,"thread_id":9,"msg_id":0,"refused":[6,7]}`,
		wire.MsgGroupLink:   `{"error":0,"thread_id":9,"code":"abc","expires_ms":3000,"uses":2}`,
		wire.MsgGroupLinks:  `{"error":0,"thread_id":9,"links":[{"code":"abc","by":2,"created_ms":1000,"expires_ms":3000,"uses":1}]}`,
		wire.MsgGroupJoin:   `{"error":0,"thread_id":9,"msg_id":4,"name":"book club"}`,
	}
	f.hook = func(c *fakeConn, id wire.MsgID, body []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		reply, ok := id.Reply()
		if !ok || id < wire.MsgGroupCreate {
			return false
		}
		asked[id] = string(body)
		answer := answers[id]
		switch {
		case id == wire.MsgGroupMembers && body[len(body)-len(`"limit":500}`)-2] == '0':
			answer = `{"error":0,"members":[{"uid":1,"name":"alice","role":2,"joined_ms":1000}],"last_uid":1,"load_more":true}`
		case id == wire.MsgGroupMembers:
			answer = `{"error":0,"members":[{"uid":4,"name":"dora","role":0,"joined_ms":2000,"muted_until_ms":9000}],"last_uid":4}`
		case answer == "":
			answer = `{"error":0,"thread_id":9,"msg_id":3}`
		}
		c.send(reply, json.RawMessage(answer))
		return true
	}
	c := f.dial(1, Options{})
	ctx := t.Context()
	ms := func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

	made, err := c.CreateGroup(ctx, GroupDraft{UniqueID: "u", Name: "book club", Members: []int32{4, 5}})
	require.NoError(t, err)
	require.Equal(t, CreatedGroup{ThreadID: 9, Refused: []int32{5}}, made)
	g, err := c.Group(ctx, 9)
	require.NoError(t, err)
	require.Equal(t, Group{
		ThreadID: 9, Name: "book club", Owner: 2, Members: 3, MuteAll: true, HistoryForNew: true, Created: ms(1000), Role: RoleAdmin,
		MutedUntil: ms(2000), First: 4, LastID: 8,
	}, g)
	var members []GroupMember
	for m, err := range c.GroupMembers(ctx, 9) {
		require.NoError(t, err)
		members = append(members, m)
	}
	require.Equal(t, []GroupMember{
		{Profile: Profile{UID: 1, Name: "alice"}, Role: RoleOwner, Joined: ms(1000)},
		{Profile: Profile{UID: 4, Name: "dora"}, Joined: ms(2000), MutedUntil: ms(9000)},
	}, members)
	refused, err := c.Invite(ctx, 9, 4, 6, 7)
	require.NoError(t, err)
	require.Equal(t, []int32{6, 7}, refused)
	require.NoError(t, c.LeaveGroup(ctx, 9))
	require.NoError(t, c.RemoveMember(ctx, 9, 4))
	require.NoError(t, c.SetRole(ctx, 9, 4, RoleAdmin))
	require.JSONEq(t, `{"thread_id":9,"uid":4,"role":1}`, asked[wire.MsgGroupRole])
	require.NoError(t, c.TransferGroup(ctx, 9, 4))
	require.NoError(t, c.RenameGroup(ctx, 9, "film club"))
	require.JSONEq(t, `{"thread_id":9,"name":"film club"}`, asked[wire.MsgGroupChange])
	require.NoError(t, c.SetHistoryForNew(ctx, 9, false))
	require.JSONEq(t, `{"thread_id":9,"history_for_new":false}`, asked[wire.MsgGroupChange])
	require.NoError(t, c.MuteGroup(ctx, 9, true))
	require.NoError(t, c.MuteMember(ctx, 9, 4, time.Time{}))
	require.JSONEq(t, `{"thread_id":9,"uid":4,"until_ms":0}`, asked[wire.MsgGroupMute])
	require.NoError(t, c.MuteMember(ctx, 9, 4, ms(5000)))
	require.NoError(t, c.DissolveGroup(ctx, 9))
	link, err := c.CreateLink(ctx, 9, time.Hour, 2)
	require.NoError(t, err)
	require.Equal(t, Link{Code: "abc", By: 1, Expires: ms(3000), Uses: 2}, link)
	links, err := c.Links(ctx, 9)
	require.NoError(t, err)
	require.Equal(t, []Link{{Code: "abc", By: 2, Created: ms(1000), Expires: ms(3000), Uses: 1}}, links)
	require.NoError(t, c.RevokeLink(ctx, 9, "abc"))
	thread, name, err := c.JoinByLink(ctx, "abc")
	require.NoError(t, err)
	require.Equal(t, int64(9), thread)
	require.Equal(t, "book club", name)

	mu.Lock()
	defer mu.Unlock()
	for id, want := range map[wire.MsgID]string{
		wire.MsgGroupCreate:   `{"name":"book club","unique_id":"u","uids":[4,5]}`,
		wire.MsgGroupInfo:     `{"thread_id":9}`,
		wire.MsgGroupMembers:  `{"thread_id":9,"after_uid":1,"limit":500}`,
		wire.MsgGroupInvite:   `{"thread_id":9,"uids":[4,6,7]}`,
		wire.MsgGroupLeave:    `{"thread_id":9}`,
		wire.MsgGroupRemove:   `{"thread_id":9,"uid":4}`,
		wire.MsgGroupRole:     `{"thread_id":9,"uid":4,"role":2}`,
		wire.MsgGroupChange:   `{"thread_id":9,"mute_all":true}`,
		wire.MsgGroupMute:     `{"thread_id":9,"uid":4,"until_ms":5000}`,
		wire.MsgGroupDissolve: `{"thread_id":9}`,
		wire.MsgGroupLink:     `{"thread_id":9,"ttl_s":3600,"uses":2}`,
		wire.MsgGroupLinks:    `{"thread_id":9}`,
		wire.MsgGroupRevoke:   `{"thread_id":9,"code":"abc"}`,
		wire.MsgGroupJoin:     `{"code":"abc"}`,
	} {
		require.JSONEq(t, want, asked[id], "request %v", id)
	}
}

func TestAServerWithoutGroupsIsAClearError(t *testing.T) {
	f := newFake(t)
	f.welcome["caps"] = []string{"batch", "resume", "gap"}
	f.hook = func(_ *fakeConn, id wire.MsgID, _ []byte) bool {
		require.Less(t, id, wire.MsgGroupCreate, "nothing is sent")
		return false
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	_, err := s.CreateGroup(t.Context(), GroupDraft{Name: "x"})
	require.ErrorIs(t, err, ErrNoGroups)
	require.EqualError(t, err, "create group: client: the server does not support groups")
	require.Equal(t, GiveUp, Advise(err))
	require.ErrorIs(t, s.LeaveGroup(t.Context(), 9), ErrNoGroups)
	for _, err := range s.GroupMembers(t.Context(), 9) {
		require.ErrorIs(t, err, ErrNoGroups)
	}
}

func TestEventsOfGroups(t *testing.T) {
	f := newFake(t)
	f.group(9, 2, 1)
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	next[CaughtUp](t, s)
	on, admin := true, wire.RoleAdmin
	f.event(9, wire.GroupEvent{Event: wire.EventRole, By: 2, UIDs: []int32{1}, Role: &admin})
	f.event(9, wire.GroupEvent{Event: wire.EventMuteAll, By: 1, On: &on})
	f.event(9, wire.GroupEvent{Event: wire.EventMuted, By: 1, UIDs: []int32{3}, UntilMS: 5000})
	f.event(9, wire.GroupEvent{Event: wire.EventRenamed, By: 1, Name: "film club"})
	f.event(9, wire.GroupEvent{Event: "painted", By: 1})
	f.say(9, 2, "nice")
	got := texts(t, s, 6)
	want := []*GroupEvent{
		{What: GroupRole, By: 2, UIDs: []int32{1}, Role: RoleAdmin},
		{What: GroupMuteAll, By: 1, On: true},
		{What: GroupMuted, By: 1, UIDs: []int32{3}, Until: time.UnixMilli(5000).UTC()},
		{What: GroupRenamed, By: 1, Name: "film club"},
		{What: "painted", By: 1},
		nil,
	}
	for i, m := range got {
		require.Equal(t, want[i], m.Event)
		require.Equal(t, m.Event != nil, m.Kind == KindEvent)
		require.Equal(t, m.Event != nil, m.Text == "")
	}
	threads, err := s.Threads(t.Context())
	require.NoError(t, err)
	require.Equal(t, []Thread{{ID: 9, LastID: 7, Name: "film club", Members: 2, First: 1}}, threads)
	require.Equal(t, new(GroupEvent), groupEventOf("not an event"))
}

// What a member may read comes once and in order: from its joining to its leaving, and again from its next joining.
func TestSessionFollowsItsMembership(t *testing.T) {
	f := newFake(t)
	f.group(9, 2)
	f.say(9, 2, "before")
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	next[CaughtUp](t, s)
	f.event(9, invited(2, 1))
	f.say(9, 2, "welcome")
	require.Equal(t, []int64{3, 4}, ids(texts(t, s, 2)))
	sent, err := s.SendText(t.Context(), InThread(9), "thanks")
	require.NoError(t, err)
	require.Equal(t, int64(5), sent.MessageID)
	require.Equal(t, []int64{5}, ids(texts(t, s, 1)))

	// The last text before the removal has no push; what comes after it is not for this user, pushed or not.
	f.append(9, 2, "unpushed", "unpushed")
	f.event(9, removed(2, 1))
	late := f.append(9, 2, "late", "late")
	for _, c := range f.living(1) {
		c.send(wire.MsgGroupPush, wire.GroupPush{ThreadID: 9, Chats: []wire.StoredText{late}})
		c.send(wire.MsgGap, wire.Gap{ThreadID: 9, FromSeq: 8})
	}
	require.Equal(t, []int64{6, 7}, ids(texts(t, s, 2)))
	f.say(9, 2, "among us")
	require.Equal(t, []Cursor{{9, 7}}, s.Cursors())

	f.dropAll()
	next[CaughtUp](t, s)
	f.event(9, invited(2, 1))
	f.say(9, 2, "again")
	require.Equal(t, []int64{10, 11}, ids(texts(t, s, 2)))
	f.event(9, wire.GroupEvent{Event: wire.EventDissolved, By: 2})
	require.Equal(t, []int64{12}, ids(texts(t, s, 1)))
	next[Disconnected](t, func() *Session { f.dropAll(); return s }())
	next[CaughtUp](t, s)
	require.Equal(t, []Cursor{{9, 12}}, s.Cursors())
}

// A node that has lost the push of an invitation says that there is a gap.
func TestSessionLearnsOfALostInvitation(t *testing.T) {
	f := newFake(t)
	f.group(9, 2)
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	next[CaughtUp](t, s)
	gap := func(from int64) {
		for _, c := range f.living(1) {
			c.send(wire.MsgGap, wire.Gap{ThreadID: 9, FromSeq: from})
		}
	}
	f.change(9, invited(2, 1))
	gap(2)
	require.Equal(t, []int64{2}, ids(texts(t, s, 1)))

	// The same for a member that was removed and invited again.
	f.change(9, removed(2, 1))
	f.change(9, invited(2, 1))
	gap(3)
	require.Equal(t, []int64{4}, ids(texts(t, s, 1)))
	// It may also say that there might be one, where nothing is: nothing is waited for, and what comes next is brought.
	gap(5)
	f.say(9, 2, "next")
	require.Equal(t, []int64{5}, ids(texts(t, s, 1)))
}

// A gap notice is heeded although the history cannot be read at once and pushes show nothing missing meanwhile.
func TestSessionRemembersAGapNotice(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	next[CaughtUp](t, s)
	var mu sync.Mutex
	refused := 0
	f.mu.Lock()
	f.hook = func(c *fakeConn, id wire.MsgID, _ []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if id != wire.MsgHistory || refused > 0 {
			return false
		}
		refused++
		c.send(wire.MsgHistoryRsp, map[string]any{"error": wire.CodeBusy})
		return true
	}
	f.mu.Unlock()
	first := f.append(7, 2, "first", "first")
	for _, c := range f.living(1) {
		c.send(wire.MsgGap, wire.Gap{ThreadID: 7, FromSeq: 1})
	}
	eventually(t, "a refusal", func() bool { mu.Lock(); defer mu.Unlock(); return refused == 1 })
	f.append(7, 2, "lost", "lost")
	f.push(first)
	require.Equal(t, []string{"first", "lost"}, contents(texts(t, s, 2)))
}

func contents(ms []Message) []string {
	out := make([]string, len(ms))
	for i := range ms {
		out[i] = ms[i].Text
	}
	return out
}

// What a user changes comes by although the push is lost.
func TestSessionSeesItsOwnChanges(t *testing.T) {
	f := newFake(t)
	f.group(9, 1)
	f.hook = func(c *fakeConn, id wire.MsgID, _ []byte) bool {
		if id == wire.MsgGroupChange {
			m := f.change(9, wire.GroupEvent{Event: wire.EventRenamed, By: 1, Name: "x"})
			c.send(wire.MsgGroupChangeRsp, wire.GroupReply{ThreadID: 9, EventID: m.MsgID})
		}
		return id == wire.MsgGroupChange
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	next[CaughtUp](t, s)
	require.NoError(t, s.RenameGroup(t.Context(), 9, "x"))
	require.Equal(t, GroupRenamed, texts(t, s, 1)[0].Event.What)
}

// A connection that breaks under a change hides whether it took effect. Asking again is refused then, but it is no failure.
func TestSessionRepeatsAChange(t *testing.T) {
	f := newFake(t)
	f.group(9, 2, 1)
	var mu sync.Mutex
	n := 0
	f.hook = func(c *fakeConn, id wire.MsgID, body []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		switch id {
		case wire.MsgGroupLeave:
			if n++; n == 1 {
				f.change(9, left(1))
				c.cut(0)
			}
			c.send(wire.MsgGroupLeaveRsp, map[string]any{"error": wire.CodeNotAllowed})
		case wire.MsgGroupInfo:
			c.send(wire.MsgGroupInfoRsp, wire.GroupInfoReply{ThreadID: 9, Left: 2})
		case wire.MsgGroupCreate:
			var r wire.GroupCreateRequest
			if err := wire.Decode(body, &r); err != nil {
				panic(err)
			}
			if n++; n == 4 {
				f.stored["create"] = wire.StoredText{UniqueID: r.UniqueID}
				c.cut(0)
			}
			require.Equal(t, f.stored["create"].UniqueID, r.UniqueID, "the same group")
			c.send(wire.MsgGroupCreateRsp, wire.GroupInviteReply{GroupReply: wire.GroupReply{ThreadID: 10}})
		default:
			return false
		}
		return true
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	require.NoError(t, s.LeaveGroup(t.Context(), 9))
	err := s.LeaveGroup(t.Context(), 9)
	require.Equal(t, CodeNotAllowed, CodeOf(err), "not the session's own doing")
	made, err := s.CreateGroup(t.Context(), GroupDraft{Name: "x"})
	require.NoError(t, err)
	require.Equal(t, int64(10), made.ThreadID)
	require.Equal(t, 5, n)
}

// The promise of a session in groups, under a network that cuts at any byte and loses, doubles and delays pushes, while the
// user leaves, is removed and comes back: each message that it may read once, in order, and nothing else.
func TestSessionInAGroupThroughCuts(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	f := newFake(t)
	f.group(9, 2)
	s := f.open(SessionOptions{Ticket: f.ticket(1), SyncEvery: 20 * time.Millisecond})
	var got []int64
	done := make(chan struct{})
	var mu sync.Mutex
	go func() {
		defer close(done)
		for ev := range s.Events(t.Context()) {
			if ev, ok := ev.(Texts); ok {
				mu.Lock()
				got = append(got, ids(ev.Messages)...)
				mu.Unlock()
			}
		}
	}()
	var must []int64 // what was readable while the user was a member to the end
	might := map[int64]bool{}
	var held []wire.StoredText
	push := func(m wire.StoredText) {
		switch rand.IntN(5) {
		case 0: // lost
		case 1:
			held = append(held, m)
		case 2:
			f.push(m)
			fallthrough
		default:
			f.push(m)
		}
	}
	for round := range rounds {
		var all []wire.StoredText
		all = append(all, f.change(9, invited(2, 1)))
		push(all[0])
		for i := range rand.IntN(8) {
			m := f.append(9, 2, fmt.Sprintf("%d-%d", round, i), "x")
			all = append(all, m)
			push(m)
			if rand.IntN(3) == 0 {
				for _, c := range f.living(1) {
					c.cut(rand.IntN(400))
				}
			}
		}
		want := all[len(all)-1].MsgID
		if rand.IntN(2) == 0 {
			// A member that stays until all has come misses nothing.
			eventually(t, fmt.Sprintf("message %d", want), func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(got) > 0 && got[len(got)-1] >= want
			})
			for _, m := range all {
				must = append(must, m.MsgID)
			}
		}
		end := []wire.GroupEvent{left(1), removed(2, 1)}[rand.IntN(2)]
		all = append(all, f.change(9, end))
		push(all[len(all)-1])
		for _, m := range all {
			might[m.MsgID] = true
		}
		for range rand.IntN(3) {
			f.say(9, 2, fmt.Sprintf("outside %d %d", round, rand.Int()))
		}
		for _, m := range held {
			f.push(m)
		}
		held = nil
	}
	last := f.change(9, invited(2, 1)).MsgID
	might[last] = true
	eventually(t, "the last event", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) > 0 && got[len(got)-1] == last })
	s.Close()
	<-done
	seen := map[int64]bool{}
	for i, id := range got {
		require.True(t, might[id], "message %d is not for this user", id)
		require.True(t, i == 0 || id > got[i-1], "message %d after %d", id, got[max(0, i-1)])
		seen[id] = true
	}
	for _, id := range must {
		require.True(t, seen[id], "message %d is missing", id)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Logf("%d messages, %d logins", len(got), len(f.logins))
}
