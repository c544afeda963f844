package chat

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/history"
	"parley/internal/store"
	"parley/internal/wire"
)

// groupUser is a native client that knows groups. It keeps the rows that it is pushed.
type groupUser struct {
	*stockClient
	rows map[int64]map[int64]wire.StoredText // by thread and number
	gaps int
}

// member logs user i in as a client that knows groups.
func (f *fixture) member(n *node, i int) *groupUser {
	f.t.Helper()
	return f.memberOn(n, i, "device")
}

func (f *fixture) memberOn(n *node, i int, device string) *groupUser {
	f.t.Helper()
	return f.memberWith(n, i, device, wire.CapGroups, wire.CapMarks)
}

// memberWith is memberOn for a client with these capabilities beside the usual ones.
func (f *fixture) memberWith(n *node, i int, device string, caps ...string) *groupUser {
	f.t.Helper()
	ticket := f.ticket(n, i)
	c := &groupUser{stockClient: dialRaw(f.t, ticket.Addr), rows: make(map[int64]map[int64]wire.StoredText)}
	c.uid = ticket.UID
	c.send(wire.MsgLogin, map[string]any{
		"uid": ticket.UID, "token": ticket.Token, "client": "test/1", "device": device,
		"caps": append([]string{wire.CapBatch, wire.CapGap}, caps...),
	})
	c.send(wire.MsgHeartbeat, map[string]any{}) // answered when the session is live
	var granted struct {
		Caps []string `json:"caps"`
	}
	c.expect(wire.MsgLoginRsp).into(f.t, &granted)
	require.Subset(f.t, granted.Caps, caps)
	c.until(func(f frame) bool { return f.id == wire.MsgHeartbeatRsp })
	return c
}

// until reads frames up to one that is wanted, and keeps the rows that come before it.
func (c *groupUser) until(wanted func(frame) bool) frame {
	c.t.Helper()
	for {
		f, err := c.read()
		require.NoError(c.t, err, "user %d, who has %v", c.uid, c.rows)
		switch f.id {
		case wire.MsgGroupPush, wire.MsgRowPush:
			var push wire.GroupPush
			f.into(c.t, &push)
			for i, row := range push.Chats {
				require.Equal(c.t, push.ThreadID, row.ThreadID)
				require.Equal(c.t, push.Chats[0].MsgID+int64(i), row.MsgID, "no holes in a push")
				if c.rows[row.ThreadID] == nil {
					c.rows[row.ThreadID] = make(map[int64]wire.StoredText)
				}
				c.rows[row.ThreadID][row.MsgID] = row
			}
		case wire.MsgGap:
			c.gaps++
		}
		if wanted(f) {
			return f
		}
	}
}

// ask sends a request and reads its reply, which must have this code.
func (c *groupUser) ask(id wire.MsgID, req, reply any, code wire.Code) {
	c.t.Helper()
	c.send(id, req)
	f := c.until(func(f frame) bool { return f.id == id+1 })
	var got struct {
		Error wire.Code `json:"error"`
	}
	f.into(c.t, &got)
	require.Equal(c.t, code, got.Error, "reply to %s: %s", id, f.body)
	if reply != nil {
		f.into(c.t, reply)
	}
}

// do is ask for a change of a group, and returns the number of its event.
func (c *groupUser) do(id wire.MsgID, req map[string]any) int64 {
	c.t.Helper()
	var reply wire.GroupReply
	c.ask(id, req, &reply, wire.CodeOK)
	return reply.EventID
}

// row waits until a row has been pushed.
func (c *groupUser) row(thread, seq int64) wire.StoredText {
	c.t.Helper()
	for {
		if row, ok := c.rows[thread][seq]; ok {
			return row
		}
		f := c.until(func(f frame) bool { return f.id == wire.MsgGroupPush || f.id == wire.MsgRowPush || f.id == wire.MsgGap })
		if f.id != wire.MsgGap {
			continue
		}
		// A busy machine may drop a push between nodes. Then the client is told, and reads.
		var page wire.HistoryReply
		c.ask(wire.MsgHistory, map[string]any{"thread_id": thread, "message_id": seq - 1, "limit": 1}, &page, wire.CodeOK)
		for _, row := range page.Chats {
			if row.MsgID == seq {
				return row
			}
		}
	}
}

// event waits until an event has been pushed.
func (c *groupUser) event(thread, seq int64) (e wire.GroupEvent) {
	c.t.Helper()
	row := c.row(thread, seq)
	require.EqualValues(c.t, wire.KindEvent, row.Kind)
	require.NoError(c.t, json.Unmarshal([]byte(row.Content), &e))
	require.Equal(c.t, e.By, row.Sender)
	return e
}

var uniques atomic.Int64

func unique() string { return fmt.Sprint("unique-", uniques.Add(1)) }

// create makes a group of the client's user and others, and returns its thread.
func (c *groupUser) create(name string, uids ...int32) int64 {
	c.t.Helper()
	var made wire.GroupInviteReply
	c.ask(wire.MsgGroupCreate, map[string]any{"name": name, "unique_id": unique(), "uids": uids}, &made, wire.CodeOK)
	require.EqualValues(c.t, 1, made.EventID)
	require.Empty(c.t, made.Refused)
	return made.ThreadID
}

func (c *groupUser) text(thread int64, content string, code wire.Code) int64 {
	c.t.Helper()
	c.send(wire.MsgText, map[string]any{"thread_id": thread, "text_array": []map[string]any{{"content": content, "unique_id": unique()}}})
	var reply wire.TextPush
	c.until(func(f frame) bool { return f.id == wire.MsgTextRsp }).into(c.t, &reply)
	require.Len(c.t, reply.Chats, 1)
	require.Equal(c.t, code, reply.Chats[0].Code)
	return reply.Chats[0].Seq
}

func (c *groupUser) history(thread, after int64) []int64 {
	c.t.Helper()
	var page wire.HistoryReply
	c.ask(wire.MsgHistory, wire.HistoryRequest{ThreadID: thread, After: after, Limit: 500}, &page, wire.CodeOK)
	require.False(c.t, page.LoadMore)
	return seqs(page.Chats)
}

// sync returns what 2102 brings, by thread.
func (c *groupUser) sync(cursors map[int64]int64, all bool) map[int64][]int64 {
	c.t.Helper()
	req := wire.SyncRequest{All: all}
	for _, id := range slices.Sorted(maps.Keys(cursors)) {
		req.Cursors = append(req.Cursors, wire.Cursor{ThreadID: id, Seq: cursors[id]})
	}
	var reply wire.SyncReply
	c.ask(wire.MsgSync, req, &reply, wire.CodeOK)
	require.False(c.t, reply.LoadMore)
	got := make(map[int64][]int64)
	for _, page := range reply.Threads {
		got[page.ThreadID] = seqs(page.Chats)
	}
	return got
}

// groups returns the groups that 1026 lists.
func (c *groupUser) groups() []wire.Thread {
	c.t.Helper()
	var page wire.ThreadsReply
	c.ask(wire.MsgThreads, wire.ThreadsRequest{Limit: 500}, &page, wire.CodeOK)
	return slices.DeleteFunc(page.Threads, func(t wire.Thread) bool { return t.Type != "group" })
}

func (c *groupUser) info(thread int64) (info wire.GroupInfoReply) {
	c.t.Helper()
	c.ask(wire.MsgGroupInfo, map[string]any{"thread_id": thread}, &info, wire.CodeOK)
	return info
}

func seqs(rows []wire.StoredText) []int64 {
	list := []int64{}
	for _, r := range rows {
		list = append(list, r.MsgID)
	}
	return list
}

func numbers(from, to int64) []int64 {
	list := []int64{}
	for n := from; n <= to; n++ {
		list = append(list, n)
	}
	return list
}

const ann, bob, carl, dora, eve = firstUID, firstUID + 1, firstUID + 2, firstUID + 3, firstUID + 4

// Every change of a group reaches its members on all nodes as an event, and the reply carries the event's number.
func TestGroupsAcrossNodes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 5)
	n1, n2 := f.start("chat1"), f.start("chat2")
	b, a, c := f.member(n1, 2), f.member(n2, 1), f.member(n2, 3)
	owner, admin, member := 2, 1, 0
	yes, no := true, false

	// Dora is no friend of Bob.
	create := map[string]any{"name": "乐队", "unique_id": "the-first", "uids": []int32{ann, carl, dora}}
	var made wire.GroupInviteReply
	b.ask(wire.MsgGroupCreate, create, &made, wire.CodeOK)
	require.Equal(t, []int32{dora}, made.Refused)
	require.EqualValues(t, 1, made.EventID)
	id := made.ThreadID
	var again wire.GroupInviteReply
	b.ask(wire.MsgGroupCreate, create, &again, wire.CodeOK)
	require.Equal(t, id, again.ThreadID, "sent again it makes no second group")

	group := func(more map[string]any) map[string]any {
		req := map[string]any{"thread_id": id}
		maps.Copy(req, more)
		return req
	}
	all := []*groupUser{a, b, c}
	everybody := func(seq int64, want wire.GroupEvent) {
		t.Helper()
		require.Positive(t, seq)
		for _, m := range all {
			require.Equal(t, want, m.event(id, seq), "to user %d", m.uid)
		}
	}
	everybody(1, wire.GroupEvent{Event: "created", By: bob, UIDs: a.event(id, 1).UIDs, Name: "乐队"})

	info := a.info(id)
	require.Equal(t, wire.GroupInfoReply{
		ThreadID: id, Name: "乐队", Owner: bob, Members: 3, CreatedMS: info.CreatedMS, FirstID: 1, LastSeq: 1,
	}, info)
	require.WithinDuration(t, time.Now(), time.UnixMilli(info.CreatedMS), time.Minute)
	require.Equal(t, owner, b.info(id).Role)
	for after, want := range map[int32]int32{0: ann, ann: bob, bob: carl} {
		var page wire.GroupMembersReply
		a.ask(wire.MsgGroupMembers, group(map[string]any{"after_uid": after, "limit": 1}), &page, wire.CodeOK)
		require.Len(t, page.Members, 1)
		require.Equal(t, want, page.Members[0].UID)
		require.Equal(t, want, page.LastUID)
		require.Equal(t, fmt.Sprintf("user%d", want-firstUID+1), page.Members[0].Name)
		require.Equal(t, want == bob, page.Members[0].Role == owner)
		require.Equal(t, want != carl, page.LoadMore)
	}
	require.Equal(t, []wire.Thread{{ID: id, Type: "group", LastSeq: 1, Name: "乐队", Members: 3, FirstID: 1}}, c.groups())

	seq := a.text(id, "hello", wire.CodeOK)
	require.EqualValues(t, 2, seq)
	for _, m := range []*groupUser{b, c} {
		row := m.row(id, seq)
		require.Equal(t, "hello", row.Content)
		require.Zero(t, row.Kind)
		require.EqualValues(t, ann, row.Sender)
	}

	everybody(b.do(wire.MsgGroupRole, group(map[string]any{"uid": carl, "role": admin})), wire.GroupEvent{Event: "role", By: bob, UIDs: []int32{carl}, Role: &admin})
	require.Zero(t, b.do(wire.MsgGroupRole, group(map[string]any{"uid": carl, "role": admin})), "nothing to change")
	everybody(c.do(wire.MsgGroupChange, group(map[string]any{"name": "the band"})), wire.GroupEvent{Event: "renamed", By: carl, Name: "the band"})
	last := c.do(wire.MsgGroupChange, group(map[string]any{"name": "the Band", "mute_all": true, "history_for_new": true}))
	everybody(last-2, wire.GroupEvent{Event: "renamed", By: carl, Name: "the Band"})
	everybody(last-1, wire.GroupEvent{Event: "mute_all", By: carl, On: &yes})
	everybody(last, wire.GroupEvent{Event: "history", By: carl, On: &yes})
	a.text(id, "may I?", wire.CodeNotAllowed)
	c.text(id, "an admin may", wire.CodeOK)
	everybody(c.do(wire.MsgGroupChange, group(map[string]any{"mute_all": false, "history_for_new": false})), wire.GroupEvent{Event: "history", By: carl, On: &no})

	until := time.Now().Add(time.Hour).UnixMilli()
	everybody(c.do(wire.MsgGroupMute, group(map[string]any{"uid": ann, "until_ms": until})), wire.GroupEvent{Event: "muted", By: carl, UIDs: []int32{ann}, UntilMS: until})
	require.Equal(t, until, a.info(id).MutedUntilMS)
	a.text(id, "may I?", wire.CodeNotAllowed)
	everybody(c.do(wire.MsgGroupMute, group(map[string]any{"uid": ann, "until_ms": 0})), wire.GroupEvent{Event: "unmuted", By: carl, UIDs: []int32{ann}})
	a.text(id, "again", wire.CodeOK)

	// Dora comes by invitation of her friend Carl, Eve by a link.
	d, e := f.member(n1, 4), f.member(n2, 5)
	var invited wire.GroupInviteReply
	c.ask(wire.MsgGroupInvite, group(map[string]any{"uids": []int32{ann, dora, firstUID + 99}}), &invited, wire.CodeOK)
	require.Equal(t, []int32{firstUID + 99}, invited.Refused)
	all = append(all, d)
	everybody(invited.EventID, wire.GroupEvent{Event: "invited", By: carl, UIDs: []int32{dora}})
	require.Equal(t, invited.EventID, d.info(id).FirstID)

	var link wire.GroupLinkReply
	c.ask(wire.MsgGroupLink, group(map[string]any{"ttl_s": 3600, "uses": 1}), &link, wire.CodeOK)
	require.Equal(t, 1, link.Uses)
	require.WithinDuration(t, time.Now().Add(time.Hour), time.UnixMilli(link.ExpiresMS), time.Minute)
	var links wire.GroupLinksReply
	b.ask(wire.MsgGroupLinks, group(nil), &links, wire.CodeOK)
	require.Len(t, links.Links, 1)
	require.Equal(t, wire.GroupLink{Code: link.Code, By: carl, CreatedMS: links.Links[0].CreatedMS, ExpiresMS: link.ExpiresMS, Uses: 1}, links.Links[0])
	var joined wire.GroupJoinReply
	e.ask(wire.MsgGroupJoin, map[string]any{"code": link.Code}, &joined, wire.CodeOK)
	require.Equal(t, wire.GroupJoinReply{GroupReply: wire.GroupReply{ThreadID: id, EventID: joined.EventID}, Name: "the Band"}, joined)
	var rejoined wire.GroupJoinReply
	e.ask(wire.MsgGroupJoin, map[string]any{"code": link.Code}, &rejoined, wire.CodeOK)
	require.Equal(t, wire.GroupJoinReply{GroupReply: wire.GroupReply{ThreadID: id}, Name: "the Band"}, rejoined, "again, by a link that is used up")
	all = append(all, e)
	everybody(joined.EventID, wire.GroupEvent{Event: "joined", By: eve, UIDs: []int32{eve}})

	c.ask(wire.MsgGroupLink, group(nil), &link, wire.CodeOK)
	b.ask(wire.MsgGroupRevoke, group(map[string]any{"code": link.Code}), nil, wire.CodeOK)
	b.ask(wire.MsgGroupRevoke, group(map[string]any{"code": link.Code}), nil, wire.CodeOK)
	b.ask(wire.MsgGroupLinks, group(nil), &links, wire.CodeOK)
	require.Empty(t, links.Links)

	// The new ones are told of texts from their nodes' own indexes, and their texts reach the others.
	for _, from := range []*groupUser{d, e, a} {
		seq := from.text(id, "from all", wire.CodeOK)
		for _, m := range all {
			if m != from {
				require.Equal(t, "from all", m.row(id, seq).Content)
			}
		}
	}

	everybody(c.do(wire.MsgGroupRemove, group(map[string]any{"uid": eve})), wire.GroupEvent{Event: "removed", By: carl, UIDs: []int32{eve}})
	all = []*groupUser{a, b, c, d}
	for request, again := range map[wire.MsgID]map[string]any{
		wire.MsgGroupRemove: {"uid": eve}, wire.MsgGroupRole: {"uid": carl, "role": admin}, wire.MsgGroupMute: {"uid": ann, "until_ms": 0},
		wire.MsgGroupChange: {"name": "the Band", "mute_all": false, "history_for_new": false}, wire.MsgGroupInvite: {"uids": []int32{carl}},
	} {
		require.Zero(t, b.do(request, group(again)), "request %s when there is nothing to change", request)
	}
	everybody(d.do(wire.MsgGroupLeave, group(nil)), wire.GroupEvent{Event: "left", By: dora, UIDs: []int32{dora}})
	all = []*groupUser{a, b, c}
	everybody(b.do(wire.MsgGroupRole, group(map[string]any{"uid": carl, "role": owner})), wire.GroupEvent{Event: "owner", By: bob, UIDs: []int32{carl}})
	require.Equal(t, admin, b.info(id).Role)
	everybody(c.do(wire.MsgGroupRole, group(map[string]any{"uid": bob, "role": member})), wire.GroupEvent{Event: "role", By: carl, UIDs: []int32{bob}, Role: &member})
	end := c.do(wire.MsgGroupDissolve, group(nil))
	everybody(end, wire.GroupEvent{Event: "dissolved", By: carl})
	for _, m := range all {
		info := m.info(id)
		require.True(t, info.Dissolved)
		require.Equal(t, end, info.Left)
		require.Equal(t, numbers(1, end), m.history(id, 0), "what was said stays")
		m.text(id, "too late", wire.CodeNotAllowed)
	}
}

// Whoever is not in a group learns nothing of it, not even that there is one.
func TestAnOutsiderLearnsNothingOfAGroup(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4)
	n := f.start("chat1")
	b, outsider := f.member(n, 2), f.member(n, 4)
	id := b.create("secret", ann)
	for request, more := range map[wire.MsgID]map[string]any{
		wire.MsgGroupInfo: nil, wire.MsgGroupMembers: nil, wire.MsgGroupLeave: nil, wire.MsgGroupDissolve: nil, wire.MsgGroupLinks: nil,
		wire.MsgGroupInvite: {"uids": []int32{carl}}, wire.MsgGroupRemove: {"uid": ann}, wire.MsgGroupRole: {"uid": ann, "role": 1},
		wire.MsgGroupChange: {"name": "mine"}, wire.MsgGroupMute: {"uid": ann, "until_ms": 0}, wire.MsgGroupLink: nil, wire.MsgGroupRevoke: {"code": "c"},
	} {
		for _, thread := range []int64{id, id + 1000, f.threads[2]} { // theirs, nobody's, and one that is no group
			req := map[string]any{"thread_id": thread}
			maps.Copy(req, more)
			outsider.ask(request, req, nil, wire.CodeNotAllowed)
			req["thread_id"] = 0
			outsider.ask(request, req, nil, wire.CodeBadRequest)
		}
	}
	require.Empty(t, outsider.history(id, 0))
	require.NotContains(t, outsider.sync(map[int64]int64{id: 0}, true), id)
	require.Empty(t, outsider.groups())
	outsider.text(id, "knock", wire.CodeNotAllowed)
	require.Equal(t, []int64{1}, b.history(id, 0))
}

func TestClientsWithoutTheCapabilitySeeNoGroups(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	n := f.start("chat1")
	b := f.member(n, 2)
	id := b.create("the band", ann, carl)
	stock := f.stock(n, 1)
	stock.expect(wire.MsgLoginRsp)
	threads, _ := stock.load()
	require.Len(t, threads, 1)
	require.Equal(t, f.threads[0], threads[0].ID)

	plain := &groupUser{stockClient: f.nativeRaw(n, 3), rows: map[int64]map[int64]wire.StoredText{}}
	require.Empty(t, plain.groups())
	require.Empty(t, plain.history(id, 0))
	require.NotContains(t, plain.sync(map[int64]int64{id: 0}, true), id)
	plain.text(id, "a text to what I cannot see", wire.CodeNotAllowed)
	for request := wire.MsgGroupCreate; request < wire.MsgGroupPush; request += 2 {
		plain.ask(request, map[string]any{"thread_id": id}, nil, wire.CodeNotAllowed)
		stock.send(request, map[string]any{"thread_id": id})
	}
	stock.send(wire.MsgText, map[string]any{"fromuid": ann, "touid": 0, "thread_id": id, "text_array": []map[string]any{{"content": "x", "unique_id": unique()}}})
	var refused wire.TextPush
	stock.expect(wire.MsgTextRsp).into(t, &refused)
	require.EqualValues(t, wire.StatusFailed, refused.Chats[0].Status)
	stock.send(wire.MsgHistory, wire.HistoryRequest{ThreadID: id})
	var page wire.HistoryReply
	stock.expect(wire.MsgHistoryRsp).into(t, &page) // and no answer to what it cannot know
	require.Empty(t, page.Chats)

	seq := b.text(id, "hello", wire.CodeOK)
	full := f.memberOn(n, 3, "full")
	require.Equal(t, numbers(1, seq), full.history(id, 0), "the same user sees it with a client that can")
	b.text(f.threads[1], "a text to Carl alone", wire.CodeOK)
	plain.until(func(f frame) bool { return f.id == wire.MsgTextPush })
	require.Empty(t, plain.rows)
}

func TestAMemberReadsFromItsJoinToItsEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4)
	n1, n2 := f.start("chat1"), f.start("chat2")
	b, c := f.member(n1, 2), f.member(n2, 3)
	id := b.create("the band")
	for range 3 {
		b.text(id, "before", wire.CodeOK)
	}
	in := b.do(wire.MsgGroupInvite, map[string]any{"thread_id": id, "uids": []int32{carl}})
	inside := b.text(id, "inside", wire.CodeOK)
	require.Equal(t, numbers(in, inside), c.history(id, 0))
	require.Equal(t, numbers(inside, inside), c.history(id, in))
	require.Equal(t, numbers(in, inside), c.sync(nil, true)[id])
	require.Equal(t, numbers(in, inside), c.sync(map[int64]int64{id: 1}, false)[id], "a cursor before the join starts there")
	require.NotContains(t, c.sync(map[int64]int64{id: inside}, false), id)
	listed := c.groups()
	require.Len(t, listed, 1)
	require.Equal(t, 1, listed[0].Unread)
	listed[0].ThreadMarks = wire.ThreadMarks{}
	require.Equal(t, []wire.Thread{{ID: id, Type: "group", LastSeq: inside, Name: "the band", Members: 2, FirstID: in}}, listed)

	out := b.do(wire.MsgGroupRemove, map[string]any{"thread_id": id, "uid": carl})
	after := b.text(id, "after", wire.CodeOK)
	require.Equal(t, numbers(in, out), c.history(id, 0))
	require.Empty(t, c.history(id, out))
	require.Empty(t, c.history(id, after))
	require.Equal(t, numbers(in, out), c.sync(nil, true)[id])
	require.NotContains(t, c.sync(map[int64]int64{id: out}, true), id)
	left := c.groups()
	require.Len(t, left, 1)
	require.Equal(t, out, left[0].LastSeq)
	require.Equal(t, out, left[0].Left)
	require.Equal(t, out, c.info(id).Left)
	require.Equal(t, out, c.info(id).LastSeq)
	c.ask(wire.MsgGroupMembers, map[string]any{"thread_id": id}, nil, wire.CodeNotAllowed)
	c.text(id, "let me in", wire.CodeNotAllowed)

	b.do(wire.MsgGroupChange, map[string]any{"thread_id": id, "history_for_new": true})
	back := b.do(wire.MsgGroupInvite, map[string]any{"thread_id": id, "uids": []int32{carl}})
	require.Equal(t, numbers(1, back), c.history(id, 0), "all of it, now that history is open to new members")
}

// A removal between the reading of a member's rights and that of a page leaves nothing later in the page.
func TestAPageEndsWhereItsReaderWasSeenAsAMember(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	n := f.start("chat1")
	b := f.member(n, 2)
	id := b.create("the band", carl)
	list, err := f.store.Threads.List(t.Context(), carl, 0, 10)
	require.NoError(t, err)
	at := slices.IndexFunc(list, func(t store.Thread) bool { return t.ID == id })
	require.GreaterOrEqual(t, at, 0)
	read, ok, err := history.Readable(t.Context(), f.store, id, carl, true)
	require.NoError(t, err)
	require.True(t, ok)
	out := b.do(wire.MsgGroupRemove, map[string]any{"thread_id": id, "uid": carl})
	b.text(id, "without Carl", wire.CodeOK)
	for _, within := range []history.Range{read, history.OfThread(&list[at])} {
		page := wire.HistoryReply{ThreadID: id}
		_, err = history.Page(t.Context(), f.store.Messages, &page, within, history.View{}, 10, 1<<16)
		require.NoError(t, err)
		require.Equal(t, []int64{1}, seqs(page.Chats))
	}
	read, ok, err = history.Readable(t.Context(), f.store, id, carl, true)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, history.Range{First: 1, Last: out}, read, "and does not grow any more")
}

// A code cannot be tried out: whatever is wrong with a link, the answer is the same, and few tries are answered.
func TestBadLinksAreAllAlikeAndFew(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	n := f.start("chat1")
	b, c := f.member(n, 2), f.member(n, 3)
	id := b.create("the band")
	var link wire.GroupLinkReply
	b.ask(wire.MsgGroupLink, map[string]any{"thread_id": id}, &link, wire.CodeOK)
	for range 3 { // good joins are not counted
		c.ask(wire.MsgGroupJoin, map[string]any{"code": "bad"}, nil, wire.CodeNotAllowed)
	}
	c.ask(wire.MsgGroupJoin, map[string]any{"code": link.Code}, nil, wire.CodeOK)
	c.do(wire.MsgGroupLeave, map[string]any{"thread_id": id})
	c.ask(wire.MsgGroupJoin, map[string]any{"code": link.Code}, nil, wire.CodeNotAllowed) // used up
	b.ask(wire.MsgGroupLink, map[string]any{"thread_id": id, "uses": 100}, &link, wire.CodeOK)
	b.ask(wire.MsgGroupRevoke, map[string]any{"thread_id": id, "code": link.Code}, nil, wire.CodeOK)
	c.ask(wire.MsgGroupJoin, map[string]any{"code": link.Code}, nil, wire.CodeNotAllowed)
	for refused := false; !refused; { // as many as are left, and what a slow test earns meanwhile
		c.send(wire.MsgGroupJoin, map[string]any{"code": "bad"})
		var got wire.GroupJoinReply
		c.until(func(f frame) bool { return f.id == wire.MsgGroupJoinRsp }).into(t, &got)
		require.Contains(t, []wire.Code{wire.CodeNotAllowed, wire.CodeRateLimited}, got.Error)
		refused = got.Error == wire.CodeRateLimited
	}
	b.ask(wire.MsgGroupJoin, map[string]any{"code": "bad"}, nil, wire.CodeNotAllowed) // another user may
}

// A text that is stored while a member's list is being read comes with the list or as a push.
func TestASyncLosesNoTextOfAGroup(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	n1, n2 := f.start("chat1"), f.start("chat2")
	b := f.member(n1, 2)
	id := b.create("the band", carl)
	for range 20 {
		c := f.memberOn(n2, 3, "fresh")
		c.send(wire.MsgSync, wire.SyncRequest{All: true})
		seq := b.text(id, "meanwhile", wire.CodeOK)
		var reply wire.SyncReply
		c.until(func(f frame) bool { return f.id == wire.MsgSyncRsp }).into(t, &reply)
		got := []int64{}
		for _, page := range reply.Threads {
			if page.ThreadID == id {
				got = seqs(page.Chats)
			}
		}
		if !slices.Contains(got, seq) {
			c.row(id, seq)
		}
		c.conn.Close()
	}
}
