package batch

import (
	"fmt"
	"testing"

	"parley/test/benchgate/cputime"
)

// BenchmarkBacklog is 64 items put and taken while as many others wait: its cost must not follow from their number.
func BenchmarkBacklog(b *testing.B) {
	const burst = 64
	for _, waiting := range []int{0, 16384} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			q := NewQueue[item](Limits{BatchItems: burst})
			for range waiting {
				q.Put(item{}, 1)
			}
			var batch []item
			run := func() {
				for range burst {
					q.Put(item{}, 1)
				}
				batch = q.Take(batch[:0])
			}
			run()
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				run()
			}
		})
	}
}
