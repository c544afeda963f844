package handler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// B4: many accounts, or one that changes its text, do not flood a user.
func TestApplicationsToOneUserAreBounded(t *testing.T) {
	a, now := newUserRates(appliedBurst, appliedEvery), time.Now()
	told := 0
	for i := range 100_000 { // 100 seconds
		if a.allow(1, now.Add(time.Duration(i)*time.Millisecond)) {
			told++
		}
	}
	require.InDelta(t, appliedBurst+100*int(time.Second)/int(appliedEvery), told, 1)
	require.True(t, a.allow(2, now.Add(10*time.Second)), "another user is told")
	require.True(t, a.allow(1, now.Add(time.Hour)))
}

func TestWhatIsRememberedOfRatesIsBounded(t *testing.T) {
	a, now := newUserRates(appliedBurst, appliedEvery), time.Now()
	for i := range int32(3 * maxRated) {
		a.allow(i, now)
	}
	require.LessOrEqual(t, a.users.Len(), 2*maxRated)
}

func TestOnlyFailedJoinsAreCharged(t *testing.T) {
	j, now := newUserRates(joinBurst, joinEvery), time.Now()
	for range 1000 {
		require.True(t, j.allow(1, now))
		j.giveBack(1, now)
	}
	for range joinBurst {
		require.True(t, j.allow(1, now))
	}
	require.False(t, j.allow(1, now))
	require.True(t, j.allow(2, now), "another user may")
	require.False(t, j.allow(1, now.Add(joinEvery-time.Millisecond)))
	require.True(t, j.allow(1, now.Add(joinEvery)))
	require.Equal(t, time.Minute, joinBurst*joinEvery, "ten in a minute")
}
