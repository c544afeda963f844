package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"parley/bench/assert"
	"parley/bench/hist"
	"parley/bench/ledger"
	"parley/bench/report"
)

func firstFault(l *ledger.Summary) string {
	if len(l.Faults) == 0 {
		return "no example kept"
	}
	f := l.Faults[0]
	return fmt.Sprintf("%s (text %d from %d to %d)", f.What, f.Counter, f.From, f.To)
}

// judge looks at a run when it has ended, or while it goes on to know whether it can.
type judge struct{ *run }

// generatorFault returns why the run is invalid, or "".
func (r judge) generatorFault() string {
	// Lateness that is small compared to the measured latency does not affect the figures.
	lag, latency := r.lag.Quantile(.99), r.main.Quantile(.99)
	if r.openLoop && lag > int64(r.MaxLag) && (lag*4 > latency || lag > 20*int64(r.MaxLag)) {
		why := "give it --workers or --loops, or less load"
		if machine, ours := r.machine(); machine*float64(r.rep.Env.Cores)-ours > .5 {
			why = fmt.Sprintf("other programs used %.2f of %d cores meanwhile", machine*float64(r.rep.Env.Cores)-ours, r.rep.Env.Cores)
		}
		return fmt.Sprintf("the generator itself was late: by %s (p99) where %s were measured; %s", hist.Format(lag), hist.Format(latency), why)
	}
	for i, used := range r.cores {
		own := i >= len(r.Agents) && r.Workers <= 1
		if r.saturated(used) && r.main.Count() > 0 && !(own && r.shared) {
			return fmt.Sprintf("%s was the bottleneck: it used %.2f of the %d cores its loops can use; give it --workers or --loops", r.generator(i), used, r.Loops)
		}
	}
	return ""
}

// saturated reports whether a generator process used so many cores that its loops can hardly do more.
func (r *run) saturated(cores float64) bool { return cores > .93*float64(r.Loops) }

// generator returns the name of a generator process.
func (r judge) generator(i int) string {
	switch {
	case i < len(r.Agents):
		return "the agent at " + r.Agents[i]
	case r.Workers > 1:
		return fmt.Sprintf("worker %d", i+1)
	}
	return "the generator"
}

// averages returns the cores that each process used during the load.
func (r judge) averages() map[string]float64 {
	sum, n := map[string]float64{}, map[string]float64{}
	for _, s := range r.rep.Nodes {
		if s.At > r.loadFrom+.5 && s.At <= r.loadTo+.5 {
			sum[s.Name] += s.CPU
			n[s.Name]++
		}
	}
	for k := range sum {
		sum[k] /= n[k]
	}
	return sum
}

// machine returns the share of all cores that was busy during the load, and the number of cores that the processes of
// the run used.
func (r judge) machine() (busy, ours float64) {
	n := 0.0
	for _, m := range r.rep.Machine {
		if m.At > r.loadFrom+.5 && m.At <= r.loadTo+.5 {
			busy += m.CPU
			n++
		}
	}
	if n > 0 {
		busy /= n
	}
	for _, used := range r.averages() {
		ours += used
	}
	return busy, ours
}

// limitedBy guesses what limited the load, with the evidence.
func (r judge) limitedBy() (out []string) {
	if len(r.Agents) > 0 && r.layout == nil {
		for i, used := range r.cores {
			out = append(out, fmt.Sprintf("%s used %.2f of the %d cores its loops can use; the nodes' machines were not looked at", r.generator(i), used, r.Loops))
		}
		return out
	}
	machine, known := r.machine()
	if machine == 0 {
		return nil
	}
	cpu := r.averages()
	names := slices.SortedFunc(maps.Keys(cpu), func(a, b string) int {
		if cpu[a] > cpu[b] {
			return -1
		}
		return 1
	})
	users := ""
	for i, name := range names {
		if cpu[name] >= .02 && i < 8 {
			users += fmt.Sprintf(", %s %.2f", name, cpu[name])
		}
	}
	if others := machine*float64(r.rep.Env.Cores) - known; others > .05 {
		users += fmt.Sprintf(", programs that are no part of this run %.2f", others)
		if others > .25 {
			r.rep.Notes = append(r.rep.Notes, fmt.Sprintf("other programs used %.2f of %d cores during the load: compare ratios, not figures", others, r.rep.Env.Cores))
		}
	}
	if users != "" {
		users = users[2:]
	}
	switch {
	case machine > .9:
		out = append(out, fmt.Sprintf("the processors: %.0f %% of %d cores busy, with everything on this machine (cores: %s)", machine*100, r.rep.Env.Cores, users))
	case cpu["redis"] > .9:
		out = append(out, fmt.Sprintf("redis-server, which has one thread, used %.2f cores (cores: %s)", cpu["redis"], users))
	case r.openLoop:
		out = append(out, fmt.Sprintf("nothing: the load offered was all that was asked for; processors %.0f %% busy (cores: %s)", machine*100, users))
	default:
		out = append(out, fmt.Sprintf("waiting rather than computing: processors %.0f %% busy (cores: %s); more concurrency may give more", machine*100, users))
	}
	return out
}

// verdict determines the verdict.
func (r judge) verdict(err error) {
	rep := r.rep
	v := &rep.Verdict
	reasons := func(code int, text ...string) {
		if v.Code == report.Pass || severity(code) > severity(v.Code) {
			v.Code = code
		}
		v.Reasons = append(v.Reasons, text...)
	}
	if errors.Is(err, context.Canceled) {
		v.Code, v.Word = report.Invalid, "interrupted"
		v.Reasons = append(v.Reasons, fmt.Sprintf("stopped by a signal after %.0f s: nothing was judged", rep.Seconds))
		r.lastFigures()
		return
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
	if len(r.wrong) > 0 {
		reasons(report.Incorrect, r.wrong...)
	}
	if l := rep.Left; l != nil && l.Wrong() > 0 {
		reasons(report.Incorrect, "the cluster has not forgotten users who have gone: "+l.String())
	}
	if r.unasked != nil {
		if rep.Notes = append(rep.Notes, r.unasked.Error()); !r.tolerate { // an injected fault may have stopped Redis for good
			reasons(report.Missed, r.unasked.Error())
		}
	}
	if why := r.generatorFault(); why != "" {
		reasons(report.Invalid, why)
	}
	if n := r.unfinished; n > 0 && !r.tolerate {
		reasons(report.Missed, fmt.Sprintf("%d operations had no answer when the patience with them ended", n))
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
	budgets := false
	for _, f := range rep.Headline {
		if f.Miss && v.Code != report.Setup {
			budgets = budgets || v.Code == report.Pass
			reasons(report.Missed, fmt.Sprintf("%s: %s misses the budget of %s", f.Name, f.Value, f.Budget))
		}
	}
	if v.Word = report.Words[v.Code]; budgets && v.Code == report.Missed {
		v.Word = "budget missed"
	}
	if v.Code == report.Pass {
		if l := rep.Ledger; l != nil && l.Acked > 0 {
			how := "their history was not read"
			if l.HistoryChecked {
				how = "all found in the history, " + rep.HistoryBy
			}
			v.Reasons = append(v.Reasons, fmt.Sprintf("%d texts acknowledged, %d delivered, none lost, doubled, reordered or misrouted; %s", l.Acked, l.Delivered, how))
		} else {
			v.Reasons = append(v.Reasons, "nothing failed that was looked at")
		}
	}
	rep.LimitedBy = r.limitedBy()
}

// severity orders verdicts: an incorrect result outweighs everything, and an invalid run outweighs its figures.
func severity(code int) int {
	return map[int]int{report.Pass: 0, report.Missed: 1, report.Invalid: 2, report.Incorrect: 3, report.Setup: 4}[code]
}

// lastFigures adds figures that are known only at the end of the run.
func (r judge) lastFigures() {
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
			"acked": l.Acked, "delivered": l.Delivered, "copies": l.Copies, "gaps": l.Gaps, "afterremoval": l.AfterRemoval,
		} {
			f[name] = float64(n)
		}
	}
}
