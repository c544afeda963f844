package reconcile

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parley/internal/outbox"
	"parley/internal/presence"
	"parley/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// bed is the registry of a node, with a Redis.
type bed struct {
	t        *testing.T
	mini     *miniredis.Miniredis
	rdb      *redis.Client
	presence *presence.Presence
	registry *session.Registry
	since    time.Time

	mu       sync.Mutex // guards the following
	ended    []string   // sids
	released []string
	missed   []int32 // uids
	deleted  []int32 // uids
}

func newBed(t *testing.T) *bed {
	b := &bed{t: t, mini: miniredis.RunT(t), registry: session.NewRegistry(), since: time.Now()}
	b.rdb = redis.NewClient(&redis.Options{
		Addr: b.mini.Addr(), Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, MaxRetries: -1,
		// Long, so that a busy machine does not fail the test.
		DialTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute, PoolTimeout: time.Minute,
	})
	t.Cleanup(func() { _ = b.rdb.Close() })
	b.presence = presence.New(b.rdb, presence.Options{Timeout: 20 * time.Second})
	t.Cleanup(b.presence.Close)
	return b
}

func (b *bed) reconciler(cfg Config) *Reconciler {
	return New(cfg, Deps{
		Log: quiet, Sessions: b.presence.Sessions, Registry: b.registry, Entry: b.entry,
		End: func(uid int32, sid string) {
			id, ok := session.ParseSID(sid)
			require.True(b.t, ok)
			if s, _ := b.registry.Supersede(uid, id); s != nil {
				b.end(s)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			b.ended = append(b.ended, sid)
		},
		Deleted: func(uid int32) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.deleted = append(b.deleted, uid)
		},
		Release: func(l presence.Location) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.released = append(b.released, l.SID)
		},
		Missed: func(s *session.Session) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.missed = append(b.missed, s.UID())
		},
	})
}

func (b *bed) entry(s *session.Session) presence.Session {
	return presence.Session{
		Location: presence.Location{UID: s.UID(), Device: s.Device(), SID: s.SID().String(), Node: "n1", Boot: "b1"},
		Since:    b.since,
	}
}

// socket is a connection that is never read.
type socket struct{ fd int }

func (s socket) Fd() int                     { return s.fd }
func (s socket) Write(p []byte) (int, error) { return len(p), nil }
func (s socket) Close() error                { return nil }

// login makes a user live here and in Redis.
func (b *bed) login(uid int32) *session.Session {
	b.t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = syscall.Close(fd) })
	s := &session.Session{}
	s.Init(socket{fd}, &session.Limits{Limits: outbox.Limits{Go: func(f func()) { f() }}, Linger: time.Hour})
	require.True(b.t, s.Identify(session.Identity{UID: uid, Device: "phone", SID: session.SID(uid), Native: true}))
	b.registry.Add(s)
	require.Equal(b.t, session.Activated, b.registry.Activate(s))
	_, err = b.presence.Sessions.Restore(b.t.Context(), []presence.Location{b.entry(s).Location})
	require.NoError(b.t, err)
	return s
}

func (b *bed) end(s *session.Session) {
	s.Close()
	b.registry.Remove(s)
}

func (b *bed) entryOf(uid int32) string {
	return b.rdb.HGet(context.Background(), fmt.Sprint("usession_", uid), "phone").Val()
}

func (b *bed) endedNow() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ended)
}

// pass makes as many steps as the registry has parts.
func pass(t *testing.T, r *Reconciler) (pauses []time.Duration) {
	for range session.Parts {
		pauses = append(pauses, r.step(t.Context()))
	}
	return pauses
}

func value(c prometheus.Counter) float64 {
	var m dto.Metric
	_ = c.Write(&m)
	return m.GetCounter().GetValue()
}

func sid(uid int32) string { return session.SID(uid).String() }

func TestAllSessionsAreComparedOnceAPassAndFasterAfterTrouble(t *testing.T) {
	b := newBed(t)
	for uid := range int32(200) {
		b.login(uid + 1)
	}
	cfg := DefaultConfig()
	r := b.reconciler(cfg)
	normal, hurry := cfg.Pass/session.Parts, cfg.Hurry/session.Parts
	require.Less(t, cfg.Pass+cfg.Grace, time.Minute, "docs/GUARANTEES.md")
	require.NotContains(t, pass(t, r), hurry)
	require.Equal(t, 200.0, value(r.metrics.compared))
	r.Hurry()
	require.NotContains(t, pass(t, r), normal)
	require.Equal(t, normal, r.step(t.Context()))
	require.GreaterOrEqual(t, value(r.metrics.compared), 400.0)
	require.Empty(t, b.endedNow())
}

func TestEntriesAreKeptFromExpiring(t *testing.T) {
	b := newBed(t)
	b.login(7)
	cfg := DefaultConfig()
	r := b.reconciler(cfg)
	ttl := func() time.Duration { return b.mini.TTL("usession_7") }
	b.mini.SetTTL("usession_7", time.Minute)
	pass(t, r)
	require.Equal(t, presence.SessionTTL, ttl())
	b.mini.SetTTL("usession_7", time.Minute)
	pass(t, r)
	require.Equal(t, time.Minute, ttl(), "not each time")
	for i := range r.extended {
		r.extended[i] = time.Now().Add(-cfg.Extend)
	}
	pass(t, r)
	require.Equal(t, presence.SessionTTL, ttl())
}

// A4
func TestASessionThatRedisLostIsWrittenBack(t *testing.T) {
	b := newBed(t)
	b.login(7)
	b.login(8)
	b.mini.Del("usession_7")
	b.mini.Del("uip_7")
	r := b.reconciler(DefaultConfig())
	pass(t, r)
	require.Equal(t, sid(7)+"|n1|b1", b.entryOf(7))
	require.Equal(t, "n1", b.rdb.Get(t.Context(), "uip_7").Val())
	require.Equal(t, 1.0, value(r.metrics.restored))
	require.Empty(t, b.endedNow())
	require.Equal(t, []int32{7}, b.missed, "the other one was found all the time")
	pass(t, r)
	require.Equal(t, []int32{7}, b.missed, "once")
	require.Empty(t, r.lost)
}

// C1: it is unknown whether the write succeeded.
func TestASessionThatWasWrittenBackUnheardIsToldToo(t *testing.T) {
	b := newBed(t)
	b.login(7)
	ended := b.login(8)
	b.mini.Del("usession_7")
	b.mini.Del("usession_8")
	r := b.reconciler(DefaultConfig())
	r.part = 0 // 7 comes before 8, whose write would make Redis fail first
	b.rdb.AddHook(&onPipeline{name: "hsetnx", f: func() { b.mini.SetError("LOADING") }})
	pass(t, r)
	require.Empty(t, b.missed)
	b.mini.SetError("")
	b.mini.HSet("usession_7", "phone", sid(7)+"|n1|b1")
	b.end(ended)
	pass(t, r)
	require.Equal(t, []int32{7}, b.missed)
	require.Empty(t, r.lost)
}

// A4: everything is written back without comparing first.
func TestARewriteHasNoPauses(t *testing.T) {
	b := newBed(t)
	for uid := range int32(100) {
		b.login(uid + 1)
	}
	r := b.reconciler(DefaultConfig())
	b.mini.FlushAll()
	r.Rewrite()
	for _, pause := range pass(t, r) {
		require.Zero(t, pause)
	}
	r.step(t.Context())
	require.Equal(t, DefaultConfig().Pass/session.Parts, r.step(t.Context()))
	for uid := range int32(100) {
		require.NotEmpty(t, b.entryOf(uid+1))
	}
	require.GreaterOrEqual(t, value(r.metrics.restored), 100.0)
}

func TestASessionWhosePlaceAnotherHasEndsAfterTheGrace(t *testing.T) {
	b := newBed(t)
	b.login(7)
	b.login(8)
	b.login(9)
	cfg := DefaultConfig()
	r := b.reconciler(cfg)
	for _, uid := range []int32{7, 8} {
		require.NoError(t, b.rdb.HSet(t.Context(), fmt.Sprint("usession_", uid), "phone", "other|n2|b2").Err())
	}
	pass(t, r)
	pass(t, r)
	require.Empty(t, b.endedNow(), "the login may still be undone")
	require.Len(t, r.doubts, 2)
	// Undo the login of user 8.
	require.NoError(t, b.rdb.HSet(t.Context(), "usession_8", "phone", sid(8)+"|n1|b1").Err())
	for s := range r.doubts {
		r.doubts[s] = time.Now().Add(-cfg.Grace)
	}
	r.step(t.Context())
	require.Equal(t, []string{sid(7)}, b.endedNow())
	require.Empty(t, r.doubts)
	require.Equal(t, 1.0, value(r.metrics.replaced))
	require.Equal(t, "other|n2|b2", b.entryOf(7), "the newer one stays")
	require.Equal(t, []int32{8}, b.missed, "pushes went to the login that was undone")
}

// A3
func TestASessionOlderThanAPasswordResetEnds(t *testing.T) {
	b := newBed(t)
	b.login(7)
	b.login(8)
	b.mini.SetTime(time.Now().Add(time.Hour)) // Redis has a clock of its own
	b.since = time.Now().Add(-time.Minute)
	require.NoError(t, b.presence.Tokens.Revoke(t.Context(), 7))
	r := b.reconciler(DefaultConfig())
	pass(t, r)
	require.Equal(t, []string{sid(7)}, b.endedNow())
	require.Equal(t, 1.0, value(r.metrics.revoked))
}

// onPipeline calls f once, before the next pipeline that contains a command of this name.
type onPipeline struct {
	name string
	f    func()
	once sync.Once
}

func (h *onPipeline) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *onPipeline) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *onPipeline) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Name() == h.name }) {
			h.once.Do(h.f)
		}
		return next(ctx, cmds)
	}
}

func TestASessionThatEndsWhileItIsWrittenBackIsReleasedAgain(t *testing.T) {
	b := newBed(t)
	s := b.login(7)
	b.mini.Del("usession_7")
	b.rdb.AddHook(&onPipeline{name: "hsetnx", f: func() { b.end(s) }})
	pass(t, b.reconciler(DefaultConfig()))
	require.Equal(t, []string{sid(7)}, b.released)
}

func TestAnotherSessionThatIsWrittenFirstWins(t *testing.T) {
	b := newBed(t)
	b.login(7)
	b.mini.Del("usession_7")
	b.rdb.AddHook(&onPipeline{name: "hsetnx", f: func() { b.mini.HSet("usession_7", "phone", "other|n2|b2") }})
	r := b.reconciler(DefaultConfig())
	pass(t, r)
	require.Len(t, r.doubts, 1)
	require.Zero(t, value(r.metrics.restored))
	for s := range r.doubts {
		r.doubts[s] = time.Now().Add(-time.Hour)
	}
	r.step(t.Context())
	require.Equal(t, []string{sid(7)}, b.endedNow())
}

func TestNoPartIsSkippedWhileRedisIsAway(t *testing.T) {
	b := newBed(t)
	for uid := range int32(100) {
		b.login(uid + 1)
	}
	cfg := DefaultConfig()
	r := b.reconciler(cfg)
	b.mini.SetError("LOADING")
	for _, pause := range pass(t, r) {
		require.Equal(t, retryPause, pause)
	}
	require.Zero(t, value(r.metrics.compared))
	require.Empty(t, b.endedNow())
	b.mini.SetError("")
	b.mini.FlushAll()
	require.Equal(t, cfg.Hurry/session.Parts, r.step(t.Context()), "entries may have been lost with it")
	pass(t, r)
	require.Equal(t, 100.0, value(r.metrics.restored))
}

func TestAReportAfterTroubleHasAllCompared(t *testing.T) {
	b := newBed(t)
	r := b.reconciler(DefaultConfig())
	hurries := func() float64 { return value(r.metrics.hurries) }
	r.Reported(presence.Kicks{}, nil)
	r.Reported(presence.Kicks{}, nil)
	require.Zero(t, hurries())
	r.Reported(presence.Kicks{}, context.DeadlineExceeded)
	require.Zero(t, hurries())
	r.Reported(presence.Kicks{}, nil)
	require.Equal(t, 1.0, hurries(), "after a failure")
	r.Reported(presence.Kicks{}, nil)
	require.Equal(t, 1.0, hurries())
	r.reported = time.Now().Add(-2 * reportGap)
	r.Reported(presence.Kicks{}, nil)
	require.Equal(t, 2.0, hurries(), "after a pause of the process")
	r.Reported(presence.Kicks{Full: true}, nil)
	require.Equal(t, 3.0, hurries(), "after more kicks than the mailbox holds")
}

// A2
func TestKicksOfTheMailboxAreCarriedOutAndHandled(t *testing.T) {
	b := newBed(t)
	b.login(7)
	require.NoError(t, b.presence.Mailboxes.LeaveKick(t.Context(), presence.Location{UID: 7, SID: sid(7), Node: "n1", Boot: "b1"}))
	require.NoError(t, b.presence.Leases.Take(t.Context(), presence.Lease{Name: "n1", Boot: "b1"}, ""))
	require.NoError(t, b.presence.Leases.ReportLoad(t.Context(), "n1", 1, nil))
	require.NoError(t, b.presence.Mailboxes.LeaveDeletion(t.Context(), 8))
	r := b.reconciler(DefaultConfig())
	for range 3 {
		kicks, err := b.presence.Leases.Report(t.Context(), "n1", 1, nil, r.Handled())
		require.NoError(t, err)
		r.Reported(kicks, nil)
	}
	require.Equal(t, []string{sid(7)}, b.endedNow())
	require.Equal(t, []int32{8}, b.deleted)
	require.Equal(t, 1.0, value(r.metrics.kicked))
	require.False(t, b.mini.Exists("kicks_{logincount}_n1"))
}

func TestRunComparesUntilItsContextEnds(t *testing.T) {
	b := newBed(t)
	b.login(7)
	r := b.reconciler(Config{Pass: time.Millisecond, Hurry: time.Millisecond, Grace: time.Millisecond, Extend: time.Hour})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	b.mini.Del("usession_7")
	require.Eventually(t, func() bool { return b.entryOf(7) != "" }, time.Minute, time.Millisecond)
	b.mini.HSet("usession_7", "phone", "other|n2|b2")
	require.Eventually(t, func() bool { return len(b.endedNow()) > 0 }, time.Minute, time.Millisecond)
	stop()
	<-done
}
