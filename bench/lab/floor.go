package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"parley/bench/crew"
	"parley/bench/floor"
	"parley/bench/local"
	"parley/bench/report"
	"parley/bench/swarm"
	"parley/bench/watch"
)

// rival is a server in the comparison.
type rival struct {
	name string
	crew crew.Crew
	pid  func() int
	rate []float64 // per second, by round
	cost []float64 // µs of server CPU per frame, by round
	p99  []float64 // ns
}

// FloorServer implements `bench floor-server`.
func FloorServer(ctx context.Context, kind string, members int, say func(string)) error {
	return floor.Serve(ctx, kind, members, func(addr string) { say("listening on " + addr) })
}

// startFloor starts a bare server, with its log in dir, and returns where it listens.
func startFloor(ctx context.Context, dir, name string, args ...string) (p *local.Process, addr string, err error) {
	p, err = local.Program(ctx, name, filepath.Join(dir, name+".log"), "listening on ", append([]string{"floor-server"}, args...)...)
	if err != nil {
		return nil, "", err
	}
	at, err := local.ReadyAddr(p)
	if err != nil {
		_ = p.Kill() // nothing uses it
		return nil, "", err
	}
	return p, at.String(), nil
}

// Floor compares heartbeats on a chat node with the same frames on servers that do nothing else, in alternating
// rounds.
func (l Lab) Floor(ctx context.Context, o Options, concurrency int, turn time.Duration) int {
	rounds := o.Rounds
	if rounds < 1 || concurrency < 1 || turn <= 0 {
		return l.refuse(errors.New("--rounds and --concurrency must be at least 1 and --turn more than 0"))
	}
	v := verb{name: "floor", what: "heartbeats on a chat node against servers that only answer frames, taking turns in one run", users: 256, cross: -1, crews: len(floor.Kinds) + 1, tcp: true}
	v.do = func(ctx context.Context, whole *run) error {
		r := &rivalry{run: whole}
		if r.Standalone {
			r.rep.Notes = append(r.rep.Notes, "the CPU of standalone is that of two nodes and the embedded stores; --local 1 compares a chat node alone")
		}
		dir, err := os.MkdirTemp("", "parley-floor-")
		if err != nil {
			return setupError(err)
		}
		defer os.RemoveAll(dir)
		defer func() {
			for _, v := range r.rivals {
				v.crew.Close()
			}
			r.crew = nil // it is one of those
		}()
		for _, kind := range floor.Kinds {
			p, addr, err := startFloor(ctx, dir, kind, "--kind", kind)
			if err != nil {
				return setupError(err)
			}
			defer func() { _ = p.Kill() }() // nothing else uses it
			s := r.spec()
			s.Fixed = []string{addr}
			if err := r.enlist(ctx, kind, p.Pid, s); err != nil {
				return err
			}
			r.nodes.Add(watch.Watched{Name: kind, Pid: p.Pid})
		}
		pid := func() int { return 0 }
		if r.layout != nil {
			for _, n := range r.layout.Nodes {
				if n.Name == "chat1" || n.Name == "standalone" {
					pid = n.Proc.Pid
				}
			}
		}
		if err := r.enlist(ctx, "chatnode", pid, r.spec()); err != nil {
			return err
		}
		for round := range rounds {
			order := slices.Clone(r.rivals)
			if round%2 == 1 {
				slices.Reverse(order) // so that no server always follows the same one
			}
			for _, v := range order {
				r.crew = v.crew
				before, _, _ := watch.Process(v.pid())
				out, err := r.phase(ctx, step{
					name: fmt.Sprintf("%s %d", v.name, round+1), main: swarm.HPing,
					Phase: swarm.Phase{Kind: "ping", Concurrency: concurrency, For: turn},
				})
				if err != nil {
					return err
				}
				after, _, _ := watch.Process(v.pid())
				h := out.Hist(swarm.HPing)
				n := float64(max(h.Count(), 1))
				v.rate = append(v.rate, n/turn.Seconds())
				v.cost = append(v.cost, (after-before)*1e6/n)
				v.p99 = append(v.p99, float64(h.Quantile(.99)))
				r.main.Add(h)
			}
		}
		r.compare(rounds, concurrency)
		return nil
	}
	return execute(ctx, l.options(o), v)
}

// rivalry is a run in which several servers take turns with heartbeats.
type rivalry struct {
	*run
	rivals []*rival
}

// enlist logs in the users at one server.
func (r *rivalry) enlist(ctx context.Context, name string, pid func() int, s crew.Spec) error {
	c, err := r.generators.crew(ctx, s)
	if err != nil {
		return setupError(err)
	}
	r.rivals = append(r.rivals, &rival{name: name, crew: c, pid: pid})
	if err := c.Prepare(ctx); err != nil {
		return setupError(err)
	}
	r.crew = c
	out, err := r.phase(ctx, step{name: "login at " + name, Phase: swarm.Phase{Kind: "login", Concurrency: 64}, main: swarm.HFull})
	if err == nil && int(out.Counters["logins"]) < r.Users {
		err = fmt.Errorf("only %d of %d users could log in at %s", out.Counters["logins"], r.Users, name)
	}
	return err
}

// compare reports the median of the rounds.
func (r *rivalry) compare(rounds, concurrency int) {
	t := report.Table{
		Title:  "the same heartbeats, taking turns",
		Header: []string{"server", "rate/s", "of netpoll", "server µs CPU a frame", "of netpoll", "p99"},
		Note:   fmt.Sprintf("medians of %d rounds; closed loop, %d unanswered over %d connections", rounds, concurrency, r.Users),
	}
	byName := map[string]*rival{}
	for _, v := range r.rivals {
		byName[v.name] = v
	}
	base := byName["netpoll"]
	for _, v := range r.rivals {
		t.Rows = append(t.Rows, []string{
			v.name, fmt.Sprintf("%.0f", median(v.rate)), fmt.Sprintf("%.2f", median(v.rate)/median(base.rate)),
			fmt.Sprintf("%.2f", median(v.cost)), fmt.Sprintf("%.2f", median(v.cost)/median(base.cost)),
			fmt.Sprintf("%.2f ms", median(v.p99)/1e6),
		})
	}
	r.rep.Tables = append(r.rep.Tables, t)
	node := byName["chatnode"]
	rate, cost := median(node.rate)/median(base.rate), median(node.cost)/median(base.cost)
	r.budget("rate of a bare netpoll echo", fmt.Sprintf("%.2f ×", rate), "0.9 ×", rate >= .9, "heartbeats on a chat node")
	r.budget("server CPU of a bare netpoll echo", fmt.Sprintf("%.2f ×", cost), "1.15 ×", cost <= 1.15, fmt.Sprintf("%.2f µs against %.2f µs a heartbeat", median(node.cost), median(base.cost)))
	r.rep.Figures["rate"] = median(node.rate)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
