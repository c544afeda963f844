package gate

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// another starts a second gate with the fixture's SQL and Redis.
func (f *fixture) another() *Server {
	f.t.Helper()
	s, err := New(f.cfg, Deps{Log: slog.New(slog.DiscardHandler), Store: f.store, Presence: f.presence, Redis: f.rdb, Mail: f.mail})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = s.Close() })
	return s
}

// try logs in on s without HTTP.
func try(s *Server, addr, email, passwd string) wire.Code {
	body := fmt.Sprintf(`{"email":%q,"passwd":%q}`, email, passwd)
	ctx := context.Background()
	_, err := s.logins.login(ctx, &request{body: []byte(body), addr: netip.MustParseAddr(addr), client: ctx})
	return wire.CodeOf(err)
}

// B6: concurrent correct logins of one user all succeed, on one gate and on several, although the limit is lower than
// their number.
func TestCorrectLoginsAtOnceAllPass(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                    string
		gates, logins, failures int
	}{
		{"one gate", 1, 16, 0},
		{"one gate, four failures before", 1, 16, 4},
		{"eight gates", 8, 16, 0},
		{"eight gates, four failures before", 8, 16, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.Hash.Patience = 20 * time.Second })
			f.newUser("alice", "alice@example.com", "abcdef")
			gates := []*Server{f.Server}
			for len(gates) < tc.gates {
				gates = append(gates, f.another())
			}
			for i := range tc.failures {
				require.Equal(t, wire.CodePasswdInvalid, try(f.Server, "127.0.0.1", "alice@example.com", fmt.Sprintf("wrong%d", i)))
			}
			codes := make([]wire.Code, tc.logins)
			var wg sync.WaitGroup
			for i := range codes {
				wg.Go(func() { codes[i] = try(gates[i%len(gates)], "127.0.0.1", "alice@example.com", "abcdef") })
			}
			wg.Wait()
			require.Equal(t, make([]wire.Code, tc.logins), codes)
			for _, key := range f.logins.accounts.keys("alice@example.com") {
				require.False(t, f.mr.Exists(key), "nothing is left to count")
			}
		})
	}
}

// B6: nor do correct logins of many users behind one address exclude each other.
func TestCorrectLoginsOfOneAddressAllPass(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Limits.AddressFailures, c.Hash.Patience = 3, 20*time.Second })
	const n = 20
	for i := range n {
		f.newUser(fmt.Sprintf("user%d", i), fmt.Sprintf("u%d@example.com", i), "abcdef")
	}
	codes := make([]wire.Code, n)
	var wg sync.WaitGroup
	for i := range codes {
		wg.Go(func() { codes[i] = try(f.Server, "192.0.2.1", fmt.Sprintf("u%d@example.com", i), "abcdef") })
	}
	wg.Wait()
	require.Equal(t, make([]wire.Code, n), codes)
	for i := range 3 {
		require.Equal(t, wire.CodePasswdInvalid, try(f.Server, "192.0.2.1", fmt.Sprintf("u%d@example.com", i), "wrong1"))
	}
	require.Equal(t, wire.CodeRateLimited, try(f.Server, "192.0.2.1", "u0@example.com", "abcdef"))
}

// S3: of any number of guesses at one account, on two gates at once, at most five are checked, and one more in the
// first fifteen minutes. test/chaos makes ten thousand.
func TestTwoThousandGuessesGetSixChecks(t *testing.T) {
	f := newFixture(t)
	f.newUser("alice", "alice@example.com", "abcdef")
	other := f.another()
	total := func() float64 { return f.metric("hashes_total") + counted(other) }
	before := total()
	var next atomic.Int64
	guess := func(n int64) {
		var wg sync.WaitGroup
		for _, s := range []*Server{f.Server, other} {
			for range 8 {
				wg.Go(func() {
					for i := next.Add(1); i <= n; i = next.Add(1) {
						if code := try(s, "127.0.0.1", "alice@example.com", fmt.Sprintf("guess-%d", i)); code == wire.CodeOK {
							t.Errorf("guess %d passed", i)
						}
					}
				})
			}
		}
		wg.Wait()
	}
	guess(800)
	require.Equal(t, before+5, total())
	for minute := range int64(14) {
		f.mr.FastForward(time.Minute)
		guess(800 + 80*(minute+1))
	}
	guess(2000)
	require.Equal(t, before+6, total())
}

// counted returns the number of hashes that s has made; its metrics are registered nowhere.
func counted(s *Server) (sum float64) {
	for _, kind := range []string{"verify", "new", "dummy"} {
		sum += testutil.ToFloat64(s.metrics.hashes.WithLabelValues(kind))
	}
	return sum
}

// A guess whose gate died or lost Redis before it could report the outcome counts as a failure.
func TestLostAttemptsAreFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	now := time.Now()
	f.mr.SetTime(now)
	for range 5 {
		_, wait, busy, err := f.logins.accounts.beginAttempt(ctx, "a@example.com")
		require.NoError(t, err)
		require.Zero(t, wait)
		require.False(t, busy)
	}
	_, _, busy, err := f.logins.accounts.beginAttempt(ctx, "a@example.com")
	require.NoError(t, err)
	require.True(t, busy, "five are under way")
	f.mr.SetTime(now.Add(attemptTimeout + time.Second))
	_, wait, busy, err := f.logins.accounts.beginAttempt(ctx, "a@example.com")
	require.NoError(t, err)
	require.False(t, busy)
	require.InDelta(t, f.cfg.Limits.AccountLock, wait, float64(time.Second))
}

func TestCrowdedAccountIsBusyAndNotLocked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Hash.Patience = 20 * time.Millisecond })
	f.newUser("alice", "alice@example.com", "abcdef")
	var open []attempt
	for range 5 {
		at, _, _, err := f.logins.accounts.beginAttempt(t.Context(), "alice@example.com")
		require.NoError(t, err)
		open = append(open, at)
	}
	require.Equal(t, wire.CodeBusy, try(f.Server, "127.0.0.1", "alice@example.com", "abcdef"))
	require.Equal(t, 1.0, f.metric("logins_crowded_total", "limit", "account"))
	require.NoError(t, f.logins.accounts.giveBack(t.Context(), open[0]))
	require.Equal(t, wire.CodeOK, try(f.Server, "127.0.0.1", "alice@example.com", "abcdef"))
}
