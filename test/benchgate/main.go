// Command benchgate runs the benchmarks of single functions and compares them with baseline.txt next to it. It exits
// with 1 on a regression and with 2 if it could not measure. "make bench-gate" runs it from the root of the
// repository.
//
// Allocations are compared directly. Time is not, because nanoseconds depend on the machine and the moment. What is
// compared is processor time, which excludes the time of other programs, as a ratio to a calibration: a loop of fixed
// work of the same kind that runs just before, so that clock rate, caches and hypervisor cancel out. The median of
// several rounds counts. An apparent regression is measured again before it counts.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// Exit codes.
const (
	exitOK = iota
	exitRegression
	exitTrouble
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

type options struct {
	update   bool
	allocs   bool
	pkg      string
	rounds   int
	baseline string
}

func run(ctx context.Context, args []string, out io.Writer) int {
	var o options
	flags := flag.NewFlagSet("benchgate", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.BoolVar(&o.update, "update", false, "write the baseline instead of comparing with it")
	flags.BoolVar(&o.allocs, "allocs", false, "compare allocations only")
	flags.StringVar(&o.pkg, "pkg", "", "compare only this package of internal")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each benchmark runs; the median counts")
	flags.StringVar(&o.baseline, "baseline", "test/benchgate/baseline.txt", "the file to compare with")
	if err := flags.Parse(args); err != nil {
		return exitTrouble
	}
	if o.update && o.pkg != "" {
		fmt.Fprintln(out, "benchgate: a baseline is of all packages")
		return exitTrouble
	}
	bad, err := gate(ctx, o, out)
	switch {
	case err != nil:
		fmt.Fprintln(out, "benchgate:", err)
		return exitTrouble
	case bad:
		fmt.Fprintln(out, "benchgate: failed; if it is meant to be so, make bench-gate UPDATE=1 renews the baseline")
		return exitRegression
	}
	return exitOK
}

// gate reports whether anything got worse.
func gate(ctx context.Context, o options, out io.Writer) (bad bool, err error) {
	targets := slices.DeleteFunc(slices.Clone(targets), func(t target) bool { return o.pkg != "" && t.pkg != o.pkg })
	bins, err := build(ctx, targets)
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(bins.dir)
	if o.update {
		found, err := bins.measure(ctx, targets, o.rounds)
		if err != nil {
			return false, err
		}
		return false, os.WriteFile(o.baseline, format(found), 0o644)
	}
	text, err := os.ReadFile(o.baseline)
	if err != nil {
		return false, err
	}
	base, err := parseBaseline(string(text))
	if err != nil {
		return false, err
	}
	maps.DeleteFunc(base, func(name string, _ sample) bool { return o.pkg != "" && !strings.HasPrefix(name, o.pkg+" ") })
	found, err := bins.measure(ctx, targets, o.rounds)
	if err != nil {
		return false, err
	}
	faults := compare(base, found, o.allocs)
	if again := suspects(faults); len(again) > 0 {
		fmt.Fprintf(out, "benchgate: %d benchmarks look worse, and are measured again\n", len(faults))
		second, err := bins.measure(ctx, again, o.rounds)
		if err != nil {
			return false, err
		}
		for name := range faults {
			if _, ok := second[name]; ok {
				found[name] = second[name]
			}
		}
		faults = compare(base, found, o.allocs)
	}
	report(out, base, found, faults)
	return len(faults) > 0, nil
}
