// Package report is the result of a run: one structure, written as JSON, as text for a terminal, as .hgrm for other
// tools, and as one self-contained HTML page.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"parley/bench/assert"
	"parley/bench/hist"
	"parley/bench/ledger"
	"parley/bench/watch"
)

// Exit codes of the tool, and so the verdicts.
const (
	Pass      = 0
	Missed    = 1 // an assertion or a budget did not hold
	Incorrect = 2 // the ledger found a violation, or users who had gone were not forgotten
	Invalid   = 3 // the generator was the bottleneck: the figures say nothing about the server
	Setup     = 4 // there was no run
)

// Words of the verdicts, by exit code.
var Words = []string{"passed", "assertion missed", "incorrect", "invalid", "set-up failed"}

// Report is one run.
type Report struct {
	Format    int // of this structure
	Version   string
	Verb      string
	What      string // the verb in a sentence
	Command   string
	Seed      uint64
	StartedAt time.Time
	Seconds   float64
	Verdict   Verdict
	Env       Env
	Headline  []Figure
	Stages    []Stage
	Hists     []Histogram
	Timeline  []Second
	Marks     []Mark
	Faults    []Fault
	Nodes     []watch.Sample
	Machine   []watch.Machine
	Self      watch.Self
	Ledger    *ledger.Summary
	Left      *Left  // nil: nobody could be asked
	HistoryBy string // how the stored history was read: "read from SQL", "read as a client"
	Asserts   []assert.Result
	Errors    map[string]int64
	LimitedBy []string
	Tables    []Table
	Figures   map[string]float64 // what assertions are about; durations in seconds
	Notes     []string
}

// Left is what a cluster still held of the run's users when all of them had gone and the nodes had had their time.
type Left struct {
	Seconds      float64 // from when the last had gone until nothing was left, or patience ended
	NodeSessions int     // by the nodes' own count
	Redis        bool    // its keys were looked at; else the following are unknown
	Sessions     int     // usession_<uid>
	Names        int     // uip_<uid>
	Counted      int64   // logincount
	Dead         int     // entries of nodes that a fault killed: they count for nobody
	Example      string
}

// Wrong is how much is left that must not be.
func (l *Left) Wrong() int64 {
	return int64(l.NodeSessions) + int64(l.Sessions) + int64(l.Names) + l.Counted
}

// String says it in a sentence.
func (l *Left) String() string {
	s := fmt.Sprintf("%.1f s after the last user had gone: %d sessions on the nodes", l.Seconds, l.NodeSessions)
	if !l.Redis {
		return s + "; Redis could not be looked into"
	}
	s += fmt.Sprintf("; in Redis %d sessions (usession_), %d places (uip_), %d counted (logincount)", l.Sessions, l.Names, l.Counted)
	if l.Dead > 0 {
		s += fmt.Sprintf(", and %d entries of dead nodes, which have no effect", l.Dead)
	}
	if l.Example != "" {
		s += "; for example " + l.Example
	}
	return s
}

// Verdict is whether to believe and what.
type Verdict struct {
	Code    int
	Word    string
	Reasons []string
}

// Env is where it ran.
type Env struct {
	Host, OS, CPU, Go, Layout string
	Cores                     int
	MemoryMiB                 int64
	Files                     uint64 // descriptors a process may have
	Commit                    string
	Nodes                     []string
}

// Figure is a number worth a line at the top.
type Figure struct {
	Name, Value, Note string
	// Miss: worse than its budget.
	Budget string
	Miss   bool
}

// Stage is one phase of the run.
type Stage struct {
	Name          string
	Kind          string
	At            float64 // seconds since the run began
	Seconds       float64
	Offered       int64
	Done          int64
	Wrong         int64
	Rate          float64 // completed a second, over the time of the load
	P50, P99, Max int64   // ns, of the stage's main latency
	Loop          string  // open, closed, or empty
	Note          string
}

// Histogram is a latency by percentile.
type Histogram struct {
	Name, What string
	Stage      string
	Summary    hist.Summary
	Curve      [][2]float64 // quantile, milliseconds
	Encoded    []byte       // HdrHistogram V2, compressed
}

// Second is a second of the run, of all generators together.
type Second struct {
	At                   float64
	Stage                string
	Offered, Done, Wrong int64
	Online               int64
	P50, P99, Max        int64 // ns
}

// Mark is a moment worth a line in the plots.
type Mark struct {
	At   float64
	Text string
}

// Fault is one step of the fault plan and what the users had of it.
type Fault struct {
	What   string
	At     float64 // seconds since the run began
	Repair bool    // it undoes an earlier one
	Sign   string  // the first thing that failed for a user
	// Detection is when that was, Recovery when all was as before the first fault; seconds after At, nil for never.
	Detection, Recovery *float64
}

// Table is any other result.
type Table struct {
	Title  string
	Note   string
	Header []string
	Rows   [][]string
}

// Histogram returns a histogram by name; nil when the run has none.
func (r *Report) Histogram(name string) *Histogram {
	for i := range r.Hists {
		if r.Hists[i].Name == name {
			return &r.Hists[i]
		}
	}
	return nil
}

// AddHist adds a histogram.
func (r *Report) AddHist(stage, name, what string, h *hist.Hist) {
	if h.Count() == 0 {
		return
	}
	x := Histogram{Name: name, What: what, Stage: stage, Summary: h.Summary()}
	for _, p := range h.Curve() {
		x.Curve = append(x.Curve, [2]float64{p.Quantile, float64(p.Value) / 1e6})
	}
	x.Encoded, _ = h.Encode() // a histogram of ours encodes
	r.Hists = append(r.Hists, x)
}

// Read reads a report that WriteJSON wrote.
func Read(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	r := &Report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("report: %s: %w", path, err)
	}
	if r.Format != Format {
		return nil, fmt.Errorf("report: %s has format %d, this tool reads %d", path, r.Format, Format)
	}
	return r, nil
}

// Format is the version of the structure.
const Format = 1

// WriteJSON writes all of it.
func (r *Report) WriteJSON(path string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// WriteHGRM writes one file for each histogram, PREFIX-NAME.hgrm.
func (r *Report) WriteHGRM(prefix string) error {
	for i := range r.Hists {
		h, err := hist.Decode(r.Hists[i].Encoded)
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		f, err := os.Create(prefix + "-" + r.Hists[i].Name + ".hgrm")
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		err = h.WriteHGRM(f)
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	return nil
}
