package membership

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"parley/internal/config"
	"parley/internal/presence"
	"parley/internal/wire"
)

// fakeServers is Redis and SQL as seen by a Member. While one is stalled, its calls wait for their deadline.
type fakeServers struct {
	mu       sync.Mutex // guards the following
	stallRed bool
	stallSQL bool
	lease    presence.Lease
	until    time.Time
	lapsed   int // times that the lease was found lapsed
	fence    string
	reads    int
	ended    int
	loads    int
	trouble  int // failures reported to the mailbox
}

var errStalled = errors.New("stalled")

// call waits while the server is stalled, and then calls did.
func (f *fakeServers) call(ctx context.Context, stalled *bool, limit time.Duration, did func() error) error {
	f.mu.Lock()
	wait := *stalled
	f.mu.Unlock()
	if wait {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		<-ctx.Done()
		return errStalled
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return did()
}

func (f *fakeServers) redis(ctx context.Context, did func() error) error {
	return f.call(ctx, &f.stallRed, presence.DefaultTimeout, did)
}

func (f *fakeServers) sql(ctx context.Context, did func() error) error {
	return f.call(ctx, &f.stallSQL, 10*time.Second, did) // as long as the store waits
}

// fakeLeases are the leases in the Redis of fakeServers.
type fakeLeases struct{ *fakeServers }

func (f fakeLeases) Take(ctx context.Context, l presence.Lease, replace string) error {
	return f.redis(ctx, func() error {
		if time.Now().Before(f.until) && f.lease.Boot != l.Boot && f.lease.Boot != replace {
			return &presence.HeldError{Holder: f.lease}
		}
		f.lease, f.until = l, time.Now().Add(presence.DefaultLease)
		return nil
	})
}

func (f fakeLeases) Extend(ctx context.Context, l presence.Lease) (gen string, err error) {
	return "gen", f.redis(ctx, func() error {
		if !time.Now().Before(f.until) {
			f.lapsed++
			return presence.ErrLeaseLost
		}
		if f.lease.Boot != l.Boot {
			return errors.Join(presence.ErrLeaseLost, &presence.HeldError{Holder: f.lease})
		}
		f.lease, f.until = l, time.Now().Add(presence.DefaultLease)
		return nil
	})
}

func (f fakeLeases) Drop(ctx context.Context, l presence.Lease) error {
	return f.redis(ctx, func() error {
		if f.lease.Boot == l.Boot {
			f.until = time.Time{}
		}
		return nil
	})
}

func (f fakeLeases) Report(ctx context.Context, _ string, _ int, _ []string, _ presence.Kicks) (presence.Kicks, error) {
	return presence.Kicks{}, f.redis(ctx, func() error { f.loads++; return nil })
}

func (f *fakeServers) Handled() presence.Kicks { return presence.Kicks{} }

func (f *fakeServers) Reported(_ presence.Kicks, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.trouble++
	}
}

func (f fakeLeases) Generation(ctx context.Context) (id string, ageMS int64, err error) {
	return "gen", 3600_000, f.redis(ctx, func() error { return nil })
}

func (f *fakeServers) Take(ctx context.Context, _, boot string) error {
	return f.sql(ctx, func() error { f.fence = boot; return nil })
}

func (f *fakeServers) Boot(ctx context.Context, _ string) (boot string, err error) {
	err = f.sql(ctx, func() error { f.reads++; boot = f.fence; return nil })
	return boot, err
}

func (f *fakeServers) stall(redis, sql bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stallRed, f.stallSQL = redis, sql
}

// look returns a copy of the state, once what is due now is done: the test wakes up in the same instant as the member.
func (f *fakeServers) look() (leased bool, lapsed, reads, ended, loads int) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Before(f.until), f.lapsed, f.reads, f.ended, f.loads
}

// otherNodeFences fences the node off, as another node does that considers it dead.
func (f *fakeServers) otherNodeFences() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fence = ""
}

// member returns the Member of a node that has joined. Its loops run until stop is called.
func member(t *testing.T, f *fakeServers) (m *Member, stop func() error) {
	t.Helper()
	c := func() prometheus.Counter { return prometheus.NewCounter(prometheus.CounterOpts{Name: "c"}) }
	m = New(presence.Lease{Name: "chat1", RPCAddr: "here"}, Deps{
		Log: slog.New(slog.DiscardHandler), Lease: fakeLeases{f}, Fence: f,
		Hello:    func(context.Context, string) (string, string, error) { return "", "", errStalled },
		Sessions: func() int { return 1 },
		EndSessions: func() {
			f.mu.Lock()
			f.ended++
			f.mu.Unlock()
		},
		LostData: func() {}, Mailbox: f,
		LeaseFailures: c(), FenceFailures: c(), Fenced: c(),
	})
	require.NoError(t, m.Join(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = m.KeepLease(ctx) })
	wg.Go(func() { m.KeepFence(ctx) })
	return m, func() error { cancel(); wg.Wait(); return err }
}

// D2
func TestALeaseOutlivesAStallOfSQL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeServers)
		m, stop := member(t, f)
		f.stall(false, true)
		for range 110 { // 11 s
			time.Sleep(100 * time.Millisecond)
			leased, lapsed, _, _, _ := f.look()
			require.True(t, leased)
			require.Zero(t, lapsed)
			_, code := m.Admits()
			require.Equal(t, wire.CodeOK, code, "a login that SQL lets pass is not refused for the lease")
		}
		_, _, _, ended, loads := f.look()
		require.Zero(t, ended)
		require.GreaterOrEqual(t, loads, 10, "the load is reported on")
		require.NoError(t, stop())
	})
}

// D2
func TestAFenceIsReadWhileRedisStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeServers)
		m, stop := member(t, f)
		boot := m.Boot()
		f.stall(true, false)
		time.Sleep(5 * time.Second)
		_, _, reads, _, _ := f.look()
		require.GreaterOrEqual(t, reads, 4)
		f.otherNodeFences()
		time.Sleep(tick + 100*time.Millisecond)
		_, _, _, ended, _ := f.look()
		require.Equal(t, 1, ended, "the sessions end at once, without Redis")
		_, code := m.Admits()
		require.Equal(t, wire.CodeUnavailable, code)
		require.False(t, m.Lives(boot))

		f.stall(false, false)
		time.Sleep(presence.DefaultTimeout + leaseTimeout + 3*tick)
		_, code = m.Admits()
		require.Equal(t, wire.CodeOK, code)
		require.NotEqual(t, boot, m.Boot())
		require.Equal(t, m.Boot(), f.fence)
		require.NoError(t, stop())
	})
}

// D2: the next life waits for SQL, but its lease is kept meanwhile, and no user is placed here before it can serve.
func TestANextLifeKeepsItsLeaseWhileSQLStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeServers)
		m, stop := member(t, f)
		boot := m.Boot()
		f.otherNodeFences()
		f.stall(false, true) // before the fence: the next life may begin at once
		m.NoteFenced(boot)
		time.Sleep(time.Second)
		_, _, _, ended, before := f.look()
		require.Equal(t, 1, ended)
		for range 30 {
			time.Sleep(time.Second)
			leased, lapsed, _, _, loads := f.look()
			require.True(t, leased)
			require.Zero(t, lapsed)
			require.Equal(t, before, loads, "not announced to placement")
			_, code := m.Admits()
			require.Equal(t, wire.CodeUnavailable, code)
		}
		m.NoteFenced(m.Boot()) // a text of the old life was refused under the new id, which has no row yet
		f.stall(false, false)
		time.Sleep(10*time.Second + 2*tick)
		_, code := m.Admits()
		require.Equal(t, wire.CodeOK, code)
		_, _, _, ended, _ = f.look()
		require.Equal(t, 1, ended)
		require.NoError(t, stop())
	})
}

// A lease taken by another live process ends this one.
func TestALeaseLostToALivingProcessIsFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeServers)
		m, stop := member(t, f)
		other := presence.Lease{Name: "chat1", Boot: "other", RPCAddr: "there"}
		m.d.Hello = func(context.Context, string) (string, string, error) { return "chat1", "other", nil }
		f.mu.Lock()
		f.lease = other
		f.mu.Unlock()
		time.Sleep(leaseRefresh + 2*tick)
		err := stop()
		require.ErrorContains(t, err, "took over")
		require.Equal(t, config.ExitDependency, config.ExitCode(err))
	})
}

// A2: sessions are compared with Redis after any failed call to it.
func TestTheMailboxIsToldOfTroubleWithRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeServers)
		_, stop := member(t, f)
		time.Sleep(30 * time.Second)
		f.mu.Lock()
		require.Zero(t, f.trouble)
		f.mu.Unlock()
		f.stall(true, false)
		time.Sleep(10 * time.Second)
		f.stall(false, false)
		time.Sleep(5 * time.Second)
		f.mu.Lock()
		require.Positive(t, f.trouble)
		f.mu.Unlock()
		require.NoError(t, stop())
	})
}
