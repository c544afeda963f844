//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"parley/client"
	"parley/lab/faultproxy"
)

// The soak is a short day: users exchange texts, some come and go, and once per minute something breaks and is
// repaired. It fails if anything is lost, or if memory, goroutines or latency grow with time.
const (
	soakPairs = 1000 // with --short 100
	soakRate  = 150  // texts per second; with --short 50
	soakChurn = 0.05 // of the users, per minute
	// Within a minute, the fault starts at soakFault and is over by soakHeal; figures are taken from soakCalm on,
	// when the users are back.
	soakFault, soakHeal, soakCalm = 5 * time.Second, 20 * time.Second, 35 * time.Second
)

// soakBar returns bar V5 with the duration from the command line.
func soakBar(d time.Duration) Bar {
	return Bar{
		ID: "V5", Alone: true, Limit: d + 15*time.Minute,
		Fault: fmt.Sprintf("%v of texts with churn, and one random fault per minute", d),
		Want: "lost, doubled, reordered: 0; from the first third to the last: memory of a node + 3 %, goroutines + 1 % + 10, " +
			"p99 of acknowledgements × 1.2 + 5 ms",
		Run: func(ctx context.Context, w *World, r *Report) error { return soak(ctx, w, r, d) },
	}
}

// soakFaults start a fault and return a function that repairs it. Only node chat3 is killed, so that the others run
// long enough to be measured.
var soakFaults = []struct {
	name  string
	begin func(ctx context.Context, l *Lab, w *World) (heal func() error, err error)
}{
	{"kill chat3", func(ctx context.Context, l *Lab, _ *World) (func() error, error) {
		return func() error { return l.Chat[2].Start(ctx) }, l.Chat[2].Kill()
	}},
	{"stop chat3", func(ctx context.Context, l *Lab, _ *World) (func() error, error) {
		_, err := l.Chat[2].Terminate(ctx)
		return func() error { return l.Chat[2].Start(ctx) }, err
	}},
	{"pause a node", func(_ context.Context, l *Lab, w *World) (func() error, error) {
		n := l.Chat[w.Rand.IntN(len(l.Chat))]
		return n.Resume, n.Pause()
	}},
	{"cut all clients of a node", func(_ context.Context, l *Lab, w *World) (func() error, error) {
		l.link(fmt.Sprintf("chat%d-client", 1+w.Rand.IntN(len(l.Chat)))).Cut()
		return func() error { return nil }, nil
	}},
	{"RPC to a node is silent", silent("rpc")},
	{"a node is cut from Redis", silent("redis")},
	{"a node is cut from SQL", silent("sql")},
	{"Redis is slow", slow("redis")},
	{"SQL is slow", slow("sql")},
}

// silent blocks the link of a node in both directions.
func silent(link string) func(context.Context, *Lab, *World) (func() error, error) {
	return linkFault(link, faultproxy.Faults{Silent: true})
}

func slow(link string) func(context.Context, *Lab, *World) (func() error, error) {
	return linkFault(link, faultproxy.Faults{Latency: 50 * time.Millisecond, Jitter: 25 * time.Millisecond})
}

func linkFault(link string, f faultproxy.Faults) func(context.Context, *Lab, *World) (func() error, error) {
	return func(_ context.Context, l *Lab, w *World) (func() error, error) {
		p := l.link(fmt.Sprintf("chat%d-%s", 1+w.Rand.IntN(len(l.Chat)), link))
		p.SetBoth(f)
		return func() error { p.Heal(); return nil }, nil
	}
}

// soakMinute is what was observed in the calm part of a minute.
type soakMinute struct {
	p99   time.Duration
	nodes []resources // chat1, chat2, the gate, the status node
}

func soak(ctx context.Context, w *World, r *Report, d time.Duration) error {
	l, err := w.Start(ctx, standard.with("redis", "sql", "rpc", "client"))
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(soakPairs, 100), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	talking := slices.Clone(c.People)
	rate := float64(w.N(soakRate, 50))
	var minutes []soakMinute
	began := time.Now()
	for time.Since(began) < d {
		m, err := soakOne(ctx, w, l, c, talking, rate)
		if err != nil {
			return err
		}
		minutes = append(minutes, m)
		w.Logf("minute %d: p99 %v, %+v", len(minutes), m.p99, m.nodes)
	}
	third := max(len(minutes)/3, 1)
	early, late := minutes[:third], minutes[len(minutes)-third:]
	r.Note("minutes", len(minutes))
	for i, name := range []string{"chat1", "chat2", "gate", "status"} {
		of := func(part []soakMinute, f func(resources) float64) float64 {
			values := make([]float64, len(part))
			for j, m := range part {
				values[j] = f(m.nodes[i])
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		rss := func(x resources) float64 { return float64(x.rss) }
		goroutines := func(x resources) float64 { return float64(x.goroutines) }
		growth := 100 * (of(late, rss)/of(early, rss) - 1)
		r.add(name+" memory", fmt.Sprintf("%+.1f%%", growth), "≤ +3%", growth <= 3)
		AtMost(r, name+" goroutines", int(of(late, goroutines)), int(of(early, goroutines)*1.01)+10)
	}
	latency := func(part []soakMinute) time.Duration {
		values := make([]time.Duration, len(part))
		for j, m := range part {
			values[j] = m.p99
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	AtMost(r, "p99 late", latency(late), latency(early)*12/10+5*time.Millisecond)
	return c.end(ctx, r, 2*time.Minute)
}

// soakOne runs one minute: a fault that is repaired while users come and go, then a calm period.
func soakOne(ctx context.Context, w *World, l *Lab, c *Crowd, talking []*Person, rate float64) (m soakMinute, err error) {
	begin := time.Now()
	at := func(d time.Duration) { pause(ctx, time.Until(begin.Add(d))) }
	c.some(ctx, talking, rate, 0)
	at(soakFault)
	fault := soakFaults[w.Rand.IntN(len(soakFaults))]
	w.Logf("%s", fault.name)
	heal, err := fault.begin(ctx, l, w)
	if err != nil {
		return m, fmt.Errorf("%s: %w", fault.name, err)
	}
	at(soakFault + time.Duration(w.Rand.Int64N(int64(soakHeal-soakFault))))
	if err := heal(); err != nil {
		return m, fmt.Errorf("%s: heal: %w", fault.name, err)
	}
	at(soakHeal)
	// A user must have all answers before it leaves; talk continues after that.
	c.hush()
	if err := c.churn(ctx, w, talking, int(float64(len(talking))*soakChurn)); err != nil {
		return m, err
	}
	c.some(ctx, talking, rate, 0)
	at(soakCalm)
	calm := time.Now()
	at(time.Minute)
	m.p99 = c.Oracle.p99(calm, time.Now())
	for _, n := range append(l.Chat[:2:2], l.Gate[0], l.Status[0]) {
		res, err := resourcesOf(ctx, n)
		if err != nil {
			return m, err
		}
		m.nodes = append(m.nodes, res)
	}
	c.hush()
	return m, ctx.Err()
}

// churn makes n users leave and return with what they have seen.
func (c *Crowd) churn(ctx context.Context, w *World, talking []*Person, n int) error {
	for _, i := range w.Rand.Perm(len(talking))[:n] {
		old := talking[i]
		fctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := old.Flush(fctx)
		cancel()
		if err != nil {
			return fmt.Errorf("user %d leaves: %w", old.UID, err)
		}
		if err := until(ctx, 10*time.Second, "answers are entered", func() (bool, error) { return len(old.posted) == 0, nil }); err != nil {
			return err
		}
		old.close()
		fresh, err := c.lab.person(ctx, old.UID, old.Thread, w.Rand.IntN(len(c.lab.Chat)), c.Oracle, client.SessionOptions{Cursors: old.Cursors()})
		if err != nil {
			return fmt.Errorf("user %d comes back: %w", old.UID, err)
		}
		talking[i] = fresh
		c.People[slices.Index(c.People, old)] = fresh
	}
	return nil
}
