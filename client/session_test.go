package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// fast makes attempts follow each other closely.
func fast(o SessionOptions) SessionOptions {
	o.BackoffBase, o.BackoffLimit = time.Millisecond, 5*time.Millisecond
	return o
}

func (f *fake) open(o SessionOptions) *Session {
	f.t.Helper()
	s, err := Open(f.t.Context(), fast(o))
	require.NoError(f.t, err)
	f.t.Cleanup(func() { s.Close() })
	return s
}

// texts returns the next n texts of a session, passing over everything else.
func texts(t testing.TB, s *Session, n int) []Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out []Message
	for len(out) < n {
		ev, err := s.Next(ctx)
		require.NoError(t, err, "after %d texts", len(out))
		if ev, ok := ev.(Texts); ok {
			out = append(out, ev.Messages...)
		}
	}
	require.Len(t, out, n)
	return out
}

// next returns the next event of a type, passing over everything else.
func next[T Event](t testing.TB, s *Session) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		ev, err := s.Next(ctx)
		require.NoError(t, err)
		if ev, ok := ev.(T); ok {
			return ev
		}
	}
}

func TestSessionBeginsAtThePresent(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	f.say(7, 2, "old")
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	f.say(7, 2, "new")
	sent, err := s.SendText(t.Context(), User(2), "mine")
	require.NoError(t, err)
	require.Equal(t, int64(3), sent.MessageID)
	got := texts(t, s, 2)
	require.Equal(t, "new", got[0].Text)
	require.Equal(t, "mine", got[1].Text)
	require.Equal(t, int32(1), got[1].Sender)
	require.Equal(t, []Cursor{{ThreadID: 7, LastID: 3}}, s.Cursors())
	// A thread made later comes from its start.
	f.thread(8, 1, 3)
	f.append(8, 3, "first", "greeting")
	f.say(8, 3, "second")
	got = texts(t, s, 2)
	require.Equal(t, "greeting", got[0].Text)
}

func TestSessionContinuesFromCursors(t *testing.T) {
	f := newFake(t)
	for id := range int64(6) {
		f.thread(id+1, 1, int32(id+10))
		for i := range 20 {
			f.say(id+1, int32(id+10), fmt.Sprint(i))
		}
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1), Cursors: []Cursor{{ThreadID: 2, LastID: 20}, {ThreadID: 3, LastID: 13}}})
	last := map[int64]int64{2: 20, 3: 13}
	for _, m := range texts(t, s, 4*20+7) {
		require.Equal(t, last[m.ThreadID]+1, m.ID)
		last[m.ThreadID]++
	}
	next[CaughtUp](t, s)
	for id := range int64(6) {
		require.Equal(t, int64(20), last[id+1])
	}
}

func TestSessionWithoutSync(t *testing.T) {
	f := newFake(t)
	f.hook = func(c *fakeConn, id wire.MsgID, _ []byte) bool {
		if id == wire.MsgSync {
			c.send(wire.MsgSyncRsp, map[string]any{"error": 2007})
		}
		return id == wire.MsgSync
	}
	f.thread(7, 1, 2)
	for i := range 10 {
		f.say(7, 2, fmt.Sprint(i))
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1), Cursors: []Cursor{}})
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, ids(texts(t, s, 10)))
}

func TestSessionFillsHoles(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	next[Connected](t, s)
	// Stored without a push, pushed twice, pushed late, and a gap without any push.
	f.append(7, 2, "a", "a")
	f.append(7, 2, "b", "b")
	c := f.say(7, 2, "c")
	f.push(c)
	require.Equal(t, []int64{1, 2, 3}, ids(texts(t, s, 3)))
	d, e := f.append(7, 2, "d", "d"), f.append(7, 2, "e", "e")
	f.push(e)
	f.push(d)
	require.Equal(t, []int64{4, 5}, ids(texts(t, s, 2)))
	f.append(7, 2, "f", "f")
	for _, c := range f.living(1) {
		c.send(wire.MsgGap, wire.Gap{ThreadID: 7, FromSeq: 6})
	}
	require.Equal(t, []int64{6}, ids(texts(t, s, 1)))
	// A push the history does not know is shown all the same, after a while.
	f.push(wire.StoredText{Sender: 2, ThreadID: 7, MsgID: 9, UniqueID: "ghost", Content: "ghost"})
	require.Equal(t, []int64{9}, ids(texts(t, s, 1)))
}

func TestSessionFindsTheLastTextWithoutAPush(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	s := f.open(SessionOptions{Ticket: f.ticket(1), SyncEvery: 10 * time.Millisecond})
	next[CaughtUp](t, s)
	f.append(7, 2, "lost", "lost")
	require.Equal(t, "lost", texts(t, s, 1)[0].Text)
}

func TestSessionFriends(t *testing.T) {
	f := newFake(t)
	f.welcome["friend_list"] = []any{map[string]any{"uid": 2, "name": "bob", "back": "bobby"}}
	f.hook = func(c *fakeConn, id wire.MsgID, _ []byte) bool {
		if id == wire.MsgApprove {
			m := f.append(8, 9, "hello", "hello")
			c.send(wire.MsgApproveRsp, wire.ApproveReply{UID: 9, Name: "carol", Chats: []wire.StoredText{m}})
		}
		return id == wire.MsgApprove
	}
	f.thread(8, 1, 9)
	f.thread(9, 1, 5)
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	f.living(1)[0].send(wire.MsgApplied, wire.AppliedPush{ApplyUID: 9, Name: "carol", Desc: "hello"})
	require.Equal(t, "hello", next[Applied](t, s).Application.Greeting)
	require.Len(t, s.Applications(), 1)
	_, err := s.Approve(t.Context(), 9, "caro")
	require.NoError(t, err)
	require.Empty(t, s.Applications())
	require.Equal(t, "hello", texts(t, s, 1)[0].Text)

	m := f.append(9, 5, "hi", "hi")
	f.living(1)[0].send(wire.MsgApproved, wire.ApprovedPush{FromUID: 5, Name: "eve", Chats: []wire.StoredText{m}})
	require.Equal(t, "eve", next[Approved](t, s).Friend.Name)
	require.Equal(t, "hi", texts(t, s, 1)[0].Text)
	require.Equal(t, []Friend{
		{Profile: Profile{UID: 2, Name: "bob"}, Alias: "bobby"},
		{Profile: Profile{UID: 5, Name: "eve"}},
		{Profile: Profile{UID: 9, Name: "carol"}, Alias: "caro"},
	}, s.Friends())
}

func TestSessionResumes(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	gate, logins := f.gate()
	s := f.open(SessionOptions{Gate: gate, Email: "a@example.com", Password: "secret1"})
	require.Equal(t, Connected{Node: "fake"}, next[Connected](t, s))
	next[CaughtUp](t, s) // from now on only a push or the next connection brings something
	f.append(7, 2, "missed", "missed")
	f.dropAll()
	require.Error(t, next[Disconnected](t, s).Err)
	require.Equal(t, Connected{Node: "fake", Resumed: true}, next[Connected](t, s))
	require.Equal(t, "missed", texts(t, s, 1)[0].Text)
	require.Equal(t, 1, logins())
	require.Equal(t, "resume-2", s.Ticket().Resume)

	// A ticket nobody knows any more: back to the gate.
	f.mu.Lock()
	f.tickets = make(map[string]bool)
	f.mu.Unlock()
	f.dropAll()
	require.Equal(t, Connected{Node: "fake"}, next[Connected](t, s))
	require.Equal(t, 2, logins())
}

// An event that a connection's end left behind once hid that the session was connected again.
func TestSessionTellsOfItsConnectionsThoughEventsWait(t *testing.T) {
	s := &Session{out: make(chan Event, 3), backlog: []Event{CaughtUp{}}}
	s.tell(Disconnected{})
	s.tell(Connected{Node: "a"})
	s.tell(Disconnected{})
	s.tell(Connected{Node: "b"})
	require.Equal(t, []Event{Connected{Node: "b"}}, s.backlog)
	for _, want := range []Event{CaughtUp{}, Disconnected{}, Connected{Node: "a"}} {
		ev, err := s.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, ev)
	}
	s.tell(Disconnected{})
	require.Equal(t, Connected{Node: "b"}, <-s.out)
	require.Equal(t, Disconnected{}, <-s.out)
	require.Empty(t, s.backlog)
}

func TestSessionGoesWhereItIsSent(t *testing.T) {
	f, other := newFake(t), newFake(t)
	other.tickets["resume-1"] = true
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	c := f.living(1)[0]
	c.send(wire.MsgGoodbye, wire.Goodbye{Error: wire.CodeDraining, To: other.addr()})
	c.nc.Close()
	require.Equal(t, CodeDraining, CodeOf(next[Disconnected](t, s).Err))
	next[Connected](t, s)
	require.Len(t, other.living(1), 1)

	// Refused there with another address: it is followed at once.
	other.mu.Lock()
	other.refuse = func(wire.LoginRequest) map[string]any { return map[string]any{"error": 2008, "to": f.addr()} }
	other.mu.Unlock()
	f.mu.Lock()
	f.tickets["resume-1"] = true
	f.mu.Unlock()
	other.dropAll()
	next[Connected](t, s)
	require.Len(t, f.living(1), 1)
}

func TestSessionFindsAnotherNode(t *testing.T) {
	f, other := newFake(t), newFake(t)
	other.tickets["resume-1"] = true
	s := f.open(SessionOptions{Ticket: f.ticket(1), Nodes: []string{f.addr(), other.addr()}})
	next[Connected](t, s)
	f.close()
	next[Connected](t, s)
	require.Len(t, other.living(1), 1)
}

// A node carries a login out after the client has given it up and logged in elsewhere: the session it replaces is the client's own.
func TestASessionReplacedByItsOwnLateLoginGoesOn(t *testing.T) {
	f := newFake(t)
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	next[Connected](t, s)
	f.mu.Lock()
	f.lose = 1
	f.mu.Unlock()
	f.dropAll()
	next[Connected](t, s)
	c := f.living(1)[0]
	require.Len(t, f.logins, 3)
	c.send(wire.MsgReplaced, map[string]any{"error": 0})
	c.nc.Close()
	require.ErrorIs(t, next[Disconnected](t, s).Err, errOvertaken)
	next[Connected](t, s)
}

// A user who writes faster than allowed is slowed down to that rate, not below: no back-off is added to what the server asks for.
func TestTextsBeyondTheRateGoAtTheRate(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	const accepted = 8 // of each request
	f.onTexts(func(c *fakeConn, req *wire.TextRequest) bool {
		var datas []any
		for i, x := range req.Texts {
			d := map[string]any{"unique_id": x.UniqueID, "content": x.Content, "status": 1, "code": wire.CodeRateLimited}
			if i < accepted {
				d["status"], d["code"], d["message_id"] = 2, 0, f.append(7, 1, x.UniqueID, x.Content).MsgID
			}
			datas = append(datas, d)
		}
		c.send(wire.MsgTextRsp, map[string]any{"error": 0, "retry_ms": 20, "thread_id": 7, "chat_datas": datas})
		return true
	})
	s, err := Open(t.Context(), SessionOptions{Ticket: f.ticket(1), BackoffBase: time.Minute, BackoffLimit: time.Minute})
	require.NoError(t, err)
	defer s.Close()
	const texts = 200
	for i := range texts {
		_, err := s.Post(t.Context(), InThread(7), NewDraft(strconv.Itoa(i)))
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // with back-offs of up to 5 s it takes a minute
	defer cancel()
	require.NoError(t, s.Flush(ctx))
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, m := range f.threads[7].msgs {
		require.Equal(t, strconv.Itoa(i), m.Content)
	}
	require.Len(t, f.threads[7].msgs, texts)
}

func TestSessionEnds(t *testing.T) {
	t.Run("replaced", func(t *testing.T) {
		f := newFake(t)
		s := f.open(SessionOptions{Ticket: f.ticket(1)})
		c := f.living(1)[0]
		c.send(wire.MsgReplaced, map[string]any{"error": 0})
		c.nc.Close()
		<-s.Done()
		require.ErrorIs(t, s.Err(), ErrReplaced)
		require.Len(t, f.logins, 1, "no second attempt")
		_, err := s.SendText(t.Context(), User(2), "x")
		require.ErrorIs(t, err, ErrReplaced)
		_, err = s.Threads(t.Context())
		require.ErrorIs(t, err, ErrReplaced)
	})
	t.Run("no way back", func(t *testing.T) {
		f := newFake(t)
		s := f.open(SessionOptions{Ticket: f.ticket(1)})
		f.mu.Lock()
		f.tickets = make(map[string]bool)
		f.mu.Unlock()
		f.dropAll()
		<-s.Done()
		require.Equal(t, CodeTokenInvalid, CodeOf(s.Err()))
	})
	t.Run("closed", func(t *testing.T) {
		f := newFake(t)
		heldTexts(f)
		s := f.open(SessionOptions{Ticket: f.ticket(1)})
		p, err := s.Post(t.Context(), User(2), NewDraft("x"))
		require.NoError(t, err)
		s.Close()
		_, err = p.Wait(t.Context())
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, s.Flush(t.Context()), ErrClosed)
		for range s.Events(t.Context()) {
		}
		require.ErrorIs(t, s.Err(), ErrClosed)
	})
	t.Run("never opened", func(t *testing.T) {
		f := newFake(t)
		_, err := Open(t.Context(), SessionOptions{})
		require.ErrorContains(t, err, "ticket or a gate")
		_, err = Open(t.Context(), SessionOptions{Ticket: f.ticket(1), Options: Options{OnEvent: func(Event) {}}})
		require.ErrorContains(t, err, "OnEvent")
		_, err = Open(t.Context(), SessionOptions{Ticket: Ticket{Addr: f.addr(), UID: 1, Token: "bad"}})
		require.Equal(t, CodeTokenInvalid, CodeOf(err))
	})
}

func TestSessionSendsAgain(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	// The first answer is lost after the text was stored, the second time the store is away, then all is well.
	var mu sync.Mutex
	n := 0
	f.onTexts(func(c *fakeConn, req *wire.TextRequest) bool {
		mu.Lock()
		n++
		now := n
		mu.Unlock()
		switch now {
		case 1:
			f.append(7, 1, req.Texts[0].UniqueID, req.Texts[0].Content)
			c.cut(9)
			return false
		case 2:
			c.send(wire.MsgTextRsp, map[string]any{"error": 0, "chat_datas": []any{
				map[string]any{"unique_id": req.Texts[0].UniqueID, "status": 1, "code": 2002},
			}})
			return true
		}
		return false
	})
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	sent, err := s.SendText(t.Context(), User(2), "once")
	require.NoError(t, err)
	require.Equal(t, int64(1), sent.MessageID)
	require.Len(t, f.threads[7].msgs, 1)
	require.Equal(t, 3, n)
	require.Equal(t, []int64{1}, ids(texts(t, s, 1)))
}

func TestSessionGivesUpOnATextAlone(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	f.onTexts(func(c *fakeConn, req *wire.TextRequest) bool {
		var datas []any
		for _, x := range req.Texts {
			code := map[string]int{"never": 2006, "poison": 2000}[x.Content]
			if code != 0 {
				datas = append(datas, map[string]any{"unique_id": x.UniqueID, "status": 1, "code": code})
				continue
			}
			m := f.append(7, 1, x.UniqueID, x.Content)
			datas = append(datas, map[string]any{"unique_id": x.UniqueID, "status": 2, "message_id": m.MsgID})
		}
		c.send(wire.MsgTextRsp, map[string]any{"error": 0, "thread_id": 7, "chat_datas": datas})
		return true
	})
	s := f.open(SessionOptions{Ticket: f.ticket(1)})
	var posted []*Posted
	for _, text := range []string{"one", "never", "poison", "two"} {
		p, err := s.Post(t.Context(), User(2), NewDraft(text))
		require.NoError(t, err)
		posted = append(posted, p)
	}
	require.NoError(t, s.Flush(t.Context()))
	want := []Code{CodeOK, CodeNotAllowed, CodeInternal, CodeOK}
	for i, p := range posted {
		_, err := p.Wait(t.Context())
		require.Equal(t, want[i], CodeOf(err))
	}
	_, err := s.Post(t.Context(), User(2), Draft{Text: ""})
	require.ErrorIs(t, err, ErrText)
}

func TestSessionForgetsWhatNobodyWaitsFor(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	count, release := heldTexts(f)
	s := f.open(SessionOptions{Ticket: f.ticket(1), MaxUnsent: 2})
	first, err := s.Post(t.Context(), User(2), Draft{UniqueID: "first", Text: "first"})
	require.NoError(t, err)
	require.Equal(t, "first", first.Draft().UniqueID)
	_, err = s.Post(t.Context(), User(2), Draft{UniqueID: "first", Text: "first"})
	require.ErrorIs(t, err, ErrInFlight)
	eventually(t, "one in flight", func() bool { return count() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = s.SendText(ctx, User(2), "second") // waits behind the first, and is withdrawn
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = s.Post(t.Context(), User(2), NewDraft("third"))
	require.NoError(t, err)
	full, cancel2 := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel2()
	_, err = s.Post(full, User(2), NewDraft("fourth"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	release(0)
	eventually(t, "the third in flight", func() bool { return count() == 2 })
	release(1)
	require.NoError(t, s.Flush(t.Context()))
	require.Len(t, f.threads[7].msgs, 2)
	require.Equal(t, "third", f.threads[7].msgs[1].Content)
}

func TestSessionWhoseEventsNobodyTakes(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	f.thread(8, 1, 3)
	s := f.open(SessionOptions{Ticket: f.ticket(1), Options: Options{EventBytes: 4000}})
	const n = 400
	for i := range n {
		f.say(7, 2, fmt.Sprint(i))
		if i == n/2 {
			f.dropAll()
		}
	}
	// It still sends, over new connections too.
	for range 3 {
		_, err := s.SendText(t.Context(), User(3), "mine")
		require.NoError(t, err)
		f.dropAll()
	}
	last := map[int64]int64{}
	for _, m := range texts(t, s, n+3) {
		require.Equal(t, last[m.ThreadID]+1, m.ID)
		last[m.ThreadID]++
	}
	require.Equal(t, map[int64]int64{7: n, 8: 3}, last)
}

// The promise of a session, under a network that cuts at any byte: what both sides send arrives once, in order.
func TestSessionThroughCuts(t *testing.T) {
	cuts, perSide := 200, 600
	if testing.Short() {
		cuts, perSide = 30, 100
	}
	f := newFake(t)
	f.thread(7, 1, 2)
	f.welcome["window"] = 4
	gate, _ := f.gate()
	sessions := map[int32]*Session{
		1: f.open(SessionOptions{Gate: gate, Email: "a", Password: "b"}),
		2: f.open(SessionOptions{Ticket: f.ticket(2)}),
	}
	var chaos, work sync.WaitGroup
	var round atomic.Int64 // of cuts
	chaos.Go(func() {
		for ; round.Load() < int64(cuts); round.Add(1) {
			for len(f.living(0)) < 2 {
				time.Sleep(time.Millisecond)
			}
			for _, c := range f.living(0) {
				if rand.IntN(2) == 0 {
					c.cut(rand.IntN(600))
				}
			}
			time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
		}
	})
	seen := make(map[int32][]Message)
	var mu sync.Mutex
	for uid, s := range sessions {
		work.Go(func() {
			for i := range perSide {
				p, err := s.Post(t.Context(), User(3-uid), Draft{UniqueID: fmt.Sprintf("%d-%d", uid, i), Text: fmt.Sprint(i)})
				if !assert.NoError(t, err) {
					return
				}
				if i%5 == 0 {
					_, err = p.Wait(t.Context())
					assert.NoError(t, err)
				}
				for int(round.Load()) < cuts*i/perSide { // texts and cuts last equally long
					time.Sleep(time.Millisecond)
				}
			}
		})
		work.Go(func() {
			got := texts(t, s, 2*perSide)
			mu.Lock()
			seen[uid] = got
			mu.Unlock()
		})
	}
	work.Wait()
	chaos.Wait()
	for uid, got := range seen {
		counts := map[int32]int{}
		for i, m := range got {
			require.Equal(t, int64(i+1), m.ID, "session %d", uid)
			require.Equal(t, fmt.Sprint(counts[m.Sender]), m.Text, "texts of %d in the order of Post", m.Sender)
			counts[m.Sender]++
		}
	}
	f.mu.Lock() // a session may be logging in once more
	defer f.mu.Unlock()
	require.Len(t, f.threads[7].msgs, 2*perSide)
	t.Logf("%d logins", len(f.logins))
	require.Greater(t, len(f.logins), 10, "the cuts cut")
}

// After a reconnect the server is asked for what has changed since, and a text that it does not know of any more, or that
// its answer left out, is found all the same.
func TestSessionReadsWhatHasChangedWhileItWasAway(t *testing.T) {
	f := newFake(t)
	for id := range int64(5) {
		f.thread(id+1, 1, int32(id+10))
		f.say(id+1, int32(id+10), "old")
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1), Cursors: []Cursor{}})
	texts(t, s, 5)
	next[CaughtUp](t, s)
	asked := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.sinces
	}
	require.Zero(t, asked())

	want := map[int64]int64{2: 3, 4: 12}
	var once sync.Once
	f.mu.Lock()
	f.hook = func(_ *fakeConn, id wire.MsgID, _ []byte) bool {
		if id == wire.MsgSync {
			once.Do(func() {
				for thread, last := range want { // while nobody is connected that would be pushed to
					for seq := int64(2); seq <= last; seq++ {
						f.append(thread, int32(thread+9), fmt.Sprintf("missed-%d-%d", thread, seq), "missed")
					}
				}
			})
		}
		return false
	}
	f.mu.Unlock()
	f.dropAll()
	at := map[int64]int64{2: 1, 4: 1}
	for _, m := range texts(t, s, 2+11) {
		require.Equal(t, at[m.ThreadID]+1, m.ID)
		at[m.ThreadID]++
	}
	require.Equal(t, want, at)
	require.Equal(t, 1, asked())
	next[CaughtUp](t, s)

	f.dropAll()
	next[CaughtUp](t, s)
	require.Equal(t, 2, asked())
}
