package commit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestATextIsStoredAnsweredAndPushed(t *testing.T) {
	c, col := start(t, newStore(7), nil)
	require.NoError(t, c.Append(col.request(1, 7, "hello", "again")))
	require.Equal(t, wire.TextPush{FromUID: 1, ToUID: 2, ThreadID: 7, Chats: []wire.PushedText{
		{Seq: 1, UniqueID: "hello", Content: "hello", Status: 2, ChatTime: "2026-01-05 09:31:12", CreatedMS: 1767605472000},
		{Seq: 2, UniqueID: "again", Content: "again", Status: 2, ChatTime: "2026-01-05 09:31:12", CreatedMS: 1767605472000},
	}}, col.wait(t, 1)[0])
	require.Len(t, col.pushes, 1)
	p := col.pushes[0]
	require.Equal(t, session.Push{To: 2, ID: wire.MsgTextPush, From: 1, Thread: 7, Seq: 2, Body: p.Body}, p)
	var body wire.TextPush
	require.NoError(t, wire.Decode(p.Body, &body))
	require.Equal(t, col.answers[0], body, "the recipient reads what the sender was told")
	require.Zero(t, c.Waiting())
}

func TestARequestWithoutTextsIsAnswered(t *testing.T) {
	s := newStore(7)
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 7)))
	require.Empty(t, col.wait(t, 1)[0].Chats)
	require.Empty(t, col.pushes)
	require.Empty(t, s.batches)
}

func TestAnswersKeepTheOrderOfRequestsInAThread(t *testing.T) {
	var threads []int64
	for i := range 5 {
		threads = append(threads, int64(i+1))
	}
	c, col := start(t, newStore(threads...), func(cfg *Config) {
		cfg.Shards, cfg.Batch = 3, 16
		cfg.MaxWait, cfg.Target = time.Minute, time.Minute // large, so that a busy machine does not fail the test
	})
	const each = 400
	var wg sync.WaitGroup
	for _, thread := range threads {
		wg.Go(func() {
			for i := range each {
				require.NoError(t, c.Append(col.request(1, thread, fmt.Sprint(thread, "-", i))))
			}
		})
	}
	wg.Wait()
	next := map[int64]int64{}
	for _, a := range col.wait(t, 5*each) {
		next[a.ThreadID]++
		require.Equal(t, next[a.ThreadID], a.Chats[0].Seq)
		require.Equal(t, fmt.Sprint(a.ThreadID, "-", a.Chats[0].Seq-1), a.Chats[0].Content)
	}
	clear(next)
	for _, p := range col.pushes {
		next[p.Thread]++
		require.Equal(t, next[p.Thread], p.Seq, "pushes too")
	}
}

// taken waits until the only shard has started the waiting requests, so that later requests belong to the next batch.
func taken(t *testing.T, c *Committer) {
	t.Helper()
	require.Eventually(t, func() bool {
		waiting, _ := c.shards[0].queue.Waiting()
		return waiting == 0
	}, time.Minute, time.Millisecond)
}

func TestBatchesGrowWhileATransactionRuns(t *testing.T) {
	s := newStore(7)
	s.block = make(chan struct{})
	c, col := start(t, s, func(cfg *Config) { cfg.Batch = 10 })
	require.NoError(t, c.Append(col.request(1, 7, "first")))
	taken(t, c)
	for i := range 25 {
		require.NoError(t, c.Append(col.request(1, 7, fmt.Sprint(i))))
	}
	require.NoError(t, c.Append(col.request(1, 7, strings.Fields(strings.Repeat("x ", 12))...)))
	close(s.block)
	col.wait(t, 27)
	var sizes []int
	for _, b := range s.batches {
		sizes = append(sizes, len(b))
	}
	require.Equal(t, []int{1, 10, 10, 5, 12}, sizes, "a request is never cut, so that one alone may be longer")
}

func TestRefusalsBesideGoodTexts(t *testing.T) {
	s := newStore(7)
	s.access[8] = store.Access{User1: 1, User2: 3}
	s.rowErr["poison"] = errors.New("poison")
	s.rowErr["taken"] = store.ErrUniqueIDTaken
	s.rowErr["full"] = store.ErrThreadFull
	c, col := start(t, s, nil)
	long := strings.Repeat("x", wire.MaxText+1)
	r := col.request(1, 7, "good", long, "poison", "taken", "full", "good too")
	r.Texts[1].UniqueID = "long"
	require.NoError(t, c.Append(r))
	require.NoError(t, c.Append(col.request(3, 7, "an intruder")))
	require.NoError(t, c.Append(col.request(1, 8, "no friend any more")))
	require.NoError(t, c.Append(col.request(1, 9, "no such thread")))
	require.NoError(t, c.Append(col.request(1, 0, "no thread")))
	require.NoError(t, c.Append(col.request(1, -5, "no thread either")))
	answers := col.wait(t, 6)
	require.Equal(t, []wire.Code{0, wire.CodeBadRequest, wire.CodeInternal, wire.CodeBadRequest, wire.CodeNotAllowed, 0}, codes(answers[0]))
	require.Equal(t, long, answers[0].Chats[1].Content, "echoed, all in order")
	require.EqualValues(t, wire.StatusFailed, answers[0].Chats[1].Status)
	require.EqualValues(t, 2, answers[0].Chats[5].Seq)
	for _, a := range answers[1:] {
		require.Zero(t, a.Error, "a stock client drops a 1018 with another code")
		require.Equal(t, []wire.Code{wire.CodeNotAllowed}, codes(a))
	}
	require.Len(t, col.pushes, 1)
	var body wire.TextPush
	require.NoError(t, wire.Decode(col.pushes[0].Body, &body))
	require.Len(t, body.Chats, 2, "the recipient sees what was stored")
	require.Equal(t, "good too", body.Chats[1].Content)
}

// C2: the call that stored the text may have failed before pushing it.
func TestAResentTextIsAnsweredAndPushedOncePerBatch(t *testing.T) {
	s := newStore(7)
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 7, "a")))
	col.wait(t, 1)
	s.block = make(chan struct{})
	require.NoError(t, c.Append(col.request(1, 7, "first")))
	taken(t, c) // the others share a batch
	require.NoError(t, c.Append(col.request(1, 7, "a", "b", "a")))
	require.NoError(t, c.Append(col.request(1, 7, "b")))
	require.NoError(t, c.Append(col.request(1, 7, "a")))
	close(s.block)
	answers := col.wait(t, 5)
	require.EqualValues(t, 1, answers[2].Chats[0].Seq)
	require.EqualValues(t, 3, answers[2].Chats[1].Seq)
	require.EqualValues(t, 3, answers[3].Chats[0].Seq)
	require.EqualValues(t, 1, answers[4].Chats[0].Seq)
	var pushed [][]int64
	for _, p := range col.pushes {
		var body wire.TextPush
		require.NoError(t, wire.Decode(p.Body, &body))
		var seqs []int64
		for _, x := range body.Chats {
			seqs = append(seqs, x.Seq)
		}
		pushed = append(pushed, seqs)
		require.Equal(t, slices.Max(seqs), p.Seq)
	}
	require.Equal(t, [][]int64{{1}, {2}, {1, 3}}, pushed)
}

// C2: SQL answers too late, and the client sends the text again.
func TestATextStoredByACallThatFailedIsPushedWhenItIsResent(t *testing.T) {
	s := newStore(7)
	s.known["a"], s.last[7] = 1, 1 // stored by a call whose answer did not arrive
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 7, "a")))
	answers := col.wait(t, 1)
	require.EqualValues(t, 1, answers[0].Chats[0].Seq)
	require.Len(t, col.pushes, 1)
	require.EqualValues(t, 1, col.pushes[0].Seq)
	require.EqualValues(t, 2, col.pushes[0].To)
}

func TestAStoreThatFails(t *testing.T) {
	s := newStore(7)
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 7, "before")))
	col.wait(t, 1)
	s.mu.Lock()
	s.err, s.halfway = errors.New("gone away"), 1
	s.mu.Unlock()
	require.NoError(t, c.Append(col.request(1, 7, "stored", "not stored")))
	require.NoError(t, c.Append(col.request(1, 8, "members unknown")))
	answers := col.wait(t, 3)
	require.Equal(t, []wire.Code{0, wire.CodeUnavailable}, codes(answers[1]))
	require.Equal(t, []wire.Code{wire.CodeUnavailable}, codes(answers[2]))
	require.EqualValues(t, wire.StatusFailed, answers[2].Chats[0].Status)
	require.Len(t, col.pushes, 2, "what was stored is pushed")
}

func TestAFencedNodeIsTold(t *testing.T) {
	s := newStore(7)
	s.err = nil
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 7, "a")))
	col.wait(t, 1)
	s.mu.Lock()
	s.err = fmt.Errorf("store: %w", store.ErrFenced)
	s.mu.Unlock()
	require.NoError(t, c.Append(col.request(1, 7, "b")))
	require.Equal(t, []wire.Code{wire.CodeUnavailable}, codes(col.wait(t, 2)[1]))
	require.Equal(t, []string{"boot"}, col.fenced)
	require.Equal(t, []string{"boot", "boot"}, s.boots)
	require.Len(t, col.pushes, 1)
}

// D2: a node that returns under a new boot id must not store texts of its old sessions.
func TestATextOfAnEndedLifeIsRefused(t *testing.T) {
	s := newStore(7)
	c, col := start(t, s, nil)
	old := col.request(1, 7, "from the old life")
	old.Boot = "the boot before"
	require.NoError(t, c.Append(old))
	require.Equal(t, []wire.Code{wire.CodeUnavailable}, codes(col.wait(t, 1)[0]))
	require.Empty(t, s.batches)
	require.Empty(t, col.fenced, "the new life is not fenced")
	require.NoError(t, c.Append(col.request(1, 7, "from the new one")))
	require.Equal(t, []wire.Code{0}, codes(col.wait(t, 2)[1]))
}

func TestBounds(t *testing.T) {
	s := newStore(7)
	s.block = make(chan struct{})
	c, col := start(t, s, func(cfg *Config) { cfg.MaxTexts, cfg.MaxBytes = 5, 1000 })
	require.NoError(t, c.Append(col.request(1, 7, "a", "b", "c")))
	require.ErrorIs(t, c.Append(col.request(1, 7, "d", "e", "f")), ErrBusy)
	require.NoError(t, c.Append(col.request(1, 7, "d", "e")))
	require.ErrorIs(t, c.Append(col.request(1, 7, "f")), ErrBusy)
	big := col.request(1, 7)
	big.Bytes = 801
	require.ErrorIs(t, c.Append(big), ErrBusy)
	big.Bytes = 800
	require.NoError(t, c.Append(big))
	require.Equal(t, 5, c.Waiting())
	close(s.block)
	col.wait(t, 3)
	require.Zero(t, c.Waiting())
	big = col.request(1, 7, "1", "2", "3", "4", "5")
	big.Bytes = 1000
	require.NoError(t, c.Append(big), "what was answered waits no more")
	col.wait(t, 4)
}

func TestALateRequestIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(7)
		s.block = make(chan struct{})
		c, col := start(t, s, nil)
		defer c.Close()
		require.NoError(t, c.Append(col.request(1, 7, "stuck")))
		synctest.Wait()
		time.Sleep(time.Second)
		require.NoError(t, c.Append(col.request(1, 7, "in time")))
		time.Sleep(c.cfg.MaxSQL - time.Second) // the first transaction gives up
		synctest.Wait()
		require.Equal(t, []wire.Code{wire.CodeUnavailable}, codes(col.all()[0]))
		require.NoError(t, c.Append(col.request(1, 7, "late")))
		// The request was three seconds old when its turn came, so its transaction has two.
		time.Sleep(1999 * time.Millisecond)
		synctest.Wait()
		require.Len(t, col.all(), 1)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Equal(t, []wire.Code{wire.CodeUnavailable}, codes(col.all()[1]))
		time.Sleep(c.cfg.MaxWait)
		synctest.Wait()
		require.Len(t, col.all(), 3, "nothing waits longer than MaxWait")

		require.NoError(t, c.Append(col.request(1, 7, "stuck again")))
		synctest.Wait()
		r := col.request(1, 7, "too late")
		require.NoError(t, c.Append(r))
		r.queued = r.queued.Add(-2 * c.cfg.MaxWait) // it waits in the queue
		require.NoError(t, c.Append(col.request(1, 7, "behind it")))
		close(s.block)
		synctest.Wait()
		require.Equal(t, []wire.Code{wire.CodeBusy}, codes(col.all()[4]))
		require.Equal(t, []wire.Code{wire.CodeOK}, codes(col.all()[5]))
		require.Equal(t, c.cfg.MaxSQL, s.deadline[len(s.deadline)-1], "the late one does not cut the others short")
	})
}

func TestAPanicCostsNobodyAnAnswer(t *testing.T) {
	s := newStore(7)
	c, col := start(t, s, nil)
	col.onPush = func() { panic("in deliver") }
	require.NoError(t, c.Append(col.request(1, 7, "a")))
	require.Equal(t, []wire.Code{wire.CodeOK}, codes(col.wait(t, 1)[0]), "it is stored")

	col.mu.Lock()
	col.onPush = nil
	col.onReply = func() { panic("in answer") }
	col.mu.Unlock()
	s.block = make(chan struct{})
	for i := range 10 {
		require.NoError(t, c.Append(col.request(1, 7, fmt.Sprint(i))))
	}
	close(s.block)
	for i, a := range col.wait(t, 11)[1:] {
		require.Equal(t, fmt.Sprint(i), a.Chats[0].Content, "each once, in order")
	}
	require.Eventually(t, func() bool { return c.Waiting() == 0 }, time.Minute, time.Millisecond)
}

func TestCloseAnswersAll(t *testing.T) {
	for range 200 {
		s := newStore(7, 8)
		col := new(collector)
		cfg := DefaultConfig()
		c := New(cfg, Deps{Log: slog.New(slog.DiscardHandler), Store: s, Rights: s, Boot: func() string { return "boot" }, Deliver: col.deliver})
		var wg sync.WaitGroup
		var mu sync.Mutex
		taken := 0
		for who := range 4 {
			wg.Go(func() {
				for i := range 50 {
					err := c.Append(col.request(1, int64(7+rand.IntN(2)), fmt.Sprint(who, "-", i)))
					if err != nil {
						require.ErrorIs(t, err, ErrBusy)
						return
					}
					mu.Lock()
					taken++
					mu.Unlock()
				}
			})
		}
		c.Close()
		wg.Wait()
		require.Len(t, col.answers, taken, "what was taken is answered before Close returns, or not taken")
		require.Zero(t, c.Waiting())
		require.ErrorIs(t, c.Append(col.request(1, 7, "after")), ErrBusy)
	}
}

func TestMembersAreReadOnceAndStrangersEachTime(t *testing.T) {
	s := newStore(7, 8)
	c, col := start(t, s, nil)
	n := 0
	ask := func(uid int32, thread int64) wire.Code {
		n++
		require.NoError(t, c.Append(col.request(uid, thread, fmt.Sprint("text", n))))
		return codes(col.wait(t, n)[n-1])[0]
	}
	require.Equal(t, wire.CodeOK, ask(1, 7))
	require.Equal(t, wire.CodeOK, ask(2, 7))
	require.Equal(t, wire.CodeNotAllowed, ask(3, 7))
	require.Equal(t, [][]int64{{7}}, s.asked)
	require.Equal(t, wire.CodeNotAllowed, ask(1, 9))
	require.Equal(t, wire.CodeNotAllowed, ask(1, 9))
	require.Equal(t, [][]int64{{7}, {9}, {9}}, s.asked)
	s.mu.Lock()
	s.access[9] = store.Access{User1: 5, User2: 1, Friends: true}
	s.mu.Unlock()
	require.Equal(t, wire.CodeOK, ask(1, 9), "an approval takes effect at once")

	// A batch reads each thread only once.
	s.block = make(chan struct{})
	require.NoError(t, c.Append(col.request(1, 7, "hold")))
	taken(t, c)
	for range 3 {
		require.NoError(t, c.Append(col.request(1, 8, "x")))
		require.NoError(t, c.Append(col.request(1, 10, "y")))
	}
	close(s.block)
	col.wait(t, n+7)
	require.Equal(t, []int64{8, 10}, s.asked[len(s.asked)-1])
}

// A node's knowledge of a thread's members may be out of date: the append detects that, and the node reads them
// again.
func TestAChangeOfMembershipCountsFromItsCommit(t *testing.T) {
	s := newStore(7)
	c, col := start(t, s, nil)
	n := 0
	ask := func(unique string) wire.SentText {
		n++
		require.NoError(t, c.Append(col.request(1, 7, unique)))
		got := col.wait(t, n)[n-1].Chats[0]
		return wire.SentText{Seq: got.Seq, Code: got.Code}
	}
	change := func(friends bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		a := s.access[7]
		a.Ver, a.Friends = a.Ver+1, friends
		s.access[7] = a
	}
	require.Equal(t, wire.SentText{Seq: 1}, ask("a"))
	require.Equal(t, wire.SentText{Seq: 2}, ask("b"))
	require.Len(t, s.asked, 1)
	change(false)
	require.Equal(t, wire.SentText{Code: wire.CodeNotAllowed}, ask("c"), "the cache still says friends")
	require.Len(t, s.asked, 1)
	require.Equal(t, wire.SentText{Code: wire.CodeNotAllowed}, ask("d"))
	require.Equal(t, wire.SentText{Seq: 2}, ask("b"), "a resend of what was stored before")
	change(true)
	require.Equal(t, wire.SentText{Seq: 3}, ask("e"))
	asked := len(s.asked)
	require.Equal(t, wire.SentText{Seq: 4}, ask("f"))
	require.Len(t, s.asked, asked, "cached again")
	change(true)
	require.Equal(t, wire.SentText{Seq: 5}, ask("g"), "another version with the same rights stores at once")
	require.Len(t, col.pushes, 5)
}

// D4
func TestAThreadAndARecipientThatDoNotBelongTogetherAreRefused(t *testing.T) {
	s := newStore(7)
	c, col := start(t, s, nil)
	for i, to := range []int32{0, 2, 3, 1} {
		r := col.request(1, 7, fmt.Sprint("text ", i))
		r.To = to
		require.NoError(t, c.Append(r))
	}
	answers := col.wait(t, 4)
	for i, want := range []wire.Code{0, 0, wire.CodeBadRequest, wire.CodeBadRequest} {
		require.Equal(t, []wire.Code{want}, codes(answers[i]), i)
	}
	require.EqualValues(t, 3, answers[2].ToUID, "as the client named it")
	require.Len(t, s.appended(), 2)
}

// nobody is a sender that discards its answers.
type nobody struct{ done chan struct{} }

func (n *nobody) UID() int32                             { return 1 }
func (n *nobody) SID() session.SID                       { return 1 }
func (n *nobody) Groups() bool                           { return true }
func (n *nobody) Alone() bool                            { return true }
func (n *nobody) Answer([]byte, *Request, *session.Cork) { n.done <- struct{}{} }

// quickStore stores nothing and allocates nothing.
type quickStore struct{ seq int64 }

func (s *quickStore) Access(context.Context, []int64) (map[int64]store.Access, error) {
	return map[int64]store.Access{7: {User1: 1, User2: 2, Friends: true}}, nil
}

func (s *quickStore) InGroups(context.Context, []store.GroupKey) (map[store.GroupKey]store.GroupRight, error) {
	return nil, nil
}

func (s *quickStore) Append(_ context.Context, _, _ string, msgs []store.NewMessage, out []store.Appended) error {
	for i := range msgs {
		s.seq++
		out[i] = store.Appended{Seq: s.seq, CreatedMS: 1767605472000}
	}
	return nil
}

// texts returns a function that sends n texts through a committer and waits for the answers.
func texts(t testing.TB) func(n int) {
	t.Helper()
	c := New(DefaultConfig(), Deps{
		Log: slog.New(slog.DiscardHandler), Store: &quickStore{}, Rights: &quickStore{}, Boot: func() string { return "boot" },
		Deliver: func([]session.Push, *session.Cork) {},
	})
	t.Cleanup(c.Close)
	from := &nobody{make(chan struct{}, 256)}
	list := []wire.Text{{Content: "hello, how are you today?", UniqueID: "{6f1c2a3e-0b4d-4c5e-9f60-718293a4b5c6}"}}
	reqs := make([]Request, 256)
	return func(n int) {
		for i := range n {
			reqs[i] = Request{From: from, Boot: "boot", Thread: 7, Texts: list, Bytes: 150}
			if err := c.Append(&reqs[i]); err != nil {
				t.Fatal(err)
			}
		}
		for range n {
			<-from.done
		}
	}
}

func TestATextAllocatesLittle(t *testing.T) {
	run := texts(t)
	one := testing.AllocsPerRun(500, func() { run(1) })
	many := testing.AllocsPerRun(50, func() { run(200) }) / 200
	t.Logf("allocations from Append to Answer and Deliver: %.1f for a text alone, %.2f among others", one, many)
	require.LessOrEqual(t, many, 2.0, "the body of its push, and what a batch shares")
	require.LessOrEqual(t, one, 8.0, "a text alone pays for the context of its transaction")
}

// Texts sent by a session are also pushed to the sender's other sessions, if there may be any, in the order of the
// thread.
func TestTextsGoToTheSendersOtherSessions(t *testing.T) {
	s := newStore(7)
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 7, "first")))
	col.wait(t, 1)
	r := col.request(1, 7, "second", "first", "third")
	r.From.(*user).others = true
	require.NoError(t, c.Append(r))
	col.wait(t, 2)
	require.Len(t, col.pushes, 3, "the first was not pushed to its sender")
	p := col.pushes[2]
	require.Equal(t, session.Push{
		To: 1, ID: wire.MsgRowPush, From: 1, Thread: 7, First: 1, Seq: 3, Skip: r.From.SID(), Body: p.Body,
	}, p)
	var body wire.RowPush
	require.NoError(t, wire.Decode(p.Body, &body))
	require.Len(t, body.Chats, 3)
	for i, content := range []string{"first", "second", "third"} {
		require.EqualValues(t, i+1, body.Chats[i].MsgID)
		require.Equal(t, content, body.Chats[i].Content)
		require.EqualValues(t, 1, body.Chats[i].Sender)
	}
}
