package swarm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"parley/bench/engine"
	"parley/bench/hist"
	"parley/bench/ledger"
)

// The histograms of a phase. Those ending in .service count from when the generator really acted, the others from when
// the schedule wanted it to.
const (
	HConnect        = "connect"         // TCP connect
	HLogin          = "login"           // 1005 to 1006 on an open connection
	HFull           = "full"            // both, from the planned time
	HPing           = "ping"            // 1023 to 1024
	HPingService    = "ping.service"    //
	HAck            = "ack"             // 1017 to 1018: stored
	HAckService     = "ack.service"     //
	HDeliver        = "deliver"         // 1017 to the recipient's 1019
	HDeliverService = "deliver.service" //
	HLag            = "lag"             // how late the generator itself was
	HOutage         = "outage"          // of a user: from losing the connection to being logged in again
	HHistory        = "history"         // a page of history
)

// Interval is one second of a phase. Second counts from the phase's start; the fields but Online are what happened in it.
type Interval struct {
	Second               int
	Offered, Done, Wrong int64 // operations: due, completed, failed
	Online               int64 // sessions at its end
	Hist                 []byte
}

// Tenth is a tenth of a second of a phase with Fine: the sums of operations due and completed since the phase's start, and
// the sessions, at its end.
type Tenth struct{ Offered, Done, Online int64 }

const tenth = int64(100 * time.Millisecond)

// Sign is something that failed for a user: a connection lost, an operation refused. Of each hundredth of a second the
// first is kept.
type Sign struct {
	At   time.Duration // since the phase's start
	What string
}

// Outcome is what a phase, or a part of it on one loop or process, came to.
type Outcome struct {
	Counters map[string]int64
	Errors   map[string]int64
	Hists    map[string][]byte
	Series   []Interval
	Tenths   []Tenth // phases with Fine
	Signs    []Sign  // likewise, by time
	Ledger   ledger.Summary
	Seconds  float64   // how long it took: the longest of the parts
	BackAt   []float64 // when each user was logged in, in seconds since the start; only storms
	// Cores is what each generator process used meanwhile; whoever runs the process fills it in.
	Cores []float64
}

// Hist returns a histogram, empty if there is none of that name.
func (o *Outcome) Hist(name string) *hist.Hist {
	if b := o.Hists[name]; b != nil {
		if h, err := hist.Decode(b); err == nil {
			return h
		}
	}
	return hist.New()
}

// Merge adds the outcome of another part of the same phase. Histograms are merged without loss.
func (o *Outcome) Merge(p *Outcome) error {
	if o.Counters == nil {
		o.Counters, o.Errors, o.Hists = map[string]int64{}, map[string]int64{}, map[string][]byte{}
	}
	for k, v := range p.Counters {
		o.Counters[k] += v
	}
	for k, v := range p.Errors {
		o.Errors[k] += v
	}
	for k, b := range p.Hists {
		merged, err := mergeEncoded(o.Hists[k], b)
		if err != nil {
			return fmt.Errorf("swarm: histogram %s: %w", k, err)
		}
		o.Hists[k] = merged
	}
	bySecond := map[int]Interval{}
	for _, i := range slices.Concat(o.Series, p.Series) {
		have := bySecond[i.Second]
		h, err := mergeEncoded(have.Hist, i.Hist)
		if err != nil {
			return fmt.Errorf("swarm: second %d: %w", i.Second, err)
		}
		bySecond[i.Second] = Interval{
			i.Second, have.Offered + i.Offered, have.Done + i.Done, have.Wrong + i.Wrong, have.Online + i.Online, h,
		}
	}
	o.Series = slices.SortedFunc(maps.Values(bySecond), func(a, b Interval) int { return cmp.Compare(a.Second, b.Second) })
	o.Tenths = addTenths(o.Tenths, p.Tenths)
	o.Signs = append(o.Signs, p.Signs...)
	slices.SortStableFunc(o.Signs, func(a, b Sign) int { return cmp.Compare(a.At, b.At) })
	o.Ledger.Add(p.Ledger)
	o.Seconds = max(o.Seconds, p.Seconds)
	o.BackAt = append(o.BackAt, p.BackAt...)
	o.Cores = append(o.Cores, p.Cores...)
	return nil
}

// addTenths adds two parts up; what ended earlier stays as it was at its end.
func addTenths(a, b []Tenth) []Tenth {
	if len(a) < len(b) {
		a, b = b, a
	}
	sum := slices.Clone(a)
	for i := range sum {
		if len(b) > 0 {
			x := b[min(i, len(b)-1)]
			sum[i] = Tenth{sum[i].Offered + x.Offered, sum[i].Done + x.Done, sum[i].Online + x.Online}
		}
	}
	return sum
}

func mergeEncoded(a, b []byte) ([]byte, error) {
	switch {
	case len(a) == 0:
		return b, nil
	case len(b) == 0:
		return a, nil
	}
	x, err := hist.Decode(a)
	if err != nil {
		return nil, err
	}
	y, err := hist.Decode(b)
	if err != nil {
		return nil, err
	}
	x.Add(y)
	return x.Encode()
}

// stats collects a phase on one loop.
type stats struct {
	counters map[string]int64
	errors   map[string]int64
	hists    map[string]*hist.Hist
	series   []Interval
	now      Interval
	recent   *hist.Hist // of now
	backAt   []float64

	fine                      bool  // tenths and signs are wanted
	start                     int64 // of the phase
	offeredBefore, doneBefore int64 // in the seconds that were closed
	tenths                    []Tenth
	signs                     []Sign
}

func newStats() *stats {
	return &stats{
		counters: map[string]int64{}, errors: map[string]int64{}, hists: map[string]*hist.Hist{}, recent: hist.New(),
	}
}

func (s *stats) hist(name string) *hist.Hist {
	h := s.hists[name]
	if h == nil {
		h = hist.New()
		s.hists[name] = h
	}
	return h
}

func (s *stats) fail(what string) {
	s.errors[what]++
	s.now.Wrong++
	if !s.fine {
		return
	}
	const hundredth = 10 * time.Millisecond
	at := time.Duration(engine.Clock() - s.start)
	if n := len(s.signs); n == 0 || at/hundredth != s.signs[n-1].At/hundredth {
		s.signs = append(s.signs, Sign{at, what})
	}
}

// turnTenth closes the tenths of a second that have passed before now.
func (s *stats) turnTenth(now, online int64) {
	for s.fine && int64(len(s.tenths)) < (now-s.start)/tenth {
		s.tenths = append(s.tenths, Tenth{s.offeredBefore + s.now.Offered, s.doneBefore + s.now.Done, online})
	}
}

// turn closes the seconds that have passed.
func (s *stats) turn(second int, online int64) {
	for s.now.Second < second {
		s.now.Online = online
		if s.recent.Count() > 0 {
			s.now.Hist, _ = s.recent.Encode() // a histogram of ours encodes
			s.recent.Reset()
		}
		s.series = append(s.series, s.now)
		s.offeredBefore += s.now.Offered
		s.doneBefore += s.now.Done
		s.now = Interval{Second: s.now.Second + 1}
	}
}

func (s *stats) outcome(seconds float64, online int64) *Outcome {
	s.turn(s.now.Second+1, online)
	o := &Outcome{Counters: s.counters, Errors: s.errors, Hists: map[string][]byte{}, Series: s.series, Seconds: seconds, BackAt: s.backAt, Tenths: s.tenths, Signs: s.signs}
	for name, h := range s.hists {
		if h.Count() > 0 {
			o.Hists[name], _ = h.Encode() // as above
		}
	}
	return o
}
