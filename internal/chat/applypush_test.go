package chat

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// B4
func TestARepeatedApplicationIsPushedOnce(t *testing.T) {
	a, now := newApplyPushes(), time.Now()
	require.True(t, a.allow(1, 2, "hi", now))
	for range 1000 {
		now = now.Add(time.Second)
		require.False(t, a.allow(1, 2, "hi", now))
	}
	require.True(t, a.allow(1, 2, "changed", now))
	require.True(t, a.allow(1, 3, "hi", now))
	require.True(t, a.allow(2, 1, "hi", now))
	require.True(t, a.allow(1, 2, "changed", now.Add(3*appliedAgain)))
}

// B4: many accounts, or one that changes its text, do not flood a user.
func TestApplicationsToOneUserAreBounded(t *testing.T) {
	a, now := newApplyPushes(), time.Now()
	told := 0
	for i := range 10000 { // ten seconds
		if a.allow(int32(i), 1, fmt.Sprint(i), now.Add(time.Duration(i)*time.Millisecond)) {
			told++
		}
	}
	require.LessOrEqual(t, told, appliedBurst+10*int(time.Second/appliedEvery)+5+1)
	require.GreaterOrEqual(t, told, appliedBurst)
	require.True(t, a.allow(1, 2, "", now.Add(10*time.Second)), "another user is told")
}

func TestWhatIsRememberedOfApplicationsIsBounded(t *testing.T) {
	a, now := newApplyPushes(), time.Now()
	for i := range 3 * maxApplied {
		a.allow(int32(i), int32(i), "", now)
	}
	require.LessOrEqual(t, len(a.young.pushed), maxApplied)
	require.LessOrEqual(t, len(a.old.pushed), maxApplied)
	require.LessOrEqual(t, len(a.young.rates), maxApplied)
}

// B4: the same from outside.
func TestRepeatedApplicationsDoNotFloodTheirTarget(t *testing.T) {
	f := newFixture(t, 6)
	n := f.start("chat1")
	native, stock := f.login(n, 6), f.stock(n, 5)
	stock.expect(wire.MsgLoginRsp)
	stock.load()
	for user := 1; user <= 3; user++ {
		c := f.login(n, user)
		for range 100 {
			for _, to := range []int32{firstUID + 5, firstUID + 4} {
				require.NoError(t, c.Apply(t.Context(), to, "let me in", "back"))
			}
		}
	}
	var from []int32
	for range 3 {
		for {
			ev, err := native.Next(t.Context())
			require.NoError(t, err)
			if applied, ok := ev.(client.Applied); ok {
				from = append(from, applied.Application.UID)
				break
			}
		}
		stock.expect(wire.MsgApplied)
	}
	require.ElementsMatch(t, []int32{firstUID, firstUID + 1, firstUID + 2}, from)
	eventually(t, "all others to be counted", func() bool { return counterValue(t, n.metrics.applicationsUntold) == 600-6 })
	require.Equal(t, 5, n.Sessions(), "nobody was closed")
}
