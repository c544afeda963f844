package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"parley/bench/crew"
	"parley/bench/hist"
	"parley/bench/report"
	"parley/bench/swarm"
	"parley/internal/wire"
)

// team is the users of one of several transports. They take turns with those of the others.
type team struct {
	via  wire.Transport
	crew crew.Crew

	// Of each turn.
	rate []float64 // operations per second
	cost []float64 // seconds of the nodes' CPU per operation; empty if unknown
	p99  []float64 // ns
	live []float64 // bytes of the nodes' objects and stacks per session
	all  *hist.Hist
}

func names(list []wire.Transport) string {
	var s []string
	for _, t := range list {
		s = append(s, t.String())
	}
	return strings.Join(s, ",")
}

// turns are those of the users of several transports in a run.
type turns struct {
	*run
	teams []*team
}

// newTurns makes the users of each transport, --users for each. r.crew stands for them all.
func newTurns(ctx context.Context, r *run) (*turns, error) {
	all := &turns{run: r}
	var crews []crew.Crew
	began := time.Now()
	for i, via := range r.transports {
		s := r.spec()
		s.Transport, s.FirstUID = via, r.FirstUID+int32(i*r.Users)
		c, err := r.generators.crew(ctx, s)
		if err != nil {
			crew.Join(crews...).Close()
			return nil, setupError(err)
		}
		crews = append(crews, c)
		all.teams = append(all.teams, &team{via: via, crew: c, all: hist.New()})
	}
	r.crew = crew.Join(crews...)
	r.Users *= len(crews) // from now on of all
	if err := r.crew.Prepare(ctx); err != nil {
		return nil, setupError(err)
	}
	r.stageDone("tokens", began, "")
	return all, nil
}

// each has the users of each transport do the same in every round.
func (r *turns) each(ctx context.Context, do func(t *team, round int) error) error {
	all := r.crew
	defer func() { r.crew = all }()
	for round := range r.Rounds {
		order := slices.Clone(r.teams)
		if round%2 == 1 {
			slices.Reverse(order) // so that no transport always follows the same one
		}
		for _, t := range order {
			if r.crew = t.crew; ctx.Err() != nil {
				return ctx.Err()
			}
			if err := do(t, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// load runs a load in turns. counter is of the operations that the nodes' CPU is divided by.
func (r *turns) load(ctx context.Context, p swarm.Phase, main, counter string) error {
	return r.each(ctx, func(t *team, round int) error {
		return r.take(ctx, t, round, p, main, counter)
	})
}

// take runs a phase with the users of one transport, and measures it.
func (r *turns) take(ctx context.Context, t *team, round int, p swarm.Phase, main, counter string) error {
	before, known := r.nodesCPU()
	out, err := r.phase(ctx, step{name: fmt.Sprintf("%s %d", t.via, round+1), Phase: p, main: main, measured: true, turn: true})
	if err != nil {
		return err
	}
	after, _ := r.nodesCPU()
	t.add(out, main, max(p.For, p.Load.For))
	if known {
		t.cost = append(t.cost, (after-before)/float64(max(out.Counters[counter], 1)))
	}
	return nil
}

// add adds a turn; length 0 means that of the phase.
func (t *team) add(out *swarm.Outcome, main string, length time.Duration) {
	h := out.Hist(main)
	seconds := length.Seconds()
	if length == 0 {
		seconds = out.Seconds
	}
	t.rate = append(t.rate, float64(h.Count())/max(seconds, 1e-3))
	t.p99 = append(t.p99, float64(h.Quantile(.99)))
	t.all.Add(h)
}

// logins measures logins. Each turn ends with everybody logged out.
func (r *turns) logins(ctx context.Context, concurrency int) error {
	err := r.each(ctx, func(t *team, round int) error {
		if err := t.crew.Prepare(ctx); err != nil { // a token serves once
			return setupError(err)
		}
		err := r.take(ctx, t, round, swarm.Phase{Kind: "login", Concurrency: concurrency}, swarm.HFull, "logins")
		if err != nil {
			return err
		}
		if _, err = r.phase(ctx, step{name: "log out", Phase: swarm.Phase{Kind: "close"}}); err == nil {
			_, err = r.phase(ctx, step{name: "settle", Phase: swarm.Phase{Kind: "hold", For: time.Second}})
		}
		return err
	})
	if err == nil {
		r.compare("login", "logins", true)
	}
	return err
}

// compare reports the medians of the turns beside those of the first transport.
func (r *turns) compare(one, many string, closed bool) {
	base := r.teams[0]
	of := "of " + base.via.String()
	table := report.Table{
		Title: many + " by transport, taking turns", Header: []string{"transport", many + "/s", of, "nodes' CPU µs a " + one, of, "p99"},
		Note: fmt.Sprintf("medians of %d rounds with %d users of each transport", r.Rounds, r.Users/len(r.teams)),
	}
	for _, t := range r.teams {
		rate := median(t.rate) / max(median(base.rate), 1e-9)
		row := []string{t.via.String(), fmt.Sprintf("%.0f", median(t.rate)), fmt.Sprintf("%.2f", rate), "-", "-", hist.Format(int64(median(t.p99)))}
		r.rep.Figures[t.via.String()+"_rate_ratio"] = rate
		if len(t.cost) > 0 {
			cpu := median(t.cost) / max(median(base.cost), 1e-12)
			row[3], row[4] = fmt.Sprintf("%.2f", median(t.cost)*1e6), fmt.Sprintf("%.2f", cpu)
			r.rep.Figures[t.via.String()+"_cpu_ratio"] = cpu
		}
		table.Rows = append(table.Rows, row)
	}
	r.rep.Tables = append(r.rep.Tables, table)
	r.rep.Figures["rate"] = median(base.rate)
	if ws, ok := r.rep.Figures["ws_rate_ratio"]; ok && one == "text" && closed && base.via == wire.TCP {
		r.budget("texts per second by WebSocket, of TCP's", fmt.Sprintf("%.2f ×", ws), "0.85 ×", ws >= .85, "closed loops of the same size")
	}
}

// idle measures the memory per session. In each round some more users of each transport log in, and stay.
func (r *turns) idle(ctx context.Context, hold time.Duration) error {
	each := r.Users / len(r.teams)
	sc := &scales{run: r.run}
	before := sc.weigh(ctx)
	err := r.each(ctx, func(t *team, round int) error {
		users := each * (round + 1) / r.Rounds
		online := t.crew.Live().Online
		if _, err := r.phase(ctx, step{
			name: fmt.Sprintf("%s to %d", t.via, users), Phase: swarm.Phase{Kind: "login", Concurrency: r.loginsAtOnce(), Users: users}, main: swarm.HFull,
		}); err != nil {
			return err
		}
		sc.collect(ctx, 0)
		if _, err := r.phase(ctx, step{name: "hold", Phase: swarm.Phase{Kind: "hold", For: min(hold, settled)}}); err != nil {
			return err
		}
		now, n := sc.weigh(ctx), float64(max(t.crew.Live().Online-online, 1))
		t.live = append(t.live, (now.live-before.live)/n)
		before = now
		return nil
	})
	if err != nil {
		return err
	}
	base := r.teams[0]
	table := report.Table{
		Title: "memory of the nodes per idle session, by transport", Header: []string{"transport", "heap and stacks", "above " + base.via.String(), "of " + base.via.String()},
		Note: fmt.Sprintf("medians of %d rounds, each with %d more sessions of each transport, after a collection; RSS is only for one transport alone, because Go keeps and returns memory at times of its own",
			r.Rounds, each/r.Rounds),
	}
	for _, t := range r.teams {
		live, tcp := median(t.live), median(base.live)
		table.Rows = append(table.Rows, []string{t.via.String(), kib(live), fmt.Sprintf("%+.2f KiB", (live-tcp)/1024), fmt.Sprintf("%.2f", live/max(tcp, 1))})
		r.rep.Figures[t.via.String()+"_session_bytes"] = live
		if t.via == wire.WS && base.via == wire.TCP && each/r.Rounds >= 500 { // fewer are lost in what the nodes do meanwhile
			r.budget("an idle WebSocket session above TCP's", fmt.Sprintf("%+.2f KiB", (live-tcp)/1024), "1 KiB", live-tcp <= 1<<10, "heap and stacks of the nodes")
		}
	}
	r.rep.Tables = append(r.rep.Tables, table)
	r.rep.Figures["online"], r.wantAll = float64(r.crew.Live().Online), r.Users
	return nil
}
