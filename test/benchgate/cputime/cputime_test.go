package cputime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// One operation computes and the other waits: the clock cannot tell them apart.
func TestWaitingCostsNothing(t *testing.T) {
	const each = 20 * time.Millisecond
	measure := func(op func()) float64 {
		return testing.Benchmark(func(b *testing.B) {
			defer Report(b)()
			for b.Loop() {
				op()
			}
		}).Extra[Unit]
	}
	work := measure(func() {
		for until := Used() + each; Used() < until; {
		}
	})
	wait := measure(func() { time.Sleep(each) })
	require.GreaterOrEqual(t, work, float64(each))
	require.Less(t, wait, float64(each)/2)
}
