package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

func TestRequests(t *testing.T) {
	f := newFake(t)
	f.hook = func(c *fakeConn, id wire.MsgID, body []byte) bool {
		var req map[string]any
		if json.Unmarshal(body, &req) != nil {
			return false
		}
		switch id {
		case wire.MsgSearch:
			if req["uid"] == "bob" || req["uid"] == "2" {
				c.send(wire.MsgSearchRsp, wire.SearchReply{Profile: wire.Profile{UID: 2, Name: "bob"}})
			} else {
				c.send(wire.MsgSearchRsp, map[string]any{"error": 1011})
			}
		case wire.MsgApply:
			if req["touid"] != 2.0 || req["applyname"] != "hello" || req["bakname"] != "bobby" {
				c.send(wire.MsgApplyRsp, map[string]any{"error": 2005})
			} else {
				c.send(wire.MsgApplyRsp, map[string]any{"error": 2003, "retry_ms": 250})
			}
		case wire.MsgApprove:
			c.send(wire.MsgApproveRsp, wire.ApproveReply{UID: 2, Name: "bob", Chats: []wire.StoredText{{Sender: 2, MsgID: 1, ThreadID: 5, Content: "x"}}})
		case wire.MsgOpenThread:
			c.send(wire.MsgOpenThreadRsp, wire.OpenThreadReply{ThreadID: 5})
		default:
			return false
		}
		return true
	}
	f.thread(5, 1, 2)
	f.thread(6, 3, 1)
	for i := range 10 {
		f.append(5, 2, fmt.Sprint("h", i), fmt.Sprint("text ", i))
	}
	c := f.dial(1, Options{})
	ctx := t.Context()

	p, err := c.Search(ctx, "bob")
	require.NoError(t, err)
	require.Equal(t, Profile{UID: 2, Name: "bob"}, p)
	p, err = c.SearchUID(ctx, 2)
	require.NoError(t, err)
	require.Equal(t, "bob", p.Name)
	_, err = c.Search(ctx, "nobody")
	require.Equal(t, &Error{Op: "search", Code: CodeUIDInvalid}, err)

	err = c.Apply(ctx, 2, "hello", "bobby")
	require.Equal(t, &Error{Op: "apply", Code: CodeRateLimited, RetryAfter: 250 * time.Millisecond}, err)
	require.Equal(t, 250*time.Millisecond, RetryAfter(err))
	a, err := c.Approve(ctx, 2, "")
	require.NoError(t, err)
	require.Equal(t, Approval{Friend: Profile{UID: 2, Name: "bob"}, Messages: []Message{{ThreadID: 5, ID: 1, Sender: 2, Text: "x"}}}, a)
	thread, err := c.OpenThread(ctx, 2)
	require.NoError(t, err)
	require.Equal(t, int64(5), thread)

	threads, err := c.Threads(ctx)
	require.NoError(t, err)
	require.Equal(t, []Thread{{ID: 5, Private: true, Peer: 2, LastID: 10}, {ID: 6, Private: true, Peer: 3}}, threads)

	page, err := c.History(ctx, 5, 4, 0)
	require.NoError(t, err)
	require.Len(t, page.Messages, 3)
	require.Equal(t, int64(7), page.Next)
	require.True(t, page.More)
	var ids []int64
	for m, err := range c.Messages(ctx, 5, 2) {
		require.NoError(t, err)
		ids = append(ids, m.ID)
	}
	require.Equal(t, []int64{3, 4, 5, 6, 7, 8, 9, 10}, ids)

	synced, err := c.Sync(ctx, []Cursor{{ThreadID: 5, LastID: 8}}, false)
	require.NoError(t, err)
	require.False(t, synced.More)
	require.Len(t, synced.Threads, 1)
	require.Len(t, synced.Threads[0].Messages, 2)

	_, err = c.Sync(ctx, make([]Cursor, MaxCursors), true)
	require.Error(t, err, "does not fit a frame")
}

func TestAnswersGoToWhoAsked(t *testing.T) {
	f := newFake(t)
	asked := make(chan func(), 64)
	f.hook = func(c *fakeConn, id wire.MsgID, body []byte) bool {
		if id != wire.MsgOpenThread {
			return false
		}
		var req wire.OpenThreadRequest
		if err := wire.Decode(body, &req); err != nil {
			panic(err)
		}
		asked <- func() { c.send(wire.MsgOpenThreadRsp, wire.OpenThreadReply{ThreadID: 1000 + int64(req.OtherUID)}) }
		return true
	}
	c := f.dial(1, Options{})
	// Who gives up before the answer comes leaves it to nobody.
	gone, cancel := context.WithCancel(t.Context())
	var wg, quitters sync.WaitGroup
	quitters.Go(func() {
		_, err := c.OpenThread(gone, 99)
		assert.ErrorIs(t, err, context.Canceled)
	})
	late := <-asked
	for i := range 20 {
		wg.Go(func() {
			thread, err := c.OpenThread(t.Context(), int32(i))
			assert.NoError(t, err)
			assert.Equal(t, int64(1000+i), thread)
		})
	}
	cancel()
	quitters.Wait()
	late()
	for range 20 {
		answer := <-asked
		require.Empty(t, asked, "one at a time")
		answer()
	}
	wg.Wait()
}

func TestPagesWaitWhenTheyAreTooMany(t *testing.T) {
	f := newFake(t)
	f.thread(5, 1, 2)
	for i := range 9 {
		f.append(5, 2, fmt.Sprint(i), "x")
	}
	var n atomic.Int32
	f.hook = func(c *fakeConn, id wire.MsgID, _ []byte) bool {
		refused := (id == wire.MsgHistory || id == wire.MsgThreads) && n.Add(1)%2 == 1
		if refused {
			c.write(wire.AppendCode(nil, id+1, wire.CodeRateLimited, 1))
		}
		return refused
	}
	c := f.dial(1, Options{})
	threads, err := c.Threads(t.Context())
	require.NoError(t, err)
	require.Len(t, threads, 1)
	var got []Message
	for m, err := range c.Messages(t.Context(), 5, 0) {
		require.NoError(t, err)
		got = append(got, m)
	}
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}, ids(got))
	_, err = c.History(t.Context(), 5, 0, 1)
	require.Equal(t, CodeRateLimited, CodeOf(err), "a single request is not repeated")
}

func TestRequestTimeout(t *testing.T) {
	f := newFake(t)
	f.hook = func(*fakeConn, wire.MsgID, []byte) bool { return true } // answers nothing
	c := f.dial(1, Options{RequestTimeout: 30 * time.Millisecond})
	_, err := c.Threads(t.Context())
	require.ErrorIs(t, err, ErrTimeout)
	_, err = c.SendText(t.Context(), User(2), "x")
	require.ErrorIs(t, err, ErrTimeout)
	require.NoError(t, c.Err(), "the connection lives")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = c.Threads(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestPagesThatStandStill(t *testing.T) {
	f := newFake(t)
	f.hook = func(c *fakeConn, id wire.MsgID, _ []byte) bool {
		switch id {
		case wire.MsgThreads:
			c.send(wire.MsgThreadsRsp, wire.ThreadsReply{LoadMore: true})
		case wire.MsgHistory:
			c.send(wire.MsgHistoryRsp, wire.HistoryReply{LoadMore: true})
		}
		return true
	}
	c := f.dial(1, Options{})
	_, err := c.Threads(t.Context())
	require.ErrorIs(t, err, ErrProtocol)
	for _, err := range c.Messages(t.Context(), 1, 0) {
		require.ErrorIs(t, err, ErrProtocol)
	}
}

// What a server does not support it does not support at the next attempt either.
func TestAdviseGivesUpOnWhatTheServerDoesNotSupport(t *testing.T) {
	for capability, err := range unsupported {
		require.Equal(t, GiveUp, Advise(fmt.Errorf("request: %w", err)), capability)
		require.NotZero(t, wire.FeatureOf(capability))
	}
	require.Len(t, unsupported, 4)
	require.Equal(t, GiveUp, Advise(nil))
	require.Equal(t, Retry, Advise(errors.New("network")))
}
