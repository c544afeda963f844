package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"parley/bench/hist"
)

// WriteText writes the report for a terminal, beginning with the verdict.
func (r *Report) WriteText(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\n", r.Verb, strings.ToUpper(r.Verdict.Word))
	for _, reason := range r.Verdict.Reasons {
		fmt.Fprintf(w, "  %s\n", reason)
	}
	table := func(f func(t *tabwriter.Writer)) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		f(t)
		t.Flush()
	}
	fmt.Fprintln(w)
	table(func(t *tabwriter.Writer) {
		for _, f := range r.Headline {
			miss := ""
			if f.Budget != "" {
				miss = "budget " + f.Budget
				if f.Miss {
					miss = "MISSED " + miss
				}
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", f.Name, f.Value, miss, f.Note)
		}
	})
	if len(r.Stages) > 0 {
		fmt.Fprintln(w, "\nstages")
		table(func(t *tabwriter.Writer) {
			fmt.Fprintln(t, "  stage\tseconds\toffered\tdone\twrong\trate/s\tp50\tp99\tmax\tloop")
			for _, s := range r.Stages {
				fmt.Fprintf(t, "  %s\t%.1f\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Seconds, s.Offered, s.Done, s.Wrong, rate(s.Rate),
					latency(s.P50), latency(s.P99), latency(s.Max), s.Loop)
			}
		})
	}
	if len(r.Hists) > 0 {
		fmt.Fprintln(w, "\nlatency")
		table(func(t *tabwriter.Writer) {
			fmt.Fprintln(t, "  what\tcount\tp50\tp90\tp99\tp99.9\tmax\t")
			for _, h := range r.Hists {
				s := h.Summary
				fmt.Fprintf(t, "  %s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", h.Name, s.Count, hist.Format(s.P50), hist.Format(s.P90), hist.Format(s.P99),
					hist.Format(s.P999), hist.Format(s.Max), h.What)
			}
		})
	}
	for _, x := range r.Tables {
		fmt.Fprintf(w, "\n%s\n", x.Title)
		table(func(t *tabwriter.Writer) {
			fmt.Fprintln(t, "  "+strings.Join(x.Header, "\t"))
			for _, row := range x.Rows {
				fmt.Fprintln(t, "  "+strings.Join(row, "\t"))
			}
		})
		if x.Note != "" {
			fmt.Fprintf(w, "  (%s)\n", x.Note)
		}
	}
	if l := r.Ledger; l != nil && l.Planned > 0 {
		fmt.Fprintln(w, "\nledger")
		history := "not read"
		if l.HistoryChecked {
			history = fmt.Sprintf("%d %s", l.HistoryRead, r.HistoryBy)
		}
		fmt.Fprintf(w, "  planned %d, sent %d, acknowledged %d, refused %d, unanswered %d, delivered %d, late %d, history %s\n",
			l.Planned, l.Sent, l.Acked, l.Refused, l.Unanswered, l.Delivered, l.Late, history)
		fmt.Fprintf(w, "  lost %d, unstored %d, missed %d, duplicated %d, stored twice %d, reordered %d, corrupt %d, misrouted %d, wrong number %d, holes %d\n",
			l.Lost, l.Unstored, l.Missed, l.Duplicated, l.StoredTwice, l.Reordered, l.Corrupt, l.Misrouted, l.WrongSeq, l.Holes)
		if l.Copies > 0 {
			fmt.Fprintf(w, "  members of groups: copies %d, gap notices %d, after a later one of another sender %d, delivered after removal %d\n",
				l.Copies, l.Gaps, l.ReorderedPushes, l.AfterRemoval)
		}
		if n := l.Resent + l.Redelivered + l.ReadBack + l.StoredUnacked; n > 0 {
			fmt.Fprintf(w, "  after disconnections: resent %d, pushed again %d, read back from history %d, stored without the sender knowing %d\n",
				l.Resent, l.Redelivered, l.ReadBack, l.StoredUnacked)
		}
		for _, f := range l.Faults[:min(len(l.Faults), 5)] {
			fmt.Fprintf(w, "  e.g. %s: %d -> %d, thread %d, text %d, number %d\n", f.What, f.From, f.To, f.Thread, f.Counter, f.Seq)
		}
	}
	if r.Left != nil {
		fmt.Fprintf(w, "\nleft behind\n  %s\n", r.Left)
	}
	if len(r.Errors) > 0 {
		fmt.Fprintln(w, "\nerrors")
		for _, k := range slices.Sorted(maps.Keys(r.Errors)) {
			fmt.Fprintf(w, "  %8d  %s\n", r.Errors[k], k)
		}
	}
	if len(r.Asserts) > 0 {
		fmt.Fprintln(w, "\nassertions")
		for _, a := range r.Asserts {
			word := "ok    "
			if !a.Pass {
				word = "MISSED"
			}
			fmt.Fprintf(w, "  %s %s (got %.6g) %s\n", word, a.Text, a.Got, a.Note)
		}
	}
	if len(r.LimitedBy) > 0 {
		fmt.Fprintln(w, "\nwhat limited it")
		for _, s := range r.LimitedBy {
			fmt.Fprintf(w, "  %s\n", s)
		}
	}
	for _, s := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", s)
	}
	fmt.Fprintf(w, "\nagain: %s\n", r.Command)
}

func rate(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func latency(ns int64) string {
	if ns == 0 {
		return "-"
	}
	return hist.Format(ns)
}
