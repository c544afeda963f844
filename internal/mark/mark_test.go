package mark

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore keeps marks in memory. Thread 1 is private between users 1 and 2, who are friends; 2 is a group of 3
// members, 3 one of 101, both with texts of users 1 and 2 in turns; 4 has no members.
type fakeStore struct {
	block chan struct{} // if not nil, each call waits for it
	err   error
	fail  func()

	mu      sync.Mutex // guards the following
	batches [][]store.Mark
	asked   [][]store.Span
	marks   map[store.GroupKey]store.Mark
}

func (s *fakeStore) Raise(_ context.Context, marks []store.Mark) ([]store.Marked, error) {
	if s.block != nil {
		<-s.block
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, slices.Clone(marks))
	if s.fail != nil {
		s.fail()
	}
	if s.err != nil {
		return nil, s.err
	}
	out := make([]store.Marked, len(marks))
	for i, m := range marks {
		if m.Thread == 4 {
			out[i].Err = store.ErrNotMember
			continue
		}
		key := store.GroupKey{Thread: m.Thread, UID: m.UID}
		was := s.marks[key]
		m.Read, m.Recv = max(was.Read, m.Read), max(was.Recv, m.Recv, m.Read)
		out[i] = store.Marked{Mark: m, WasRead: was.Read, WasRecv: was.Recv}
		switch m.Thread {
		case 1:
			out[i].Peer = 3 - m.UID
		case 2:
			out[i].Members = 3
		case 3:
			out[i].Members = MaxTold + 1
		}
		s.marks[key] = m
	}
	return out, nil
}

func (s *fakeStore) Authors(_ context.Context, spans []store.Span) (list []store.Author, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, spans)
	for _, sp := range spans {
		for seq := sp.Upto; seq > sp.After; seq-- {
			list = append(list, store.Author{Thread: sp.Thread, Seq: seq, UID: int32(1 + seq%2)})
		}
	}
	return list, s.err
}

// push is a push to a recipient.
type push struct {
	to     int32
	skip   session.SID
	thread int64
	marks  []wire.Mark
}

// world is Marks over a fakeStore.
type world struct {
	t  *testing.T
	st *fakeStore
	m  *Marks

	mu     sync.Mutex // guards the following
	pushes []push
}

func in(t *testing.T, cfg Config, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, st: &fakeStore{marks: map[store.GroupKey]store.Mark{}}}
		w.m = New(cfg, Deps{Log: slog.New(slog.DiscardHandler), Store: w.st, Deliver: w.deliver})
		defer w.m.Close()
		f(w)
	})
}

func (w *world) deliver(pushes []session.Push, _ *session.Cork) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range pushes {
		var body wire.MarkPush
		if err := wire.Decode(p.Body, &body); err != nil || p.ID != wire.MsgMarkPush || p.Thread != body.ThreadID {
			w.t.Errorf("push %+v: %v", p, err)
		}
		w.pushes = append(w.pushes, push{p.To, p.Skip, body.ThreadID, body.Marks})
	}
}

// told returns the pushes since the last call.
func (w *world) told() []push {
	w.mu.Lock()
	defer w.mu.Unlock()
	pushes := w.pushes
	w.pushes = nil
	return pushes
}

func (w *world) raise(from session.SID, thread int64, uid int32, read, recv int64) (store.Mark, error) {
	return w.m.Raise(context.Background(), from, store.Mark{Thread: thread, UID: uid, Read: read, Recv: recv})
}

func TestWhoIsToldOfAMark(t *testing.T) {
	in(t, DefaultConfig(), func(w *world) {
		for _, tc := range []struct {
			name       string
			thread     int64
			uid        int32
			read, recv int64
			want       []push
		}{
			{"received, private", 1, 1, 0, 4, []push{{1, 9, 1, []wire.Mark{{UID: 1, Recv: 4}}}, {2, 0, 1, []wire.Mark{{UID: 1, Recv: 4}}}}},
			{"read, private", 1, 1, 3, 0, []push{{1, 9, 1, []wire.Mark{{UID: 1, Read: 3, Recv: 4}}}, {2, 0, 1, []wire.Mark{{UID: 1, Read: 3, Recv: 4}}}}},
			{"lower", 1, 1, 2, 3, nil},
			{"received, group", 2, 3, 0, 4, []push{{3, 9, 2, []wire.Mark{{UID: 3, Recv: 4}}}}},
			{"one text", 2, 3, 1, 0, []push{{3, 9, 2, []wire.Mark{{UID: 3, Read: 1, Recv: 4}}}, {2, 0, 2, []wire.Mark{{UID: 3, Read: 1, Recv: 4}}}}},
			{"texts of two", 2, 3, 9, 0, []push{
				{3, 9, 2, []wire.Mark{{UID: 3, Read: 9, Recv: 9}}},
				{1, 0, 2, []wire.Mark{{UID: 3, Read: 9, Recv: 9}}},
				{2, 0, 2, []wire.Mark{{UID: 3, Read: 9, Recv: 9}}},
			}},
			{"own texts", 2, 1, 4, 0, []push{{1, 9, 2, []wire.Mark{{UID: 1, Read: 4, Recv: 4}}}, {2, 0, 2, []wire.Mark{{UID: 1, Read: 4, Recv: 4}}}}},
			{"large group", 3, 3, 9, 9, []push{{3, 9, 3, []wire.Mark{{UID: 3, Read: 9, Recv: 9}}}}},
		} {
			_, err := w.raise(9, tc.thread, tc.uid, tc.read, tc.recv)
			require.NoError(t, err, tc.name)
			require.Equal(t, tc.want, w.told(), tc.name)
		}
		_, err := w.raise(9, 4, 1, 1, 1)
		require.ErrorIs(t, err, store.ErrNotMember)
		require.Empty(t, w.told())
		for _, spans := range w.st.asked {
			require.Equal(t, int64(2), spans[0].Thread)
		}
	})
}

// Marks that wait for a transaction become one row per user and thread, and one push per recipient; each call is
// answered with what is stored.
func TestMarksOfABatchAreOne(t *testing.T) {
	in(t, DefaultConfig(), func(w *world) {
		w.st.block = make(chan struct{})
		var wg sync.WaitGroup
		raise := func(from session.SID, thread int64, uid int32, read, want int64) {
			wg.Go(func() {
				got, err := w.raise(from, thread, uid, read, 0)
				if err != nil || got.Read != want || got.Recv != want {
					t.Errorf("user %d read %d of thread %d: %+v, %v", uid, read, thread, got, err)
				}
			})
			synctest.Wait()
		}
		raise(1, 1, 1, 1, 1) // alone in its transaction
		for i := range int64(40) {
			raise(session.SID(1+i%2), 1, 1, 41-i, 41)
		}
		raise(3, 1, 2, 7, 7)
		for uid := int32(3); uid < 30; uid++ {
			raise(session.SID(uid), 2, uid, int64(uid%4), int64(uid%4))
		}
		w.st.block <- struct{}{}
		synctest.Wait()
		require.Len(t, w.told(), 2)
		close(w.st.block)
		wg.Wait()
		require.Len(t, w.st.batches, 2)
		require.Len(t, w.st.batches[1], 2+27)
		var own, others int
		for _, p := range w.told() {
			if p.thread != 2 {
				continue
			}
			if p.to > 2 {
				own++
				continue
			}
			others++
			// User 2 wrote the texts with odd numbers.
			want := 0
			for uid := 3; uid < 30; uid++ {
				if uid%4 >= 1 && p.to == 2 || uid%4 >= 2 && p.to == 1 {
					want++
				}
			}
			require.Len(t, p.marks, want, "user %d", p.to)
		}
		require.Equal(t, 2, others, "one push per author")
		require.Equal(t, 20, own, "who reads nothing new is told nothing")
	})
}

// If two devices of a user mark in one batch, both are told; a single session has its answer instead.
func TestTheSessionThatMarkedIsNotTold(t *testing.T) {
	in(t, DefaultConfig(), func(w *world) {
		w.st.block = make(chan struct{})
		var wg sync.WaitGroup
		for i, sid := range []session.SID{5, 6, 7} {
			wg.Go(func() { _, _ = w.raise(sid, 1, 1, int64(i+1), 0) })
			synctest.Wait()
		}
		close(w.st.block)
		wg.Wait()
		told := w.told()
		require.Len(t, told, 4)
		require.Equal(t, session.SID(5), told[0].skip)
		require.Zero(t, told[2].skip)
		require.Equal(t, []wire.Mark{{UID: 1, Read: 3, Recv: 3}}, told[2].marks)
	})
}

func TestMarksAreBounded(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Waiting, cfg.Batch = 8, 4
	in(t, cfg, func(w *world) {
		w.st.block = make(chan struct{})
		var wg sync.WaitGroup
		for i := range 1 + 8 {
			wg.Go(func() {
				_, err := w.raise(1, 3, int32(i+1), 1, 1)
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		_, err := w.raise(1, 3, 99, 1, 1)
		require.ErrorIs(t, err, ErrBusy)
		require.InDelta(t, 1, testutil.ToFloat64(w.m.metrics.refused), 0)
		close(w.st.block)
		wg.Wait()
		require.Len(t, w.st.batches, 3)
		_, err = w.raise(1, 3, 99, 1, 1)
		require.NoError(t, err, "there is room again")
	})
}

func TestAFailureOfTheStoreIsAnswered(t *testing.T) {
	in(t, DefaultConfig(), func(w *world) {
		w.st.err = errors.New("away")
		_, err := w.raise(1, 1, 1, 1, 1)
		require.ErrorIs(t, err, w.st.err)
		w.st.err, w.st.fail = nil, func() { panic("boom") }
		_, err = w.raise(1, 1, 1, 1, 1)
		require.ErrorContains(t, err, "boom")
		w.st.fail = nil
		require.Empty(t, w.told())
		got, err := w.raise(1, 1, 1, 1, 1)
		require.NoError(t, err)
		require.Equal(t, store.Mark{Thread: 1, UID: 1, Read: 1, Recv: 1}, got)
	})
}

func TestCloseAnswersWhatWaits(t *testing.T) {
	in(t, DefaultConfig(), func(w *world) {
		w.st.block = make(chan struct{})
		errs := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := w.raise(1, 1, 1, 1, 1)
				errs <- err
			}()
			synctest.Wait()
		}
		go func() { time.Sleep(time.Second); close(w.st.block) }()
		w.m.Close()
		require.ErrorIs(t, <-errs, ErrBusy, "the second one")
		require.NoError(t, <-errs, "was under way")
		_, err := w.raise(1, 1, 1, 2, 2)
		require.ErrorIs(t, err, ErrBusy)
	})
}
