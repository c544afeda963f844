package chat

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/legacy"
	"parley/internal/wire"
)

// stockClient speaks as the stock client does: what it does not say decides how it is treated.
type stockClient struct {
	t    testing.TB
	conn net.Conn
	uid  int32
}

type frame struct {
	id   wire.MsgID
	body []byte
	at   time.Time
}

func (f frame) into(t testing.TB, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(f.body, v), "body of %s: %s", f.id, f.body)
}

func dialRaw(t testing.TB, addr string) *stockClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return &stockClient{t: t, conn: conn}
}

// stock logs user i in without a word about itself; the 1006 is still to be read.
func (f *fixture) stock(n *node, i int) *stockClient {
	f.t.Helper()
	ticket := f.ticket(n, i)
	s := dialRaw(f.t, ticket.Addr)
	s.uid = ticket.UID
	s.send(wire.MsgLogin, map[string]any{"uid": ticket.UID, "token": ticket.Token})
	return s
}

func (s *stockClient) send(id wire.MsgID, v any) {
	s.t.Helper()
	body, err := json.MarshalIndent(v, "", "    ")
	require.NoError(s.t, err)
	s.sendRaw(id, body)
}

func (s *stockClient) sendRaw(id wire.MsgID, body []byte) {
	s.t.Helper()
	b, err := wire.AppendFrame(nil, id, body)
	require.NoError(s.t, err)
	_, err = s.conn.Write(b)
	require.NoError(s.t, err)
}

func (s *stockClient) read() (frame, error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	var h [wire.HeaderLen]byte
	if _, err := io.ReadFull(s.conn, h[:]); err != nil {
		return frame{}, err
	}
	id, n := wire.ParseHeader(h[:])
	body := make([]byte, n)
	_, err := io.ReadFull(s.conn, body)
	return frame{id, body, time.Now()}, err
}

func (s *stockClient) next() frame {
	s.t.Helper()
	f, err := s.read()
	require.NoError(s.t, err)
	return f
}

// expect returns the next frame, which must have that id; answers to heartbeats are passed over.
func (s *stockClient) expect(id wire.MsgID) frame {
	s.t.Helper()
	for {
		f := s.next()
		if f.id == wire.MsgHeartbeatRsp && id != wire.MsgHeartbeatRsp {
			continue
		}
		require.Equal(s.t, id, f.id, "body %s", f.body)
		return f
	}
}

func (s *stockClient) expectClose() {
	s.t.Helper()
	for {
		if _, err := s.read(); err != nil {
			var timeout net.Error
			require.False(s.t, errors.As(err, &timeout) && timeout.Timeout(), "still open")
			return
		}
	}
}

// load does what the stock client does after 1006: all threads, then the history of each.
func (s *stockClient) load() (threads []wire.Thread, texts []wire.StoredText) {
	s.t.Helper()
	cursor := int64(0)
	for {
		s.send(wire.MsgThreads, map[string]any{"uid": s.uid, "thread_id": cursor})
		var page wire.ThreadsReply
		s.expect(wire.MsgThreadsRsp).into(s.t, &page)
		require.Zero(s.t, page.Error)
		threads = append(threads, page.Threads...)
		if !page.LoadMore {
			break
		}
		require.Greater(s.t, page.NextLast, cursor)
		cursor = page.NextLast
	}
	for _, th := range threads {
		last := int64(0)
		for {
			s.send(wire.MsgHistory, map[string]any{"thread_id": th.ID, "message_id": last})
			var page wire.HistoryReply
			s.expect(wire.MsgHistoryRsp).into(s.t, &page)
			require.Zero(s.t, page.Error)
			texts = append(texts, page.Chats...)
			if !page.LoadMore {
				break
			}
			require.Greater(s.t, page.LastID, last)
			last = page.LastID
		}
	}
	return threads, texts
}

func TestAStockClientsDay(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	a, b := f.start("chat1"), f.start("chat2")
	native := f.login(b, 2)
	for i := range 120 { // more than two pages
		_, err := native.SendText(t.Context(), client.User(firstUID), string(rune('a'+i%26)))
		require.NoError(t, err)
	}
	s := f.stock(a, 1)
	var welcome struct {
		Error   int
		UID     int32
		Name    string
		Friends []wire.Friend `json:"friend_list"`
		Token   string
		Pwd     *string
		Email   *string
		SID     *string
	}
	s.expect(wire.MsgLoginRsp).into(t, &welcome)
	require.Zero(t, welcome.Error)
	require.EqualValues(t, firstUID, welcome.UID)
	require.Len(t, welcome.Friends, 1)
	require.NotEmpty(t, welcome.Token)
	require.Nil(t, welcome.Pwd)
	require.Nil(t, welcome.Email)
	require.Nil(t, welcome.SID, "a key of ours for a client that did not ask")

	// A text that comes before the load is done is held back, and shown once.
	_, err := native.SendText(t.Context(), client.User(firstUID), "during the load")
	require.NoError(t, err)
	threads, texts := s.load()
	require.Len(t, threads, 1)
	seen := map[int64]string{}
	for _, x := range texts {
		require.NotContains(t, seen, x.MsgID)
		seen[x.MsgID] = x.Content
	}
	require.Len(t, seen, 121)
	require.Equal(t, "during the load", seen[121])

	_, err = native.SendText(t.Context(), client.User(firstUID), "after the load")
	require.NoError(t, err)
	var push wire.TextPush
	s.expect(wire.MsgTextPush).into(t, &push)
	require.Len(t, push.Chats, 1)
	require.Equal(t, "after the load", push.Chats[0].Content)
	require.EqualValues(t, wire.StatusSent, push.Chats[0].Status)

	s.send(wire.MsgText, map[string]any{
		"fromuid": s.uid, "touid": firstUID + 1, "thread_id": threads[0].ID,
		"text_array": []map[string]any{{"content": "回复 \"quoted\"", "unique_id": "{6f1c2a3e-0b4d-4c5e-9f60-718293a4b5c6}"}},
	})
	var reply wire.TextPush
	s.expect(wire.MsgTextRsp).into(t, &reply)
	require.Equal(t, "{6f1c2a3e-0b4d-4c5e-9f60-718293a4b5c6}", reply.Chats[0].UniqueID)
	require.EqualValues(t, 123, reply.Chats[0].Seq)
	require.Equal(t, "回复 \"quoted\"", nextTexts(t, native).Messages[0].Text)

	// Refusals in the form it can bear.
	s.send(wire.MsgText, map[string]any{
		"fromuid": s.uid, "touid": firstUID + 2, "thread_id": f.threads[1],
		"text_array": []map[string]any{{"content": "into a stranger's thread", "unique_id": "{x}"}},
	})
	s.expect(wire.MsgTextRsp).into(t, &reply)
	require.Zero(t, reply.Error)
	require.EqualValues(t, wire.StatusFailed, reply.Chats[0].Status)
	s.send(wire.MsgHistory, map[string]any{"thread_id": f.threads[1], "message_id": 0})
	var page wire.HistoryReply
	s.expect(wire.MsgHistoryRsp).into(t, &page)
	require.Zero(t, page.Error)
	require.Empty(t, page.Chats)
	require.False(t, page.LoadMore)
	for _, query := range []string{"", "13800138000", "nobody", "0"} {
		s.send(wire.MsgSearch, map[string]any{"uid": query})
		var found wire.SearchReply
		s.expect(wire.MsgSearchRsp).into(t, &found)
		require.EqualValues(t, wire.CodeUIDInvalid, found.Error)
	}
	s.send(wire.MsgSearch, map[string]any{"uid": "USER2"})
	var found wire.SearchReply
	s.expect(wire.MsgSearchRsp).into(t, &found)
	require.EqualValues(t, firstUID+1, found.UID)

	f.login(b, 1) // another device name: a native client beside the stock one
	s.send(wire.MsgHeartbeat, map[string]any{"fromuid": s.uid})
	s.expect(wire.MsgHeartbeatRsp)
	again := f.stock(b, 1)
	again.expect(wire.MsgLoginRsp)
	s.expect(wire.MsgReplaced)
	s.expectClose()
}

// A first-generation client keeps its pages over a new login and shows each text that it gets. A sender that lost the answer
// repeats its text, through whatever node, after that login.
func TestARepeatedTextIsNotPushedToALaterLoginOfTheFirstGeneration(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a, b := f.start("chat1"), f.start("chat2")
	login := func(n *node) *stockClient {
		s := f.stock(n, 1)
		s.expect(wire.MsgLoginRsp)
		s.send(wire.MsgText, map[string]any{ // without a thread, which no other generation leaves out
			"fromuid": s.uid, "touid": firstUID + 1, "text_array": []map[string]any{{"content": "hello", "msgid": rand.Text()}},
		})
		s.expect(wire.MsgTextRsp)
		return s
	}
	shown := func(s *stockClient) []string {
		var push wire.TextPush
		s.expect(wire.MsgTextPush).into(t, &push)
		var texts []string
		for _, c := range push.Chats {
			texts = append(texts, c.Content)
		}
		return texts
	}
	send := func(n *node, drafts ...client.Draft) {
		c := f.login(n, 2)
		for _, d := range drafts {
			_, err := c.SendTexts(t.Context(), client.InThread(f.threads[0]), d)
			require.NoError(t, err)
		}
	}
	first, second := client.NewDraft("first"), client.NewDraft("second")
	s := login(a)
	send(a, first)
	require.Equal(t, []string{"first"}, shown(s))
	s.conn.Close()
	s = login(b)
	send(b, first, second)
	require.Equal(t, []string{"second"}, shown(s))
}

func TestFramesToAStockClientAreSpaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a := f.start("chat1")
	s := f.stock(a, 1)
	s.expect(wire.MsgLoginRsp)
	for range 10 {
		s.send(wire.MsgSearch, map[string]any{"uid": "user2"})
	}
	first := s.expect(wire.MsgSearchRsp).at
	var last time.Time
	for range 9 {
		last = s.expect(wire.MsgSearchRsp).at
	}
	// A reader that was late once sees two frames close together, but the whole takes its time.
	require.GreaterOrEqual(t, last.Sub(first), 8*legacy.Gap)
}

func TestFriendsAreMadeAcrossNodes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	a, b := f.start("chat1"), f.start("chat2")
	applicant, approver := f.stock(a, 1), f.stock(b, 3)
	applicant.expect(wire.MsgLoginRsp)
	approver.expect(wire.MsgLoginRsp)
	applicant.load()
	approver.load()

	applicant.send(wire.MsgApply, map[string]any{"uid": 1, "touid": firstUID + 2, "applyname": "hi, it is one", "bakname": "three!"})
	applicant.expect(wire.MsgApplyRsp)
	var applied wire.AppliedPush
	approver.expect(wire.MsgApplied).into(t, &applied)
	require.EqualValues(t, firstUID, applied.ApplyUID)
	require.Equal(t, "hi, it is one", applied.Desc)

	approver.send(wire.MsgApprove, map[string]any{"fromuid": firstUID, "touid": firstUID, "back": "one!"})
	var approved wire.ApproveReply
	approver.expect(wire.MsgApproveRsp).into(t, &approved)
	require.Zero(t, approved.Error)
	require.Len(t, approved.Chats, 2)
	var push wire.ApprovedPush
	applicant.expect(wire.MsgApproved).into(t, &push)
	require.Equal(t, approved.Chats, push.Chats)
	require.EqualValues(t, firstUID+2, push.FromUID)

	applicant.send(wire.MsgText, map[string]any{
		"touid": firstUID + 2, "thread_id": push.Chats[0].ThreadID,
		"text_array": []map[string]any{{"content": "first words", "unique_id": "{1}"}},
	})
	applicant.expect(wire.MsgTextRsp)
	var text wire.TextPush
	approver.expect(wire.MsgTextPush).into(t, &text)
	require.Equal(t, "first words", text.Chats[0].Content)

	// A second approval, of nothing that is pending, is refused in the form the client only logs.
	approver.send(wire.MsgApprove, map[string]any{"touid": firstUID, "back": ""})
	approver.expect(wire.MsgApproveRsp).into(t, &approved)
	require.NotZero(t, approved.Error)
}
