package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"parley/bench/doctor"
	"parley/bench/report"
	"parley/bench/schedule"
	"parley/bench/seed"
	"parley/bench/swarm"
)

// Lab holds the command line and the destinations of the results.
type Lab struct {
	Stdout, Stderr io.Writer
	Args           []string // without the name of the program
	Shared         bool     // others work in this process too, so that its processor time says nothing of the generator
}

func (l Lab) options(o Options) Options {
	o.stdout, o.stderr, o.argv, o.shared = l.Stdout, l.Stderr, slices.Clone(l.Args), l.Shared
	return o
}

// LoadFlags are the flags of an open or closed loop.
type LoadFlags struct {
	Rate   float64       `help:"operations per second, whether answered or not (open loop)" default:"0"`
	Shape  string        `help:"constant, poisson, ramp:FROM-TO, step:A,B,C or burst:PERIOD" default:"poisson"`
	Closed int           `help:"closed loop: keep N operations unanswered, in place of --rate" placeholder:"N"`
	For    time.Duration `help:"how long the load lasts" default:"10s" short:"d"`
	Warmup time.Duration `help:"time before the load that is not measured" default:"2s"`
}

// check finds errors in a load before anything is started. rate is the verb's default.
func (f LoadFlags) check(rate float64) error {
	_, err := f.phase("", rate, 1)
	return err
}

// phase returns the load as a phase of a kind.
func (f LoadFlags) phase(kind string, rate float64, seed uint64) (swarm.Phase, error) {
	p := swarm.Phase{Kind: kind, Warmup: f.Warmup}
	switch {
	case f.For <= 0 || f.Warmup < 0:
		return p, errors.New("--for must be more than 0 and --warmup at least 0")
	case f.Rate < 0 || f.Closed < 0:
		return p, errors.New("--rate and --closed must not be negative")
	}
	if f.Closed > 0 {
		if f.Rate > 0 {
			return p, errors.New("--rate (open loop) and --closed exclude each other")
		}
		p.Concurrency, p.For = f.Closed, f.For
		return p, nil
	}
	if f.Rate > 0 {
		rate = f.Rate
	}
	var err error
	p.Load, err = schedule.Parse(f.Shape, rate, f.For, seed)
	return p, err
}

// Seed fills the stores of a cluster.
func (l Lab) Seed(ctx context.Context, config, dsn, redis string, users int, first int32) int {
	o := seed.Options{Users: users + users%2, FirstUID: first, DSN: dsn}
	began := time.Now()
	last := ""
	screen := newScreen(l.Stderr, false)
	o.Progress = func(step string, done, of int) {
		if step != last {
			screen.say("seeding " + step)
			last = step
		}
		screen.progress(step, done, of)
	}
	var err error
	switch {
	case config != "":
		var c seed.Config
		if c, err = seed.FromConfig(config, os.Environ()); err == nil {
			o.Redis = c.Redis
			if dsn == "" {
				o.DSN = c.Mysql.DSN()
			}
		}
	case dsn == "" || redis == "":
		err = errors.New("seed wants --config of a chat node, or --dsn and --redis")
	}
	if err == nil && redis != "" {
		o.Redis, err = seed.RedisAt(redis)
	}
	if err == nil {
		err = seed.Run(ctx, o)
	}
	screen.end()
	if err != nil {
		fmt.Fprintf(l.Stderr, "bench: %v\n", err)
		return report.Setup
	}
	if first == 0 {
		first = seed.FirstUID
	}
	fmt.Fprintf(l.Stdout, "%d users from %d on, friends in pairs, in %.1f s\n", o.Users, first, time.Since(began).Seconds())
	return report.Pass
}

// Doctor reports the limits of this machine.
func (l Lab) Doctor(users, workers, servers int) int {
	findings := doctor.Examine(doctor.Plan{Connections: users, Processes: workers, Sources: 64, Servers: servers})
	code := report.Pass
	for _, f := range findings {
		word := "ok  "
		if !f.OK {
			word, code = "LOW ", report.Setup
		}
		allows := ""
		if f.Connections > 0 {
			allows = fmt.Sprintf("-> %d connections", f.Connections)
		}
		fmt.Fprintf(l.Stdout, "%s  %-30s %s %s\n", word, f.What, f.Value, allows)
		if f.Fix != "" {
			fmt.Fprintf(l.Stdout, "      %s\n", f.Fix)
		}
	}
	fmt.Fprintf(l.Stdout, "\nlargest number of connections that can work here with %d generator processes: %d\n", max(workers, 1), doctor.Most(findings))
	return code
}

var errConcurrency = errors.New("--concurrency must be at least 1")

// Connect measures TCP connections without logins.
func (l Lab) Connect(ctx context.Context, o Options, concurrency int) int {
	if concurrency < 1 {
		return l.refuse(errConcurrency)
	}
	v := verb{name: "connect", what: "connections a second, without a login", users: 5000, cross: -1}
	v.do = func(ctx context.Context, r *run) error {
		out, err := r.phase(ctx, step{name: "connect", Phase: swarm.Phase{Kind: "connect", Concurrency: concurrency}, main: swarm.HConnect, measured: true, faults: false})
		if err != nil {
			return err
		}
		h := out.Hist(swarm.HConnect)
		r.rep.Figures["online"], r.wantAll = float64(h.Count()), r.Users
		r.headline("connections", fmt.Sprintf("%.0f/s", float64(h.Count())/out.Seconds), fmt.Sprintf("%d, %d at once", h.Count(), concurrency))
		r.latencyLine("connect", h)
		return nil
	}
	return execute(ctx, l.options(o), v)
}

// loginsAtOnce is the number of concurrent logins where they are only part of the set-up. With many processes on few
// cores, each must have several; otherwise most time is spent waking processes for a single login: 57 nodes and 57
// workers on two cores logged in 1,000 users a second with 128 at once. With 64 per worker, a login took longer than
// nodes wait for Redis.
func (r *run) loginsAtOnce() int { return max(128, 8*r.Workers) }

// logIn logs in all users, as the set-up of most verbs.
func (r *run) logIn(ctx context.Context) error { return r.logInSome(ctx, r.Users) }

// logInSome logs in the users that are to be online.
func (r *run) logInSome(ctx context.Context, users int) error {
	out, err := r.phase(ctx, step{name: "login", Phase: swarm.Phase{Kind: "login", Concurrency: r.loginsAtOnce()}, main: swarm.HFull, show: true})
	if err != nil {
		return err
	}
	r.rep.Figures["online"], r.wantAll = float64(out.Counters["logins"]), users
	if int(out.Counters["logins"]) < users {
		return fmt.Errorf("only %d of %d users could log in", out.Counters["logins"], users)
	}
	// A node checks for other nodes once a second; before that it cannot push to their users.
	_, err = r.phase(ctx, step{name: "settle", Phase: swarm.Phase{Kind: "hold", For: 1500 * time.Millisecond}})
	return err
}

// Login measures connecting plus logging in.
func (l Lab) Login(ctx context.Context, o Options, f LoadFlags, concurrency int, again, cold bool) int {
	if err := f.check(1); err != nil {
		return l.refuse(err)
	}
	if concurrency < 1 {
		return l.refuse(errConcurrency)
	}
	v := verb{name: "login", what: "logins a second on new connections: connect, token, presence, profile, lists, reply", users: 10000, cross: -1, cold: cold, turns: !again && !cold && f.Rate == 0}
	want := 11000.0
	if cold {
		v.what += "; profiles and lists are read from SQL"
		want = 4000
	}
	v.do = func(ctx context.Context, r *run) error {
		if r.turns != nil {
			return r.turns.logins(ctx, concurrency)
		}
		p := swarm.Phase{Kind: "login", Concurrency: concurrency, Again: again}
		if again {
			p.For = f.For
		}
		if f.Rate > 0 {
			open, err := f.phase("login", f.Rate, r.Seed)
			if err != nil {
				return err
			}
			open.Again, p = again, open
			p.Warmup = 0
		}
		out, err := r.phase(ctx, step{name: "login", Phase: p, main: swarm.HFull, measured: true, faults: true})
		if err != nil {
			return err
		}
		h := out.Hist(swarm.HFull)
		r.rep.Figures["online"] = float64(out.Counters["logins"])
		if !again {
			r.wantAll = r.Users
		}
		rate := float64(h.Count()) / out.Seconds
		nodes := max(len(r.crew.Nodes()), 1)
		r.rep.Env.Nodes = r.crew.Nodes()
		r.budget("logins", fmt.Sprintf("%.0f/s", rate), fmt.Sprintf("%.0f/s a node", want), rate/float64(nodes) >= want,
			fmt.Sprintf("%d users over %d nodes, %.0f/s a node; everything on this machine", h.Count(), nodes, rate/float64(nodes)))
		r.latencyLine("login", h)
		return nil
	}
	return execute(ctx, l.options(o), v)
}

// Ping measures heartbeats.
func (l Lab) Ping(ctx context.Context, o Options, f LoadFlags) int {
	if err := f.check(pingRate); err != nil {
		return l.refuse(err)
	}
	v := verb{name: "ping", what: "heartbeat round trips of logged-in users", users: 1000, cross: -1, turns: true}
	v.do = func(ctx context.Context, r *run) error {
		p, err := f.phase("ping", pingRate, r.Seed)
		if err != nil {
			return err
		}
		if err := r.logIn(ctx); err != nil {
			return err
		}
		if r.turns != nil {
			if err := r.turns.load(ctx, p, swarm.HPing, "heartbeats"); err != nil {
				return err
			}
			r.turns.compare("heartbeat", "heartbeats", f.Closed > 0)
			return nil
		}
		out, err := r.phase(ctx, step{name: "ping", Phase: p, main: swarm.HPing, measured: true, faults: true})
		if err != nil {
			return err
		}
		h := out.Hist(swarm.HPing)
		r.headline("heartbeats", fmt.Sprintf("%.0f/s", r.rep.Figures["rate"]), offeredNote(p))
		r.latencyLine("round trip", h)
		return nil
	}
	return execute(ctx, l.options(o), v)
}

// Default rates, in operations per second.
const (
	pingRate     = 5000
	chatRate     = 1000
	churnRate    = 200
	presenceRate = 50
)

// ChatFlags are the flags of a load of texts.
type ChatFlags struct {
	LoadFlags `embed:""`
	Cross     float64 `help:"share of the pairs whose users are on different nodes, 0 to 1" default:"0.5"`
	Size      int     `help:"size of a text in bytes, 72 to 4096" default:"100"`
	Marks     float64 `help:"share of the texts that their recipients mark as read, 0 to 1" default:"0"`
	NoVerify  bool    `help:"do not read the history back"`
}

func (f ChatFlags) check(rate float64) error {
	if f.Cross < 0 || f.Cross > 1 || f.Size < 72 || f.Size > 4096 {
		return errors.New("--cross must be 0 to 1 and --size 72 to 4096")
	}
	if f.Marks < 0 || f.Marks > 1 {
		return errors.New("--marks must be 0 to 1")
	}
	return f.LoadFlags.check(rate)
}

// refuse reports that a command line cannot be executed, before anything is started.
func (l Lab) refuse(err error) int {
	fmt.Fprintf(l.Stderr, "bench: %v\n", err)
	return report.Setup
}

// Chat measures texts, and verifies that none is lost.
func (l Lab) Chat(ctx context.Context, o Options, f ChatFlags) int {
	if err := f.check(chatRate); err != nil {
		return l.refuse(err)
	}
	v := verb{name: "chat", what: "one-to-one texts: stored, acknowledged, delivered", users: 1000, cross: f.Cross, text: f.Size, marks: f.Marks, turns: true}
	v.do = func(ctx context.Context, r *run) error {
		p, err := f.phase("chat", chatRate, r.Seed)
		if err != nil {
			return setupError(err)
		}
		if r.tolerate {
			p.Patience = 30 * time.Second
		}
		if err := r.logIn(ctx); err != nil {
			return err
		}
		if _, err := r.phase(ctx, step{name: "threads", Phase: swarm.Phase{Kind: "threads"}}); err != nil {
			return err
		}
		if r.turns != nil {
			if err = r.turns.load(ctx, p, swarm.HAck, "acked"); err == nil {
				r.turns.compare("text", "texts", f.Closed > 0)
			}
		} else {
			err = r.chat(ctx, p, "chat")
		}
		if err != nil {
			return err
		}
		if f.NoVerify {
			return nil
		}
		return r.verify(ctx)
	}
	return execute(ctx, l.options(o), v)
}

// chat runs the load of texts and reports the result.
func (r *run) chat(ctx context.Context, p swarm.Phase, name string) error {
	out, err := r.phase(ctx, step{name: name, Phase: p, main: swarm.HAck, measured: true, faults: true})
	if err != nil {
		return err
	}
	r.headline("texts stored", fmt.Sprintf("%.0f/s", r.rep.Figures["rate"]), offeredNote(p))
	r.latencyLine("stored", out.Hist(swarm.HAck))
	r.latencyLine("delivered", out.Hist(swarm.HDeliver))
	if h := out.Hist(swarm.HMark); h.Count() > 0 {
		r.latencyLine("marked as read", h)
	}
	if h := out.Hist(swarm.HOutage); h.Count() > 0 {
		r.latencyLine("outage of a user", h)
	}
	return nil
}

func offeredNote(p swarm.Phase) string {
	if p.Concurrency > 0 {
		return fmt.Sprintf("closed loop, %d unanswered at once", p.Concurrency)
	}
	return fmt.Sprintf("offered %s, on average %.0f/s (open loop)", p.Load.Shape, float64(p.Load.Total())/p.Load.For.Seconds())
}

// Storm drops all connections at once.
func (l Lab) Storm(ctx context.Context, o Options, spread, limit time.Duration) int {
	if spread < 0 || limit <= 0 {
		return l.refuse(errors.New("--spread must be at least 0 and --limit more than 0"))
	}
	v := verb{name: "storm", what: "everybody loses the connection at once and comes back", users: 5000, cross: -1, resume: true, reconnect: true}
	v.do = func(ctx context.Context, r *run) error {
		if err := r.logIn(ctx); err != nil {
			return err
		}
		return r.storm(ctx, spread, limit)
	}
	return execute(ctx, l.options(o), v)
}

func (r *run) storm(ctx context.Context, spread, limit time.Duration) error {
	r.rep.Marks = append(r.rep.Marks, report.Mark{At: time.Since(r.began).Seconds(), Text: "all connections dropped"})
	out, err := r.phase(ctx, step{name: "storm", Phase: swarm.Phase{Kind: "storm", Spread: spread, For: limit}, main: swarm.HFull, measured: true, faults: true})
	if err != nil {
		return err
	}
	slices.Sort(out.BackAt)
	note := "with resume tickets, all at once"
	if spread > 0 {
		note = fmt.Sprintf("with resume tickets, at random moments within %v", spread)
	}
	for _, q := range []struct {
		name  string
		share float64
	}{{"50", .5}, {"90", .9}, {"99", .99}, {"100", 1}} {
		need := int(float64(r.Users)*q.share + .5)
		if need == 0 || need > len(out.BackAt) {
			r.headline(q.name+" % back", "never", note)
			continue
		}
		at := out.BackAt[need-1]
		r.rep.Figures["back"+q.name] = at
		r.headline(q.name+" % back", fmt.Sprintf("%.2f s", at), note)
	}
	r.rep.Figures["online"], r.wantAll = float64(len(out.BackAt)), r.Users
	return nil
}

// Churn measures logins while other users stay connected.
func (l Lab) Churn(ctx context.Context, o Options, f LoadFlags) int {
	if err := f.check(churnRate); err != nil {
		return l.refuse(err)
	}
	v := verb{name: "churn", what: "users leave and come back at a steady rate", users: 2000, cross: -1, resume: true, reconnect: true}
	v.do = func(ctx context.Context, r *run) error {
		f.Warmup = 0 // logins need none: each one is new
		p, err := f.phase("churn", churnRate, r.Seed)
		if err != nil {
			return err
		}
		if err := r.logIn(ctx); err != nil {
			return err
		}
		out, err := r.phase(ctx, step{name: "churn", Phase: p, main: swarm.HFull, measured: true, faults: true})
		if err != nil {
			return err
		}
		r.headline("came back", fmt.Sprintf("%.0f/s", r.rep.Figures["rate"]), offeredNote(p))
		r.latencyLine("back in", out.Hist(swarm.HFull))
		return nil
	}
	return execute(ctx, l.options(o), v)
}

// Mixed runs a typical mix: most users idle, some come and go, some chat.
func (l Lab) Mixed(ctx context.Context, o Options, f ChatFlags, churn float64) int {
	if err := f.check(chatRate); err != nil {
		return l.refuse(err)
	}
	if _, err := schedule.Parse("poisson", churn, f.Warmup+f.For, 1); err != nil {
		return l.refuse(fmt.Errorf("--churn: %w", err))
	}
	v := verb{name: "mixed", what: "most users idle, some come and go, one in five talks", users: 2000, cross: f.Cross, text: f.Size, marks: f.Marks, resume: true, reconnect: true}
	v.do = func(ctx context.Context, r *run) error {
		p, err := f.phase("chat", float64(r.Users)/10, r.Seed)
		if err != nil {
			return setupError(err)
		}
		p.Churn, err = schedule.Parse("poisson", churn, f.Warmup+f.For, r.Seed+1)
		if err != nil {
			return setupError(err)
		}
		if err := r.logIn(ctx); err != nil {
			return err
		}
		if _, err := r.phase(ctx, step{name: "threads", Phase: swarm.Phase{Kind: "threads", Users: r.Users / 5}}); err != nil {
			return err
		}
		if err := r.chat(ctx, p, "mixed"); err != nil {
			return err
		}
		if f.NoVerify {
			return nil
		}
		return r.verify(ctx)
	}
	return execute(ctx, l.options(o), v)
}
