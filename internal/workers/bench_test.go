package workers

import (
	"testing"

	"parley/test/benchgate/cputime"
)

// deep needs about 8 KiB of stack.
//
//go:noinline
func deep(n int) byte {
	var frame [512]byte
	if n > 0 {
		frame[n] = deep(n - 1)
	}
	return frame[n] + byte(n)
}

// BenchmarkGo compares a function that needs a large stack on a new goroutine and on one that has rested.
func BenchmarkGo(b *testing.B) {
	for name, idle := range map[string]int{"new": 0, "rested": 64} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			w := New(idle, none)
			defer w.Close()
			done := make(chan struct{})
			f := func() { deep(14); done <- struct{}{} }
			defer cputime.Report(b)()
			for b.Loop() {
				w.Go(f)
				<-done
			}
		})
	}
}
