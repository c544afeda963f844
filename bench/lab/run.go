package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"parley/bench/crew"
	"parley/bench/hist"
	"parley/bench/local"
	"parley/bench/report"
	"parley/bench/seed"
	"parley/bench/swarm"
	"parley/bench/watch"
	"parley/internal/wire"
)

// run is one run of a verb, from the set-up to the report. What only some verbs do, and what comes at the end, has types of
// its own that embed it, such as contest and judge.
type run struct {
	plan
	verb       verb
	began      time.Time
	rep        *report.Report
	layout     *local.Layout // nil: an existing cluster
	crew       crew.Crew
	generators *generators
	turns      *turns       // of several transports; nil: there is one
	db         *seed.Stores // nil: unknown
	nodes      *watch.Nodes
	screen     *screen

	main     *hist.Hist // of the stage that the figures describe
	lag      *hist.Hist
	loadFrom float64 // start of that stage, in seconds since the run began
	loadTo   float64
	openLoop bool
	wantAll  int  // users that must log in
	tolerate bool // faults are part of the run
	// historyDue means that the history is read from SQL after all sessions have ended.
	historyDue bool
	broken     []broken
	unasked    error // why it is unknown what remains in Redis

	cores []float64 // maximum number of cores of each generator process while it was measured

	unfinished int64    // operations without an answer at the end of their phases
	wrong      []string // what was incorrect beside the ledger
}

// verb is a command of the lab.
type verb struct {
	name  string
	what  string
	users int
	// resume and reconnect apply to users whose connections end.
	resume, reconnect bool
	text              int
	marks             float64
	cross             float64
	rooms             swarm.Rooms
	crews             int           // crews that the verb makes itself, each with all users; 0: one is made for it
	guests            int           // additional users, with the uids after those of the run
	beside            int           // connections to other servers
	together          bool          // all users are on one node
	drain             time.Duration // [Limits] DrainTimeout of the chat nodes; 0: the default
	tcp               bool          // users connect by TCP only
	turns             bool          // users of several transports may take turns
	cold              bool          // caches of profiles and lists are empty at the start
	do                func(ctx context.Context, r *run) error
}

// execute runs a verb and returns the exit code. It has written the report by then.
func execute(ctx context.Context, o Options, v verb) int {
	p, err := o.check(figureNames)
	if err == nil {
		err = v.takes(p.transports)
	}
	if err == nil {
		err = writable(o.Out)
	}
	if err == nil && p.TimerSlack > 0 {
		err = takeSlack(p.TimerSlack)
	}
	if err != nil {
		fmt.Fprintf(o.stderr, "bench: %v\n", err)
		return report.Setup
	}
	if p.Users == 0 {
		p.Users = v.users
	}
	if n := len(p.transports); n > 1 {
		v.guests += p.Users * (n - 1)
	}
	r := &run{plan: p, verb: v, began: time.Now(), screen: newScreen(o.stderr, o.Quiet), tolerate: len(p.faults) > 0}
	r.generators = &generators{run: r}
	r.main, r.lag = hist.New(), hist.New()
	r.rep = &report.Report{
		Format: report.Format, Version: version(), Verb: v.name, What: v.what, Command: r.command(), Seed: p.Seed, StartedAt: r.began,
		Env: environment(), Errors: map[string]int64{}, Figures: map[string]float64{},
	}
	r.verb.reconnect = v.reconnect || r.tolerate
	r.verb.resume = v.resume || r.tolerate
	err = r.setUp(ctx)
	if err == nil {
		err = v.do(ctx, r)
		end := ending{r}
		end.tearDown()
		if err == nil && r.historyDue {
			err = end.verifySQL(ctx)
		}
	}
	r.close()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return r.finish(err)
}

// takes returns an error if the users of a verb cannot connect by these transports.
func (v verb) takes(list []wire.Transport) error {
	switch {
	case v.tcp && (len(list) > 1 || list[0] != wire.TCP):
		return fmt.Errorf("%s speaks TCP only, not %s", v.name, names(list))
	case !v.turns && len(list) > 1:
		return fmt.Errorf("%s takes one transport at a time; idle, login, ping and chat compare several", v.name)
	}
	return nil
}

// writable creates the directory of the reports and writes a file to it, so that no report is lost at the end of a
// run.
func writable(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	f, err := os.CreateTemp(dir, ".try-")
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// command returns the command line that repeats the run.
func (r *run) command() string {
	args := slices.Clone(r.argv)
	if r.drawn {
		args = append(args, fmt.Sprintf("--seed=%d", r.Seed))
	}
	hideSecrets(args)
	for i, a := range args {
		if a == "" || strings.ContainsAny(a, " '\"$&|<>*?") && !strings.HasSuffix(a, hidden) {
			args[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return "go run ./bench " + strings.Join(args, " ")
}

// secretFlags are the flags whose values must not appear in reports.
var secretFlags = []string{"--secret", "--agent-key", "--ops-token"}

const hidden = "***"

// hideSecrets replaces the values of secret flags, whether they follow "=" or are separate arguments, and the passwords in
// the addresses of servers.
func hideSecrets(args []string) {
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		switch {
		case strings.Contains(value, "://") && strings.Contains(value, "@"):
			args[i] = name + "=" + withoutPassword(value)
		case !slices.Contains(secretFlags, name):
		case joined:
			args[i] = name + "=" + hidden
		case i+1 < len(args):
			i++
			args[i] = hidden
		}
	}
}

// withoutPassword returns a URL for reports.
func withoutPassword(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Redacted()
	}
	return hidden
}

// stageDone reports a stage that is not a phase of the users.
func (r *run) stageDone(name string, began time.Time, note string) {
	r.rep.Stages = append(r.rep.Stages, report.Stage{
		Name: name, At: began.Sub(r.began).Seconds(), Seconds: time.Since(began).Seconds(), Note: note,
	})
}

// step is a phase with its presentation in the report.
type step struct {
	name string
	swarm.Phase
	main     string // its main histogram
	measured bool   // the run's figures describe this phase
	faults   bool   // the fault plan runs during this phase
	show     bool   // the report includes its histogram
	turn     bool   // one of many: the report does not include its histograms
	foreign  bool   // on a server that is not Parley's: its ledger is not the run's
}

// phase runs a phase and reports it.
func (r *run) phase(ctx context.Context, s step) (*swarm.Outcome, error) {
	began := time.Now()
	faults := s.faults && len(r.faults) > 0
	if faults { // compare their times with those of the users' failures
		began = began.Add(crew.Lead)
		s.StartAt, s.Fine = began, true
	}
	at := began.Sub(r.began).Seconds()
	r.screen.begin(s.name, s.Load.For+s.Warmup+s.For, r.crew.Live)
	var stopFaults func() error
	if faults {
		stopFaults = r.breakThings(ctx, began.Add(s.Warmup))
	}
	o, err := r.crew.Run(ctx, s.Phase)
	if stopFaults != nil {
		err = errors.Join(err, stopFaults())
	}
	r.screen.end()
	if o == nil {
		return &swarm.Outcome{}, err
	}
	r.enter(s, o, at)
	if faults {
		r.enterFaults(s, o, began)
	}
	return o, err
}

// enter adds an outcome to the report.
func (r *run) enter(s step, o *swarm.Outcome, at float64) {
	h := o.Hist(s.main)
	stage := report.Stage{
		Name: s.name, Kind: s.Kind, At: at, Seconds: o.Seconds, P50: h.Quantile(.5), P99: h.Quantile(.99), Max: h.Max(),
	}
	length := o.Seconds
	switch {
	case len(s.Load.Rates) > 0 && s.Concurrency == 0:
		stage.Loop, length = "open", s.Load.For.Seconds()
	case s.Concurrency > 0:
		if stage.Loop = "closed"; s.For > 0 {
			length = s.For.Seconds()
		}
	}
	for _, i := range o.Series {
		second := report.Second{At: at + float64(i.Second), Stage: s.name, Offered: i.Offered, Done: i.Done, Wrong: i.Wrong, Online: i.Online}
		if h, err := hist.Unpack(i.Hist); err == nil {
			second.P50, second.P99, second.Max = h.Quantile(.5), h.Quantile(.99), h.Max()
		}
		stage.Offered += i.Offered
		stage.Done += i.Done
		stage.Wrong += i.Wrong
		r.rep.Timeline = append(r.rep.Timeline, second)
	}
	stage.Rate = float64(h.Count()) / max(length, 1e-3)
	r.rep.Stages = append(r.rep.Stages, stage)
	for k, v := range o.Errors {
		r.rep.Errors[s.name+": "+k] += v
	}
	if o.Ledger.Planned > 0 && !s.foreign {
		l := o.Ledger // cumulative over the fleet
		r.rep.Ledger = &l
	}
	if !s.foreign {
		r.unfinished += o.Counters["unfinished"]
	}
	if s.measured {
		r.main.Add(h)
		r.lag.Add(o.Hist(swarm.HLag))
		if r.loadTo == 0 {
			r.loadFrom = at + s.Warmup.Seconds()
		}
		r.loadTo = at + o.Seconds
		for i, used := range o.Cores {
			if i == len(r.cores) {
				r.cores = append(r.cores, 0)
			}
			r.cores[i] = max(r.cores[i], used)
		}
		r.openLoop = r.openLoop || stage.Loop == "open"
		for name := range maps.Keys(o.Hists) {
			r.figures(name, o.Hist(name))
		}
		r.rep.Figures["rate"] = stage.Rate
		r.rep.Figures["done"] = float64(stage.Done)
		r.rep.Figures["offered"] = float64(stage.Offered)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Hists)) {
		if s.measured && !s.turn || name == swarm.HOutage || s.show && name == s.main {
			r.rep.AddHist(s.name, name, histograms[name], o.Hist(name))
		}
	}
}

// finish judges the run, writes the report and returns the exit code.
func (r *run) finish(err error) int {
	r.rep.Seconds = time.Since(r.began).Seconds()
	judge{r}.verdict(err)
	r.screen.end()
	r.rep.WriteText(r.stdout)
	if err := r.write(); err != nil {
		fmt.Fprintf(r.stderr, "bench: %v\n", err)
		if r.rep.Verdict.Code == report.Pass {
			return report.Setup
		}
	}
	return r.rep.Verdict.Code
}

func (r *run) write() error {
	if r.Out == "" {
		return nil
	}
	name := r.Name
	if name == "" {
		name = r.verb.name + "-" + r.began.Format("20060102-150405")
	}
	base := filepath.Join(r.Out, name)
	errs := []error{r.rep.WriteJSON(base + ".json"), r.rep.WriteHTML(base + ".html")}
	if r.HGRM {
		errs = append(errs, r.rep.WriteHGRM(base))
	}
	fmt.Fprintf(r.stdout, "report: %s.html, %s.json\n", base, base)
	return errors.Join(errs...)
}
