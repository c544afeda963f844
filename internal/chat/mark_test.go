package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// mark sends a mark and returns what is stored then.
func (c *groupUser) mark(thread, read, recv int64) (int64, int64) {
	c.t.Helper()
	var reply wire.MarkReply
	c.ask(wire.MsgMark, map[string]any{"thread_id": thread, "read": read, "recv": recv}, &reply, wire.CodeOK)
	require.Equal(c.t, thread, reply.ThreadID)
	return reply.Read, reply.Recv
}

// marked waits for a push of marks.
func (c *groupUser) marked() (push wire.MarkPush) {
	c.t.Helper()
	c.until(func(f frame) bool { return f.id == wire.MsgMarkPush }).into(c.t, &push)
	return push
}

// quiet checks that no mark has been pushed, if one would come before what the client itself does.
func (c *groupUser) quiet() {
	c.t.Helper()
	c.send(wire.MsgHeartbeat, map[string]any{})
	c.until(func(f frame) bool {
		require.NotEqual(c.t, wire.MsgMarkPush, f.id, "%s", f.body)
		return f.id == wire.MsgHeartbeatRsp
	})
}

// listed returns the marks of a thread in the list of threads, and in a sync from a cursor.
func (c *groupUser) listed(thread, cursor int64) (marks wire.ThreadMarks) {
	c.t.Helper()
	var list wire.ThreadsReply
	c.ask(wire.MsgThreads, map[string]any{"thread_id": 0}, &list, wire.CodeOK)
	for _, t := range list.Threads {
		if t.ID == thread {
			marks = t.ThreadMarks
		}
	}
	var sync wire.SyncReply
	c.ask(wire.MsgSync, map[string]any{"cursors": []map[string]any{{"thread_id": thread, "seq": cursor}}}, &sync, wire.CodeOK)
	require.Len(c.t, sync.Threads, 1)
	require.Equal(c.t, marks, sync.Threads[0].ThreadMarks, "2103 says the same as 1026")
	return marks
}

func TestMarksAcrossNodes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	a, b := f.start("chat1"), f.start("chat2")
	phone, desk, bob := f.memberOn(a, 1, "phone"), f.memberOn(b, 1, "desk"), f.member(b, 2)
	thread := f.threads[0]
	for range 4 {
		bob.text(thread, "hi", wire.CodeOK)
	}
	require.Equal(t, wire.ThreadMarks{Unread: 4}, phone.listed(thread, 0))

	read, recv := phone.mark(thread, 2, 3)
	require.Equal(t, []int64{2, 3}, []int64{read, recv})
	want := wire.MarkPush{ThreadID: thread, Marks: []wire.Mark{{UID: firstUID, Read: 2, Recv: 3}}}
	require.Equal(t, want, desk.marked())
	require.Equal(t, want, bob.marked())
	read, recv = desk.mark(thread, 1, 0)
	require.Equal(t, []int64{2, 3}, []int64{read, recv}, "what another device has read is read")
	phone.quiet()
	require.Equal(t, wire.ThreadMarks{Read: 2, Recv: 3, Unread: 2}, desk.listed(thread, 0))
	require.Equal(t, wire.ThreadMarks{PeerRead: 2, PeerRecv: 3}, bob.listed(thread, 0))

	desk.text(thread, "ho", wire.CodeOK)
	require.Equal(t, wire.ThreadMarks{Read: 2, Recv: 3}, phone.listed(thread, 0), "who writes has read")
	require.Equal(t, wire.ThreadMarks{PeerRead: 2, PeerRecv: 3, Unread: 1}, bob.listed(thread, 0))
	read, _ = desk.mark(thread, 999, 0)
	require.EqualValues(t, 5, read)
	require.EqualValues(t, 5, bob.marked().Marks[0].Read)
	require.EqualValues(t, 5, phone.marked().Marks[0].Read)
	var list wire.MarksReply
	bob.ask(wire.MsgMarks, map[string]any{"thread_id": thread}, &list, wire.CodeOK)
	require.Equal(t, []wire.Mark{{UID: firstUID, Read: 5, Recv: 5}}, list.Marks)
	require.False(t, list.LoadMore)

	// Outsiders, and others than friends.
	carol := f.member(a, 3)
	carol.ask(wire.MsgMark, map[string]any{"thread_id": thread, "read": 1}, nil, wire.CodeNotAllowed)
	carol.ask(wire.MsgMark, map[string]any{"thread_id": 99999, "read": 1}, nil, wire.CodeNotAllowed)
	carol.ask(wire.MsgMark, map[string]any{"thread_id": 0, "read": 1}, nil, wire.CodeBadRequest)
	carol.ask(wire.MsgMarks, map[string]any{"thread_id": thread}, nil, wire.CodeNotAllowed)
	bob.ask(wire.MsgUnfriend, map[string]any{"uid": firstUID}, nil, wire.CodeOK)
	read, _ = bob.mark(thread, 5, 0)
	require.EqualValues(t, 5, read)
	phone.quiet()
	bob.ask(wire.MsgMarks, map[string]any{"thread_id": thread}, &list, wire.CodeOK)
	require.Equal(t, []wire.Mark{{UID: firstUID + 1, Read: 5, Recv: 5}}, list.Marks)

	// A client without the capability.
	plain := &groupUser{stockClient: dialRaw(t, a.ClientAddr()), rows: make(map[int64]map[int64]wire.StoredText)}
	plain.send(wire.MsgLogin, map[string]any{"uid": firstUID, "token": f.ticket(a, 1).Token, "client": "test/1", "device": "old", "caps": []string{wire.CapGap}})
	plain.until(func(f frame) bool { return f.id == wire.MsgLoginRsp })
	plain.ask(wire.MsgMark, map[string]any{"thread_id": thread, "read": 5}, nil, wire.CodeNotAllowed)
	require.NotContains(t, string(plain.raw(wire.MsgThreads, map[string]any{})), "recv")
	plain.quiet()
}

// raw sends a request and returns the body of its reply.
func (c *groupUser) raw(id wire.MsgID, req any) []byte {
	c.t.Helper()
	c.send(id, req)
	return c.until(func(f frame) bool { return f.id == id+1 }).body
}

func TestMarksInGroups(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	a, b := f.start("chat1"), f.start("chat2")
	alice, bob, carol := f.member(a, 2), f.member(b, 1), f.member(a, 3)
	id := alice.create("band", bob.uid, carol.uid)
	alice.text(id, "one", wire.CodeOK)
	bob.text(id, "two", wire.CodeOK)
	require.Equal(t, wire.ThreadMarks{Unread: 2}, carol.listed(id, 0), "the event is not counted")
	carol.mark(id, 2, 3)
	require.Equal(t, wire.MarkPush{ThreadID: id, Marks: []wire.Mark{{UID: carol.uid, Read: 2, Recv: 3}}}, alice.marked())
	bob.quiet() // its text is not read yet
	carol.mark(id, 3, 0)
	require.Equal(t, wire.MarkPush{ThreadID: id, Marks: []wire.Mark{{UID: carol.uid, Read: 3, Recv: 3}}}, bob.marked())
	alice.quiet()
	bob.mark(id, 3, 0)
	alice.marked()
	var list wire.MarksReply
	alice.ask(wire.MsgMarks, map[string]any{"thread_id": id, "limit": 1}, &list, wire.CodeOK)
	require.Equal(t, []wire.Mark{{UID: bob.uid, Read: 3, Recv: 3}}, list.Marks)
	require.True(t, list.LoadMore)
	alice.ask(wire.MsgMarks, map[string]any{"thread_id": id, "after_uid": bob.uid}, &list, wire.CodeOK)
	require.Equal(t, []wire.Mark{{UID: carol.uid, Read: 3, Recv: 3}}, list.Marks)
	require.False(t, list.LoadMore)
	alice.do(wire.MsgGroupRemove, map[string]any{"thread_id": id, "uid": carol.uid})
	carol.ask(wire.MsgMarks, map[string]any{"thread_id": id}, nil, wire.CodeNotAllowed)
	bob.text(id, "three", wire.CodeOK)
	read, _ := carol.mark(id, 5, 0)
	require.EqualValues(t, 4, read, "the event that removed the user")
	bob.quiet()
}
