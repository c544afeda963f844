//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bar is one promise and the fault that tests it.
type Bar struct {
	ID    string // a letter for the kind and a number, as in docs/ROBUSTNESS.md
	Fault string // the fault, at full counts
	Want  string // what must hold, with its numbers
	// Alone means that nothing else may run at the same time, because the bar compares times or needs most of the
	// machine.
	Alone bool
	// Namespace means that Run changes the network: it runs in a process and a network namespace of its own.
	Namespace bool
	// Limit bounds Run; 0 means DefaultLimit.
	Limit time.Duration
	// Run runs the bar. An error means that the bar could not be completed, and counts as a miss.
	Run func(ctx context.Context, w *World, r *Report) error
}

// DefaultLimit bounds a bar that sets no limit.
const DefaultLimit = 5 * time.Minute

// allBars returns the bars in the order in which they run. A new file of bars adds its list here.
func allBars() []Bar {
	return slices.Concat(deliveryBars, presenceBars, overloadBars, networkBars, dependencyBars, recoveryBars, securityBars, rightsBars, groupBars)
}

// World is the environment of a bar.
type World struct {
	Short bool   // reduced counts
	Seed  uint64 // of the run
	Rand  *rand.Rand
	Dir   string // directory of the bar, kept if it misses

	suite *suite
	id    string
	log   *logFile
	mu    sync.Mutex // guards labs
	labs  []*Lab
}

// N returns full, or short with --short.
func (w *World) N(full, short int) int {
	if w.Short {
		return short
	}
	return full
}

// D is like N, for a duration.
func (w *World) D(full, short time.Duration) time.Duration {
	if w.Short {
		return short
	}
	return full
}

// Logf writes a line to the bar's log, which is kept if the bar misses.
func (w *World) Logf(format string, args ...any) { w.log.printf(format, args...) }

// errSkip ends a bar that cannot run here.
var errSkip = errors.New("skipped")

// skip ends a bar that cannot run on this machine; the text says what is missing.
func skip(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errSkip, fmt.Sprintf(format, args...))
}

// Figure is a number reported by a bar.
type Figure struct {
	Name  string
	Value string
	Bound string // such as "≤ 5s"; empty for a figure without a bound
	OK    bool
	Time  bool // the value is a time, which also depends on the machine
}

// String returns the figure in the form of a line of results.
func (f Figure) String() string {
	switch {
	case f.Bound == "" || f.OK && f.Bound == "= "+f.Value || f.OK && f.Bound == f.Value:
		return f.Name + "=" + f.Value
	case f.OK:
		return fmt.Sprintf("%s=%s (%s)", f.Name, f.Value, f.Bound)
	default:
		return fmt.Sprintf("%s=%s MISSED %s", f.Name, f.Value, f.Bound)
	}
}

// Report collects the figures of a bar. All methods are safe for concurrent use.
type Report struct {
	mu      sync.Mutex // guards figures
	figures []Figure
}

func (r *Report) add(name, value, bound string, ok bool) {
	r.put(Figure{Name: name, Value: value, Bound: bound, OK: ok})
}

func (r *Report) put(f Figure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures = append(r.figures, f)
}

// Figures returns the figures reported so far.
func (r *Report) Figures() []Figure {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.figures)
}

// Missed reports whether a figure missed its bound.
func (r *Report) Missed() bool {
	return slices.ContainsFunc(r.Figures(), func(f Figure) bool { return !f.OK })
}

// Note reports a number without a bound.
func (r *Report) Note(name string, v any) { r.add(name, show(v), "", true) }

// Zero reports a number that must be 0.
func (r *Report) Zero(name string, n int64) { r.add(name, show(n), "= 0", n == 0) }

// Is reports a condition that must hold; why is printed if it does not.
func (r *Report) Is(name string, ok bool, why any) {
	value := "yes"
	if !ok {
		value = fmt.Sprint("no: ", why)
	}
	r.add(name, value, "yes", ok)
}

// Equal reports a number that must be exactly want.
func Equal[T cmp.Ordered](r *Report, name string, got, want T) {
	r.add(name, show(got), "= "+show(want), got == want)
}

// AtMost reports a number that has an upper bound.
func AtMost[T cmp.Ordered](r *Report, name string, got, limit T) {
	_, isTime := any(got).(time.Duration)
	r.put(Figure{Name: name, Value: show(got), Bound: "≤ " + show(limit), OK: got <= limit, Time: isTime})
}

// AtLeast reports a number that has a lower bound.
func AtLeast[T cmp.Ordered](r *Report, name string, got, limit T) {
	r.add(name, show(got), "≥ "+show(limit), got >= limit)
}

// Percent reports the share of part in whole, which must be at least limit percent.
func (r *Report) Percent(name string, part, whole int64, limit float64) {
	share := 100.0
	if whole > 0 {
		share = 100 * float64(part) / float64(whole)
	}
	r.add(name, fmt.Sprintf("%.1f%% of %d", share, whole), fmt.Sprintf("≥ %g%%", limit), share >= limit)
}

// Ratio reports a time that must not exceed times × base. Times below floor pass, because on a busy machine they are
// meaningless.
func (r *Report) Ratio(name string, got, base time.Duration, times float64, floor time.Duration) {
	limit := max(time.Duration(times*float64(base)), floor)
	bound := fmt.Sprintf("≤ max(%g × %s, %s)", times, show(base), show(floor))
	r.put(Figure{Name: name, Value: show(got), Bound: bound, OK: got <= limit, Time: true})
}

// show formats a value for a line of results.
func show(v any) string {
	switch v := v.(type) {
	case time.Duration:
		switch {
		case v >= 10*time.Second:
			return v.Round(100 * time.Millisecond).String()
		case v >= 100*time.Millisecond:
			return v.Round(time.Millisecond).String()
		default:
			return v.Round(10 * time.Microsecond).String()
		}
	case float64:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	default:
		return fmt.Sprint(v)
	}
}

// percentile returns the value that the share p (0 to 1) of the durations does not exceed. It sorts them.
func percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(p*float64(len(d))))]
}
