package lab

import (
	"fmt"
	"slices"
	"time"

	"parley/bench/local"
	"parley/bench/report"
	"parley/bench/swarm"
)

// broken is a completed step of the fault plan.
type broken struct {
	local.Fault
	at time.Time
}

// repair reports whether the step undoes an earlier one.
func (b broken) repair() bool { return slices.Contains([]string{"resume", "restart", "heal"}, b.What) }

// enterFaults reports how each fault of a phase that started at began affected the users.
func (r *run) enterFaults(s step, o *swarm.Outcome, began time.Time) {
	p := pulse{tenths: o.Tenths, signs: o.Signs, open: len(s.Load.Rates) > 0 && s.Concurrency == 0}
	length := s.Warmup + max(s.Load.For, s.For)
	if length == s.Warmup {
		length = time.Duration(o.Seconds * float64(time.Second))
	}
	p.tenths = p.tenths[:min(len(p.tenths), int(length/tenth))]
	if len(r.broken) == 0 {
		return
	}
	p.before(r.broken[0].at.Sub(began))
	table := report.Table{
		Title: "faults", Header: []string{"what", "at", "detected after", "by", "recovered after"},
		Note: "detected: something failed for a user; recovered: as many online as before the first fault, and nine tenths of what was due in the next second were done, half of the first tenth's at once",
	}
	worst, all := map[string]float64{}, true
	for i, b := range r.broken {
		at, until := b.at.Sub(began), time.Duration(1<<62)
		for _, later := range r.broken[i+1:] {
			if !later.repair() {
				until = later.at.Sub(began) // later failures are attributed to the later fault
				break
			}
		}
		f := p.fault(at, until, b.repair())
		f.What, f.At, f.Repair = b.What+" "+b.Node, b.at.Sub(r.began).Seconds(), b.repair()
		r.rep.Faults = append(r.rep.Faults, f)
		row := []string{f.What, fmt.Sprintf("%.1f s", f.At), ago(f.Detection, "not noticed"), f.Sign, ago(f.Recovery, "not while the load ran")}
		switch {
		case f.Repair:
			row[2] = ""
		case f.Detection == nil && f.Recovery == nil && !p.missed(at):
			row[4] = "nothing to recover from"
		default:
			all = all && f.Recovery != nil
			note(worst, "detection", f.Detection)
			note(worst, "recovery", f.Recovery)
		}
		table.Rows = append(table.Rows, row)
	}
	r.rep.Tables = append(r.rep.Tables, table)
	for name, v := range worst {
		if name != "recovery" || all {
			r.rep.Figures[name] = v
		}
	}
}

func ago(seconds *float64, never string) string {
	if seconds == nil {
		return never
	}
	return fmt.Sprintf("%.2f s", *seconds)
}

func note(worst map[string]float64, name string, v *float64) {
	if v != nil {
		worst[name] = max(worst[name], *v)
	}
}

const tenth = 100 * time.Millisecond

// pulse is a phase in tenths of a second, with its failures.
type pulse struct {
	tenths []swarm.Tenth // of the load
	signs  []swarm.Sign
	open   bool // the load is an open loop

	online int64 // sessions before the first fault: the minimum over two seconds
	rate   int64 // operations completed per second before the first fault; 0 if unknown
}

// before determines normal values from the two seconds before the first fault.
func (p *pulse) before(first time.Duration) {
	end := min(int(first/tenth), len(p.tenths))
	from := max(end-20, 0)
	for i, t := range p.tenths[from:end] {
		if i == 0 || t.Online < p.online {
			p.online = t.Online
		}
	}
	if n := end - from; n >= 5 {
		p.rate = (p.tenths[end-1].Done - p.at(from).Done) * 10 / int64(n)
	}
}

// at returns the state at the start of a tenth.
func (p *pulse) at(k int) swarm.Tenth {
	if k == 0 {
		return swarm.Tenth{}
	}
	return p.tenths[k-1]
}

// well reports whether all values are normal at the start of a tenth and during the second from there on. It also
// requires that operations complete in the first tenth: after a stall everything completes at once, and that must not
// count for the moments before.
func (p *pulse) well(k int) bool {
	a, next, b := p.at(k), p.at(k+1), p.at(k+10)
	due, dueAtOnce := p.rate, p.rate/10
	if p.open {
		due, dueAtOnce = b.Offered-a.Offered, next.Offered-a.Offered
	}
	return a.Online >= p.online && (b.Done-a.Done)*10 >= due*9 && (next.Done-a.Done)*2 >= dueAtOnce
}

// first returns the first tenth from k on for which well equals the argument, or false if there is none.
func (p *pulse) first(k int, well bool) (int, bool) {
	for ; k+10 <= len(p.tenths); k++ {
		if p.well(k) == well {
			return k, true
		}
	}
	return k, false
}

// after returns the first tenth that starts at or after a time.
func after(at time.Duration) int { return int((at + tenth - 1) / tenth) }

// missed reports whether any second after a time was not well.
func (p *pulse) missed(at time.Duration) bool {
	_, bad := p.first(after(at), false)
	return bad
}

// fault describes the effect of a fault at a time. Failures before until are attributed to it.
func (p *pulse) fault(at, until time.Duration, repair bool) (f report.Fault) {
	k := after(at)
	if !repair {
		from, bad := p.first(k, false)
		for _, s := range p.signs {
			if s.At >= at && s.At < until {
				seconds := (s.At - at).Seconds()
				f.Detection, f.Sign = &seconds, s.What
				if !bad || after(s.At) < from {
					from = after(s.At)
				}
				bad = true
				break
			}
		}
		if !bad {
			return f
		}
		k = from
	}
	if back, ok := p.first(k, true); ok {
		seconds := max((time.Duration(back)*tenth - at).Seconds(), 0)
		f.Recovery = &seconds
	}
	return f
}
