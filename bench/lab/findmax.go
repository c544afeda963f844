package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/bench/assert"
	"parley/bench/report"
	"parley/bench/schedule"
	"parley/bench/swarm"
)

// FindMax finds the highest rate of texts at which the conditions hold. It doubles the rate until they fail, then
// bisects between the last good and the first bad rate.
func (l Lab) FindMax(ctx context.Context, o Options, f ChatFlags, slo string, from, to float64, steps int) int {
	conditions, err := assert.Parse(slo)
	if err == nil {
		err = assert.Unknown(conditions, figureNames)
	}
	switch {
	case err != nil:
	case from <= 0 || to < from || steps < 1:
		err = errors.New("--from must be more than 0, --to at least that, and --steps at least 1")
	case f.Rate > 0 || f.Closed > 0:
		err = errors.New("find-max chooses the rate itself: --rate and --closed have no meaning here")
	default:
		err = f.check(to)
	}
	if err != nil {
		return l.refuse(err)
	}
	v := verb{name: "find-max", what: "the highest rate of texts that still meets " + slo, users: 1000, cross: f.Cross, text: f.Size}
	v.do = func(ctx context.Context, whole *run) error {
		r := &search{whole, f, conditions}
		if err := r.logIn(ctx); err != nil {
			return err
		}
		if _, err := r.phase(ctx, step{name: "threads", Phase: swarm.Phase{Kind: "threads"}}); err != nil {
			return err
		}
		table := report.Table{
			Title: "the search", Header: []string{"offered/s", "stored/s", "p50", "p99", "verdict"},
			Note: "a step is good when " + slo + " holds, at least 97 % of what was offered was stored in its time, and the generator was in time",
		}
		good, bad := 0.0, to
		rate := from
		for range steps {
			row, ok, err := r.try(ctx, rate)
			if err != nil {
				return err
			}
			table.Rows = append(table.Rows, row)
			if ok {
				good = rate
			} else {
				bad = rate
			}
			switch {
			case bad == to && rate*2 < to:
				rate *= 2
			default:
				rate = (good + bad) / 2
			}
			if bad-good < good*.05 {
				break
			}
		}
		r.rep.Tables = append(r.rep.Tables, table)
		r.rep.Figures["knee"] = good
		r.headline("knee", fmt.Sprintf("%.0f/s", good), "the highest rate tried that was good: "+slo)
		if good == 0 {
			return fmt.Errorf("not even %.0f/s meets %s", from, slo)
		}
		if f.NoVerify {
			return nil
		}
		return r.verify(ctx)
	}
	return execute(ctx, l.options(o), v)
}

// search is a run that looks for the highest rate at which the conditions hold.
type search struct {
	*run
	f          ChatFlags
	conditions []assert.Check
}

// try offers a rate and reports whether the conditions held.
func (r *search) try(ctx context.Context, rate float64) (row []string, ok bool, err error) {
	f := &r.f
	p := swarm.Phase{Kind: "chat", Warmup: min(f.Warmup, time.Second)}
	if p.Load, err = schedule.Parse("poisson", rate, f.For, r.Seed); err != nil {
		return nil, false, setupError(err)
	}
	out, err := r.phase(ctx, step{name: fmt.Sprintf("try %.0f/s", rate), Phase: p, main: swarm.HAck})
	if err != nil {
		return nil, false, err
	}
	h, lag := out.Hist(swarm.HAck), out.Hist(swarm.HLag)
	stored := float64(h.Count()) / f.For.Seconds()
	took := out.Seconds - p.Warmup.Seconds()
	figures := map[string]float64{
		"p50": float64(h.Quantile(.5)) / 1e9, "p90": float64(h.Quantile(.9)) / 1e9, "p99": float64(h.Quantile(.99)) / 1e9,
		"p999": float64(h.Quantile(.999)) / 1e9, "max": float64(h.Max()) / 1e9, "rate": stored,
	}
	word := "good"
	for _, a := range assert.Hold(r.conditions, figures) {
		if !a.Pass {
			word = "misses " + a.Text
		}
	}
	refused := int64(0)
	for _, n := range out.Errors {
		refused += n
	}
	switch {
	case refused > 0:
		word = fmt.Sprintf("%d refused or failed", refused)
	case word == "good" && took > f.For.Seconds()*1.1+.2:
		word = "could not keep up"
	case word == "good" && lag.Quantile(.99) > int64(r.MaxLag) && lag.Quantile(.99)*4 > h.Quantile(.99):
		word = "the generator was late"
	}
	row = []string{
		fmt.Sprintf("%.0f", rate), fmt.Sprintf("%.0f", stored), fmt.Sprintf("%.2f ms", figures["p50"]*1e3), fmt.Sprintf("%.2f ms", figures["p99"]*1e3), word,
	}
	return row, word == "good", nil
}
