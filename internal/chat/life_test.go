package chat

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// rowUser is a native client that knows rows of private threads, and groups.
func (f *fixture) rowUser(n *node, i int, device string) *groupUser {
	f.t.Helper()
	return f.memberWith(n, i, device, wire.CapGroups, wire.CapRows)
}

// say sends one text with some unique id and returns what the answer says of it.
func (c *groupUser) say(thread int64, content, unique, typ string) wire.PushedText {
	c.t.Helper()
	text := map[string]any{"content": content, "unique_id": unique}
	if typ != "" {
		text["type"] = typ
	}
	c.send(wire.MsgText, map[string]any{"thread_id": thread, "text_array": []any{text}})
	f := c.until(func(f frame) bool { return f.id == wire.MsgTextRsp })
	var reply wire.TextPush
	f.into(c.t, &reply)
	require.Len(c.t, reply.Chats, 1)
	return reply.Chats[0]
}

// page reads a thread as the client is shown it, page by page.
func (c *groupUser) page(thread int64, limit int) (rows []wire.StoredText) {
	c.t.Helper()
	for after := int64(0); ; {
		var page wire.HistoryReply
		c.ask(wire.MsgHistory, map[string]any{"thread_id": thread, "message_id": after, "limit": limit}, &page, wire.CodeOK)
		rows = append(rows, page.Chats...)
		if !page.LoadMore {
			return rows
		}
		require.Greater(c.t, page.LastID, after)
		after = page.LastID
	}
}

// stockPage reads a thread as the stock client does, which goes on after the last element that it got.
func (s *stockClient) stockPage(thread int64) (rows []wire.StoredText) {
	s.t.Helper()
	for after := int64(0); ; {
		s.send(wire.MsgHistory, map[string]any{"thread_id": thread, "message_id": after})
		var page wire.HistoryReply
		s.expect(wire.MsgHistoryRsp).into(s.t, &page)
		rows = append(rows, page.Chats...)
		if !page.LoadMore {
			return rows
		}
		require.NotEmpty(s.t, page.Chats, "it would ask for the same page again")
		after = page.Chats[len(page.Chats)-1].MsgID
	}
}

// list reads the list of threads, after which a stock client asks for their history.
func (s *stockClient) list() {
	s.t.Helper()
	s.expect(wire.MsgLoginRsp)
	s.send(wire.MsgThreads, map[string]any{"uid": s.uid, "thread_id": 0})
	s.expect(wire.MsgThreadsRsp)
}

func (c *groupUser) change(id wire.MsgID, thread, seq int64, content string, code wire.Code) int64 {
	c.t.Helper()
	req := map[string]any{"thread_id": thread, "msg_id": seq}
	if id == wire.MsgEdit {
		req["content"] = content
	}
	var reply wire.GroupReply
	c.ask(id, req, &reply, code)
	return reply.EventID
}

func textEvent(t *testing.T, row wire.StoredText) (e wire.TextEvent) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(row.Content), &e))
	require.Equal(t, e.By, row.Sender)
	return e
}

// settle has everything that was pushed before come: the answer to a request of its own comes behind it.
func (c *groupUser) settle() {
	c.t.Helper()
	c.send(wire.MsgHeartbeat, map[string]any{})
	c.until(func(f frame) bool { return f.id == wire.MsgHeartbeatRsp })
}

func TestTextsReachTheSendersOtherDevices(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n1, n2 := f.start("chat1"), f.start("chat2")
	thread := f.threads[0]
	phone, laptop, away := f.rowUser(n1, 1, "phone"), f.rowUser(n1, 1, "laptop"), f.rowUser(n2, 1, "away")
	older := f.memberWith(n1, 1, "older", wire.CapGroups)
	peer := f.rowUser(n2, 2, "phone")

	sent := phone.say(thread, "hello", "u1", "")
	require.Equal(t, int32(wire.StatusSent), sent.Status)
	for _, c := range []*groupUser{laptop, away} {
		row := c.row(thread, sent.Seq)
		require.Equal(t, "hello", row.Content)
		require.Equal(t, "u1", row.UniqueID)
		require.Equal(t, phone.uid, row.Sender)
		require.Equal(t, sent.CreatedMS, row.CreatedMS)
	}
	answer := peer.say(thread, "hi", "u2", "")
	for _, c := range []*groupUser{phone, laptop, older, away} {
		// A busy machine may drop a push between nodes, and tells so.
		c.until(func(f frame) bool { return f.id == wire.MsgTextPush || f.id == wire.MsgGap })
	}
	require.Equal(t, sent.Seq+1, answer.Seq)
	for _, c := range []*groupUser{phone, older, peer} {
		c.settle()
		require.Empty(t, c.rows, "%d", c.uid)
	}
}

func TestRecallsAndEditsReachBothMembersAndLeaveNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	n1, n2 := f.start("chat1"), f.start("chat2")
	thread := f.threads[0]
	a, a2, b := f.rowUser(n1, 1, "phone"), f.rowUser(n2, 1, "laptop"), f.rowUser(n2, 2, "phone")
	older := f.memberWith(n1, 2, "older", wire.CapGroups)
	outsider := f.rowUser(n1, 3, "phone")

	one, two := a.say(thread, "the secret", "u1", "").Seq, a.say(thread, "teh", "u2", "").Seq
	edit := a.change(wire.MsgEdit, thread, two, "the", wire.CodeOK)
	for _, c := range []*groupUser{a, a2, b} {
		row := c.row(thread, edit)
		require.EqualValues(t, wire.KindEdit, row.Kind)
		e := textEvent(t, row)
		require.Equal(t, two, e.MsgID)
		require.Equal(t, "the", *e.Content)
		require.NotZero(t, e.EditedMS)
	}
	recall := a.change(wire.MsgRecall, thread, one, "", wire.CodeOK)
	require.Zero(t, a.change(wire.MsgRecall, thread, one, "", wire.CodeOK), "nothing to do")
	for _, c := range []*groupUser{a, a2, b} {
		row := c.row(thread, recall)
		require.EqualValues(t, wire.KindRecall, row.Kind)
		require.Equal(t, wire.TextEvent{Event: wire.EventRecalled, By: a.uid, MsgID: one}, textEvent(t, row))
	}

	// Refusals.
	b.change(wire.MsgEdit, thread, two, "mine now", wire.CodeNotAllowed)
	a.change(wire.MsgEdit, thread, one, "again", wire.CodeNotAllowed)
	a.change(wire.MsgEdit, thread, two, "", wire.CodeBadRequest)
	a.change(wire.MsgRecall, thread, edit, "", wire.CodeNotAllowed)
	a.change(wire.MsgRecall, thread, 0, "", wire.CodeBadRequest)
	outsider.change(wire.MsgRecall, thread, two, "", wire.CodeNotAllowed)
	older.change(wire.MsgRecall, thread, two, "", wire.CodeNotAllowed)
	require.Empty(t, older.rows, "it is not told")

	// A resend brings nothing back.
	again := a.say(thread, "the secret", "u1", "")
	require.Equal(t, one, again.Seq)
	a.say(thread, "last", "u3", "")
	for _, c := range []*groupUser{b, older} {
		c.until(func(f frame) bool {
			require.NotContains(t, string(f.body), "secret")
			return f.id == wire.MsgTextPush && jsonHas(f.body, "last")
		})
	}

	row := func(rows []wire.StoredText, seq int64) wire.StoredText {
		i := slices.IndexFunc(rows, func(r wire.StoredText) bool { return r.MsgID == seq })
		require.GreaterOrEqual(t, i, 0, "no row %d in %v", seq, rows)
		return rows[i]
	}
	shown := b.page(thread, 100)
	require.True(t, row(shown, one).Recalled)
	require.Empty(t, row(shown, one).Content)
	require.Equal(t, "the", row(shown, two).Content)
	require.NotZero(t, row(shown, two).EditedMS)
	require.Equal(t, "the", *textEvent(t, row(shown, edit)).Content)
	var synced wire.SyncReply
	b.ask(wire.MsgSync, map[string]any{"cursors": []any{}, "all": true}, &synced, wire.CodeOK)
	require.Equal(t, shown, synced.Threads[0].Chats)

	plain := older.page(thread, 2)
	require.Equal(t, wire.RecalledContent, row(plain, one).Content)
	require.False(t, row(plain, one).Recalled)
	require.Equal(t, "the", row(plain, two).Content)
	require.Zero(t, row(plain, two).EditedMS)
	require.Nil(t, textEvent(t, row(plain, edit)).Content, "nothing that it does not know")
	require.Equal(t, seqs(shown), seqs(plain), "it counts the numbers")

	stock := f.stock(n1, 2)
	stock.list()
	old := stock.stockPage(thread)
	require.Equal(t, wire.RecalledContent, row(old, one).Content)
	require.Equal(t, "the", row(old, two).Content)
	for _, r := range old {
		require.Zero(t, r.Kind)
	}

	// What was edited and then recalled is gone from the rows of its edits too.
	a.change(wire.MsgRecall, thread, two, "", wire.CodeOK)
	require.Nil(t, textEvent(t, row(b.page(thread, 100), edit)).Content)

	// After the end of the friendship nothing is changed any more.
	last := a.say(thread, "still here", "u4", "").Seq
	_, err := f.store.Friends.Unfriend(t.Context(), "chat1", n1.lease.Boot(), b.uid, a.uid)
	require.NoError(t, err)
	a.change(wire.MsgRecall, thread, last, "", wire.CodeNotAllowed)
	a.change(wire.MsgEdit, thread, last, "x", wire.CodeNotAllowed)
}

func jsonHas(body []byte, content string) bool {
	var push wire.TextPush
	return json.Unmarshal(body, &push) == nil && slices.ContainsFunc(push.Chats, func(t wire.PushedText) bool { return t.Content == content })
}

func TestChangesOfAGroupsTextsAreForThoseWhoMayReadThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4)
	n := f.start("chat1")
	b, c := f.rowUser(n, 2, "phone"), f.rowUser(n, 3, "phone")
	id := b.create("the band", c.uid)
	early := b.say(id, "one", "g1", "").Seq
	out := b.do(wire.MsgGroupRemove, map[string]any{"thread_id": id, "uid": c.uid})
	c.row(id, out)

	// A former member is not given what was edited later.
	b.change(wire.MsgEdit, id, early, "only for those who stayed", wire.CodeOK)
	gone := c.page(id, 100)
	require.Equal(t, out, gone[len(gone)-1].MsgID)
	for _, row := range gone {
		require.NotContains(t, row.Content, "stayed")
		require.Equal(t, row.MsgID == early, row.Recalled)
	}

	// A new member is told of an edit of what it may not read, and not given the content.
	b.do(wire.MsgGroupInvite, map[string]any{"thread_id": id, "uids": []int32{c.uid}})
	gaps := func() int { c.settle(); return c.gaps }
	before := gaps()
	edit := b.change(wire.MsgEdit, id, early, "and again", wire.CodeOK)
	b.row(id, edit)
	eventually(t, "the new member to be told", func() bool { return gaps() > before })
	require.NotContains(t, c.rows[id], edit)
	rows := c.page(id, 100)
	last := rows[len(rows)-1]
	require.Equal(t, edit, last.MsgID)
	require.Nil(t, textEvent(t, last).Content)

	// An admin recalls any text at any time.
	mine := c.say(id, "mine", "g2", "").Seq
	recall := b.change(wire.MsgRecall, id, mine, "", wire.CodeOK)
	require.Equal(t, mine, textEvent(t, c.row(id, recall)).MsgID)
	c.change(wire.MsgRecall, id, early, "", wire.CodeNotAllowed)
}

func TestHiddenTextsAreHiddenOnAllDevicesAndPagesGoOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n := f.start("chat1")
	thread := f.threads[0]
	a, a2, b := f.rowUser(n, 1, "phone"), f.rowUser(n, 1, "laptop"), f.rowUser(n, 2, "phone")
	older := f.memberWith(n, 1, "older", wire.CapGroups)
	var hide []int64
	first := b.say(thread, "first", "first", "").Seq
	for i := range 150 { // more than two pages of a stock client
		hide = append(hide, b.say(thread, fmt.Sprint("hidden ", i), fmt.Sprint("h", i), "").Seq)
	}
	last := b.say(thread, "last", "last", "").Seq
	for part := range slices.Chunk(hide, wire.MaxHide) {
		a.ask(wire.MsgHide, map[string]any{"thread_id": thread, "msg_ids": part}, nil, wire.CodeOK)
		f := a2.until(func(f frame) bool { return f.id == wire.MsgHiddenPush })
		var push wire.HiddenPush
		f.into(t, &push)
		require.Equal(t, wire.HiddenPush{ThreadID: thread, MsgIDs: part}, push)
	}
	a.ask(wire.MsgHide, map[string]any{"thread_id": thread, "msg_ids": []int64{last + 1}}, nil, wire.CodeNotAllowed)
	a.ask(wire.MsgHide, map[string]any{"thread_id": thread, "msg_ids": []int64{}}, nil, wire.CodeBadRequest)
	a.ask(wire.MsgHide, map[string]any{"thread_id": 9999, "msg_ids": []int64{1}}, nil, wire.CodeNotAllowed)

	rows := a2.page(thread, 40)
	require.Len(t, rows, int(last), "numbers stay dense")
	for _, row := range rows {
		require.Equal(t, slices.Contains(hide, row.MsgID), row.Hidden)
		require.NotContains(t, row.Content, "hidden")
	}
	require.Equal(t, []int64{first, last}, seqs(older.page(thread, 40)))
	require.Len(t, b.page(thread, 500), int(last), "the other member's are as they were")
	stock := f.stock(n, 1)
	stock.list()
	require.Equal(t, []int64{first, last}, seqs(stock.stockPage(thread)))
	var synced wire.SyncReply
	older.ask(wire.MsgSync, map[string]any{"cursors": []any{map[string]any{"thread_id": thread, "seq": first}}}, &synced, wire.CodeOK)
	require.Equal(t, []int64{last}, seqs(synced.Threads[0].Chats))
	require.Equal(t, last, synced.Threads[0].LastID)
}

func TestTypesOfTextsAreDeliveredAndStockClientsSeeTheirNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n := f.start("chat1")
	thread := f.threads[0]
	a, a2, older := f.rowUser(n, 1, "phone"), f.rowUser(n, 1, "laptop"), f.memberWith(n, 2, "older", wire.CapGroups)
	stock := f.stock(n, 2)
	stock.list()
	require.Empty(t, stock.stockPage(thread))

	require.Equal(t, wire.CodeBadRequest, a.say(thread, "x", "bad", "Not a type").Code)
	sent := a.say(thread, `{"ref":"1"}`, "u1", "image/png")
	require.Equal(t, "image/png", sent.Type)
	require.Equal(t, "image/png", a2.row(thread, sent.Seq).Type)
	var push wire.TextPush
	older.until(func(f frame) bool { return f.id == wire.MsgTextPush }).into(t, &push)
	require.Equal(t, "image/png", push.Chats[0].Type)
	require.Equal(t, `{"ref":"1"}`, push.Chats[0].Content)
	got := stock.expect(wire.MsgTextPush)
	require.NotContains(t, string(got.body), `"type"`)
	require.True(t, jsonHas(got.body, "[image/png]"), "%s", got.body)
	plain := a.say(thread, "plain", "u2", wire.TypeText)
	require.Empty(t, plain.Type)

	rows := older.page(thread, 100)
	require.Equal(t, "image/png", rows[0].Type)
	require.Empty(t, rows[1].Type)
	again := f.stock(n, 2)
	again.list()
	require.Equal(t, "[image/png]", again.stockPage(thread)[0].Content)
	require.Empty(t, again.stockPage(thread)[0].Type)
}

func TestTextsCanBeChangedForAWhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n := f.start("chat1", func(c *Config) { c.Limits.RecallWindow, c.Limits.EditWindow = 0, time.Hour })
	a := f.rowUser(n, 1, "phone")
	seq := a.say(f.threads[0], "one", "u1", "").Seq
	time.Sleep(2 * time.Millisecond) // the window is 0
	a.change(wire.MsgRecall, f.threads[0], seq, "", wire.CodeNotAllowed)
	require.NotZero(t, a.change(wire.MsgEdit, f.threads[0], seq, "two", wire.CodeOK))
	edits := 0
	for began := time.Now(); edits < 200; edits++ {
		a.send(wire.MsgEdit, map[string]any{"thread_id": f.threads[0], "msg_id": seq, "content": fmt.Sprint(edits)})
		f := a.until(func(f frame) bool { return f.id == wire.MsgEditRsp })
		var reply struct {
			Error wire.Code `json:"error"`
		}
		f.into(t, &reply)
		if reply.Error == wire.CodeRateLimited {
			break
		}
		require.Equal(t, wire.CodeOK, reply.Error)
		require.LessOrEqual(t, float64(edits), 60+10*time.Since(began).Seconds(), "a slow machine may never come to the limit")
	}
}

// Two devices of one user, and the other member, each by a client.Session: all bring the same messages in the same order.
func TestSessionsOfAllDevicesBringTheSameMessages(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n1, n2 := f.start("chat1"), f.start("chat2")
	thread := f.threads[0]
	open := func(n *node, i int, device string) *client.Session {
		s, err := client.Open(t.Context(), client.SessionOptions{
			Options: client.Options{Device: device}, Ticket: f.ticket(n, i), Cursors: []client.Cursor{},
		})
		require.NoError(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	phone, laptop, peer := open(n1, 1, "phone"), open(n2, 1, "laptop"), open(n2, 2, "phone")
	say := func(s *client.Session, d client.Draft) int64 {
		p, err := s.Post(t.Context(), client.InThread(thread), d)
		require.NoError(t, err)
		sent, err := p.Wait(t.Context())
		require.NoError(t, err)
		return sent.MessageID
	}
	one := say(phone, client.Draft{Text: "one", Type: "text/x"})
	two := say(peer, client.NewDraft("two"))
	require.NoError(t, phone.Edit(t.Context(), thread, one, "One"))
	require.NoError(t, peer.Recall(t.Context(), thread, two))
	require.Error(t, laptop.Recall(t.Context(), thread, two))
	last := say(laptop, client.NewDraft("last"))
	require.EqualValues(t, 5, last)

	for _, s := range []*client.Session{phone, laptop, peer} {
		var got []client.Message
		for len(got) < int(last) {
			ev, err := s.Next(t.Context())
			require.NoError(t, err)
			if texts, ok := ev.(client.Texts); ok {
				got = append(got, texts.Messages...)
			}
		}
		for i, m := range got {
			require.EqualValues(t, i+1, m.ID)
		}
		require.Equal(t, "text/x", got[0].Type)
		require.Equal(t, client.KindEdit, got[2].Kind)
		require.Equal(t, one, got[2].Target)
		require.Equal(t, "One", got[2].Text)
		require.False(t, got[2].Edited.IsZero())
		require.Equal(t, client.KindRecall, got[3].Kind)
		require.Equal(t, two, got[3].Target)
		require.Empty(t, got[3].Text)
		require.Equal(t, "last", got[4].Text)
	}
	require.NoError(t, phone.Hide(t.Context(), thread, two, last))
	for {
		ev, err := laptop.Next(t.Context())
		require.NoError(t, err)
		if hidden, ok := ev.(client.Hidden); ok {
			require.Equal(t, client.Hidden{ThreadID: thread, IDs: []int64{two, last}}, hidden)
			break
		}
	}
	page, err := laptop.History(t.Context(), thread, 0, 100)
	require.NoError(t, err)
	require.Equal(t, "One", page.Messages[0].Text)
	require.True(t, page.Messages[1].Hidden)
	require.True(t, page.Messages[4].Hidden)
	page, err = peer.History(t.Context(), thread, 0, 100)
	require.NoError(t, err)
	require.True(t, page.Messages[1].Recalled)
}
