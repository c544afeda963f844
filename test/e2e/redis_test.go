package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/lab/launch"
)

// While Redis does not answer, texts are still stored, and logins are refused with a retryable code. When Redis is
// back without data, the nodes write their sessions back.
func TestRedisOutage(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 2, Status: 1, Gate: 1})
	first := w.users(t, 5)
	ann, bob, carl, dora, eve := first, first+1, first+2, first+3, first+4
	w.friends(t, ann, bob)
	w.friends(t, ann, carl)
	a, b := w.login(t, ann, 0), w.login(t, bob, 0)
	c := w.login(t, carl, 1)
	exchange(t, a, b)
	unused := w.ticket(t, dora, 0)
	leaver := w.login(t, eve, 1)
	gen := w.rdb.Get(t.Context(), "parley_gen").Val()
	require.NotEmpty(t, gen)
	exchange(t, a, c)

	require.NoError(t, w.Redis.Kill())
	down := time.Now()
	exchange(t, a, c) // nodes cache a user's node for some seconds
	leaver.Close()
	for time.Since(down) < 12*time.Second { // longer than the leases of the nodes
		exchange(t, a, b)
		_, err := say(t.Context(), a, client.User(carl), client.NewDraft("stored, if not pushed"))
		require.NoError(t, err)
		_, err = w.gate.Login(t.Context(), email(dora), password(dora))
		require.Equal(t, client.CodeRPC, client.CodeOf(err), "%v", err)
		_, err = client.Dial(t.Context(), unused, client.Options{})
		require.Equal(t, client.CodeUnavailable, client.CodeOf(err), "%v", err)
		require.Positive(t, client.RetryAfter(err))
	}
	for _, n := range w.Nodes() {
		require.True(t, n.Running(), n.Name())
	}
	before := a.SID()

	require.NoError(t, w.Redis.Start(t.Context()))
	eventually(t, slack*10*time.Second, "sessions to be written back", func() (bool, string) {
		var at []int
		for _, uid := range []int32{ann, bob, carl} {
			at = append(at, len(w.online(t, uid)))
		}
		return fmt.Sprint(at) == "[1 1 1]", fmt.Sprint(at)
	})
	require.Equal(t, before, w.online(t, ann)[0].SID)
	require.Equal(t, "chat2", w.online(t, carl)[0].Node)
	require.Equal(t, "chat1", w.rdb.Get(t.Context(), fmt.Sprint("uip_", ann)).Val())
	require.Empty(t, w.online(t, eve), "who left meanwhile is not written back")
	require.NotEqual(t, gen, w.rdb.Get(t.Context(), "parley_gen").Val())
	w.awaitCount(t, 0, 2, patience)
	w.awaitCount(t, 1, 1, patience)

	var d *client.Conn
	eventually(t, slack*10*time.Second, "a login by the front door", func() (bool, string) {
		ticket, err := w.gate.Login(t.Context(), email(dora), password(dora))
		if err == nil {
			d, err = client.Dial(t.Context(), ticket, client.Options{})
		}
		return err == nil, fmt.Sprint(err)
	})
	defer d.Close()
	exchange(t, a, b)
	exchange(t, a, c)
	page, err := c.History(t.Context(), w.friends(t, ann, carl), 0, 500)
	require.NoError(t, err)
	for i, m := range page.Messages {
		require.EqualValues(t, i+1, m.ID)
	}
	// A login that replaces a session finds it after it was written back.
	again := w.login(t, ann, 1)
	require.ErrorIs(t, awaitEnd(t, a, patience), client.ErrReplaced)
	exchange(t, again, c)
}

// A short outage in which Redis keeps its data has no lasting effect.
func TestRedisPause(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 2})
	ann, bob, _ := w.pair(t)
	a, b := w.login(t, ann, 0), w.login(t, bob, 1)
	exchange(t, a, b)
	boots := []string{w.boot(t, 0), w.boot(t, 1)}
	require.NoError(t, w.Redis.Pause())
	done := make(chan struct{})
	time.AfterFunc(3*time.Second, func() { close(done) })
	_, err := a.SendText(t.Context(), client.User(bob), "during the pause")
	require.NoError(t, err)
	<-done
	require.NoError(t, w.Redis.Resume())
	awaitText(t, b, "during the pause")
	exchange(t, a, b)
	// If the machine itself stood still, the leases may have lapsed. They are then taken again under the same boot
	// ids.
	eventually(t, patience, "the leases the nodes had", func() (bool, string) {
		now := []string{w.boot(t, 0), w.boot(t, 1)}
		return slices.Equal(boots, now), fmt.Sprint(now)
	})
	require.Len(t, w.online(t, ann), 1)
	w.login(t, ann, 1)
	require.ErrorIs(t, awaitEnd(t, a, patience), client.ErrReplaced)
}
