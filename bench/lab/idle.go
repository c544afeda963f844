package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	"parley/bench/ledger"
	"parley/bench/report"
	"parley/bench/schedule"
	"parley/bench/swarm"
	"parley/bench/watch"
)

// plateau is the memory at one number of sessions, in bytes.
type plateau struct {
	sessions                                         float64
	server, redis, generator, slab, procfs, consumed float64
	live                                             float64 // of the server
}

// settled bounds how long the plateau before the last is held, until the runtime has returned the memory it will
// return.
const settled = 40 * time.Second

// talkers is the maximum number of users that send texts while the others idle.
const talkers = 2000

// Idle measures the cost of a session by the slope over several plateaus. If texts per second is above 0, some users
// send texts while the last plateau is held.
func (l Lab) Idle(ctx context.Context, o Options, plateaus int, hold time.Duration, texts float64) int {
	switch {
	case plateaus < 2:
		return l.refuse(fmt.Errorf("a slope takes two plateaus, not %d: raise --plateaus", plateaus))
	case hold <= 0 || texts < 0:
		return l.refuse(errors.New("--hold must be more than 0 and --texts at least 0"))
	}
	if texts > 0 && len(o.Transport) > 1 {
		return l.refuse(errors.New("--texts takes one transport at a time"))
	}
	if texts > 0 {
		if _, err := schedule.Parse("poisson", texts, hold, 1); err != nil {
			return l.refuse(fmt.Errorf("--texts: %w", err))
		}
	}
	v := verb{name: "idle", what: "logged-in sessions with heartbeats and little else: what each costs in memory", users: 10000, cross: -1, text: ledger.MinText, turns: true}
	v.do = func(ctx context.Context, r *run) error {
		if r.turns != nil {
			return r.turns.idle(ctx, hold)
		}
		last := step{name: fmt.Sprintf("hold %d", r.Users), Phase: swarm.Phase{Kind: "hold", For: hold}, main: swarm.HPing}
		if texts > 0 {
			load, err := schedule.Parse("poisson", texts, hold, r.Seed)
			if err != nil {
				return setupError(err)
			}
			last.Phase = swarm.Phase{Kind: "chat", Load: load}
			last.main, last.measured = swarm.HAck, true
		}
		var seen []plateau
		before, _ := watch.Memory()
		sc := &scales{r, before}
		for i := range plateaus {
			users := r.Users * (i + 1) / plateaus
			if _, err := r.phase(ctx, step{
				name: fmt.Sprintf("login to %d", users), Phase: swarm.Phase{Kind: "login", Concurrency: r.loginsAtOnce(), Users: users}, main: swarm.HFull,
			}); err != nil {
				return err
			}
			// Memory left from the logins is returned to the system while the plateau is held. The runtime collects
			// every two minutes anyway; while texts flow, the nodes of one machine must not all collect at once.
			over := time.Duration(0)
			if users == r.Users && texts > 0 && r.Local > 2*runtime.NumCPU() {
				over = 2 * time.Minute
			}
			sc.collect(ctx, over)
			held := step{name: fmt.Sprintf("hold %d", users), Phase: swarm.Phase{Kind: "hold", For: min(hold, settled)}, main: swarm.HPing}
			if users == r.Users {
				held = last
				if texts > 0 {
					if _, err := r.phase(ctx, step{name: "threads", Phase: swarm.Phase{Kind: "threads", Users: min(talkers, users)}}); err != nil {
						return err
					}
				}
			}
			out, err := r.phase(ctx, held)
			if err != nil {
				return err
			}
			if held.measured {
				r.headline("texts stored meanwhile", fmt.Sprintf("%.0f/s", r.rep.Figures["rate"]), offeredNote(held.Phase))
				r.latencyLine("stored", out.Hist(swarm.HAck))
				r.latencyLine("delivered", out.Hist(swarm.HDeliver))
			}
			seen = append(seen, sc.weigh(ctx))
		}
		r.rep.Figures["online"], r.wantAll = float64(r.crew.Live().Online), r.Users
		sc.weighed(seen)
		if texts > 0 {
			return r.verify(ctx)
		}
		return nil
	}
	return execute(ctx, l.options(o), v)
}

// scales weigh the processes of a run.
type scales struct {
	*run
	before int64 // memory of the machine that was available before the first login
}

// weigh runs garbage collections everywhere and reads the memory.
func (r *scales) weigh(ctx context.Context) (p plateau) {
	r.collect(ctx, 0)
	r.nodes.Look(ctx)
	p.sessions = float64(r.crew.Live().Online)
	for name, s := range r.nodes.Latest() {
		switch {
		case strings.HasPrefix(name, "chat") || name == "standalone":
			p.server += float64(s.RSS)
			p.live += s.Live
		case name == "redis":
			p.redis = float64(s.RSS)
		case name == "generator" || strings.HasPrefix(name, "worker"):
			p.generator += float64(s.RSS)
		}
	}
	available, slab := watch.Memory()
	p.procfs = float64(watch.ProcEntries())
	p.slab, p.consumed = float64(slab)-p.procfs, float64(r.before-available)
	return p
}

// collect makes all processes collect their garbage, one after the other, spread over the given time.
func (r *scales) collect(ctx context.Context, over time.Duration) {
	runtime.GC()
	if r.layout == nil {
		return
	}
	began := time.Now()
	for i, n := range r.layout.Nodes {
		select {
		case <-time.After(time.Until(began.Add(over * time.Duration(i) / time.Duration(len(r.layout.Nodes))))):
		case <-ctx.Done():
			return
		}
		if n.Ops != "" {
			collect(ctx, n.Ops)
		}
	}
}

// collect makes a node collect its garbage by requesting its profile endpoint.
func collect(ctx context.Context, ops string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return
	}
	if rsp, err := http.DefaultClient.Do(req); err == nil {
		rsp.Body.Close()
	}
}

// weighed computes bytes per session from plateaus.
func (r *scales) weighed(seen []plateau) {
	t := report.Table{
		Title: "memory by sessions", Header: []string{"sessions", "server RSS MiB", "redis RSS MiB", "generator RSS MiB", "kernel slab MiB", "/proc MiB", "machine MiB"},
		Note: "after a collection everywhere; /proc: inodes and names that listing /proc leaves in the slab until memory is short, in no sum; machine: how much less memory is available than before the first login, whatever other programs do meanwhile",
	}
	for _, p := range seen {
		row := []string{fmt.Sprintf("%.0f", p.sessions)}
		for _, v := range []float64{p.server, p.redis, p.generator, p.slab, p.procfs, p.consumed} {
			row = append(row, fmt.Sprintf("%.1f", v/(1<<20)))
		}
		t.Rows = append(t.Rows, row)
	}
	r.rep.Tables = append(r.rep.Tables, t)
	server := slope(seen, func(p plateau) float64 { return p.server })
	generator := slope(seen, func(p plateau) float64 { return p.generator })
	slab := slope(seen, func(p plateau) float64 { return p.slab })
	// Use the sum of the parts, because the available memory also depends on other programs.
	whole := slope(seen, func(p plateau) float64 { return p.server + p.redis + p.generator + p.slab })
	r.rep.Figures["session_bytes"], r.rep.Figures["everything_bytes"] = server, whole
	r.headline("sessions held", fmt.Sprintf("%.0f", seen[len(seen)-1].sessions), fmt.Sprintf("heartbeat %v", r.Heartbeat))
	r.budget("server a session", kib(server), "4 KiB", server <= 4<<10, "slope of the nodes' RSS")
	r.budget("everything a session", kib(whole), "12 KiB", whole <= 12<<10, "nodes, redis, generator and the kernel's slab, both ends")
	r.headline("generator a session", kib(generator), "slope of its RSS")
	r.headline("kernel a session", kib(slab), "slope of the slab, both ends")
	if r.Standalone {
		r.rep.Notes = append(r.rep.Notes, "standalone keeps Redis' data in the same process: its slope is not a chat node's")
	}
}

func kib(b float64) string { return fmt.Sprintf("%.2f KiB", b/1024) }

// slope returns the slope of the least-squares line through all plateaus.
func slope(seen []plateau, y func(plateau) float64) float64 {
	n, sx, sy, sxx, sxy := float64(len(seen)), 0.0, 0.0, 0.0, 0.0
	for _, p := range seen {
		sx += p.sessions
		sy += y(p)
		sxx += p.sessions * p.sessions
		sxy += p.sessions * y(p)
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
