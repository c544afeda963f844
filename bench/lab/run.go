package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"parley/bench/assert"
	"parley/bench/crew"
	"parley/bench/doctor"
	"parley/bench/hist"
	"parley/bench/local"
	"parley/bench/report"
	"parley/bench/swarm"
	"parley/bench/watch"
)

// run is one run of a verb, from the set-up to the report.
type run struct {
	plan
	verb   verb
	began  time.Time
	rep    *report.Report
	layout *local.Layout // nil: somebody else's cluster
	crew   crew.Crew
	nodes  *watch.Nodes
	screen *screen

	main     *hist.Hist // of the stage that the figures are about
	lag      *hist.Hist
	loadFrom float64 // of that stage, in seconds since the run began
	loadTo   float64
	openLoop bool
	wantAll  int  // users that must have got in
	tolerate bool // faults are part of the run
}

// verb is one of the things the lab can do.
type verb struct {
	name  string
	what  string
	users int
	// resume and reconnect are for users whose connections end.
	resume, reconnect bool
	text              int
	cross             float64
	alone             bool // makes crews of its own
	do                func(ctx context.Context, r *run) error
}

// execute runs a verb and returns the exit code. The report has been written when it returns.
func execute(ctx context.Context, o Options, v verb) int {
	p, err := o.check(figureNames)
	if err != nil {
		fmt.Fprintf(o.stderr, "bench: %v\n", err)
		return report.Setup
	}
	if p.Users == 0 {
		p.Users = v.users
	}
	r := &run{plan: p, verb: v, began: time.Now(), screen: newScreen(o.stderr, o.Quiet), tolerate: len(p.faults) > 0}
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
		r.tearDown()
	}
	r.close()
	return r.finish(err)
}

// command is the line that repeats the run.
func (r *run) command() string {
	args := slices.Clone(r.argv)
	if r.drawn {
		args = append(args, fmt.Sprintf("--seed=%d", r.Seed))
	}
	for i, a := range args {
		if a == "" || strings.ContainsAny(a, " '\"$&|<>*?") {
			args[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		if strings.HasPrefix(a, "--secret") {
			args[i] = "--secret=***"
		}
	}
	return "go run ./bench " + strings.Join(args, " ")
}

// setUp checks the machine, finds or starts the cluster and gets a token for every user.
func (r *run) setUp(ctx context.Context) error {
	began := time.Now()
	want := doctor.Plan{Connections: r.Users, Processes: max(r.Workers, len(r.Agents), 1), Sources: 64}
	switch {
	case r.Standalone:
		want.Servers = 1 // one process, however many nodes
	case r.Local > 0:
		want.Servers = r.Local
	}
	if err := doctor.Check(want); err != nil {
		return setupError(err)
	}
	r.stageDone("doctor", began, "")
	began = time.Now()
	var err error
	switch {
	case r.Standalone:
		r.layout, err = local.Standalone(ctx, r.Nodes, r.Users, r.screen)
	case r.Local > 0:
		r.layout, err = local.Cluster(ctx, local.Options{Chat: r.Local, Users: r.Users, Log: r.screen, Progress: r.screen.progress})
	}
	if err != nil {
		return setupError(err)
	}
	watched := []watch.Watched{{Name: "generator", Pid: os.Getpid}}
	if l := r.layout; l != nil {
		r.FirstUID, r.Status, r.Secret, r.Gate = l.FirstUID, l.Status, l.Secret, l.Gate
		r.rep.Env.Layout = l.Name
		for _, n := range l.Nodes {
			watched = append(watched, watch.Watched{Name: n.Name, Ops: n.Ops, Pid: n.Proc.Pid})
		}
	} else {
		r.rep.Env.Layout = "a running cluster: " + r.Gate
		for _, o := range r.Ops {
			name, addr, ok := strings.Cut(o, "=")
			if !ok {
				name, addr = o, o
			}
			watched = append(watched, watch.Watched{Name: name, Ops: addr})
		}
	}
	r.stageDone("cluster", began, r.rep.Env.Layout)
	r.nodes = watch.WatchNodes(r.began, watched)
	if r.verb.alone {
		return nil
	}
	began = time.Now()
	if r.crew, err = r.newCrew(ctx, r.spec()); err != nil {
		return setupError(err)
	}
	r.screen.say(fmt.Sprintf("getting %d tokens from the status node", r.Users))
	if err := r.crew.Prepare(ctx); err != nil {
		return setupError(err)
	}
	r.stageDone("tokens", began, "")
	return nil
}

// spec is the fleet of the run.
func (r *run) spec() crew.Spec {
	return crew.Spec{
		FirstUID: r.FirstUID, Users: r.Users, Status: r.Status, Secret: r.Secret, Loops: r.Loops, Heartbeat: r.Heartbeat,
		Run: rand.Uint32() | 1, Seed: r.Seed, Cross: r.verb.cross, Resume: r.verb.resume, Reconnect: r.verb.reconnect, TextBytes: r.verb.text, Via: r.Via,
	}
}

type setupFailure struct{ error }

func setupError(err error) error { return setupFailure{err} }

// stageDone enters a stage that is no phase of the users.
func (r *run) stageDone(name string, began time.Time, note string) {
	r.rep.Stages = append(r.rep.Stages, report.Stage{
		Name: name, At: began.Sub(r.began).Seconds(), Seconds: time.Since(began).Seconds(), Note: note,
	})
}

// step is a phase with what the report says about it.
type step struct {
	name string
	swarm.Phase
	main     string // the histogram that stands for it
	measured bool   // the run's figures are about this one
	faults   bool   // the fault plan runs beside it
	show     bool   // the report has its histogram
}

// phase runs one phase and enters it.
func (r *run) phase(ctx context.Context, s step) (*swarm.Outcome, error) {
	began := time.Now()
	at := began.Sub(r.began).Seconds()
	r.screen.begin(s.name, s.Load.For+s.Warmup+s.For, r.crew.Live)
	var stopFaults func() error
	if s.faults && len(r.faults) > 0 {
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
	return o, err
}

// enter puts an outcome into the report.
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
		if h, err := hist.Decode(i.Hist); err == nil {
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
	if o.Ledger.Planned > 0 {
		l := o.Ledger // cumulative within the fleet
		r.rep.Ledger = &l
	}
	if s.measured {
		r.main.Add(h)
		r.lag.Add(o.Hist(swarm.HLag))
		if r.loadTo == 0 {
			r.loadFrom = at + s.Warmup.Seconds()
		}
		r.loadTo = at + o.Seconds
		r.openLoop = r.openLoop || stage.Loop == "open"
		for name := range maps.Keys(o.Hists) {
			r.figures(name, o.Hist(name))
		}
		r.rep.Figures["rate"] = stage.Rate
		r.rep.Figures["done"] = float64(stage.Done)
		r.rep.Figures["offered"] = float64(stage.Offered)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Hists)) {
		if s.measured || name == swarm.HOutage || s.show && name == s.main {
			r.rep.AddHist(s.name, name, histograms[name], o.Hist(name))
		}
	}
}

// histograms says what each is, in the report.
var histograms = map[string]string{
	swarm.HConnect:        "TCP connect",
	swarm.HLogin:          "1005 to 1006, on an open connection",
	swarm.HFull:           "connect and login, from the planned time",
	swarm.HPing:           "heartbeat, from the planned time",
	swarm.HPingService:    "heartbeat, from when it was sent",
	swarm.HAck:            "text stored and acknowledged, from the planned time",
	swarm.HAckService:     "the same, from when it was sent",
	swarm.HDeliver:        "text at its recipient, from the planned time",
	swarm.HDeliverService: "the same, from when it was sent",
	swarm.HLag:            "how late the generator itself was",
	swarm.HOutage:         "a user without a connection",
	swarm.HHistory:        "a page of history",
}

// figures makes a histogram something that assertions can be about.
func (r *run) figures(name string, h *hist.Hist) {
	for q, v := range map[string]int64{
		"p50": h.Quantile(.5), "p90": h.Quantile(.9), "p99": h.Quantile(.99), "p999": h.Quantile(.999), "max": h.Max(),
	} {
		r.rep.Figures[name+"."+q] = float64(v) / 1e9
	}
}

// figureNames are all names that an assertion may use.
var figureNames = func() []string {
	names := []string{
		"rate", "done", "offered", "errors", "p50", "p90", "p99", "p999", "max", "lost", "unstored", "missed", "duplicated",
		"reordered", "corrupt", "misrouted", "wrong", "unanswered", "refused", "late", "acked", "delivered", "online",
		"back50", "back90", "back99", "back100", "session_bytes", "everything_bytes", "knee",
	}
	for h := range histograms {
		for _, q := range []string{"p50", "p90", "p99", "p999", "max"} {
			names = append(names, h+"."+q)
		}
	}
	return names
}()

// breakThings carries the fault plan out beside a load that begins at from. The function returned waits for its end.
func (r *run) breakThings(ctx context.Context, from time.Time) func() error {
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		var errs []error
		for _, f := range r.faults {
			select {
			case <-time.After(time.Until(from.Add(f.At))):
			case <-ctx.Done():
				errs = append(errs, fmt.Errorf("fault %q was not reached: the load had ended", f))
				continue
			}
			at := time.Since(r.began).Seconds()
			r.screen.say(f.What + " " + f.Node)
			if err := r.layout.Do(ctx, f); err != nil {
				errs = append(errs, err)
				continue
			}
			r.rep.Marks = append(r.rep.Marks, report.Mark{At: at, Text: f.What + " " + f.Node})
			if d := time.Since(r.began).Seconds() - at; d > .5 {
				r.rep.Marks = append(r.rep.Marks, report.Mark{At: at + d, Text: f.Node + " ready again"})
			}
		}
		done <- errors.Join(errs...)
	}()
	return func() error {
		select {
		case err := <-done:
			cancel()
			return err
		case <-time.After(time.Second):
			cancel()
			return <-done
		}
	}
}

// tearDown ends all sessions and looks whether the nodes forgot them.
func (r *run) tearDown() {
	if r.crew == nil {
		return
	}
	r.rep.Self = r.crew.Self()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if _, err := r.crew.Run(ctx, swarm.Phase{Kind: "close"}); err != nil {
		r.rep.Notes = append(r.rep.Notes, "closing the sessions: "+err.Error())
	}
	note := "nobody to ask: no operations listener is known"
	for deadline := time.Now().Add(5 * time.Second); r.nodes != nil; {
		r.nodes.Look(ctx)
		left, known := 0.0, false
		for _, s := range r.nodes.Latest() {
			left += s.Sessions
			known = known || strings.HasPrefix(s.Name, "chat") || s.Name == "standalone" || len(r.Ops) > 0
		}
		if !known {
			break
		}
		if left == 0 {
			note = "all sessions gone from the nodes"
			break
		}
		if note = fmt.Sprintf("%.0f sessions still there 5 s after their connections closed", left); time.Now().After(deadline) {
			if r.layout != nil { // on somebody else's cluster they may be somebody else's
				r.rep.Errors["drain: "+note]++
			}
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.stageDone("drain", began, note)
}

// close stops everything.
func (r *run) close() {
	if r.crew != nil {
		r.crew.Close()
	}
	if r.nodes != nil {
		r.rep.Nodes, r.rep.Machine = r.nodes.Stop()
	}
	if r.layout != nil {
		for name, log := range r.layout.Logs() {
			lines := strings.Split(strings.TrimSpace(log), "\n")
			r.rep.Notes = append(r.rep.Notes, fmt.Sprintf("the log of %s speaks of an error: %s", name, lines[len(lines)-1]))
		}
		if err := r.layout.Close(); err != nil {
			r.rep.Notes = append(r.rep.Notes, "stopping the cluster: "+err.Error())
		}
	}
}

// finish judges, writes the report and returns the exit code.
func (r *run) finish(err error) int {
	r.rep.Seconds = time.Since(r.began).Seconds()
	r.judge(err)
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
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return fmt.Errorf("report: %w", err)
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

// judge fills in the verdict.
func (r *run) judge(err error) {
	rep := r.rep
	v := &rep.Verdict
	reasons := func(code int, text ...string) {
		if v.Code == report.Pass || severity(code) > severity(v.Code) {
			v.Code = code
		}
		v.Reasons = append(v.Reasons, text...)
	}
	if failure, ok := errors.AsType[setupFailure](err); ok {
		reasons(report.Setup, failure.Error())
	} else if err != nil {
		reasons(report.Missed, err.Error())
	}
	r.lastFigures()
	if l := rep.Ledger; l != nil {
		if n := l.Wrong(); n > 0 {
			reasons(report.Incorrect, fmt.Sprintf("the ledger found %d violations; the first: %s", n, firstFault(l)))
		}
		if l.Unanswered > 0 && !r.tolerate {
			reasons(report.Missed, fmt.Sprintf("%d texts were never answered", l.Unanswered))
		}
	}
	if why := r.generatorFault(); why != "" {
		reasons(report.Invalid, why)
	}
	if r.wantAll > 0 && err == nil {
		if got := int(rep.Figures["online"]); got < r.wantAll {
			reasons(report.Missed, fmt.Sprintf("%d of %d users got in", got, r.wantAll))
		}
	}
	rep.Asserts = assert.Hold(r.checks, rep.Figures)
	for _, a := range rep.Asserts {
		if !a.Pass && v.Code != report.Setup {
			reasons(report.Missed, fmt.Sprintf("%s does not hold: %.6g %s", a.Text, a.Got, a.Note))
		}
	}
	v.Word = report.Words[v.Code]
	if v.Code == report.Pass {
		if l := rep.Ledger; l != nil && l.Acked > 0 {
			how := "their history was not read"
			if l.HistoryChecked {
				how = "all found in the history"
			}
			v.Reasons = append(v.Reasons, fmt.Sprintf("%d texts acknowledged, %d delivered, none lost, doubled, reordered or misrouted; %s", l.Acked, l.Delivered, how))
		} else {
			v.Reasons = append(v.Reasons, "nothing failed that was looked at")
		}
	}
	rep.LimitedBy = r.limitedBy()
}

// severity orders verdicts: a wrong answer counts whatever the generator did; figures of a bad generator count for
// nothing.
func severity(code int) int {
	return map[int]int{report.Pass: 0, report.Missed: 1, report.Invalid: 2, report.Incorrect: 3, report.Setup: 4}[code]
}

// lastFigures adds what only the whole run knows.
func (r *run) lastFigures() {
	f := r.rep.Figures
	if r.main.Count() > 0 {
		for q, v := range map[string]float64{"p50": .5, "p90": .9, "p99": .99, "p999": .999} {
			f[q] = float64(r.main.Quantile(v)) / 1e9
		}
		f["max"] = float64(r.main.Max()) / 1e9
	}
	total := int64(0)
	for _, n := range r.rep.Errors {
		total += n
	}
	f["errors"] = float64(total)
	if l := r.rep.Ledger; l != nil {
		for name, n := range map[string]int64{
			"lost": l.Lost, "unstored": l.Unstored, "missed": l.Missed, "duplicated": l.Duplicated + l.StoredTwice, "reordered": l.Reordered,
			"corrupt": l.Corrupt, "misrouted": l.Misrouted, "wrong": l.Wrong(), "unanswered": l.Unanswered, "refused": l.Refused, "late": l.Late,
			"acked": l.Acked, "delivered": l.Delivered,
		} {
			f[name] = float64(n)
		}
	}
}

// say is for verbs that tell more than figures.
func (r *run) headline(name, value, note string) {
	r.rep.Headline = append(r.rep.Headline, report.Figure{Name: name, Value: value, Note: note})
}

// budget is a headline with a bar to clear.
func (r *run) budget(name, value, bar string, ok bool, note string) {
	r.rep.Headline = append(r.rep.Headline, report.Figure{Name: name, Value: value, Note: note, Budget: bar, Miss: !ok})
}

var _ io.Writer = (*screen)(nil)
