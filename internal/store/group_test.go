package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["seeded groups are like others"] = testSeedGroup
	bodies["each change of a group is a row of its thread"] = testGroupEvents
	bodies["members read from their joining to their leaving"] = testGroupIntervals
	bodies["a group made again with one unique id is the first"] = testGroupCreatedOnce
	bodies["groups and their members are bounded"] = testGroupBounds
	bodies["admins act on lower roles only, and there is one owner"] = testGroupRoles
	bodies["links let in until they end"] = testGroupLinks
	bodies["appends to groups and private threads in one batch"] = testGroupAppend
	bodies["what a removed member sends is not stored after the removal"] = testGroupRemovalIsExact
	bodies["a change of a group with an unclear commit is made once"] = testGroupUnclearCommit
	bodies["a group's changes are refused behind the fence"] = testGroupFenced
	bodies["a deleted user leaves groups, which get an owner or end"] = testDeleteUserInGroups
	bodies["everything that changes groups at once"] = testGroupsConcurrently
	bodies["memberships of many users and groups"] = testMemberships
}

// group creates a group of an owner and of members, who become friends of the owner.
func (c *circle) group(owner int32, members ...int32) int64 {
	c.t.Helper()
	for _, uid := range members {
		if err := apply(c.t.Context(), c.s, owner, uid, "", ""); !errors.Is(err, store.ErrAlreadyFriends) {
			require.NoError(c.t, err)
			_, err = c.s.Friends.Approve(c.t.Context(), c.node, c.boot, uid, owner, "")
			require.NoError(c.t, err)
		}
	}
	change, err := c.s.Groups.Create(c.t.Context(), c.node, c.boot, owner, "group", fmt.Sprint("g", c.n.Add(1)), members)
	require.NoError(c.t, err)
	require.ElementsMatch(c.t, members, change.Members)
	require.Empty(c.t, change.Refused)
	return change.Event.ThreadID
}

// invite adds one user and returns the row that tells of it.
func (c *circle) invite(by int32, thread int64, uid int32) int64 {
	c.t.Helper()
	change, err := c.s.Groups.Invite(c.t.Context(), c.node, c.boot, by, thread, []int32{uid})
	require.NoError(c.t, err)
	require.Equal(c.t, []int32{uid}, change.Members)
	return change.Event.Seq
}

// right reads the rights of one user.
func (c *circle) right(thread int64, uid int32) store.GroupRight {
	c.t.Helper()
	key := store.GroupKey{Thread: thread, UID: uid}
	rights, err := c.s.Rights.InGroups(c.t.Context(), []store.GroupKey{key})
	require.NoError(c.t, err)
	return rights[key]
}

func event(t *testing.T, m store.Message) store.Event {
	t.Helper()
	require.Equal(t, store.KindEvent, m.Kind)
	var e store.Event
	require.NoError(t, json.Unmarshal([]byte(m.Content), &e))
	return e
}

func testGroupEvents(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	o, a, m, x := user(t, c.s, "owner"), user(t, c.s, "admin"), user(t, c.s, "member"), user(t, c.s, "x")
	c.befriend(o, a)
	c.befriend(o, m)
	c.befriend(a, x)
	change, err := c.s.Groups.Create(ctx, c.node, c.boot, o, "Über 群", "mine", []int32{x, m, a, 9999, m, o})
	require.NoError(t, err)
	require.Equal(t, []int32{a, m}, change.Members)
	require.Equal(t, []int32{x, 9999}, change.Refused, "no friend, and nobody")
	id := change.Event.ThreadID
	require.Equal(t, store.Message{
		ThreadID: id, Seq: 1, Sender: o, UniqueID: "mine", Kind: store.KindEvent, CreatedMS: change.Event.CreatedMS,
		Content: fmt.Sprintf(`{"event":"created","by":%d,"uids":[%d,%d],"name":"Über 群"}`, o, a, m),
	}, change.Event)

	until := time.Now().Add(time.Hour).UnixMilli()
	yes, no, one := true, false, 1
	var link store.Link
	type result = store.GroupChange
	ver := change.Ver
	seq := int64(1)
	for _, step := range []struct {
		name    string
		do      func() (result, error)
		want    store.Event // its By is 0 for the owner
		members []int32
		raises  bool
	}{
		{"text", func() (result, error) {
			return result{Event: store.Message{Seq: c.text(id, m, ver).Seq}, Ver: ver}, nil
		}, store.Event{}, nil, false},
		{"rename", func() (result, error) { return c.s.Groups.Rename(ctx, c.node, c.boot, o, id, "B") }, store.Event{Event: "renamed", Name: "B"}, nil, false},
		{"role", func() (result, error) {
			return c.s.Groups.SetRole(ctx, c.node, c.boot, o, id, a, store.RoleAdmin)
		}, store.Event{Event: "role", UIDs: []int32{a}, Role: &one}, []int32{a}, true},
		{"invite", func() (result, error) { return c.s.Groups.Invite(ctx, c.node, c.boot, a, id, []int32{x, m, o, 9999}) }, store.Event{Event: "invited", By: a, UIDs: []int32{x}}, []int32{x}, true},
		{"mute", func() (result, error) { return c.s.Groups.MuteMember(ctx, c.node, c.boot, a, id, m, until) }, store.Event{Event: "muted", By: a, UIDs: []int32{m}, UntilMS: until}, []int32{m}, true},
		{"unmute", func() (result, error) { return c.s.Groups.MuteMember(ctx, c.node, c.boot, a, id, m, 0) }, store.Event{Event: "unmuted", By: a, UIDs: []int32{m}}, []int32{m}, true},
		{"mute all", func() (result, error) { return c.s.Groups.Mute(ctx, c.node, c.boot, a, id, true) }, store.Event{Event: "mute_all", By: a, On: &yes}, nil, true},
		{"mute none", func() (result, error) { return c.s.Groups.Mute(ctx, c.node, c.boot, a, id, false) }, store.Event{Event: "mute_all", By: a, On: &no}, nil, true},
		{"history", func() (result, error) { return c.s.Groups.SetHistoryForNew(ctx, c.node, c.boot, a, id, true) }, store.Event{Event: "history", By: a, On: &yes}, nil, false},
		{"remove", func() (result, error) { return c.s.Groups.RemoveMember(ctx, c.node, c.boot, a, id, x) }, store.Event{Event: "removed", By: a, UIDs: []int32{x}}, []int32{x}, true},
		{"leave", func() (result, error) { return c.s.Groups.Leave(ctx, c.node, c.boot, m, id) }, store.Event{Event: "left", By: m, UIDs: []int32{m}}, []int32{m}, true},
		{"join", func() (result, error) {
			link, err = c.s.Links.Create(ctx, c.node, c.boot, o, id, 0, 1)
			require.NoError(t, err)
			return c.s.Links.Join(ctx, c.node, c.boot, m, link.Code)
		}, store.Event{Event: "joined", By: m, UIDs: []int32{m}}, []int32{m}, true},
		{"transfer", func() (result, error) { return c.s.Groups.Transfer(ctx, c.node, c.boot, o, id, m) }, store.Event{Event: "owner", UIDs: []int32{m}}, []int32{m, o}, true},
		{"dissolve", func() (result, error) { return c.s.Groups.Dissolve(ctx, c.node, c.boot, m, id) }, store.Event{Event: "dissolved", By: m}, nil, true},
	} {
		got, err := step.do()
		require.NoError(t, err, step.name)
		seq++
		if step.raises {
			ver++
		}
		require.Equal(t, seq, got.Event.Seq, step.name)
		require.Equal(t, ver, got.Ver, step.name)
		require.Equal(t, step.members, got.Members, step.name)
		if step.want.Event == "" {
			continue
		}
		if step.want.By == 0 {
			step.want.By = o
		}
		require.Equal(t, step.want, event(t, got.Event), step.name)
		all := history(t, c.s, id)
		require.Equal(t, got.Event, all[len(all)-1], step.name)
		require.Len(t, all, int(seq), step.name)
		now, _, err := c.s.Groups.LocalMembers(ctx, id, nil)
		require.NoError(t, err)
		require.Equal(t, ver, now, step.name)
	}
	require.Equal(t, 4, scan[int](t, d.sql(t), "SELECT COUNT(*) FROM group_chat_member WHERE left_seq>0"))
	for _, stale := range []int32{store.UnknownVer, 0, ver - 1} {
		require.ErrorIs(t, c.text(id, m, stale).Err, store.ErrMayNotWrite)
	}
}

// What is so already is not told again.
func testGroupRoles(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	var uids [6]int32
	for i := range uids {
		uids[i] = user(t, c.s, fmt.Sprint("u", i))
	}
	o, a, b, m, x, out := uids[0], uids[1], uids[2], uids[3], uids[4], uids[5]
	id := c.group(o, a, b, m, x)
	role := func(by, uid int32, r store.Role) (store.GroupChange, error) {
		return c.s.Groups.SetRole(ctx, c.node, c.boot, by, id, uid, r)
	}
	for _, uid := range []int32{a, b} {
		_, err := role(o, uid, store.RoleAdmin)
		require.NoError(t, err)
	}
	hour := time.Now().Add(time.Hour).UnixMilli()
	remove := func(by, uid int32) error {
		_, err := c.s.Groups.RemoveMember(ctx, c.node, c.boot, by, id, uid)
		return err
	}
	mute := func(by, uid int32, until int64) (store.GroupChange, error) {
		return c.s.Groups.MuteMember(ctx, c.node, c.boot, by, id, uid, until)
	}
	transfer := func(by, uid int32) (store.GroupChange, error) {
		return c.s.Groups.Transfer(ctx, c.node, c.boot, by, id, uid)
	}
	for what, c := range map[string]struct{ got, want error }{
		"admin removes admin":  {remove(a, b), store.ErrNotAllowed},
		"admin removes owner":  {remove(a, o), store.ErrNotAllowed},
		"admin removes itself": {remove(a, a), store.ErrSelf},
		"an outsider":          {remove(a, out), store.ErrNotMember},
	} {
		require.ErrorIs(t, c.got, c.want, what)
	}
	for _, bad := range []struct {
		call func() (store.GroupChange, error)
		want error
	}{
		{func() (store.GroupChange, error) { return mute(a, b, hour) }, store.ErrNotAllowed},
		{func() (store.GroupChange, error) { return mute(a, o, hour) }, store.ErrNotAllowed},
		{func() (store.GroupChange, error) { return mute(a, a, hour) }, store.ErrNotAllowed},
		{func() (store.GroupChange, error) { return mute(a, out, hour) }, store.ErrNotMember},
		{func() (store.GroupChange, error) { return mute(a, m, -1) }, store.ErrInvalid},
		{func() (store.GroupChange, error) { return mute(a, m, 1<<60) }, store.ErrInvalid},
		{func() (store.GroupChange, error) { return role(o, m, store.RoleOwner) }, store.ErrInvalid},
		{func() (store.GroupChange, error) { return role(o, m, -1) }, store.ErrInvalid},
		{func() (store.GroupChange, error) { return role(o, o, store.RoleMember) }, store.ErrOwner},
		{func() (store.GroupChange, error) { return role(o, out, store.RoleAdmin) }, store.ErrNotMember},
		{func() (store.GroupChange, error) { return transfer(o, out) }, store.ErrNotMember},
		{func() (store.GroupChange, error) { return c.s.Groups.Leave(ctx, c.node, c.boot, o, id) }, store.ErrOwner},
		{func() (store.GroupChange, error) { return c.s.Groups.Leave(ctx, c.node, c.boot, o, 999999) }, store.ErrNotMember},
		{func() (store.GroupChange, error) { return c.s.Groups.Rename(ctx, c.node, c.boot, o, id, "") }, store.ErrInvalid},
		{func() (store.GroupChange, error) {
			return c.s.Groups.Rename(ctx, c.node, c.boot, o, id, strings.Repeat("x", 65))
		}, store.ErrInvalid},
		{func() (store.GroupChange, error) { return c.s.Groups.Rename(ctx, c.node, c.boot, o, id, "a\nb") }, store.ErrInvalid},
		{func() (store.GroupChange, error) { return c.s.Groups.Rename(ctx, c.node, c.boot, o, id, "\u202eabc") }, store.ErrInvalid},
		{func() (store.GroupChange, error) { return c.s.Groups.Rename(ctx, c.node, c.boot, o, id, "a\xff") }, store.ErrInvalid},
	} {
		_, err := bad.call()
		require.ErrorIs(t, err, bad.want)
	}
	// A private thread is no group.
	_, err := c.s.Groups.Rename(ctx, c.node, c.boot, o, c.befriend(o, out), "x")
	require.ErrorIs(t, err, store.ErrNotMember)

	before := history(t, c.s, id)
	for _, nothing := range []func() (store.GroupChange, error){
		func() (store.GroupChange, error) { return role(o, a, store.RoleAdmin) },
		func() (store.GroupChange, error) { return transfer(o, o) },
		func() (store.GroupChange, error) { return mute(a, m, 0) },
		func() (store.GroupChange, error) { return mute(a, m, 17) },
		func() (store.GroupChange, error) { return c.s.Groups.Rename(ctx, c.node, c.boot, a, id, "group") },
		func() (store.GroupChange, error) { return c.s.Groups.Mute(ctx, c.node, c.boot, a, id, false) },
		func() (store.GroupChange, error) {
			return c.s.Groups.SetHistoryForNew(ctx, c.node, c.boot, a, id, false)
		},
		func() (store.GroupChange, error) {
			return c.s.Groups.Invite(ctx, c.node, c.boot, a, id, []int32{m, a, o})
		},
		func() (store.GroupChange, error) { return c.s.Groups.Invite(ctx, c.node, c.boot, a, id, nil) },
	} {
		got, err := nothing()
		require.NoError(t, err)
		require.Equal(t, store.GroupChange{Ver: c.right(id, o).Ver, Event: store.Message{ThreadID: id}}, got)
	}
	require.Equal(t, before, history(t, c.s, id))

	// An admin writes while muted; a demoted one does not.
	_, err = mute(o, a, hour)
	require.NoError(t, err)
	require.NoError(t, c.text(id, a, store.UnknownVer).Err)
	_, err = role(o, a, store.RoleMember)
	require.NoError(t, err)
	require.ErrorIs(t, c.text(id, a, store.UnknownVer).Err, store.ErrMayNotWrite)
	_, err = mute(b, a, time.Now().UnixMilli()-1)
	require.NoError(t, err)
	require.NoError(t, c.text(id, a, store.UnknownVer).Err)
	_, err = c.s.Groups.Mute(ctx, c.node, c.boot, b, id, true)
	require.NoError(t, err)
	require.ErrorIs(t, c.text(id, a, store.UnknownVer).Err, store.ErrMayNotWrite)
	require.NoError(t, c.text(id, b, store.UnknownVer).Err)
	require.NoError(t, c.text(id, o, store.UnknownVer).Err)

	_, err = transfer(o, m)
	require.NoError(t, err)
	info, err := c.s.Groups.Info(ctx, id, x)
	require.NoError(t, err)
	require.Equal(t, m, info.Owner)
	require.Equal(t, store.RoleAdmin, c.right(id, o).Role)
	require.Equal(t, store.RoleOwner, c.right(id, m).Role)
	_, err = transfer(o, x)
	require.ErrorIs(t, err, store.ErrNotAllowed)
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, o, id)
	require.NoError(t, err)
	_, err = c.s.Groups.Dissolve(ctx, c.node, c.boot, m, id)
	require.NoError(t, err)
	for _, uid := range []int32{m, b, x} {
		require.ErrorIs(t, c.text(id, uid, store.UnknownVer).Err, store.ErrMayNotWrite)
	}
	_, err = c.s.Groups.Dissolve(ctx, c.node, c.boot, m, id)
	require.ErrorIs(t, err, store.ErrNotMember)
}

func testGroupIntervals(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	o, m, x := user(t, c.s, "o"), user(t, c.s, "m"), user(t, c.s, "x")
	private := c.befriend(o, x)
	id := c.group(o, m)
	ver := c.right(id, o).Ver
	require.EqualValues(t, 2, c.text(id, o, ver).Seq)
	joined := c.invite(o, id, x)
	require.EqualValues(t, 3, joined)
	mine := func(uid int32) store.Membership { return c.right(id, uid).Membership }
	require.EqualValues(t, 1, mine(m).FromSeq)
	require.Equal(t, joined, mine(x).FromSeq)
	threadOf := func(uid int32) (th store.Thread) {
		list, err := c.s.Threads.List(ctx, uid, 0, 10)
		require.NoError(t, err)
		for _, one := range list {
			if one.ID == id {
				th = one
			}
		}
		return th
	}
	want := store.Thread{ID: id, Type: store.ThreadGroup, LastSeq: 3, Name: "group", FromSeq: joined, Members: 3}
	require.Equal(t, want, threadOf(x))
	info, err := c.s.Groups.Info(ctx, id, x)
	require.NoError(t, err)
	require.Positive(t, info.CreatedMS)
	require.Equal(t, store.Group{
		ThreadID: id, Name: "group", Owner: o, Members: 3, CreatedMS: info.CreatedMS, LastSeq: 3, Ver: ver + 1, Mine: mine(x),
	}, info)

	require.EqualValues(t, 4, c.text(id, x, store.UnknownVer).Seq)
	left, err := c.s.Groups.Leave(ctx, c.node, c.boot, x, id)
	require.NoError(t, err)
	require.EqualValues(t, 5, left.Event.Seq)
	// What comes after is not for x: texts, the name, the number of members, the end.
	_, err = c.s.Groups.Rename(ctx, c.node, c.boot, o, id, "secret")
	require.NoError(t, err)
	want = store.Thread{ID: id, Type: store.ThreadGroup, LastSeq: 5, Name: "group", FromSeq: joined, LeftSeq: 5}
	require.Equal(t, want, threadOf(x))
	info, err = c.s.Groups.Info(ctx, id, x)
	require.NoError(t, err)
	require.Equal(t, store.Group{ThreadID: id, Name: "group", CreatedMS: info.CreatedMS, LastSeq: 5, Ver: left.Ver, Mine: mine(x)}, info)
	_, err = c.s.Groups.Info(ctx, id, 9999)
	require.ErrorIs(t, err, store.ErrNotMember)
	rows, more, err := c.s.Messages.HistoryTo(ctx, id, mine(x).FromSeq-1, mine(x).LeftSeq, 100, 1<<20)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, rows, 3)
	require.Equal(t, []int8{store.KindEvent, store.KindText, store.KindEvent}, []int8{rows[0].Kind, rows[1].Kind, rows[2].Kind})
	rows, more, err = c.s.Messages.HistoryTo(ctx, id, 2, 5, 2, 1<<20)
	require.NoError(t, err)
	require.True(t, more)
	require.Len(t, rows, 2)

	// Coming back opens what follows; and everything while the group says so.
	again := c.invite(o, id, x)
	require.EqualValues(t, 7, again)
	require.Equal(t, again, mine(x).FromSeq)
	require.Zero(t, mine(x).LeftSeq)
	require.Equal(t, "secret", threadOf(x).Name)
	_, err = c.s.Groups.RemoveMember(ctx, c.node, c.boot, o, id, x)
	require.NoError(t, err)
	_, err = c.s.Groups.SetHistoryForNew(ctx, c.node, c.boot, o, id, true)
	require.NoError(t, err)
	c.invite(o, id, x)
	require.EqualValues(t, 1, mine(x).FromSeq)
	end, err := c.s.Groups.Dissolve(ctx, c.node, c.boot, o, id)
	require.NoError(t, err)
	require.Nil(t, end.Members)
	for _, uid := range []int32{o, m, x} {
		info, err = c.s.Groups.Info(ctx, id, uid)
		require.NoError(t, err)
		require.True(t, info.Dissolved)
		require.Equal(t, end.Event.Seq, info.Mine.LeftSeq)
		require.Equal(t, "secret", info.Name)
	}
	list, err := c.s.Threads.List(ctx, x, 0, 10)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, store.Thread{ID: private, Type: store.ThreadPrivate, User1: min(o, x), User2: max(o, x), LastSeq: list[0].LastSeq}, list[0])
	members, err := c.s.Groups.Members(ctx, id, 0, 10)
	require.NoError(t, err)
	require.Empty(t, members)
	groups, err := c.s.Groups.Memberships(ctx, []int32{o, m, x})
	require.NoError(t, err)
	require.Empty(t, groups)
}

func testGroupCreatedOnce(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	o, m, x := user(t, c.s, "o"), user(t, c.s, "m"), user(t, c.s, "x")
	private := c.befriend(o, m)
	create := func(uniqueID string, members ...int32) (store.GroupChange, error) {
		return c.s.Groups.Create(ctx, c.node, c.boot, o, "group", uniqueID, members)
	}
	first, err := create("once", m, x)
	require.NoError(t, err)
	_, err = c.s.Groups.Rename(ctx, c.node, c.boot, o, first.Event.ThreadID, "new")
	require.NoError(t, err)
	again, err := create("once", m, x)
	require.NoError(t, err)
	require.Equal(t, first, again)
	var wg sync.WaitGroup
	var ids [8]int64
	for i := range ids {
		wg.Go(func() {
			change, err := create("at once", m)
			if err != nil {
				t.Error(err)
			}
			ids[i] = change.Event.ThreadID
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	require.NotEqual(t, first.Event.ThreadID, ids[0])
	require.Equal(t, 2, scan[int](t, d.sql(t), "SELECT COUNT(*) FROM chat_thread WHERE type='group'"))

	require.NoError(t, c.send(store.NewMessage{ThreadID: private, Sender: o, MemberVer: store.UnknownVer, UniqueID: "text", Content: "x"}).Err)
	_, err = create("text", m)
	require.ErrorIs(t, err, store.ErrUniqueIDTaken)
	require.ErrorIs(t, c.send(store.NewMessage{ThreadID: private, Sender: o, MemberVer: store.UnknownVer, UniqueID: "once"}).Err, store.ErrUniqueIDTaken)
	_, err = c.s.Groups.Create(ctx, c.node, c.boot, 9999, "group", "u", nil)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func testGroupBounds(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	o, a, b, x := user(t, c.s, "o"), user(t, c.s, "a"), user(t, c.s, "b"), user(t, c.s, "x")
	for _, uid := range []int32{a, b, x} {
		c.befriend(o, uid)
	}
	create := func(by int32, name, uniqueID string, members ...int32) (store.GroupChange, error) {
		return c.s.Groups.Create(ctx, c.node, c.boot, by, name, uniqueID, members)
	}
	many := make([]int32, store.MaxGroupUIDs+1)
	for i := range many {
		many[i] = int32(5000 + i)
	}
	for _, bad := range []func() (store.GroupChange, error){
		func() (store.GroupChange, error) { return create(o, "", "u") },
		func() (store.GroupChange, error) { return create(o, strings.Repeat("é", 65), "u") },
		func() (store.GroupChange, error) { return create(o, "x", "") },
		func() (store.GroupChange, error) { return create(o, "x", strings.Repeat("u", 65)) },
		func() (store.GroupChange, error) { return create(o, "x", "\xff") },
		func() (store.GroupChange, error) { return create(o, "x", "u", many...) },
		func() (store.GroupChange, error) { return c.s.Groups.Invite(ctx, c.node, c.boot, o, 1, many) },
	} {
		_, err := bad()
		require.ErrorIs(t, err, store.ErrInvalid)
	}
	alone, err := create(o, strings.Repeat("é", 61)+"👨‍👩", "longest", many[1:]...)
	require.NoError(t, err)
	require.Len(t, alone.Refused, store.MaxGroupUIDs)

	c.s.Groups.SetMaxMembers(3)
	_, err = create(o, "x", "full", a, b, x)
	require.ErrorIs(t, err, store.ErrGroupFull)
	id := c.group(o, a)
	invite := func(uids ...int32) error {
		_, err := c.s.Groups.Invite(ctx, c.node, c.boot, o, id, uids)
		return err
	}
	require.ErrorIs(t, invite(b, x), store.ErrGroupFull, "all or none")
	require.NoError(t, invite(b, a))
	link, err := c.s.Links.Create(ctx, c.node, c.boot, o, id, 0, 2)
	require.NoError(t, err)
	_, err = c.s.Links.Join(ctx, c.node, c.boot, x, link.Code)
	require.ErrorIs(t, err, store.ErrGroupFull)
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, b, id)
	require.NoError(t, err)
	_, err = c.s.Links.Join(ctx, c.node, c.boot, x, link.Code)
	require.NoError(t, err)
	require.ErrorIs(t, invite(b), store.ErrGroupFull)
	links, err := c.s.Links.List(ctx, o, id)
	require.NoError(t, err)
	require.Equal(t, 1, links[0].Uses, "a use that failed is not counted")
	c.s.Groups.SetMaxMembers(10)

	// b is in as many groups as a user may be, and in one that it has left.
	db := d.sql(t)
	var rows []string
	for i := range store.MaxGroups {
		rows = append(rows, fmt.Sprintf("(%d,%d,1,%d)", 100000+i, b, i/(store.MaxGroups-1)))
	}
	_, err = db.ExecContext(ctx, "INSERT INTO group_chat_member(thread_id,user_id,from_seq,left_seq) VALUES "+strings.Join(rows, ","))
	require.NoError(t, err)
	groupOfB := func() error { _, err := create(b, "x", fmt.Sprint("b", c.n.Add(1))); return err }
	require.NoError(t, groupOfB())
	require.ErrorIs(t, groupOfB(), store.ErrTooManyGroups)
	_, err = c.s.Links.Join(ctx, c.node, c.boot, b, link.Code)
	require.ErrorIs(t, err, store.ErrTooManyGroups)
	change, err := c.s.Groups.Invite(ctx, c.node, c.boot, o, id, []int32{b})
	require.NoError(t, err)
	require.Equal(t, []int32{b}, change.Refused)
	change, err = create(o, "x", "without b", a, b)
	require.NoError(t, err)
	require.Equal(t, []int32{b}, change.Refused)
	require.Equal(t, []int32{a}, change.Members)
}

func testGroupLinks(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	o, m, x, y := user(t, c.s, "o"), user(t, c.s, "m"), user(t, c.s, "x"), user(t, c.s, "y")
	id := c.group(o, m)
	db := d.sql(t)
	create := func(ttl time.Duration, uses int) (store.Link, error) {
		return c.s.Links.Create(ctx, c.node, c.boot, o, id, ttl, uses)
	}
	join := func(uid int32, code string) error {
		_, err := c.s.Links.Join(ctx, c.node, c.boot, uid, code)
		return err
	}
	for _, bad := range []struct {
		ttl  time.Duration
		uses int
	}{{time.Second, 1}, {31 * 24 * time.Hour, 1}, {-1, 1}, {0, 0}, {0, 10001}, {0, -1}} {
		_, err := create(bad.ttl, bad.uses)
		require.ErrorIs(t, err, store.ErrInvalid)
	}
	link, err := create(0, 2)
	require.NoError(t, err)
	require.Len(t, link.Code, 22)
	require.Equal(t, store.DefaultLinkTTL.Milliseconds(), link.ExpiresMS-link.CreatedMS)
	other, err := create(time.Minute, store.MaxLinkUses)
	require.NoError(t, err)
	require.Equal(t, time.Minute.Milliseconds(), other.ExpiresMS-other.CreatedMS)
	links, err := c.s.Links.List(ctx, o, id)
	require.NoError(t, err)
	require.ElementsMatch(t, []store.Link{link, other}, links)

	require.NoError(t, join(m, link.Code), "a member uses nothing up")
	require.NoError(t, join(x, link.Code))
	require.NoError(t, join(x, link.Code), "again")
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, x, id)
	require.NoError(t, err)
	require.NoError(t, join(x, link.Code), "who has left comes back")
	require.ErrorIs(t, join(y, link.Code), store.ErrBadLink, "used up")
	require.NoError(t, join(x, link.Code), "a repeat of the last use")
	require.ErrorIs(t, join(y, "no such code"), store.ErrBadLink)
	require.ErrorIs(t, join(y, ""), store.ErrBadLink)
	require.ErrorIs(t, join(9999, other.Code), store.ErrNotFound)
	links, err = c.s.Links.List(ctx, o, id)
	require.NoError(t, err)
	require.Equal(t, []store.Link{other}, links)

	// Who was removed comes back by invitation only; one who has left can be kept out too.
	_, err = c.s.Groups.RemoveMember(ctx, c.node, c.boot, o, id, x)
	require.NoError(t, err)
	require.ErrorIs(t, join(x, other.Code), store.ErrNotAllowed)
	c.befriend(o, x)
	c.invite(o, id, x)
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, x, id)
	require.NoError(t, err)
	require.NoError(t, join(x, other.Code))
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, x, id)
	require.NoError(t, err)
	change, err := c.s.Groups.RemoveMember(ctx, c.node, c.boot, o, id, x)
	require.NoError(t, err)
	require.Zero(t, change.Event.Seq)
	require.ErrorIs(t, join(x, other.Code), store.ErrNotAllowed)

	// A mute outlasts a leave.
	_, err = c.s.Groups.MuteMember(ctx, c.node, c.boot, o, id, m, time.Now().Add(time.Hour).UnixMilli())
	require.NoError(t, err)
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, m, id)
	require.NoError(t, err)
	require.NoError(t, join(m, other.Code))
	require.ErrorIs(t, c.text(id, m, store.UnknownVer).Err, store.ErrMayNotWrite)

	// Revoked, by an admin of that group only; expired.
	strange := c.group(x)
	require.NoError(t, c.s.Links.Revoke(ctx, c.node, c.boot, x, strange, other.Code), "not one of that group")
	require.ErrorIs(t, c.s.Links.Revoke(ctx, c.node, c.boot, m, id, other.Code), store.ErrNotAllowed)
	third, err := create(0, 1)
	require.NoError(t, err)
	require.NoError(t, c.s.Links.Revoke(ctx, c.node, c.boot, o, id, third.Code))
	require.NoError(t, c.s.Links.Revoke(ctx, c.node, c.boot, o, id, third.Code), "again")
	require.ErrorIs(t, join(y, third.Code), store.ErrBadLink)
	_, err = db.ExecContext(ctx, "UPDATE group_link SET expires_ms=1 WHERE code=?", other.Code)
	require.NoError(t, err)
	require.ErrorIs(t, join(y, other.Code), store.ErrBadLink)
	links, err = c.s.Links.List(ctx, o, id)
	require.NoError(t, err)
	require.Empty(t, links)

	// Dead links make room.
	for range store.MaxLinks {
		_, err = create(0, 1)
		require.NoError(t, err)
	}
	require.Equal(t, store.MaxLinks, scan[int](t, db, "SELECT COUNT(*) FROM group_link"))
	_, err = create(0, 1)
	require.ErrorIs(t, err, store.ErrTooManyLinks)
	links, err = c.s.Links.List(ctx, o, id)
	require.NoError(t, err)
	require.NoError(t, join(y, links[0].Code))
	last, err := create(0, 1)
	require.NoError(t, err)
	_, err = c.s.Groups.Dissolve(ctx, c.node, c.boot, o, id)
	require.NoError(t, err)
	require.ErrorIs(t, join(user(t, c.s, "z"), last.Code), store.ErrBadLink)
	require.Zero(t, scan[int](t, db, "SELECT COUNT(*) FROM group_link"))
}

func testGroupAppend(t *testing.T, d *database) {
	c := newCircle(t, d)
	o, m, x := user(t, c.s, "o"), user(t, c.s, "m"), user(t, c.s, "x")
	private := c.befriend(o, x)
	one, two := c.group(o, m), c.group(o, m)
	known := c.right(one, m).Ver
	first := store.NewMessage{ThreadID: one, Sender: m, MemberVer: known, UniqueID: "first", Content: "x"}
	stored := c.send(first)
	require.NoError(t, stored.Err)
	change, err := c.s.Groups.RemoveMember(t.Context(), c.node, c.boot, o, one, m)
	require.NoError(t, err)
	msgs := []store.NewMessage{
		{ThreadID: one, Sender: m, MemberVer: known, UniqueID: "late", Content: "x"},
		first,
		{ThreadID: one, Sender: o, MemberVer: known, UniqueID: "o1", Content: "x"},
		{ThreadID: one, Sender: x, MemberVer: store.UnknownVer, UniqueID: "x1", Content: "x"},
		{ThreadID: two, Sender: m, MemberVer: store.UnknownVer, UniqueID: "m2", Content: "x"},
		{ThreadID: two, Sender: o, MemberVer: c.right(two, o).Ver, UniqueID: "o2", Content: "x"},
		{ThreadID: private, Sender: x, MemberVer: store.UnknownVer, UniqueID: "x2", Content: "x"},
		{ThreadID: private, Sender: m, MemberVer: store.UnknownVer, UniqueID: "m3", Content: "x"},
	}
	want := []error{store.ErrMayNotWrite, nil, nil, store.ErrMayNotWrite, nil, nil, nil, store.ErrMayNotWrite}
	for range 2 {
		out := make([]store.Appended, len(msgs))
		require.NoError(t, c.s.Messages.Append(t.Context(), c.node, c.boot, msgs, out))
		for i := range out {
			require.ErrorIs(t, out[i].Err, want[i], i)
		}
		require.Equal(t, change.Ver, out[0].MemberVer)
		require.Equal(t, store.Appended{Seq: stored.Seq, CreatedMS: stored.CreatedMS, MemberVer: change.Ver, Resent: true}, out[1])
		require.Equal(t, change.Event.Seq+1, out[2].Seq)
	}
}

// Two nodes append what one user sends, under the version that they know, while the user is removed and invited again.
func testGroupRemovalIsExact(t *testing.T, d *database) {
	const rounds = 200
	c := newCircle(t, d)
	o, x := user(t, c.s, "o"), user(t, c.s, "x")
	id := c.group(o, x)
	var stop atomic.Bool
	var wg sync.WaitGroup
	var refused, sent atomic.Int64
	for i := range 2 {
		s := d.another(t, c.s)
		name, boot := node(t, s, fmt.Sprint("appender", i))
		wg.Go(func() {
			out := make([]store.Appended, 3)
			msgs := make([]store.NewMessage, len(out))
			ver := int32(-1)
			for n := 0; !stop.Load(); n++ {
				for j := range msgs {
					msgs[j] = store.NewMessage{ThreadID: id, Sender: x, MemberVer: ver, UniqueID: fmt.Sprint(i, "-", n, "-", j), Content: "x"}
				}
				if err := s.Messages.Append(t.Context(), name, boot, msgs, out); err != nil {
					t.Error(err)
					return
				}
				for j := range out {
					switch {
					case out[j].Err == nil:
						ver = out[j].MemberVer // as the committer, which keeps positive answers only
						sent.Add(1)
					case errors.Is(out[j].Err, store.ErrMayNotWrite):
						ver = store.UnknownVer
						refused.Add(1)
					default:
						t.Error(out[j].Err)
					}
				}
			}
		})
	}
	var away [][2]int64 // half-open: after the removal, before the invitation
	for range rounds {
		gone, err := c.s.Groups.RemoveMember(t.Context(), c.node, c.boot, o, id, x)
		if err != nil {
			t.Error(err)
			break
		}
		back, err := c.s.Groups.Invite(t.Context(), c.node, c.boot, o, id, []int32{x})
		if err != nil {
			t.Error(err)
			break
		}
		away = append(away, [2]int64{gone.Event.Seq, back.Event.Seq})
	}
	stop.Store(true)
	wg.Wait()
	require.Len(t, away, rounds)
	texts := 0
	for i, m := range history(t, c.s, id) {
		require.EqualValues(t, i+1, m.Seq)
		if m.Sender != x {
			continue
		}
		texts++
		for _, a := range away {
			require.False(t, m.Seq > a[0] && m.Seq < a[1], "row %d was stored between the removal %d and the invitation %d", m.Seq, a[0], a[1])
		}
	}
	require.EqualValues(t, sent.Load(), texts)
	t.Logf("%d texts stored, %d refused", sent.Load(), refused.Load())
}

// The COMMIT's answer is lost, once after it was done and once before.
func testGroupUnclearCommit(t *testing.T, d *database) {
	for _, done := range []bool{true, false} {
		t.Run(fmt.Sprintf("done=%v", done), func(t *testing.T) {
			lose := 0
			plain := newCircle(t, d)
			faulty := d.withFaults(t, &faults{commit: func(ctx context.Context, commit func(context.Context) error) error {
				if lose == 0 {
					return commit(ctx)
				}
				lose--
				if done {
					if err := commit(ctx); err != nil {
						return err
					}
				}
				return io.ErrUnexpectedEOF
			}})
			ctx := t.Context()
			u := func(name string) int32 { return user(t, plain.s, fmt.Sprint(name, done)) }
			o, m, x := u("o"), u("m"), u("x")
			plain.befriend(o, m)
			plain.befriend(o, x)
			lose = 1
			created, err := faulty.Groups.Create(ctx, plain.node, plain.boot, o, "group", "unique", []int32{m})
			require.NoError(t, err)
			id := created.Event.ThreadID
			require.Equal(t, []int32{m}, created.Members)
			hour := time.Now().Add(time.Hour).UnixMilli()
			var link store.Link
			steps := []func() (store.GroupChange, error){
				func() (store.GroupChange, error) {
					return faulty.Groups.Rename(ctx, plain.node, plain.boot, o, id, "b")
				},
				func() (store.GroupChange, error) {
					return faulty.Groups.Invite(ctx, plain.node, plain.boot, o, id, []int32{x, m, 9999})
				},
				func() (store.GroupChange, error) {
					return faulty.Groups.MuteMember(ctx, plain.node, plain.boot, o, id, x, hour)
				},
				func() (store.GroupChange, error) {
					return faulty.Groups.RemoveMember(ctx, plain.node, plain.boot, o, id, x)
				},
				func() (store.GroupChange, error) { return faulty.Groups.Leave(ctx, plain.node, plain.boot, m, id) },
				func() (store.GroupChange, error) {
					lose = 1
					link, err = faulty.Links.Create(ctx, plain.node, plain.boot, o, id, 0, 2)
					require.NoError(t, err)
					lose = 1
					return faulty.Links.Join(ctx, plain.node, plain.boot, m, link.Code)
				},
				func() (store.GroupChange, error) {
					return faulty.Groups.SetRole(ctx, plain.node, plain.boot, o, id, m, store.RoleAdmin)
				},
				func() (store.GroupChange, error) {
					return faulty.Groups.Transfer(ctx, plain.node, plain.boot, o, id, m)
				},
				func() (store.GroupChange, error) { return faulty.Groups.Dissolve(ctx, plain.node, plain.boot, m, id) },
			}
			for i, step := range steps {
				lose = 1
				change, err := step()
				require.NoError(t, err, i)
				require.Zero(t, lose, i)
				require.EqualValues(t, i+2, change.Event.Seq, i)
				all := history(t, plain.s, id)
				require.Len(t, all, i+2, i)
				require.Equal(t, change.Event, all[i+1], i)
				if i == 5 {
					links, err := plain.s.Links.List(ctx, o, id)
					require.NoError(t, err)
					link.Uses--
					require.Equal(t, []store.Link{link}, links)
				}
			}
			ver, _, err := plain.s.Groups.LocalMembers(ctx, id, nil)
			require.NoError(t, err)
			require.EqualValues(t, len(steps), ver, "each but the new name raised it once")
			lose = 1
			_, err = faulty.Users.Delete(ctx, m, fmt.Sprint("hash of m", done))
			require.NoError(t, err)
		})
	}
}

func testGroupFenced(t *testing.T, d *database) {
	c := newCircle(t, d)
	s := newStage(c)
	s.set()
	before := history(t, c.s, s.thread)
	good := c.boot
	c.boot = "old boot"
	_, err := c.s.Groups.Create(t.Context(), c.node, c.boot, s.of[5], "x", "x", nil)
	require.ErrorIs(t, err, store.ErrFenced)
	for _, v := range store.Verbs() {
		switch v {
		case store.VerbRead, store.VerbInfo, store.VerbMembers, store.VerbLinks, store.VerbWrite:
			continue
		}
		require.ErrorIs(t, s.do(v, s.of[store.StandingOwner]), store.ErrFenced, v.String())
	}
	c.boot = good
	require.Equal(t, before, history(t, c.s, s.thread))
	links, err := c.s.Links.List(t.Context(), s.of[store.StandingOwner], s.thread)
	require.NoError(t, err)
	require.Len(t, links, 1)
}

func testDeleteUserInGroups(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	gone, a, b, m := user(t, c.s, "gone"), user(t, c.s, "a"), user(t, c.s, "b"), user(t, c.s, "m")
	private := c.befriend(gone, a)
	for _, uid := range []int32{b, m} {
		c.befriend(gone, uid)
		c.befriend(a, uid)
	}
	admin := func(by int32, thread int64, uid int32) {
		_, err := c.s.Groups.SetRole(ctx, c.node, c.boot, by, thread, uid, store.RoleAdmin)
		require.NoError(t, err)
	}
	heirAdmin := c.group(gone, m, b, a)
	admin(gone, heirAdmin, b)
	heirMember := c.group(gone, m)
	for created := time.Now().UnixMilli(); time.Now().UnixMilli() <= created+1; { // a joins later, by the clock too
		time.Sleep(time.Millisecond)
	}
	c.invite(gone, heirMember, a)
	alone := c.group(gone)
	_, err := c.s.Links.Create(ctx, c.node, c.boot, gone, alone, 0, 1)
	require.NoError(t, err)
	plain := c.group(a, gone, m)
	old := c.group(a, gone)
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, gone, old)
	require.NoError(t, err)
	require.NoError(t, c.text(plain, gone, store.UnknownVer).Err)
	vers := map[int64]int32{}
	rows := map[int64]int{}
	for _, id := range []int64{heirAdmin, heirMember, alone, plain, old} {
		ver, _, err := c.s.Groups.LocalMembers(ctx, id, nil)
		require.NoError(t, err)
		vers[id], rows[id] = ver, len(history(t, c.s, id))
	}
	privateVer := c.access(private).Ver

	_, err = c.s.Users.Delete(ctx, gone, "hash of gone")
	require.NoError(t, err)
	require.Equal(t, privateVer+1, c.access(private).Ver)
	left := store.Event{Event: "left", By: gone, UIDs: []int32{gone}}
	for _, c2 := range []struct {
		id     int64
		events []store.Event
		owner  int32
		ask    int32
		n      int
	}{
		{heirAdmin, []store.Event{{Event: "owner", By: gone, UIDs: []int32{b}}, left}, b, a, 3},
		{heirMember, []store.Event{{Event: "owner", By: gone, UIDs: []int32{m}}, left}, m, a, 2},
		{plain, []store.Event{left}, a, m, 2},
		{alone, []store.Event{{Event: "dissolved", By: gone}}, 0, 0, 0},
		{old, nil, a, a, 1},
	} {
		all := history(t, c.s, c2.id)
		require.Len(t, all, rows[c2.id]+len(c2.events))
		for i, want := range c2.events {
			got := all[rows[c2.id]+i]
			require.Equal(t, want, event(t, got))
			require.Equal(t, gone, got.Sender)
			require.EqualValues(t, rows[c2.id]+i+1, got.Seq)
		}
		ver, of, err := c.s.Groups.LocalMembers(ctx, c2.id, []int32{gone})
		require.NoError(t, err)
		require.Empty(t, of)
		if len(c2.events) > 0 {
			require.Equal(t, vers[c2.id]+1, ver)
		}
		require.ErrorIs(t, c.text(c2.id, gone, vers[c2.id]-1).Err, store.ErrMayNotWrite)
		if c2.ask == 0 {
			continue
		}
		info, err := c.s.Groups.Info(ctx, c2.id, c2.ask)
		require.NoError(t, err)
		require.Equal(t, c2.owner, info.Owner)
		require.Equal(t, c2.n, info.Members)
		require.EqualValues(t, len(all), info.LastSeq)
		require.Equal(t, store.RoleOwner, c.right(c2.id, c2.owner).Role)
		require.NoError(t, c.text(c2.id, c2.ask, store.UnknownVer).Err)
	}
	db := d.sql(t)
	require.Zero(t, scan[int](t, db, "SELECT COUNT(*) FROM group_chat_member WHERE user_id=?", gone))
	require.Positive(t, scan[int64](t, db, "SELECT dissolved_ms FROM group_chat WHERE thread_id=?", alone))
	require.Zero(t, scan[int](t, db, "SELECT COUNT(*) FROM group_link"))
	change, err := c.s.Groups.Invite(ctx, c.node, c.boot, b, heirAdmin, []int32{gone})
	require.NoError(t, err)
	require.Equal(t, []int32{gone}, change.Refused)

	// More groups than one statement takes.
	many := user(t, c.s, "many")
	var threads, groups, members []string
	for id := 5000; id < 5300; id++ {
		threads = append(threads, fmt.Sprintf("(%d,'group',%d,1)", id, id%7))
		groups = append(groups, fmt.Sprintf("(%d,'g',%d,2)", id, a))
		members = append(members, fmt.Sprintf("(%d,%d,0,1)", id, many), fmt.Sprintf("(%d,%d,2,1)", id, a))
	}
	for table, rows := range map[string][]string{
		"chat_thread(id,type,last_seq,member_ver)": threads, "group_chat(thread_id,name,owner_id,members)": groups,
		"group_chat_member(thread_id,user_id,role,from_seq)": members,
	} {
		_, err = db.ExecContext(ctx, "INSERT INTO "+table+" VALUES "+strings.Join(rows, ","))
		require.NoError(t, err)
	}
	_, err = c.s.Users.Delete(ctx, many, "hash of many")
	require.NoError(t, err)
	require.Equal(t, 300, scan[int](t, db, `SELECT COUNT(*) FROM group_chat g JOIN chat_thread t ON t.id=g.thread_id
		JOIN chat_message m ON m.thread_id=t.id AND m.seq=t.last_seq AND m.kind=1
		WHERE t.id>=5000 AND g.members=1 AND t.last_seq=t.id%7+1 AND t.member_ver=2`))
}

// Everything that locks users and threads, on few of both, as from many nodes: no deadlock is left unresolved, and groups
// stay whole.
func testGroupsConcurrently(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	var uids []int32
	for i := range 6 {
		uids = append(uids, user(t, c.s, fmt.Sprint("u", i)))
		for j := range i {
			c.befriend(uids[i], uids[j])
		}
	}
	var ids []int64
	var codes []string
	for i := range 3 {
		ids = append(ids, c.group(uids[i], uids[i+1], uids[i+2]))
		link, err := c.s.Links.Create(ctx, c.node, c.boot, uids[i], ids[i], 0, 1000)
		require.NoError(t, err)
		codes = append(codes, link.Code)
	}
	allowed := []error{
		store.ErrNotMember, store.ErrNotAllowed, store.ErrOwner, store.ErrSelf, store.ErrBadLink, store.ErrNotFound,
		store.ErrMayNotWrite,
	}
	check := func(what string, err error) {
		if err == nil {
			return
		}
		for _, ok := range allowed {
			if errors.Is(err, ok) {
				return
			}
		}
		t.Errorf("%s: %v", what, err)
	}
	first := func(_ store.GroupChange, err error) error { return err }
	stores := []*store.Store{c.s, d.another(t, c.s)}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			s := stores[w%2]
			for n := range 40 {
				by, uid, id := uids[(w+n)%6], uids[(w+3*n+1)%6], ids[(w+n/3)%3]
				switch (w + n/2) % 10 {
				case 0:
					check("invite", first(s.Groups.Invite(ctx, c.node, c.boot, by, id, uids)))
				case 1:
					check("leave", first(s.Groups.Leave(ctx, c.node, c.boot, by, id)))
				case 2:
					check("remove", first(s.Groups.RemoveMember(ctx, c.node, c.boot, by, id, uid)))
				case 3:
					check("join", first(s.Links.Join(ctx, c.node, c.boot, by, codes[(w+n/3)%3])))
				case 4:
					check("role", first(s.Groups.SetRole(ctx, c.node, c.boot, by, id, uid, store.Role(n%2))))
				case 5:
					for _, by := range uids {
						check("transfer", first(s.Groups.Transfer(ctx, c.node, c.boot, by, id, uid)))
					}
				case 6:
					check("mute", first(s.Groups.MuteMember(ctx, c.node, c.boot, by, id, uid, int64(n%2)<<41)))
				case 7:
					check("create", first(s.Groups.Create(ctx, c.node, c.boot, by, "g", fmt.Sprint("w", w, n), uids)))
				case 8:
					_, err := s.Friends.Unfriend(ctx, c.node, c.boot, by, uids[(w+n+1)%6])
					check("unfriend", err)
				case 9:
					msgs := make([]store.NewMessage, len(ids))
					out := make([]store.Appended, len(ids))
					for i, id := range ids {
						msgs[i] = store.NewMessage{ThreadID: id, Sender: by, MemberVer: store.UnknownVer, UniqueID: fmt.Sprint(w, "-", n, "-", i), Content: "x"}
					}
					check("append", s.Messages.Append(ctx, c.node, c.boot, msgs, out))
					for i := range out {
						check("text", out[i].Err)
					}
				}
			}
		})
	}
	for _, uid := range []int32{uids[4], uids[0]} {
		wg.Go(func() {
			_, err := c.s.Users.Delete(ctx, uid, "hash of u"+fmt.Sprint(uid-uids[0]))
			check("delete", err)
		})
	}
	wg.Wait()
	db := d.sql(t)
	require.Equal(t, 2, scan[int](t, db, "SELECT COUNT(*) FROM user WHERE deleted_ms>0"))
	for what, q := range map[string]string{
		"members are counted": `SELECT COUNT(*) FROM group_chat g WHERE g.members<>(SELECT COUNT(*) FROM group_chat_member m
			WHERE m.thread_id=g.thread_id AND m.left_seq=0)`,
		"there is one owner": `SELECT COUNT(*) FROM group_chat g WHERE g.dissolved_ms=0 AND 1<>(SELECT COUNT(*) FROM group_chat_member m
			WHERE m.thread_id=g.thread_id AND m.left_seq=0 AND m.role=2)`,
		"it is the group's": `SELECT COUNT(*) FROM group_chat g WHERE g.dissolved_ms=0 AND NOT EXISTS (SELECT 1 FROM group_chat_member m
			WHERE m.thread_id=g.thread_id AND m.left_seq=0 AND m.role=2 AND m.user_id=g.owner_id)`,
		"dissolved groups are empty": `SELECT COUNT(*) FROM group_chat g JOIN group_chat_member m ON m.thread_id=g.thread_id
			WHERE g.dissolved_ms>0 AND m.left_seq=0`,
		"rows have no hole": `SELECT COUNT(*) FROM chat_thread t WHERE t.type='group' AND t.last_seq<>(SELECT COUNT(*) FROM chat_message m
			WHERE m.thread_id=t.id)`,
		"the deleted are nowhere": "SELECT COUNT(*) FROM group_chat_member m JOIN user u ON u.uid=m.user_id WHERE u.deleted_ms>0",
		"memberships begin and end with a row": `SELECT COUNT(*) FROM group_chat_member m WHERE NOT EXISTS (SELECT 1 FROM chat_message e
			WHERE e.thread_id=m.thread_id AND e.seq=m.from_seq AND e.kind=1) OR m.left_seq>0 AND NOT EXISTS (SELECT 1 FROM chat_message e
			WHERE e.thread_id=m.thread_id AND e.seq=m.left_seq AND e.kind=1)`,
	} {
		require.Zero(t, scan[int](t, db, q), what)
	}
}

func testMemberships(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	o, m := user(t, c.s, "o"), user(t, c.s, "m")
	one, two := c.group(o, m), c.group(o, m)
	_, err := c.s.Groups.SetRole(ctx, c.node, c.boot, o, two, m, store.RoleAdmin)
	require.NoError(t, err)
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, m, one)
	require.NoError(t, err)
	db := d.sql(t)
	var rows, uids []string
	keys := []store.GroupKey{{Thread: one, UID: o}, {Thread: one, UID: m}, {Thread: two, UID: m}, {Thread: two, UID: 1 << 30}, {Thread: 1 << 40, UID: o}}
	all := []int32{o, m, m}
	for i := range int32(600) {
		uid := 10000 + i
		rows = append(rows, fmt.Sprintf("(%d,%d,5)", two, uid))
		uids = append(uids, fmt.Sprintf("(%[1]d,'n%[1]d','n%[1]d','e%[1]d','e%[1]d','p')", uid))
		keys = append(keys, store.GroupKey{Thread: two, UID: uid})
		all = append(all, uid)
	}
	_, err = db.ExecContext(ctx, "INSERT INTO group_chat_member(thread_id,user_id,from_seq) VALUES "+strings.Join(rows, ","))
	require.NoError(t, err)
	_, err = db.ExecContext(ctx, "INSERT INTO user(uid,name,name_key,email,email_key,pwd) VALUES "+strings.Join(uids, ","))
	require.NoError(t, err)

	rights, err := c.s.Rights.InGroups(ctx, keys)
	require.NoError(t, err)
	require.Len(t, rights, 603)
	left := rights[keys[1]]
	require.EqualValues(t, 2, left.LeftSeq)
	require.EqualValues(t, 2, left.Ver)
	require.Equal(t, store.RoleAdmin, rights[keys[2]].Role)
	require.EqualValues(t, 5, rights[keys[604]].FromSeq)
	none, err := c.s.Rights.InGroups(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, none)

	groups, err := c.s.Groups.Memberships(ctx, all)
	require.NoError(t, err)
	require.Len(t, groups, 602)
	require.Len(t, groups[o], 2)
	require.Equal(t, []store.ThreadMembership{{Thread: two, Ver: 2, Membership: rights[keys[2]].Membership}}, groups[m])
	require.Equal(t, one, groups[o][0].Thread)
	require.EqualValues(t, 2, groups[o][0].Ver)

	ver, of, err := c.s.Groups.LocalMembers(ctx, two, append(all, 7, 8))
	require.NoError(t, err)
	require.EqualValues(t, 2, ver)
	require.Len(t, of, 602)
	require.Equal(t, rights[keys[2]].Membership, of[m])
	ver, of, err = c.s.Groups.LocalMembers(ctx, one, []int32{m, 7})
	require.NoError(t, err)
	require.EqualValues(t, 2, ver)
	require.Equal(t, map[int32]store.Membership{m: left.Membership}, of)
	_, of, err = c.s.Groups.LocalMembers(ctx, one, []int32{7})
	require.NoError(t, err)
	require.Empty(t, of)
	_, _, err = c.s.Groups.LocalMembers(ctx, 1<<30, all)
	require.ErrorIs(t, err, store.ErrNotFound)

	var paged []int32
	for after := int32(0); ; {
		page, err := c.s.Groups.Members(ctx, two, after, 250)
		require.NoError(t, err)
		for _, one := range page {
			require.Equal(t, one.Membership.UID, one.Profile.UID)
			paged = append(paged, one.Profile.UID)
			after = one.Profile.UID
		}
		if len(page) < 250 {
			break
		}
	}
	require.Len(t, paged, 602)
	require.IsIncreasing(t, paged)
	page, err := c.s.Groups.Members(ctx, one, 0, 10)
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, "o", page[0].Name)
	require.Equal(t, store.RoleOwner, page[0].Role)
	page, err = c.s.Groups.Members(ctx, one, 0, -1)
	require.NoError(t, err)
	require.Empty(t, page)
}

func testSeedGroup(t *testing.T, d *database) {
	c := newCircle(t, d)
	owner := user(t, c.s, "owner")
	var members []int32
	for i := range 20 {
		members = append(members, user(t, c.s, fmt.Sprint("member", i)))
	}
	id, err := c.s.Seed.Group(t.Context(), "seeded", owner, members)
	require.NoError(t, err)
	rows := history(t, c.s, id)
	require.Len(t, rows, 1)
	require.Equal(t, store.KindEvent, rows[0].Kind)
	for _, uid := range append(members, owner) {
		list, err := c.s.Threads.Since(t.Context(), uid, time.Now().Unix(), 0, 10)
		require.NoError(t, err)
		require.Len(t, list, 1)
		want := store.Thread{ID: id, Type: store.ThreadGroup, LastSeq: 1, Name: "seeded", FromSeq: 1, Members: 21}
		if uid == owner {
			want.Role = store.RoleOwner
		}
		require.Equal(t, want, list[0])
	}
	require.EqualValues(t, 2, c.say(id, members[7], "hello"))
	_, err = c.s.Groups.RemoveMember(t.Context(), c.node, c.boot, owner, id, members[7])
	require.NoError(t, err)

	_, err = c.s.Seed.Group(t.Context(), "", owner, members)
	require.ErrorIs(t, err, store.ErrInvalid)
	_, err = c.s.Seed.Group(t.Context(), "large", owner, make([]int32, store.DefaultGroupMembers))
	require.ErrorIs(t, err, store.ErrGroupFull)
}
