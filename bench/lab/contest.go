package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/bench/crew"
	"parley/bench/floor"
	"parley/bench/foreign"
	"parley/bench/hist"
	"parley/bench/ledger"
	"parley/bench/report"
	"parley/bench/schedule"
	"parley/bench/swarm"
	"parley/bench/watch"
)

// CompareFlags are the flags of a comparison with other servers.
type CompareFlags struct {
	Rate        float64       `help:"texts per second of the open loop, whether answered or not; 0 leaves it out" default:"500"`
	Shape       string        `help:"constant, poisson, ramp:FROM-TO, step:A,B,C or burst:PERIOD" default:"poisson"`
	Closed      int           `help:"texts unanswered in the closed loop; 0 leaves it out" default:"256" placeholder:"N"`
	For         time.Duration `help:"length of each loop in a turn" default:"3s" short:"d"`
	Warmup      time.Duration `help:"time before each loop that is not measured" default:"500ms"`
	Size        int           `help:"size of a text in bytes, 72 to 4096" default:"100"`
	Concurrency int           `help:"logins under way" default:"64"`
	Pid         []string      `help:"processes of a server on this machine, for its CPU per text" placeholder:"NAME=PID[+PID]"`
}

// compareUsers is the default number of users: so many that Parley's limit per user, 50 texts per second, does not decide.
const compareUsers = 800

// parleyName is what Parley is called among the contenders.
const parleyName = "parley"

// contender is a server in the comparison.
type contender struct {
	name    string
	kind    string // "" is Parley
	address string // "": bench starts it
	pids    []func() int
	crew    crew.Crew

	logins, open, closed series
	books                ledger.Summary
}

// series is the same phase in all rounds at one server.
type series struct {
	rate, p50, p99, p999   []float64 // of acknowledgements or logins; ns
	got50, got99, got999   []float64 // of deliveries; ns
	cost                   []float64 // seconds of CPU per operation; empty if unknown
	cores                  float64   // of the generator: most in one round
	answers, arrivals, lag *hist.Hist
}

func newSeries() series {
	return series{answers: hist.New(), arrivals: hist.New(), lag: hist.New()}
}

// parseContenders reads the servers of a command line.
func parseContenders(servers, pids []string) ([]*contender, error) {
	all := []*contender{{name: parleyName}}
	for _, s := range servers {
		name, address, _ := strings.Cut(s, "=")
		kind, ok := foreign.KindOf(name)
		switch {
		case !ok:
			return nil, fmt.Errorf("there is no driver for %q: want NAME=ADDRESS, where NAME begins with one of %s", name, strings.Join(foreign.Kinds(), ", "))
		case slices.ContainsFunc(all, func(c *contender) bool { return c.name == name }):
			return nil, fmt.Errorf("two servers are called %s: call one of them %s-2", name, name)
		case address == "" && kind != floor.Echo:
			return nil, fmt.Errorf("%s needs an address, as in %s=ADDRESS: only %s is started here", name, name, floor.Echo)
		}
		if address != "" {
			if _, err := foreign.New(name, address, 1); err != nil {
				return nil, err
			}
		}
		all = append(all, &contender{name: name, kind: kind, address: address})
	}
	for _, s := range pids {
		name, list, _ := strings.Cut(s, "=")
		i := slices.IndexFunc(all, func(c *contender) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--pid %s: no server is called %s", s, name)
		}
		for p := range strings.SplitSeq(list, "+") {
			pid, err := strconv.Atoi(p)
			if _, _, ok := watch.Process(pid); err != nil || !ok {
				return nil, fmt.Errorf("--pid %s: no process has this number here", s)
			}
			all[i].pids = append(all[i].pids, func() int { return pid })
		}
	}
	for _, c := range all {
		c.logins, c.open, c.closed = newSeries(), newSeries(), newSeries()
	}
	return all, nil
}

func (f CompareFlags) check() error {
	switch {
	case f.Rate < 0 || f.Closed < 0 || f.Rate == 0 && f.Closed == 0:
		return errors.New("--rate and --closed must not be negative, nor both 0")
	case f.For <= 0 || f.Warmup < 0:
		return errors.New("--for must be more than 0 and --warmup at least 0")
	case f.Size < ledger.MinText || f.Size > 4096:
		return fmt.Errorf("--size must be %d to 4096", ledger.MinText)
	case f.Concurrency < 1:
		return errConcurrency
	case f.Rate > 0:
		_, err := schedule.Parse(f.Shape, f.Rate, f.For, 1)
		return err
	}
	return nil
}

// Compare gives Parley and other servers the same users and the same load, in turns.
func (l Lab) Compare(ctx context.Context, o Options, f CompareFlags, servers []string) int {
	all, err := parseContenders(servers, f.Pid)
	if err == nil {
		err = f.check()
	}
	if err == nil && o.Rounds < 1 {
		err = errors.New("--rounds must be at least 1")
	}
	if err == nil && o.Fault != "" {
		err = errors.New("compare takes no --fault: nothing can be done to the other servers")
	}
	if err != nil {
		return l.refuse(err)
	}
	v := verb{
		name: "compare", what: "the same users and texts at several servers, taking turns in one run", users: compareUsers, cross: -1, text: f.Size, crews: len(all), tcp: true,
	}
	v.do = func(ctx context.Context, whole *run) error {
		r := &contest{whole, f, all}
		defer func() { r.crew = nil }() // it is one of those that are closed by then
		for _, c := range all {
			defer func() {
				if c.crew != nil {
					c.crew.Close()
				}
			}()
			stop, err := r.admit(ctx, c)
			defer stop()
			if err != nil {
				return setupError(err)
			}
		}
		for round := range r.Rounds {
			order := slices.Clone(all)
			if round%2 == 1 {
				slices.Reverse(order) // so that no server always follows the same one
			}
			for _, c := range order {
				if err := r.take(ctx, c, round); err != nil {
					return err
				}
			}
		}
		r.compare()
		return nil
	}
	return execute(ctx, l.options(o), v)
}

// contest is a run in which several servers take turns.
type contest struct {
	*run
	f   CompareFlags
	all []*contender
}

// admit makes the users of a server, and starts it if bench is to. stop is never nil.
func (r *contest) admit(ctx context.Context, c *contender) (stop func(), err error) {
	stop = func() {}
	s := r.spec()
	if c.kind == "" {
		if r.layout != nil {
			for _, n := range r.layout.Nodes {
				c.pids = append(c.pids, n.Proc.Pid)
			}
		}
	} else {
		if c.address == "" {
			dir, err := os.MkdirTemp("", "parley-compare-")
			if err != nil {
				return stop, err
			}
			stop = func() { os.RemoveAll(dir) }
			p, addr, err := startFloor(ctx, dir, c.name, "--kind", floor.Echo)
			if err != nil {
				return stop, err
			}
			stop = func() {
				_ = p.Kill() // nothing else uses it
				os.RemoveAll(dir)
			}
			c.address, c.pids = "tcp://"+addr, append(c.pids, p.Pid)
		}
		for _, pid := range c.pids {
			r.nodes.Add(watch.Watched{Name: c.name, Pid: pid})
		}
		s.Foreign, s.Address = c.name, c.address
	}
	c.crew, err = r.generators.crew(ctx, s)
	return stop, err
}

// betweenTurns is how long a server has to forget the users of a turn before the next server's begins.
const betweenTurns = 500 * time.Millisecond

// take is one turn of a server: all users log in, chat and leave.
func (r *contest) take(ctx context.Context, c *contender, round int) error {
	f := &r.f
	r.crew = c.crew
	if c.kind == "" || round == 0 { // Parley's tokens serve once
		if err := c.crew.Prepare(ctx); err != nil {
			return setupError(fmt.Errorf("%s: %w", c.name, err))
		}
	}
	name := fmt.Sprintf("%s %d", c.name, round+1)
	out, err := r.measure(ctx, c, &c.logins, step{name: name + " login", Phase: swarm.Phase{Kind: "login", Concurrency: f.Concurrency}, main: swarm.HFull})
	if err == nil && int(out.Counters["logins"]) < r.Users {
		err = fmt.Errorf("only %d of %d users could log in at %s", out.Counters["logins"], r.Users, c.name)
	}
	if err != nil {
		return err
	}
	if round == 0 {
		out, err := c.crew.Run(ctx, swarm.Phase{Kind: "threads"})
		if err == nil && int(out.Counters["threads"]) < r.Users/2 {
			err = fmt.Errorf("%d of %d pairs have no thread at %s; %v", r.Users/2-int(out.Counters["threads"]), r.Users/2, c.name, out.Errors)
		}
		if err == nil && c.kind == "" { // Parley's nodes look for each other once a second
			_, err = c.crew.Run(ctx, swarm.Phase{Kind: "hold", For: 1500 * time.Millisecond})
		}
		if err != nil {
			return err
		}
	}
	if f.Rate > 0 {
		load, err := schedule.Parse(f.Shape, f.Rate, f.For, r.Seed+uint64(round)) // the same for all servers in a round
		if err != nil {
			return err
		}
		p := swarm.Phase{Kind: "chat", Load: load, Warmup: f.Warmup}
		if _, err := r.measure(ctx, c, &c.open, step{name: name + " open", Phase: p, main: swarm.HAck, measured: c.kind == ""}); err != nil {
			return err
		}
	}
	if f.Closed > 0 {
		p := swarm.Phase{Kind: "chat", Concurrency: f.Closed, For: f.For, Warmup: f.Warmup}
		if _, err := r.measure(ctx, c, &c.closed, step{name: name + " closed", Phase: p, main: swarm.HAck, measured: c.kind == "" && f.Rate == 0}); err != nil {
			return err
		}
	}
	for _, p := range []swarm.Phase{{Kind: "close"}, {Kind: "hold", For: betweenTurns}} {
		if _, err := c.crew.Run(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// measure runs a phase and adds its outcome to a series.
func (r *contest) measure(ctx context.Context, c *contender, to *series, s step) (*swarm.Outcome, error) {
	s.turn, s.foreign = true, c.kind != ""
	before, known := c.cpu()
	out, err := r.phase(ctx, s)
	if err != nil {
		return out, err
	}
	after, _ := c.cpu()
	h, got, lag := out.Hist(s.main), out.Hist(swarm.HDeliver), out.Hist(swarm.HLag)
	seconds := max(s.For, s.Load.For).Seconds()
	if seconds == 0 {
		seconds = out.Seconds
	}
	to.rate = append(to.rate, float64(h.Count())/max(seconds, 1e-3))
	for q, lists := range map[float64][2]*[]float64{.5: {&to.p50, &to.got50}, .99: {&to.p99, &to.got99}, .999: {&to.p999, &to.got999}} {
		*lists[0] = append(*lists[0], float64(h.Quantile(q)))
		*lists[1] = append(*lists[1], float64(got.Quantile(q)))
	}
	if n := out.Counters["acked"]; known && n > 0 { // with those of the warm-up
		to.cost = append(to.cost, (after-before)/float64(n))
	} else if n := out.Counters["logins"]; known && n > 0 {
		to.cost = append(to.cost, (after-before)/float64(n))
	}
	for _, used := range out.Cores {
		to.cores = max(to.cores, used)
	}
	to.answers.Add(h)
	to.arrivals.Add(got)
	to.lag.Add(lag)
	if out.Ledger.Planned > 0 {
		c.books = out.Ledger
	}
	return out, nil
}

// cpu returns the seconds of CPU that a server has used.
func (c *contender) cpu() (sum float64, known bool) {
	for _, pid := range c.pids {
		used, _, ok := watch.Process(pid())
		sum, known = sum+used, known || ok
	}
	return sum, known
}

// compare reports the medians of the rounds beside Parley's.
func (r *contest) compare() {
	all, f := r.all, &r.f
	note := fmt.Sprintf("medians of %d rounds with the same %d users; ratios to %s", r.Rounds, r.Users, all[0].name)
	if f.Rate > 0 {
		r.compareSeries(func(c *contender) *series { return &c.open }, "open loop",
			fmt.Sprintf("%s of %.0f texts per second, counted from the planned time; %s", f.Shape, f.Rate, note))
	}
	if f.Closed > 0 {
		r.compareSeries(func(c *contender) *series { return &c.closed }, "closed loop", fmt.Sprintf("%d unanswered; %s", f.Closed, note))
	}
	r.compareSeries(func(c *contender) *series { return &c.logins }, "logins", fmt.Sprintf("%d under way, on new connections; %s", f.Concurrency, note))
	r.compareBooks()
	for _, c := range all {
		note := fmt.Sprintf("logins %.0f/s", median(c.logins.rate))
		if f.Rate > 0 {
			note += fmt.Sprintf("; at %.0f/s acknowledged after %s (p50), %s (p99)", f.Rate, hist.Format(int64(median(c.open.p50))), hist.Format(int64(median(c.open.p99))))
		}
		rate, loop := c.closed.rate, "closed loop"
		if f.Closed == 0 {
			rate, loop = c.open.rate, "open loop"
		}
		r.headline(c.name, fmt.Sprintf("%.0f texts/s", median(rate)), loop+"; "+note)
		one, name := &c.open, "open loop" // the curves of one loop, or the chart would be crowded
		if f.Rate == 0 {
			one, name = &c.closed, "closed loop"
		}
		r.rep.AddHist(name, c.name+" ack", "text acknowledged, in all rounds", one.answers)
		r.rep.AddHist(name, c.name+" deliver", "text at its recipient, in all rounds", one.arrivals)
	}
	r.rep.Figures["rate"] = median(all[0].closed.rate)
	if f.Closed == 0 {
		r.rep.Figures["rate"] = median(all[0].open.rate)
	}
}

// compareSeries adds a table of one phase.
func (r *contest) compareSeries(of func(*contender) *series, title, note string) {
	texts := title != "logins"
	base := of(r.all[0])
	t := report.Table{Title: title, Note: note, Header: []string{"server", "rate/s", "ratio", "p50", "ratio", "p99", "ratio", "p99.9"}}
	if texts {
		t.Header = append(t.Header, "delivered p50", "p99", "p99.9")
	}
	t.Header = append(t.Header, "server CPU µs each", "ratio", "generator cores")
	ms := func(v []float64) string { return hist.Format(int64(median(v))) }
	ratio := func(v, to []float64) string {
		if median(to) == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f", median(v)/median(to))
	}
	for _, c := range r.all {
		s := of(c)
		row := []string{
			c.name, fmt.Sprintf("%.0f", median(s.rate)), ratio(s.rate, base.rate), ms(s.p50), ratio(s.p50, base.p50), ms(s.p99), ratio(s.p99, base.p99), ms(s.p999),
		}
		if texts {
			row = append(row, ms(s.got50), ms(s.got99), ms(s.got999))
		}
		cost, costRatio := "-", "-"
		if len(s.cost) > 0 {
			cost, costRatio = fmt.Sprintf("%.0f", median(s.cost)*1e6), ratio(s.cost, base.cost)
		}
		t.Rows = append(t.Rows, append(row, cost, costRatio, fmt.Sprintf("%.2f", s.cores)))
		if late := s.lag.Quantile(.99); late > int64(r.MaxLag) && late*4 > int64(median(s.p99)) {
			r.rep.Notes = append(r.rep.Notes, fmt.Sprintf("%s, %s: the generator itself was late by %s (p99), so these latencies say little about the server", title, c.name, hist.Format(late)))
		}
		if r.saturated(s.cores) {
			r.rep.Notes = append(r.rep.Notes, fmt.Sprintf("%s, %s: the generator used %.2f of the %d cores its loops can use: the server could do more", title, c.name, s.cores, r.Loops))
		}
	}
	r.rep.Tables = append(r.rep.Tables, t)
}

// parleyMeaning says what Parley's figures stand for.
var parleyMeaning = foreign.Meaning{
	Login: "a token that serves once, one live session per device, profile, friends, threads",
	Ack:   "committed in SQL, under its number in the thread",
}

// compareBooks adds what became of the texts, and what the figures stand for.
func (r *contest) compareBooks() {
	books := report.Table{
		Title: "what became of the texts", Header: []string{"server", "sent", "acknowledged", "refused", "unanswered", "delivered", "lost", "doubled", "out of order", "other faults"},
		Note: "lost: acknowledged and not delivered to a user who was there all the time; only Parley's faults decide the verdict",
	}
	means := report.Table{Title: "what is compared", Header: []string{"server", "acknowledged means", "a login is"}, Note: "docs/COMPARE.md has the rest"}
	for _, c := range r.all {
		l := c.books
		row := []string{c.name}
		for _, n := range []int64{
			l.Sent, l.Acked, l.Refused, l.Unanswered, l.Delivered, l.Lost + l.Missed, l.Duplicated + l.StoredTwice, l.Reordered,
			l.Corrupt + l.Misrouted + l.WrongSeq + l.AckedTwice,
		} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		books.Rows = append(books.Rows, row)
		m := parleyMeaning
		if c.kind != "" {
			m = foreign.MeaningOf(c.kind)
		}
		means.Rows = append(means.Rows, []string{c.name, m.Ack, m.Login})
	}
	r.rep.Tables = append(r.rep.Tables, books, means)
}
