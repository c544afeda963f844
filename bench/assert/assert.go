// Package assert parses conditions such as "p99<50ms,lost==0" and checks them against the figures of a run.
package assert

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Check is a condition.
type Check struct {
	Text  string
	Name  string
	Op    string
	Value float64 // durations are in seconds
}

// Result is a condition and its outcome.
type Result struct {
	Text string
	Got  float64
	Pass bool
	// Note says why the condition could not be checked; then it has not passed.
	Note string
}

// ops are the operators, longer ones before their prefixes.
var ops = []string{"<=", ">=", "==", "!=", "<", ">"}

// Parse parses conditions separated by commas. Values are numbers, durations (50ms), or numbers with k, M or %.
func Parse(text string) ([]Check, error) {
	var checks []Check
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		c := Check{Text: part}
		at := -1
		for _, op := range ops {
			if i := strings.Index(part, op); i > 0 && (at < 0 || i < at) {
				at, c.Op = i, op
			}
		}
		if at < 0 {
			return nil, fmt.Errorf("assert %q: want NAME, one of %s, VALUE, as in p99<50ms", part, strings.Join(ops, " "))
		}
		c.Name = strings.TrimSpace(part[:at])
		v, err := value(strings.TrimSpace(part[at+len(c.Op):]))
		if err != nil {
			return nil, fmt.Errorf("assert %q: %w", part, err)
		}
		c.Value = v
		checks = append(checks, c)
	}
	return checks, nil
}

func value(s string) (float64, error) {
	number, factor := s, 1.0
	switch {
	case strings.HasSuffix(s, "k"):
		number, factor = s[:len(s)-1], 1e3
	case strings.HasSuffix(s, "M"):
		number, factor = s[:len(s)-1], 1e6
	case strings.HasSuffix(s, "%"):
		number, factor = s[:len(s)-1], .01
	}
	if v, err := strconv.ParseFloat(number, 64); err == nil {
		return v * factor, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a number nor a duration", s)
	}
	return d.Seconds(), nil
}

// Unknown returns an error for a condition on a figure that no run has, so that a typing error is found before the
// run.
func Unknown(checks []Check, known []string) error {
	for _, c := range checks {
		if !slices.Contains(known, c.Name) {
			sorted := slices.Clone(known)
			sort.Strings(sorted)
			return fmt.Errorf("assert %q: no figure is called %q; there are: %s", c.Text, c.Name, strings.Join(sorted, ", "))
		}
	}
	return nil
}

// Hold checks the conditions against the figures; durations are in seconds.
func Hold(checks []Check, figures map[string]float64) []Result {
	results := make([]Result, len(checks))
	for i, c := range checks {
		r := Result{Text: c.Text}
		got, ok := figures[c.Name]
		if !ok {
			r.Note = "this run did not measure it"
		} else {
			r.Got = got
			switch c.Op {
			case "<=":
				r.Pass = got <= c.Value
			case ">=":
				r.Pass = got >= c.Value
			case "==":
				r.Pass = got == c.Value
			case "!=":
				r.Pass = got != c.Value
			case "<":
				r.Pass = got < c.Value
			case ">":
				r.Pass = got > c.Value
			}
		}
		results[i] = r
	}
	return results
}
