package moving

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/ops"
	"parley/internal/presence"
	"parley/internal/session"
)

// world is a node with clients that come back elsewhere.
type world struct {
	mu       sync.Mutex
	native   []*session.Session
	stock    []*session.Session
	at       map[int32]presence.Location // where clients are now
	told     []time.Time
	to       map[string]int
	open     []string
	away     time.Duration // between a goodbye and the login elsewhere
	mover    *Mover
	sessions sync.WaitGroup
}

// noConn is the connection of a session that nothing is written to.
type noConn struct{}

func (noConn) Fd() int                     { return -1 }
func (noConn) Write(b []byte) (int, error) { return len(b), nil }
func (noConn) Close() error                { return nil }

func newWorld(native, stock int) *world {
	w := &world{at: map[int32]presence.Location{}, to: map[string]int{}, open: []string{"chat2", "chat3"}, away: 300 * time.Millisecond}
	for i := range native + stock {
		s := new(session.Session)
		s.Init(noConn{}, &session.Limits{})
		s.Identify(session.Identity{UID: int32(i + 1), Device: "native", SID: session.NewSID(time.Now()), Native: i < native})
		if i < native {
			w.native = append(w.native, s)
		} else {
			w.stock = append(w.stock, s)
		}
	}
	w.mover = New(Deps{
		Log: slog.New(slog.DiscardHandler), Node: "chat1", Go: func(f func()) { w.sessions.Go(f) },
		Sessions: func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.native) + len(w.stock) },
		Idle:     w.idle, Next: w.next, Open: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.open) > 0 }, Tell: w.tell, Locate: w.locate,
		Alive: func(_, boot string) bool { return boot == "alive" },
	})
	return w
}

func (w *world) idle(n int, native, _ bool) []*session.Session {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := w.stock
	if native {
		from = w.native
	}
	return slices.Clone(from[:min(n, len(from))])
}

func (w *world) next(*session.Session) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) == 0 {
		return ""
	}
	return w.open[len(w.told)%len(w.open)]
}

func (w *world) tell(s *session.Session, to string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := func(other *session.Session) bool { return other == s }
	w.native, w.stock = slices.DeleteFunc(w.native, gone), slices.DeleteFunc(w.stock, gone)
	w.told = append(w.told, time.Now())
	w.to[to]++
	if to == "" {
		return true
	}
	uid := s.UID()
	w.sessions.Go(func() {
		time.Sleep(w.away)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.at[uid] = presence.Location{UID: uid, Device: "native", SID: session.NewSID(time.Now()).String(), Node: to, Boot: "alive"}
	})
	return true
}

func (w *world) locate(_ context.Context, uids []int32) ([][]presence.Location, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := make([][]presence.Location, len(uids))
	for i, uid := range uids {
		if at, ok := w.at[uid]; ok {
			found[i] = append(found[i], at)
		}
	}
	return found, nil
}

func TestADrainIsSpreadOverItsTimeAndReportsTheGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(10_000, 10)
		began := time.Now()
		w.mover.Run(t.Context(), Plan{Reason: "drain", Over: 20 * time.Second, Floor: 50, Rate: 1000, Patience: 10 * time.Second})
		r := w.mover.Report()
		require.Equal(t, 10_000, r.Told)
		require.Equal(t, 10_000, r.Moved)
		require.Equal(t, 10, r.Ended)
		require.Zero(t, r.Missing)
		require.Zero(t, r.Left)
		require.NotZero(t, r.EndedMS)
		require.InDelta(t, 300, r.GapP50MS, 5)
		require.InDelta(t, 300, r.GapP99MS, 5)
		require.InDelta(t, 300, r.GapMaxMS, 5)
		require.InDelta(t, 20, w.told[len(w.told)-1].Sub(began).Seconds(), 1)
		perSecond := map[int]int{}
		for _, at := range w.told {
			perSecond[int(at.Sub(began).Seconds())]++
		}
		for second, n := range perSecond {
			require.LessOrEqual(t, n, 600, "in second %d", second)
		}
		require.InDelta(t, w.to["chat2"], w.to["chat3"], 100, "spread over the nodes")
		w.sessions.Wait()
	})
}

func TestADrainNeverExceedsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1000, 0)
		began := time.Now()
		w.mover.Run(t.Context(), Plan{Reason: "drain", Over: time.Second, Floor: 500, Rate: 100, Patience: 10 * time.Second})
		require.InDelta(t, 10, w.told[len(w.told)-1].Sub(began).Seconds(), 1, "the rate comes first")
		w.sessions.Wait()
	})
}

func TestADrainWaitsForANodeThatTakesLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(10, 2)
		w.open = nil
		w.mover.Start(t.Context(), Plan{Reason: "drain", Over: time.Second, Floor: 50, Patience: 10 * time.Second})
		time.Sleep(10 * time.Second)
		require.Empty(t, w.told)
		require.True(t, w.mover.Busy())
		w.mu.Lock()
		w.open = []string{"chat2"}
		w.mu.Unlock()
		w.sessions.Wait()
		require.Equal(t, 10, w.mover.Report().Moved)
		require.False(t, w.mover.Busy())
	})
}

func TestARebalanceMovesAsManyAsItWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(100, 10)
		w.mover.Run(t.Context(), Plan{Reason: "rebalance", Over: time.Second, Floor: 50, Patience: time.Second, To: map[string]int{"chat2": 30, "chat3": 10}})
		require.Equal(t, map[string]int{"chat2": 30, "chat3": 10}, w.to)
		w.mover.Run(t.Context(), Plan{Reason: "rebalance", Over: time.Second, Floor: 50, Patience: time.Second, To: map[string]int{"chat2": 500}})
		require.Equal(t, 90, w.to["chat2"], "no more are here; stock clients stay")
		w.sessions.Wait()
	})
}

func TestAnotherMovingEndsTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(100, 0)
		w.mover.Start(t.Context(), Plan{Reason: "drain", Over: time.Hour, Patience: time.Second})
		time.Sleep(time.Minute)
		w.mover.Run(t.Context(), Plan{Reason: "stop", Floor: 500, Patience: time.Second, Anywhere: true})
		r := w.mover.Report()
		require.Equal(t, "stop", r.Reason)
		require.Greater(t, r.Told, 90)
		require.NotZero(t, r.EndedMS)
		require.False(t, w.mover.Busy())
		w.mover.Stop()
		w.sessions.Wait()
	})
}

func TestClientsThatDoNotComeBackAreReportedMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(10, 0)
		w.away = time.Hour
		w.mover.Run(t.Context(), Plan{Reason: "drain", Floor: 500, Patience: 2 * time.Second})
		r := w.mover.Report()
		require.Equal(t, &ops.Moving{Reason: "drain", BeganMS: r.BeganMS, EndedMS: r.EndedMS, Told: 10, Missing: 10}, r)
		w.sessions.Wait()
	})
}
