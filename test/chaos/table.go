//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// line returns what is printed when a bar has ended.
func (r *result) line() string {
	return fmt.Sprintf("%-4s %s %6s  %s | %s", r.Bar.ID, r.Outcome, r.Took.Round(100*time.Millisecond), r.Bar.Fault, r.figures())
}

func (r *result) figures() string {
	if r.Outcome == skipped {
		return r.Err.Error()
	}
	parts := make([]string, len(r.Figures))
	for i, f := range r.Figures {
		parts[i] = f.String()
	}
	return strings.Join(parts, ", ")
}

// inOrder returns the results in the order of the bars.
func inOrder(bars []Bar, results []result) []result {
	at := func(id string) int { return slices.IndexFunc(bars, func(b Bar) bool { return b.ID == id }) }
	out := slices.Clone(results)
	slices.SortFunc(out, func(a, b result) int { return cmp.Compare(at(a.Bar.ID), at(b.Bar.ID)) })
	return out
}

// table prints all results in short form, and the number that passed.
func table(w io.Writer, bars []Bar, results []result, took time.Duration) {
	count := map[outcome]int{}
	fmt.Fprintf(w, "\n%-4s %-5s %8s  %s\n", "bar", "", "time", "fault")
	for _, r := range inOrder(bars, results) {
		count[r.Outcome]++
		fmt.Fprintf(w, "%-4s %-5s %8s  %s\n", r.Bar.ID, r.Outcome, r.Took.Round(100*time.Millisecond), r.Bar.Fault)
		if r.Outcome == miss {
			for _, f := range r.Figures {
				if !f.OK {
					fmt.Fprintf(w, "%20s %v\n", "", f)
				}
			}
		}
	}
	fmt.Fprintf(w, "\n%d passed, %d missed, %d skipped, %d not run, in %v\n", count[pass], count[miss], count[skipped],
		len(bars)-len(results), took.Round(time.Second))
}

// markdown returns the table for docs/ROBUSTNESS.md.
func markdown(bars []Bar, results []result, f flags) string {
	var b strings.Builder
	mode := ""
	if f.Short {
		mode = " ARGS=--short"
	}
	fmt.Fprintf(&b, "`make chaos%s`, seed %d\n\n| bar | fault | must hold | figures | |\n|---|---|---|---|---|\n", mode, f.Seed)
	for _, r := range inOrder(bars, results) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.Bar.ID, cell(r.Bar.Fault), cell(r.Bar.Want), cell(r.figures()), r.Outcome)
	}
	return b.String()
}

// markdownList returns the table without figures.
func markdownList(bars []Bar) string {
	var b strings.Builder
	b.WriteString("| bar | fault, at full counts | must hold |\n|---|---|---|\n")
	for _, bar := range bars {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", bar.ID, cell(bar.Fault), cell(bar.Want))
	}
	return b.String()
}

// cell escapes a text for a cell of a Markdown table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}
