package handler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// B4: many accounts, or one that changes its text, do not flood a user.
func TestApplicationsToOneUserAreBounded(t *testing.T) {
	a, now := newApplyRates(), time.Now()
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

func TestWhatIsRememberedOfApplicationsIsBounded(t *testing.T) {
	a, now := newApplyRates(), time.Now()
	for i := range int32(3 * maxApplied) {
		a.allow(i, now)
	}
	require.LessOrEqual(t, a.users.Len(), 2*maxApplied)
}
