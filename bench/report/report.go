// Package report holds the result of a run in one structure, which it writes as JSON, as text for a terminal, as
// .hgrm for other tools, and as a self-contained HTML page.
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

// Exit codes of the tool, which are also the verdicts.
const (
	Pass      = 0
	Missed    = 1 // an assertion or a budget did not hold
	Incorrect = 2 // the ledger found a violation, or the cluster did not forget users who had left
	Invalid   = 3 // the generator was the bottleneck, so the figures do not describe the server
	Setup     = 4 // the run did not start
)

// Words are the verdicts in words, by exit code.
var Words = []string{"passed", "assertion missed", "incorrect", "invalid", "set-up failed"}

// Report is one run.
type Report struct {
	Format    int // version of this structure
	Version   string
	Verb      string
	What      string // description of the verb
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
	Left      *Left  // nil: unknown
	HistoryBy string // how the stored history was read: "read from SQL", "read as a client"
	Asserts   []assert.Result
	Errors    map[string]int64
	LimitedBy []string
	Tables    []Table
	Figures   map[string]float64 // for assertions; durations in seconds
	Notes     []string
}

// Left is what a cluster still held of the run's users after all of them had left and the nodes had had time to
// forget them.
type Left struct {
	Seconds      float64 // from the last user's leaving until nothing was left, or the time limit
	NodeSessions int     // as counted by the nodes
	Redis        bool    // Redis was inspected; else the following are unknown
	Sessions     int     // usession_<uid>
	Names        int     // uip_<uid>
	Counted      int64   // logincount
	Dead         int     // entries of nodes killed by a fault: they have no effect
	Example      string
}

// Wrong returns how much is left that must not be.
func (l *Left) Wrong() int64 {
	return int64(l.NodeSessions) + int64(l.Sessions) + int64(l.Names) + l.Counted
}

// String describes it in a sentence.
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

// Verdict says whether the figures are valid, and what they show.
type Verdict struct {
	Code    int
	Word    string
	Reasons []string
}

// Env describes the machine.
type Env struct {
	Host, OS, CPU, Go, Layout string
	Cores                     int
	MemoryMiB                 int64
	Files                     uint64 // limit of open descriptors per process
	Commit                    string
	Nodes                     []string
}

// Figure is a number in the head of the report.
type Figure struct {
	Name, Value, Note string
	// Miss means that the figure does not meet its budget.
	Budget string
	Miss   bool
}

// Stage is one phase of the run.
type Stage struct {
	Name          string
	Kind          string
	At            float64 // seconds since the start of the run
	Seconds       float64
	Offered       int64
	Done          int64
	Wrong         int64
	Rate          float64 // completed per second, over the time of the load
	P50, P99, Max int64   // ns, of the stage's main latency
	Loop          string  // open, closed, or empty
	Note          string
}

// Histogram is a latency distribution.
type Histogram struct {
	Name, What string
	Stage      string
	Summary    hist.Summary
	Curve      [][2]float64 // quantile, milliseconds
	Encoded    []byte       // HdrHistogram V2, compressed
}

// Second is one second of the run, summed over all generators.
type Second struct {
	At                   float64
	Stage                string
	Offered, Done, Wrong int64
	Online               int64
	P50, P99, Max        int64 // ns
}

// Mark is an event shown in the plots.
type Mark struct {
	At   float64
	Text string
}

// Fault is a step of the fault plan and its effect on users.
type Fault struct {
	What   string
	At     float64 // seconds since the start of the run
	Repair bool    // it undoes an earlier step
	Sign   string  // the first failure seen by a user
	// Detection is the time of that failure, Recovery the time when everything was as before the first fault; in
	// seconds after At, nil for never.
	Detection, Recovery *float64
}

// Table is any other result.
type Table struct {
	Title  string
	Note   string
	Header []string
	Rows   [][]string
}

// Histogram returns a histogram by name, or nil.
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
	x.Encoded, _ = h.Encode() // histograms made by this tool always encode
	r.Hists = append(r.Hists, x)
}

// Read reads a report written by WriteJSON.
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

// WriteJSON writes the whole report.
func (r *Report) WriteJSON(path string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// WriteHGRM writes one file per histogram, PREFIX-NAME.hgrm.
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
