package lab

import (
	"context"
	"time"

	"parley/bench/schedule"
	"parley/bench/swarm"
)

// Quick shows newcomers a little of everything in about fifteen seconds, with a report.
func (l Lab) Quick(ctx context.Context, o Options) int {
	v := verb{
		name: "quick", what: "a tour: logins, heartbeats, texts between two nodes, a reconnect storm, and the books", users: 300, cross: .5, text: 100,
		resume: true, reconnect: true,
	}
	// The tour is about correctness; a busy machine must not make it fail.
	o.MaxLag = max(o.MaxLag, 250*time.Millisecond)
	v.do = func(ctx context.Context, r *run) error {
		if err := r.logIn(ctx); err != nil {
			return err
		}
		load := func(rate float64, d time.Duration) schedule.Load {
			return schedule.Load{Shape: schedule.Poisson, Rates: []float64{rate}, For: d, Seed: r.Seed}
		}
		out, err := r.phase(ctx, step{name: "heartbeats", Phase: swarm.Phase{Kind: "ping", Load: load(2000, 2*time.Second)}, main: swarm.HPing, show: true})
		if err != nil {
			return err
		}
		r.latencyLine("heartbeat", out.Hist(swarm.HPing))
		if _, err := r.phase(ctx, step{name: "threads", Phase: swarm.Phase{Kind: "threads"}}); err != nil {
			return err
		}
		if err := r.chat(ctx, swarm.Phase{Kind: "chat", Load: load(400, 4*time.Second), Warmup: time.Second}, "texts"); err != nil {
			return err
		}
		rate, figures := r.rep.Figures["rate"], r.rep.Figures
		if err := r.storm(ctx, 0, 20*time.Second); err != nil {
			return err
		}
		figures["rate"] = rate
		return r.verify(ctx)
	}
	return execute(ctx, l.options(o), v)
}
