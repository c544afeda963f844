package swarm

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"parley/bench/engine"
	"parley/bench/hist"
	"parley/bench/ledger"
)

// The histograms of a phase. Those ending in .service count from when the generator acted, the others from when the
// schedule required it.
const (
	HConnect        = "connect"         // connect, with the handshakes of TLS and WebSocket
	HLogin          = "login"           // 1005 to 1006 on an open connection
	HFull           = "full"            // both, from the planned time
	HPing           = "ping"            // 1023 to 1024
	HPingService    = "ping.service"    //
	HAck            = "ack"             // 1017 to 1018: stored
	HAckService     = "ack.service"     //
	HDeliver        = "deliver"         // 1017 to the recipient's 1019, or to each member's 2144
	HDeliverService = "deliver.service" //
	HLag            = "lag"             // lateness of the generator
	HMark           = "mark"            // 2146 to 2147: stored
	HOutage         = "outage"          // of a user, from the loss of the connection to the next login
	HMove           = "move"            // of a user, from the goodbye of a node that drains to the next login
	HHistory        = "history"         // a page of history
	HFirst          = "first"           // 1017 to a group, to the first member's 2144
	HLast           = "last"            // to the last member's
	HTold           = "told"            // a friend goes online or offline, to the 2153
)

// Interval is one second of a phase. Second counts from the phase's start. The other fields except Online count
// events within it.
type Interval struct {
	Second               int
	Offered, Done, Wrong int64  // operations: due, completed, failed
	Online               int64  // sessions at its end
	Hist                 []byte // packed; nil if empty
}

// Tenth is a tenth of a second of a phase with Fine: the sums of due and completed operations since the phase's
// start, and the number of sessions, at its end.
type Tenth struct{ Offered, Done, Online int64 }

const tenth = int64(100 * time.Millisecond)

// Sign is a failure seen by a user: a lost connection, a refused operation. The first of each hundredth of a second
// is kept.
type Sign struct {
	At   time.Duration // since the phase's start
	What string
}

// Outcome is the result of a phase, or of a part of it on one loop or process.
type Outcome struct {
	Counters map[string]int64
	Errors   map[string]int64
	Hists    map[string][]byte // packed
	Series   []Interval
	Tenths   []Tenth // of phases with Fine
	Signs    []Sign  // likewise, ordered by time
	Ledger   ledger.Summary
	Seconds  float64   // duration: the longest of the parts
	BackAt   []float64 // when each user was logged in, in seconds since the start; only for storms
	RightAt  []float64 // when each user knew the truth about its friends, likewise
	// Cores is the number of cores each generator process used; the parent of the process sets it.
	Cores []float64
}

// Hist returns a histogram, which is empty if there is none of that name.
func (o *Outcome) Hist(name string) *hist.Hist {
	if b := o.Hists[name]; b != nil {
		if h, err := hist.Unpack(b); err == nil {
			return h
		}
	}
	return hist.New()
}

// Merge merges the outcomes of the parts of a phase, histograms without loss. With an error it returns everything
// that could be merged.
func Merge(parts []*Outcome) (*Outcome, error) {
	o := &Outcome{Counters: map[string]int64{}, Errors: map[string]int64{}}
	hists := merger[string]{}
	seconds := merger[int]{}
	series := map[int]Interval{}
	for _, p := range parts {
		for k, v := range p.Counters {
			o.Counters[k] += v
		}
		for k, v := range p.Errors {
			o.Errors[k] += v
		}
		for k, b := range p.Hists {
			hists[k] = append(hists[k], b)
		}
		for _, i := range p.Series {
			have := series[i.Second]
			series[i.Second] = Interval{
				i.Second, have.Offered + i.Offered, have.Done + i.Done, have.Wrong + i.Wrong, have.Online + i.Online, nil,
			}
			seconds[i.Second] = append(seconds[i.Second], i.Hist)
		}
		o.Tenths = addTenths(o.Tenths, p.Tenths)
		o.Signs = append(o.Signs, p.Signs...)
		o.Ledger.Add(p.Ledger)
		o.Seconds = max(o.Seconds, p.Seconds)
		o.BackAt = append(o.BackAt, p.BackAt...)
		o.RightAt = append(o.RightAt, p.RightAt...)
		o.Cores = append(o.Cores, p.Cores...)
	}
	slices.SortStableFunc(o.Signs, func(a, b Sign) int { return cmp.Compare(a.At, b.At) })
	var err, e error
	if o.Hists, e = hists.merge(); e != nil {
		err = fmt.Errorf("swarm: histogram %w", e)
	}
	bySecond, e := seconds.merge()
	if e != nil {
		err = errors.Join(err, fmt.Errorf("swarm: second %w", e))
	}
	for second, i := range series {
		i.Hist = bySecond[second]
		series[second] = i
	}
	o.Series = slices.SortedFunc(maps.Values(series), func(a, b Interval) int { return cmp.Compare(a.Second, b.Second) })
	return o, err
}

// merger holds packed histograms that belong together: a run has one for each second and process.
type merger[K comparable] map[K][][]byte

func (m merger[K]) merge() (map[K][]byte, error) {
	merged := make(map[K][]byte, len(m))
	var err error
	for k, parts := range m {
		b, e := hist.Merge(parts)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%v: %w", k, e))
			continue
		}
		merged[k] = b
	}
	return merged, err
}

// addTenths adds two parts. A part that ended earlier keeps its last state.
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

// stats collects the figures of a phase on one loop.
type stats struct {
	counters map[string]int64
	errors   map[string]int64
	hists    map[string]*hist.Hist
	series   []Interval
	now      Interval
	recent   *hist.Hist // of the current second
	backAt   []float64
	rightAt  []float64

	fine                      bool  // tenths and signs are wanted
	start                     int64 // of the phase
	offeredBefore, doneBefore int64 // in the seconds already closed
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

// turnTenth closes the tenths of a second before now.
func (s *stats) turnTenth(now, online int64) {
	for s.fine && int64(len(s.tenths)) < (now-s.start)/tenth {
		s.tenths = append(s.tenths, Tenth{s.offeredBefore + s.now.Offered, s.doneBefore + s.now.Done, online})
	}
}

// turn closes the seconds before the given one.
func (s *stats) turn(second int, online int64) {
	for s.now.Second < second {
		s.now.Online = online
		if s.recent.Count() > 0 {
			s.now.Hist = s.recent.Pack()
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
	o := &Outcome{Counters: s.counters, Errors: s.errors, Hists: map[string][]byte{}, Series: s.series, Seconds: seconds, BackAt: s.backAt, RightAt: s.rightAt, Tenths: s.tenths, Signs: s.signs}
	for name, h := range s.hists {
		if h.Count() > 0 {
			o.Hists[name] = h.Pack()
		}
	}
	return o
}
