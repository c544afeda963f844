package report

import (
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"strings"
	"time"

	"parley/bench/hist"
)

// The page is one file that contains styles, plots and data, so that it opens anywhere, for years, without a network.
//
//go:embed page/report.html page/report.css page/report.js page/uplot
var page embed.FS

var pageTemplate = template.Must(template.New("report.html").Funcs(template.FuncMap{
	"lat":  latency,
	"rate": rate,
	"hist": hist.Format,
	"dur":  func(s float64) string { return (time.Duration(s*1e3) * time.Millisecond).String() },
	"num":  thousands,
	"pass": func(code int) string {
		return []string{"pass", "miss", "fail", "invalid", "fail"}[min(max(code, 0), 4)]
	},
	"date":   func(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") },
	"ledger": func(r *Report) []ledgerRow { return r.ledgerRows() },
}).ParseFS(page, "page/report.html"))

type ledgerRow struct {
	Name  string
	Value int64
	Must  bool // the value must be zero
	Note  string
}

// ledgerRows are the results of the ledger in order of interest.
func (r *Report) ledgerRows() []ledgerRow {
	l := r.Ledger
	if l == nil || l.Planned == 0 {
		return nil
	}
	read := "not read in this run"
	if l.HistoryChecked {
		read = "the history of every thread was " + r.HistoryBy + ", to its end"
	}
	rows := []ledgerRow{
		{"planned", l.Planned, false, "by the schedule"},
		{"sent", l.Sent, false, ""},
		{"acknowledged", l.Acked, false, "the server said: stored"},
		{"refused", l.Refused, false, "the server said no, explicitly"},
		{"unanswered", l.Unanswered, false, ""},
		{"delivered", l.Delivered, false, "seen by the recipient"},
		{"late", l.Late, false, "more than a second after its planned time"},
		{"found in the history", l.HistoryRead, false, read},
	}
	for _, x := range []ledgerRow{
		{"resent", l.Resent, false, "after a disconnection, under the same unique id"},
		{"pushed again", l.Redelivered, false, "after a disconnection; clients drop it by its number"},
		{"read back", l.ReadBack, false, "not pushed because of a disconnection, found in the history"},
		{"stored, not known to the sender", l.StoredUnacked, false, "allowed: the acknowledgement was lost"},
	} {
		if x.Value > 0 {
			rows = append(rows, x)
		}
	}
	return append(rows,
		ledgerRow{"lost", l.Lost, true, "acknowledged, neither delivered nor stored"},
		ledgerRow{"unstored", l.Unstored, true, "acknowledged and delivered, not in the history"},
		ledgerRow{"missed", l.Missed, true, "stored, but never pushed to a user who was there"},
		ledgerRow{"duplicated", l.Duplicated, true, "pushed twice"},
		ledgerRow{"stored twice", l.StoredTwice, true, ""},
		ledgerRow{"reordered", l.Reordered, true, "pushed after a later one of the same sender"},
		ledgerRow{"corrupt", l.Corrupt, true, "not what was sent"},
		ledgerRow{"misrouted", l.Misrouted, true, "delivered to another user"},
		ledgerRow{"wrong number", l.WrongSeq, true, "acknowledged, pushed and stored under different numbers"},
		ledgerRow{"acknowledged twice", l.AckedTwice, true, ""},
		ledgerRow{"holes", l.Holes, true, "numbers missing in a history"},
		ledgerRow{"after removal", l.AfterRemoval, true, "pushed to a member who had been removed from the group"},
	)
}

// WriteHTML writes the page.
func (r *Report) WriteHTML(path string) error {
	data, err := json.Marshal(r.plotData())
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	read := func(name string) string {
		b, err := page.ReadFile("page/" + name)
		if err != nil {
			panic(err) // embedded, so it is valid
		}
		return string(b)
	}
	var b strings.Builder
	err = pageTemplate.Execute(&b, map[string]any{
		"R":       r,
		"Style":   template.CSS(read("uplot/uPlot.min.css") + read("report.css")),
		"License": template.HTML("<!-- uPlot 1.6.32\n" + strings.ReplaceAll(read("uplot/LICENSE"), "--", "- -") + "-->"),
		"UPlot":   template.JS(read("uplot/uPlot.iife.min.js")),
		"Script":  template.JS(read("report.js")),
		"Data":    template.JS(data), // json.Marshal escapes <, > and &
	})
	if err != nil {
		return fmt.Errorf("report: page: %w", err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// plotData returns the data for the page's script. Latencies are in milliseconds, memory in MiB.
func (r *Report) plotData() map[string]any {
	times, p50, p99, most := []float64{}, []any{}, []any{}, []any{}
	offered, done, wrong, online := []any{}, []any{}, []any{}, []any{}
	ms := func(ns int64) any {
		if ns == 0 {
			return nil
		}
		return float64(ns) / 1e6
	}
	stage := ""
	for _, s := range r.Timeline {
		if s.Stage != stage && stage != "" { // a gap between stages, which measure different things
			times = append(times, s.At-.01)
			for _, column := range []*[]any{&p50, &p99, &most, &offered, &done, &wrong, &online} {
				*column = append(*column, nil)
			}
		}
		stage = s.Stage
		times = append(times, s.At)
		p50, p99, most = append(p50, ms(s.P50)), append(p99, ms(s.P99)), append(most, ms(s.Max))
		offered, done, wrong, online = append(offered, s.Offered), append(done, s.Done), append(wrong, s.Wrong), append(online, s.Online)
	}
	curves := []map[string]any{}
	for _, h := range r.Hists {
		curves = append(curves, map[string]any{"name": h.Stage + ": " + h.Name, "points": h.Curve})
	}
	stages := []map[string]any{}
	for _, s := range r.Stages {
		if s.Seconds >= .05 {
			stages = append(stages, map[string]any{"name": s.Name, "at": s.At, "seconds": s.Seconds})
		}
	}
	processes := map[string]map[string][]any{}
	for _, s := range r.Nodes {
		p := processes[s.Name]
		if p == nil {
			p = map[string][]any{}
			processes[s.Name] = p
		}
		at := s.At
		add := func(key string, v any) {
			if s.Gone {
				v = nil
			}
			p[key] = append(p[key], v)
		}
		p["t"] = append(p["t"], at)
		add("cpu", s.CPU)
		add("rss", float64(s.RSS)/(1<<20))
		add("gc", s.GCSeconds*1e3)
		add("waiting", s.Waiting)
		add("sessions", s.Sessions)
	}
	marks := r.Marks
	if marks == nil {
		marks = []Mark{}
	}
	return map[string]any{
		"t": times, "p50": p50, "p99": p99, "max": most, "offered": offered, "done": done, "wrong": wrong, "online": online,
		"curves": curves, "stages": stages, "processes": processes, "marks": marks, "seconds": r.Seconds,
	}
}

// thousands formats a number with separators between groups of three digits.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}
