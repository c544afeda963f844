package chat

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/admission"
)

// A client may be gone before its connection has a handler.
func TestClientsThatHangUpAtOnceAreForgotten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	n := f.start("chat1")
	frame := []byte{0x03, 0xed, 0, 2, '{', '}'}
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			for i := range 200 {
				c, err := net.Dial("tcp", n.ClientAddr())
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					_, _ = c.Write(frame) // some hang up with a frame on its way
				}
				if k%2 == 0 {
					_ = c.(*net.TCPConn).SetLinger(0)
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	eventually(t, "all to be forgotten", func() bool {
		conns, waiting := n.admission.Counts()
		return n.conns.Count() == 0 && conns == 0 && waiting == 0
	})
}

// loginAtOnce logs the first users in, all at the same time. hold, if any, runs while they are on their way.
func loginAtOnce(t *testing.T, f *fixture, n *node, users int, hold func()) {
	t.Helper()
	var wg sync.WaitGroup
	beginLogins(t, f, n, &wg, 1, users)
	if hold != nil {
		hold()
	}
	wg.Wait()
	eventually(t, "all to be logged in", func() bool { return n.Sessions() == users }) // a session is live behind its 1006
}

// beginLogins has the users from first to last log in at the same time; wg waits for them.
func beginLogins(t *testing.T, f *fixture, n *node, wg *sync.WaitGroup, first, last int) {
	t.Helper()
	for user := first; user <= last; user++ {
		ticket := f.ticket(n, user)
		wg.Go(func() {
			c, err := client.Dial(t.Context(), ticket, client.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
		})
	}
}

func TestLoginsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	const users = 20
	f := newFixture(t, users)
	one := func(c *Config) { c.Limits.LoginsAtOnce, c.Limits.LoginTimeout = 1, time.Minute }
	n := f.start("chat1", one)
	require.NoError(t, n.turns.Take(t.Context(), 0))
	loginAtOnce(t, f, n, users, func() {
		eventually(t, "logins to wait", func() bool { return n.turns.Waiting() >= inLine })
		require.Zero(t, n.Sessions())
		n.turns.Give()
	})

	n = f.start("chat2", one, func(c *Config) { c.Limits.LoginTimeout = time.Second })
	require.NoError(t, n.turns.Take(t.Context(), 0)) // a login that never ends
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := client.Dial(ctx, f.ticket(n, 1), client.Options{})
	require.Error(t, err)
	require.NoError(t, ctx.Err(), "closed, not left waiting")
	eventually(t, "it to be counted", func() bool { return counterValue(t, n.metrics.loginsUnheard) == 1 })
	n.turns.Give()
	eventually(t, "the next login to pass", func() bool { // LoginTimeout is short for a busy machine
		c, err := client.Dial(t.Context(), f.ticket(n, 1), client.Options{})
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err == nil
	})
}

// Clients that come while too many log in are not turned away: they wait in the backlog, where they cost nothing.
func TestARushOfLoginsIsRefusedNobody(t *testing.T) {
	const users = 40
	f := newFixture(t, users)
	n := f.start("chat1", func(c *Config) {
		c.Limits.Unauthenticated, c.Limits.LoginsAtOnce, c.Limits.LoginTimeout = users-1, 1, time.Minute
		c.Limits.MinLoginTimeout = time.Minute
	})
	require.NoError(t, n.turns.Take(t.Context(), 0))
	var wg sync.WaitGroup
	beginLogins(t, f, n, &wg, 1, inLine)
	eventually(t, "logins to wait", func() bool { return n.turns.Waiting() >= inLine }) // else all are accepted before one is read
	beginLogins(t, f, n, &wg, inLine+1, users)
	eventually(t, "accepting to rest", func() bool { return counterValue(t, n.metrics.acceptRests) > 0 })
	n.turns.Give()
	wg.Wait()
	eventually(t, "all to be logged in", func() bool { return n.Sessions() == users })
	require.Zero(t, counterValue(t, n.metrics.refusedConns[admission.Waiting]))
}
