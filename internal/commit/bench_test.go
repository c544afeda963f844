package commit

import (
	"fmt"
	"testing"

	"parley/test/benchgate/cputime"
)

// BenchmarkTexts measures one text, or many concurrent ones, from Append to Answer with a store that does nothing.
func BenchmarkTexts(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			run := texts(b)
			run(n)
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				run(n)
			}
		})
	}
}
