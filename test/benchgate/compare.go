package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
)

// The limits below allow for noise. In five runs on two processors, with a load that fell from fifteen to five,
// allocations were never worse than the baseline. Medians of five times were mostly between 0.8 and 1.2 of it, but in
// one run up to 1.9 in the codec and the registry, for minutes: their loops share units of a core with other
// programs, the calibration's does not. So times are compared only on request, on a quiet machine.
const (
	maxRatio = 1.5
	// A benchmark with fewer than fifty allocations may not have one more. With more, an operation is a burst or a
	// transaction: batching changes the sum a little, and one more allocation per part changes it a lot.
	allocShare = 50
	// Bytes vary with what the runtime and idle goroutines allocate at the same time.
	byteShare, byteSlack = 20, 64
)

// typical returns the medians of several samples.
func typical(s []sample) (t sample) {
	middle := func(of func(sample) float64) float64 {
		v := make([]float64, len(s))
		for i := range s {
			v[i] = of(s[i])
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return sample{
		ratio:  middle(func(s sample) float64 { return s.ratio }),
		allocs: int64(middle(func(s sample) float64 { return float64(s.allocs) })),
		bytes:  int64(middle(func(s sample) float64 { return float64(s.bytes) })),
	}
}

// least returns the smallest number of allocations of several samples: a pool emptied by the collector adds some, and
// nothing hides any.
func least(s []sample) sample {
	t := s[0]
	for _, o := range s[1:] {
		t.allocs, t.bytes = min(t.allocs, o.allocs), min(t.bytes, o.bytes)
	}
	return t
}

// compare returns what got worse, by benchmark, with the reason. A benchmark missing on either side counts as worse,
// because it would not be guarded.
func compare(base map[string]sample, found samples, allocsOnly bool) map[string]string {
	faults := map[string]string{}
	for name, was := range base {
		runs := found[name]
		if len(runs) == 0 {
			faults[name] = "did not run, but is in the baseline"
			continue
		}
		is, few := typical(runs), least(runs)
		var why []string
		if few.allocs > was.allocs+was.allocs/allocShare {
			why = append(why, fmt.Sprintf("allocates %d times, was %d", few.allocs, was.allocs))
		}
		if few.bytes > was.bytes+was.bytes/byteShare+byteSlack {
			why = append(why, fmt.Sprintf("allocates %d bytes, was %d", few.bytes, was.bytes))
		}
		if !allocsOnly && is.ratio > was.ratio*maxRatio {
			why = append(why, fmt.Sprintf("takes %.3g of its calibration, was %.3g: %.2f times as long", is.ratio, was.ratio, is.ratio/was.ratio))
		}
		if len(why) > 0 {
			faults[name] = strings.Join(why, "; ")
		}
	}
	for name := range found {
		if _, ok := base[name]; !ok {
			faults[name] = "is not in the baseline"
		}
	}
	return faults
}

// suspects returns the targets whose faults another measurement could clear.
func suspects(faults map[string]string) (again []target) {
	for _, t := range targets {
		for name := range faults {
			if pkg, _, _ := strings.Cut(name, " "); pkg == t.pkg {
				again = append(again, t)
				break
			}
		}
	}
	return again
}

// report prints all benchmarks with their comparison, and the faults at the end.
func report(out io.Writer, base map[string]sample, found samples, faults map[string]string) {
	fmt.Fprintf(out, "%-48s %21s %15s %17s\n", "", "time ÷ calibration", "allocations", "bytes")
	for _, name := range slices.Sorted(maps.Keys(found)) {
		is, few, was := typical(found[name]), least(found[name]), base[name]
		change := ""
		if was.ratio > 0 {
			change = fmt.Sprintf("(%.2f×)", is.ratio/was.ratio)
		}
		fmt.Fprintf(out, "%-48s %12.3f %8s %7d (%d) %9d (%d)\n", name, is.ratio, change, few.allocs, was.allocs, few.bytes, was.bytes)
	}
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		fmt.Fprintf(out, "WORSE %s %s\n", name, faults[name])
	}
}

const intro = `# What benchgate compares with; "make bench-gate UPDATE=1" writes it. Measured with %s on %s/%s.
# package, benchmark, processor time ÷ that of its calibration (0: not compared), allocations, bytes
`

// format returns the samples in the form of a baseline.
func format(found samples) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, intro, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		t := typical(found[name])
		fmt.Fprintf(&b, "%s %.4g %d %d\n", name, t.ratio, t.allocs, t.bytes)
	}
	return b.Bytes()
}

// parseBaseline is the inverse of format.
func parseBaseline(text string) (map[string]sample, error) {
	base := map[string]sample{}
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, "#") {
			continue
		}
		var pkg, name string
		var s sample
		if _, err := fmt.Sscan(l, &pkg, &name, &s.ratio, &s.allocs, &s.bytes); err != nil {
			return nil, fmt.Errorf("baseline, %q: %w", strings.TrimSpace(l), err)
		}
		base[pkg+" "+name] = s
	}
	return base, nil
}
