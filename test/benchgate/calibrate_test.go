package main

import (
	"hash/fnv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/test/benchgate/cputime"
)

// The calibrations do a fixed amount of one kind of work, without any code of the module. Only the machine changes
// them, so the ratio of a benchmark to the calibration of its kind can be compared between runs, and roughly between
// machines.

// BenchmarkCalibrateCompute reads, copies and allocates, as codecs do.
func BenchmarkCalibrateCompute(b *testing.B) {
	src := make([]byte, 1024)
	for i := range src {
		src[i] = byte(i)
	}
	dst := make([]byte, len(src))
	var kept []byte
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		h := fnv.New32a() // a multiplication a byte, on every processor
		_, _ = h.Write(src)
		for range 4 {
			copy(dst, src)
			kept = append([]byte(nil), dst[:128]...)
		}
		dst[0] = byte(h.Sum32()) + kept[1]
	}
}

// BenchmarkCalibrateSyscall sends 300 bytes through a pair of sockets.
func BenchmarkCalibrateSyscall(b *testing.B) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(b, err)
	defer syscall.Close(fds[0])
	defer syscall.Close(fds[1])
	out, in := make([]byte, 300), make([]byte, 1024)
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		if _, err := syscall.Write(fds[0], out); err != nil {
			b.Fatal(err)
		}
		if _, err := syscall.Read(fds[1], in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCalibrateHandoff switches from one goroutine to another and back.
func BenchmarkCalibrateHandoff(b *testing.B) {
	there, back := make(chan int), make(chan int)
	go func() {
		for v := range there {
			back <- v
		}
		close(back)
	}()
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		there <- 1
		<-back
	}
	close(there)
	<-back
}
