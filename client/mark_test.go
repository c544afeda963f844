package client

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// mark returns what the fake has stored, and after how many requests.
func (f *fake) mark(thread int64, uid int32) (wire.Mark, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.marks[fakeMarkKey{thread, uid}], f.marked
}

func TestMarkRequests(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	var mu sync.Mutex
	var pages []wire.MarksRequest
	f.hook = func(c *fakeConn, id wire.MsgID, body []byte) bool {
		if id != wire.MsgMarks {
			return false
		}
		req, err := wire.DecodeMarks(body)
		mu.Lock()
		defer mu.Unlock()
		if pages = append(pages, req); err != nil {
			t.Error(err)
		}
		reply := wire.MarksReply{ThreadID: req.ThreadID, Marks: []wire.Mark{{UID: req.After + 1, Read: 4, Recv: 5}}, LoadMore: req.After == 0}
		c.send(wire.MsgMarksRsp, reply)
		return true
	}
	c := f.dial(1, Options{})
	m, err := c.Mark(t.Context(), 7, 3, 4)
	require.NoError(t, err)
	require.Equal(t, Mark{1, 3, 4}, m)
	m, err = c.Mark(t.Context(), 7, 0, 9)
	require.NoError(t, err)
	require.Equal(t, Mark{1, 3, 9}, m)
	var all []Mark
	for m, err := range c.Marks(t.Context(), 7) {
		require.NoError(t, err)
		all = append(all, m)
	}
	require.Equal(t, []Mark{{1, 4, 5}, {2, 4, 5}}, all)
	require.Len(t, pages, 2)

	f.mu.Lock()
	f.welcome["caps"] = []string{"batch"}
	f.mu.Unlock()
	old := f.dial(1, Options{Device: "old"})
	_, err = old.Mark(t.Context(), 7, 3, 4)
	require.ErrorIs(t, err, ErrNoMarks)
	for _, err := range old.Marks(t.Context(), 7) {
		require.ErrorIs(t, err, ErrNoMarks)
	}
}

func TestMarksThatMoved(t *testing.T) {
	f := newFake(t)
	c := f.dial(1, Options{})
	send := func(thread int64, marks ...wire.Mark) {
		for _, at := range f.living(1) {
			at.send(wire.MsgMarkPush, wire.MarkPush{ThreadID: thread, Marks: marks})
		}
	}
	send(7, wire.Mark{UID: 2, Read: 3, Recv: 4})
	ev, err := c.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, MarksMoved{7, []Mark{{2, 3, 4}}}, ev)
	send(7) // says nothing
	send(8, wire.Mark{UID: 2, Read: 3, Recv: 4})
	ev, err = c.Next(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 8, ev.(MarksMoved).ThreadID)
}

// Marks that nobody takes become one event per thread, and never end the connection.
func TestWaitingMarksAreOne(t *testing.T) {
	q := eventQueue{limit: 4 * eventCost, wake: make(chan struct{}, 1)}
	for i := range int64(1000) {
		require.True(t, q.put(MarksMoved{7, []Mark{{2, i, i}, {3, 1000 - i, 1000}}}, 100))
	}
	ev, err := q.take()
	require.NoError(t, err)
	require.Equal(t, MarksMoved{7, []Mark{{2, 999, 999}, {3, 1000, 1000}}}, ev)
	require.Zero(t, q.bytes)
	for i := range int64(1000) {
		require.True(t, q.put(MarksMoved{i, []Mark{{2, 1, 1}}}, 100))
	}
	require.LessOrEqual(t, q.bytes, q.limit)
}

// What Next has returned is received, without a word of the program; a burst takes few requests.
func TestASessionMarksWhatItHasReceived(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	s := f.open(SessionOptions{Ticket: f.ticket(1), Cursors: []Cursor{}})
	const n = 200
	for i := range n {
		f.say(7, 2, fmt.Sprint(i))
	}
	texts(t, s, n)
	require.Eventually(t, func() bool { m, _ := f.mark(7, 1); return m.Recv == n }, time.Minute, time.Millisecond)
	m, asked := f.mark(7, 1)
	require.Zero(t, m.Read)
	require.Less(t, asked, n/4)
	require.NoError(t, s.Close())
}

// A mark that the application makes while there is no connection is stored by the next one.
func TestASessionStoresMarksAfterAReconnect(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	refused := false
	f.hook = func(c *fakeConn, id wire.MsgID, _ []byte) bool {
		if id != wire.MsgMark || refused {
			return false
		}
		refused = true
		c.nc.Close()
		return true
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	go func() {
		for range s.Events(context.Background()) {
		}
	}()
	s.MarkRead(7, 3)
	s.MarkRead(7, 2)
	require.Eventually(t, func() bool { m, _ := f.mark(7, 1); return m.Read == 3 }, time.Minute, time.Millisecond)
	m, err := s.Mark(t.Context(), 7, 5)
	require.NoError(t, err)
	require.Equal(t, Mark{1, 5, 5}, m)
	require.NoError(t, s.Close())
}

// A program that shows the news and ends has received them, although it has ended within the second between two marks.
func TestASessionThatIsClosedHasMarkedWhatItReceived(t *testing.T) {
	f := newFake(t)
	const threads = 20
	for i := range int64(threads) {
		f.thread(7+i, 1, 2)
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1), Cursors: []Cursor{}})
	for i := range int64(threads) {
		f.say(7+i, 2, "news")
	}
	texts(t, s, threads)
	s.MarkRead(7, 1)
	require.NoError(t, s.Close())
	for i := range int64(threads) {
		m, _ := f.mark(7+i, 1)
		require.EqualValues(t, 1, m.Recv, "thread %d", 7+i)
	}
	m, _ := f.mark(7, 1)
	require.EqualValues(t, 1, m.Read)
	require.NoError(t, s.Close(), "again")
}
