package schedule

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func times(l Load) (at []int64) {
	for c := l.Clock(); ; {
		t, ok := c.Next()
		if !ok {
			return at
		}
		at = append(at, t)
	}
}

func TestShapesOfferWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		text  string
		total int
		slack float64
		first float64 // share of the operations in the first half
	}{
		{"constant", 10000, 0, .5},
		{"", 10000, 0, .5},
		{"poisson", 10000, .05, .5},
		{"ramp:100-1900", 10000, .001, .275},
		{"step:500,1500", 10000, 0, .25},
		{"burst:100ms", 10000, 0, .5},
	} {
		t.Run(c.text, func(t *testing.T) {
			l, err := Parse(c.text, 1000, 10*time.Second, 42)
			require.NoError(t, err)
			at := times(l)
			require.InEpsilon(t, c.total, len(at), c.slack+1e-9)
			require.EqualValues(t, c.total, l.Total())
			require.True(t, slices.IsSorted(at))
			half, _ := slices.BinarySearch(at, int64(5*time.Second))
			require.InDelta(t, c.first, float64(half)/float64(len(at)), .02)
			require.Equal(t, at, times(l), "the same seed gives the same times")
		})
	}
}

func TestPartsAreTheWhole(t *testing.T) {
	for _, text := range []string{"constant", "ramp:100-1900", "step:500,1500", "burst:100ms"} {
		l, err := Parse(text, 1000, 3*time.Second, 1)
		require.NoError(t, err)
		var all []int64
		for i := range 3 {
			all = append(all, times(l.Split(i, 3))...)
		}
		slices.Sort(all)
		require.Equal(t, times(l), all, text)
		var nested []int64
		for i := range 2 {
			for k := range 2 {
				nested = append(nested, times(l.Split(i, 2).Split(k, 2))...)
			}
		}
		slices.Sort(nested)
		require.Equal(t, times(l), nested, text)
	}
	l, err := Parse("poisson", 3000, 10*time.Second, 1)
	require.NoError(t, err)
	n := 0
	for i := range 3 {
		n += len(times(l.Split(i, 3)))
	}
	require.InEpsilon(t, 30000, n, .05)
}

func TestSeedsDiffer(t *testing.T) {
	a, _ := Parse("poisson", 100, time.Second, 1)
	b, _ := Parse("poisson", 100, time.Second, 2)
	require.NotEqual(t, times(a), times(b))
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		text string
		rate float64
	}{{"sine", 1}, {"constant", 0}, {"constant:5", 1}, {"ramp:5", 1}, {"ramp:0-5", 1}, {"step:", 1}, {"step:1,x", 1}, {"burst:x", 1}, {"poisson", -1}} {
		_, err := Parse(c.text, c.rate, time.Second, 1)
		require.Error(t, err, c.text)
	}
	require.Empty(t, times(Load{}))
	require.Zero(t, Load{}.Total())
}
