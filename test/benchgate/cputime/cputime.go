// Package cputime adds the processor time of an operation to what a benchmark reports. On a machine that others use too
// it says more than the time on the clock, which counts the turns of the others.
package cputime

import (
	"syscall"
	"testing"
	"time"
)

// Unit is the name under which Report reports.
const Unit = "cpu-ns/op"

// Report is called with defer right before the benchmark's loop, and what it returns right after: it reports the time
// that all goroutines of the process were on a processor meanwhile, in this program and in the kernel for it.
func Report(b *testing.B) (done func()) {
	start := Used()
	return func() {
		b.StopTimer()
		b.ReportMetric(float64(Used()-start)/float64(b.N), Unit)
	}
}

// Used returns the processor time of the process so far.
func Used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // the kernel refuses only a wrong argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
