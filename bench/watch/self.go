// Package watch observes processes during a load: the generator, which must not be the bottleneck, and the nodes,
// through their metrics and /proc.
package watch

import (
	"math"
	"runtime"
	"runtime/metrics"
	"syscall"
	"time"
)

// Self is the resource use of a generator process since StartSelf. Times are in seconds.
type Self struct {
	Seconds    float64
	CPU        float64 // cores used
	Cores      int     // cores available to it
	GCs        uint64
	GCPauseMax float64
	// SchedP99 is how long runnable goroutines waited for a processor.
	SchedP99 float64
	HeapMiB  float64
	RSSMiB   float64
}

// SelfWatch measures this process from its creation on.
type SelfWatch struct {
	began   time.Time
	cpu     float64
	samples []metrics.Sample
	pauses  []uint64
	sched   []uint64
	gcs     uint64
}

const (
	mPauses = "/sched/pauses/total/gc:seconds"
	mSched  = "/sched/latencies:seconds"
	mGCs    = "/gc/cycles/total:gc-cycles"
	mHeap   = "/memory/classes/heap/objects:bytes"
)

// StartSelf starts measuring.
func StartSelf() *SelfWatch {
	w := &SelfWatch{began: time.Now(), cpu: ownCPU()}
	for _, name := range []string{mPauses, mSched, mGCs, mHeap} {
		w.samples = append(w.samples, metrics.Sample{Name: name})
	}
	metrics.Read(w.samples)
	w.pauses = append([]uint64(nil), w.samples[0].Value.Float64Histogram().Counts...)
	w.sched = append([]uint64(nil), w.samples[1].Value.Float64Histogram().Counts...)
	w.gcs = w.samples[2].Value.Uint64()
	return w
}

// Read returns the values so far.
func (w *SelfWatch) Read() Self {
	metrics.Read(w.samples)
	s := Self{Seconds: time.Since(w.began).Seconds(), Cores: runtime.GOMAXPROCS(0)}
	s.CPU = (ownCPU() - w.cpu) / max(s.Seconds, 1e-3)
	s.GCPauseMax = quantile(w.samples[0].Value.Float64Histogram(), w.pauses, 1)
	s.SchedP99 = quantile(w.samples[1].Value.Float64Histogram(), w.sched, .99)
	s.GCs = w.samples[2].Value.Uint64() - w.gcs
	s.HeapMiB = float64(w.samples[3].Value.Uint64()) / (1 << 20)
	if _, rss, ok := Process(syscall.Getpid()); ok {
		s.RSSMiB = float64(rss) / (1 << 20)
	}
	return s
}

func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// quantile returns the upper bound of the bucket that contains the share q of the values since before.
func quantile(h *metrics.Float64Histogram, before []uint64, q float64) float64 {
	total := uint64(0)
	for i, n := range h.Counts {
		total += n - before[i]
	}
	if total == 0 {
		return 0
	}
	want, seen := uint64(math.Ceil(q*float64(total))), uint64(0)
	for i, n := range h.Counts {
		if seen += n - before[i]; seen >= want {
			if up := h.Buckets[i+1]; !math.IsInf(up, 0) {
				return up
			}
			return h.Buckets[i]
		}
	}
	return 0
}

// Worst merges the values of generator processes: the sum of resources, the worst of delays.
func Worst(a, b Self) Self {
	return Self{
		Seconds: max(a.Seconds, b.Seconds), CPU: a.CPU + b.CPU, Cores: max(a.Cores, b.Cores), GCs: a.GCs + b.GCs,
		GCPauseMax: max(a.GCPauseMax, b.GCPauseMax), SchedP99: max(a.SchedP99, b.SchedP99),
		HeapMiB: a.HeapMiB + b.HeapMiB, RSSMiB: a.RSSMiB + b.RSSMiB,
	}
}
