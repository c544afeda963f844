package gate

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/recent"
)

func TestAddressLimit(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newAddressLimit(2, time.Minute, func(a netip.Addr) bool { return a.IsLoopback() })
	l.now = func() time.Time { return now }
	// try makes an attempt that ends at once.
	try := func(addr string, failed bool) time.Duration {
		done, wait, err := l.beginAttempt(t.Context(), netip.MustParseAddr(addr))
		require.NoError(t, err)
		if wait == 0 {
			done(failed)
		}
		return wait
	}
	require.Zero(t, try("10.0.0.1", true))
	require.Zero(t, try("10.0.0.1", true))
	require.Equal(t, 30*time.Second, try("10.0.0.1", true))
	now = now.Add(20 * time.Second)
	require.InDelta(t, 10*time.Second, try("10.0.0.1", true), float64(time.Millisecond))
	now = now.Add(10*time.Second + time.Millisecond)
	for range 10 {
		require.Zero(t, try("10.0.0.1", false), "what does not fail is not counted")
	}
	require.Zero(t, try("10.0.0.1", true))
	require.NotZero(t, try("10.0.0.1", true))
	require.Zero(t, try("10.0.0.2", true), "addresses are apart")

	for range 10 {
		require.Zero(t, try("127.0.0.1", true))
	}
	require.Zero(t, try("2001:db8:1:2::1", true))
	require.Zero(t, try("2001:db8:1:2::2", true))
	require.NotZero(t, try("2001:db8:1:2:3::", true), "a /64 is one address")
	_, wait, err := l.beginAttempt(t.Context(), netip.Addr{})
	require.NoError(t, err)
	require.Zero(t, wait, "nobody knows who")

	l.buckets = recent.New[netip.Prefix, *bucket](50)
	for i := range 1000 {
		try(fmt.Sprintf("10.1.%d.%d", i/250, i%250), true)
	}
	require.LessOrEqual(t, l.buckets.Len(), 100)
}

// B6: attempts under way are not failures: the next one waits for their outcome.
func TestAddressLimitWaitsForWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newAddressLimit(2, time.Minute, netip.Addr.IsLoopback)
		addr := netip.MustParseAddr("10.0.0.1")
		one, _, _ := l.beginAttempt(t.Context(), addr)
		two, _, _ := l.beginAttempt(t.Context(), addr)
		type result struct {
			done func(bool)
			wait time.Duration
		}
		third := make(chan result, 2)
		for range 2 {
			go func() {
				done, wait, err := l.beginAttempt(t.Context(), addr)
				if err != nil {
					t.Error(err)
				}
				third <- result{done, wait}
			}()
		}
		synctest.Wait()
		require.Empty(t, third)
		one(false)
		synctest.Wait()
		require.Len(t, third, 1)
		r := <-third
		require.Zero(t, r.wait)
		two(true)
		synctest.Wait()
		require.Empty(t, third, "one failed, one is under way, two are allowed")
		r.done(true)
		r = <-third
		require.Equal(t, 30*time.Second, r.wait)

		time.Sleep(30 * time.Second)
		_, wait, err := l.beginAttempt(t.Context(), addr)
		require.NoError(t, err)
		require.Zero(t, wait)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, wait, err = l.beginAttempt(ctx, addr)
		require.Zero(t, wait)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
