package lab

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"parley/bench/hist"
	"parley/bench/report"
)

// Render renders a report from its JSON form again: as text, and as an HTML page if html is a file name.
func (l Lab) Render(path, html string) int {
	r, err := report.Read(path)
	if err == nil && html != "" {
		err = r.WriteHTML(html)
	}
	if err != nil {
		fmt.Fprintf(l.Stderr, "bench: %v\n", err)
		return report.Setup
	}
	r.WriteText(l.Stdout)
	return report.Pass
}

// Diff compares the figures of two reports. It does not judge the differences, which include noise.
func (l Lab) Diff(a, b string) int {
	before, err := report.Read(a)
	if err != nil {
		fmt.Fprintf(l.Stderr, "bench: %v\n", err)
		return report.Setup
	}
	after, err := report.Read(b)
	if err != nil {
		fmt.Fprintf(l.Stderr, "bench: %v\n", err)
		return report.Setup
	}
	if before.Verb != after.Verb {
		fmt.Fprintf(l.Stdout, "these are different verbs: %s and %s\n", before.Verb, after.Verb)
	}
	for _, r := range []*report.Report{before, after} {
		fmt.Fprintf(l.Stdout, "%s  %s  %s, %s\n  %s\n", r.StartedAt.Format("2006-01-02 15:04"), r.Verdict.Word, r.Env.Layout, r.Version, r.Command)
		if r.Verdict.Code == report.Invalid {
			fmt.Fprintln(l.Stdout, "  its figures say nothing about the server")
		}
	}
	w := tabwriter.NewWriter(l.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\nfigure\tbefore\tafter\tchange\t")
	var names []string
	for name := range before.Figures {
		if _, ok := after.Figures[name]; ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		x, y := before.Figures[name], after.Figures[name]
		if x == 0 && y == 0 {
			continue
		}
		change := "new"
		if x != 0 {
			change = fmt.Sprintf("%+.1f %%", (y/x-1)*100)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", name, figure(name, x), figure(name, y), change)
	}
	w.Flush()
	return report.Pass
}

// figure formats a figure with its unit.
func figure(name string, v float64) string {
	_, last, dotted := strings.Cut(name, ".")
	if !dotted {
		last = name
	}
	if slices.Contains([]string{"p50", "p90", "p99", "p999", "max"}, last[strings.LastIndexByte(last, '.')+1:]) {
		return hist.Format(int64(v * 1e9))
	}
	if v == math.Trunc(v) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}
