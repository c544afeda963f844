package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"parley/bench/hist"
	"parley/bench/ledger"
)

func firstFault(l *ledger.Summary) string {
	if len(l.Faults) == 0 {
		return "no example kept"
	}
	f := l.Faults[0]
	return fmt.Sprintf("%s (text %d from %d to %d)", f.What, f.Counter, f.From, f.To)
}

// generatorFault says why the run is invalid, "" if it is not.
func (r *run) generatorFault() string {
	// Lateness that is small beside the latency measured changes nothing that is read from it.
	lag, latency := r.lag.Quantile(.99), r.main.Quantile(.99)
	if r.openLoop && lag > int64(r.MaxLag) && lag*4 > latency {
		return fmt.Sprintf("the generator itself was late: by %s (p99) where %s were measured; give it --workers or --loops, or less load",
			hist.Format(lag), hist.Format(latency))
	}
	cores := r.generatorCPU()
	most := float64(max(r.Workers, len(r.Agents), 1) * r.Loops)
	if cores > .93*most && r.main.Count() > 0 {
		return fmt.Sprintf("the generator was the bottleneck: it used %.2f of the %.0f cores its loops can use; give it --workers or --loops", cores, most)
	}
	return ""
}

// generatorCPU is what the generator used during the load.
func (r *run) generatorCPU() (cores float64) {
	if len(r.Agents) > 0 {
		return r.rep.Self.CPU // of the whole run: all that agents tell
	}
	for name, used := range r.averages() {
		if r.Workers > 1 && strings.HasPrefix(name, "worker") || r.Workers <= 1 && name == "generator" {
			cores += used
		}
	}
	return cores
}

// averages returns the cores used by each process during the load.
func (r *run) averages() map[string]float64 {
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

// limitedBy guesses from what was seen, and says what it saw.
func (r *run) limitedBy() (out []string) {
	machine, n := 0.0, 0.0
	for _, m := range r.rep.Machine {
		if m.At > r.loadFrom+.5 && m.At <= r.loadTo+.5 {
			machine += m.CPU
			n++
		}
	}
	if n == 0 {
		return nil
	}
	machine /= n
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
	known := 0.0
	for _, used := range cpu {
		known += used
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
