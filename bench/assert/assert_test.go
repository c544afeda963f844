package assert

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConditions(t *testing.T) {
	figures := map[string]float64{"p99": .048, "lost": 0, "rate": 30500, "online": .995}
	for text, want := range map[string]bool{
		"p99<50ms": true, "p99 < 48ms": false, "p99<=48ms": true, "lost==0": true, "lost!=0": false, "rate>=30k": true,
		"rate>1M": false, "online>=99%": true, "online>=99.9%": false, "nothing==0": false,
	} {
		checks, err := Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, Hold(checks, figures)[0].Pass, text)
	}
	checks, err := Parse(" p99<50ms, lost==0 ,")
	require.NoError(t, err)
	require.Len(t, checks, 2)
	none, err := Parse("")
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestSlipsAreFoundBeforeTheRun(t *testing.T) {
	for _, text := range []string{"p99", "<5", "p99<", "p99<fast", "p99=5"} {
		_, err := Parse(text)
		require.Error(t, err, text)
	}
	checks, err := Parse("p98<5ms")
	require.NoError(t, err)
	require.ErrorContains(t, Unknown(checks, []string{"p99", "lost"}), "lost, p99")
	require.NoError(t, Unknown(checks, []string{"p98"}))
}
