package batch

import (
	"fmt"
	"testing"

	"parley/test/benchgate/cputime"
)

// BenchmarkBacklog measures 64 items put and taken while others wait: the cost must not depend on their number.
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
