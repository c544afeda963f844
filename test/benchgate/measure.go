package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"parley/test/benchgate/cputime"
)

// kind is the kind of work that dominates a benchmark, and thus the calibration it is compared with.
type kind string

const (
	compute  kind = "BenchmarkCalibrateCompute"
	syscalls kind = "BenchmarkCalibrateSyscall"
	handoff  kind = "BenchmarkCalibrateHandoff" // from goroutine to goroutine
	untimed  kind = ""                          // waits for Redis, SQL or other goroutines: only its allocations can be compared
)

// target is a group of benchmarks of one package that run together.
type target struct {
	pkg     string // relative to internal
	pattern string
	kind    kind
	times   string // value of -benchtime
}

// targets are all benchmarks; a test ensures that none is left out. Each runs a fixed number of times, for some ten
// milliseconds: with a time limit instead, a busy machine might run it only once.
var targets = []target{
	{"wire", "AppendFrame|Encode", compute, "300000x"},
	{"wire", "Splitter|DecodeText", compute, "10000x"},
	{"legacy", "Wheel", compute, "5000x"},
	{"legacy", "Paced", syscalls, "5000x"},
	{"session", "Registry", compute, "300000x"},
	{"session", "Push|WriteInline", syscalls, "5000x"},
	{"router", ".", handoff, "2000x"},
	{"commit", "Texts", compute, "1000x"},
	{"peer", ".", compute, "500x"},
	{"rpc", ".", compute, "5000x"},
	{"login", "LoginReply", compute, "5000x"},
	{"chat", "Heartbeat|RefusedText", syscalls, "5000x"},
	{"chat", "Texts", untimed, "200x"}, // six goroutines: their interleaving varies
	{"presence", "Claim|Prelogin|Locate|Place/users=1$", untimed, "5000x"},
	{"store", "Append", untimed, "100x"},
	{"batch", ".", compute, "5000x"},
	{"workers", "Go/rested", handoff, "2000x"},
	{"watch", "Change", untimed, "5000x"},
	{"group", "FanOut", untimed, "50x"}, // a thousand writes, whose time is spent in the kernel
}

// calibrations are the numbers of iterations of the calibrations.
var calibrations = map[kind]string{compute: "10000x", syscalls: "10000x", handoff: "100000x"}

// untimedRounds is the number of rounds of untimed benchmarks, which have to start servers.
const untimedRounds = 1

const home = "test/benchgate"

// sample is the result of one run of a benchmark.
type sample struct {
	ratio         float64 // processor time relative to the calibration; 0 if untimed
	allocs, bytes int64   // per operation
}

// samples are the results by package and benchmark.
type samples map[string][]sample

// binaries are the compiled tests.
type binaries struct{ dir string }

func build(ctx context.Context, targets []target) (b binaries, err error) {
	if b.dir, err = os.MkdirTemp("", "parley-benchgate-"); err != nil {
		return b, err
	}
	args := []string{"test", "-c", "-o", b.dir + "/", "./" + home}
	for _, t := range targets {
		if pkg := "./internal/" + t.pkg; !slices.Contains(args, pkg) {
			args = append(args, pkg)
		}
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		_ = os.RemoveAll(b.dir) // report the first error
		return b, fmt.Errorf("build: %w\n%s", err, out)
	}
	return b, nil
}

// measure runs each target the given number of times. In each round it runs all targets, each right after its
// calibration.
func (b binaries) measure(ctx context.Context, targets []target, rounds int) (samples, error) {
	found := samples{}
	for round := range rounds {
		for _, t := range targets {
			if t.kind == untimed && round >= untimedRounds {
				continue
			}
			var unit float64
			if t.kind != untimed {
				lines, err := b.run(ctx, home, string(t.kind), calibrations[t.kind])
				if err != nil {
					return nil, err
				}
				unit = lines[string(t.kind)].cpu
			}
			lines, err := b.run(ctx, "internal/"+t.pkg, t.pattern, t.times)
			if err != nil {
				return nil, err
			}
			for name, l := range lines {
				s := sample{allocs: l.allocs, bytes: l.bytes}
				if t.kind != untimed {
					s.ratio = l.cpu / unit
				}
				name = t.pkg + " " + name
				found[name] = append(found[name], s)
			}
		}
	}
	return found, nil
}

// run runs the benchmarks of one package on one processor, because the distribution of work over several varies.
func (b binaries) run(ctx context.Context, dir, pattern, times string) (map[string]line, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.dir, filepath.Base(dir)+".test"),
		"-test.run=^$", "-test.bench="+pattern, "-test.benchtime="+times, "-test.cpu=1", "-test.timeout=5m")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("benchmarks %s of %s: %w\n%s", pattern, dir, err, out)
	}
	lines, err := parse(string(out))
	if err == nil && len(lines) == 0 {
		err = fmt.Errorf("none ran\n%s", out)
	}
	if err != nil {
		return nil, fmt.Errorf("benchmarks %s of %s: %w", pattern, dir, err)
	}
	return lines, nil
}

// line is a benchmark's line of output.
type line struct {
	cpu           float64
	allocs, bytes int64
}

// parse parses the output of a test binary: for each benchmark a name, a count, and pairs of a number and a unit.
func parse(out string) (map[string]line, error) {
	lines := map[string]line{}
	for text := range strings.Lines(out) {
		f := strings.Fields(text)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		units := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", text, err)
			}
			units[f[i+1]] = v
		}
		for _, unit := range []string{cputime.Unit, "allocs/op", "B/op"} {
			if _, ok := units[unit]; !ok {
				return nil, fmt.Errorf("%s reports no %s", f[0], unit)
			}
		}
		lines[f[0]] = line{units[cputime.Unit], int64(units["allocs/op"]), int64(units["B/op"])}
	}
	return lines, nil
}
