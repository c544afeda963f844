// Package schedule computes when the operations of an open-loop load are due. The times depend only on a seed, not on
// how fast the server answers.
package schedule

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Shape is how the rate changes over time.
type Shape uint8

// The shapes. Rates are operations per second.
const (
	Constant Shape = iota // evenly spaced at Rates[0]
	Poisson               // independent arrivals, Rates[0] on average
	Ramp                  // from Rates[0] to Rates[1], linearly over the whole time
	Step                  // each of Rates for an equal part of the time
	Burst                 // Rates[0] on average, but all operations of a period at its start
)

var shapes = []string{"constant", "poisson", "ramp", "step", "burst"}

func (s Shape) String() string { return shapes[s] }

// Load is an offered load. The zero value offers nothing.
type Load struct {
	Shape  Shape
	Rates  []float64
	Period time.Duration // of Burst; 0: a second
	For    time.Duration
	Seed   uint64
	// Part says which one of Parts streams this is, which together form the load; 0 of 0 is the whole load.
	Part, Parts int
}

// MaxOperations bounds the operations of a load. A run keeps 32 bytes per text until its end, and up to twice that
// while the list grows: 20 million need about 1.3 GB.
const MaxOperations = 20_000_000

// Parse parses a shape: "constant", "poisson", "ramp:100-5000", "step:100,200,400", "burst" or "burst:500ms". rate is
// for the shapes that do not contain rates.
func Parse(text string, rate float64, d time.Duration, seed uint64) (Load, error) {
	l := Load{For: d, Seed: seed, Rates: []float64{rate}}
	name, arg, _ := strings.Cut(text, ":")
	found := false
	for i, s := range shapes {
		if s == name || name == "" {
			l.Shape, found = Shape(i), true
			break
		}
	}
	if !found {
		return Load{}, fmt.Errorf("schedule: %q is none of %s", name, strings.Join(shapes, ", "))
	}
	switch l.Shape {
	case Ramp:
		from, to, ok := strings.Cut(arg, "-")
		if !ok {
			return Load{}, fmt.Errorf("schedule: ramp wants FROM-TO, as in ramp:100-5000, not %q", arg)
		}
		l.Rates = nil
		for _, s := range []string{from, to} {
			if err := l.addRate(s); err != nil {
				return Load{}, err
			}
		}
	case Step:
		l.Rates = nil
		for s := range strings.SplitSeq(arg, ",") {
			if err := l.addRate(s); err != nil {
				return Load{}, err
			}
		}
	case Burst:
		l.Period = time.Second
		if arg != "" {
			var err error
			if l.Period, err = time.ParseDuration(arg); err != nil || l.Period <= 0 {
				return Load{}, fmt.Errorf("schedule: burst wants a period, as in burst:500ms, not %q", arg)
			}
		}
	default:
		if arg != "" {
			return Load{}, fmt.Errorf("schedule: %s takes no argument, the rate is a flag of its own", name)
		}
	}
	for _, r := range l.Rates {
		if !(r > 0) || math.IsInf(r, 0) {
			return Load{}, fmt.Errorf("schedule: rate %v is not above 0", r)
		}
	}
	if n := l.total(); n > MaxOperations {
		return Load{}, fmt.Errorf("schedule: %.3g operations in %v, at most %d can be kept: lower the rate or the duration", n, d, MaxOperations)
	}
	return l, nil
}

func (l *Load) addRate(s string) error {
	r, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		return fmt.Errorf("schedule: rate %q is not a number", s)
	}
	l.Rates = append(l.Rates, r)
	return nil
}

// Split returns part i of n streams that together form the load.
func (l Load) Split(i, n int) Load {
	if l.Parts > 1 {
		l.Part, l.Parts = l.Part*n+i, l.Parts*n
		return l
	}
	l.Part, l.Parts = i, n
	return l
}

// RateAt returns the rate of all parts at a time.
func (l Load) RateAt(at time.Duration) float64 {
	if at < 0 || at >= l.For || len(l.Rates) == 0 {
		return 0
	}
	switch l.Shape {
	case Ramp:
		return l.Rates[0] + (l.Rates[1]-l.Rates[0])*float64(at)/float64(l.For)
	case Step:
		return l.Rates[min(int(float64(at)/float64(l.For)*float64(len(l.Rates))), len(l.Rates)-1)]
	}
	return l.Rates[0]
}

// Total returns the number of operations of all parts, for Poisson on average.
func (l Load) Total() int64 { return int64(l.total()) }

func (l Load) total() float64 {
	if len(l.Rates) == 0 {
		return 0
	}
	s, n := 0.0, l.Rates
	if l.Shape != Ramp && l.Shape != Step {
		n = n[:1]
	}
	for _, r := range n {
		s += r
	}
	return s / float64(len(n)) * l.For.Seconds()
}

// Clock produces the due times of a stream, in ascending order. It is not safe for concurrent use.
type Clock struct {
	load Load
	rng  *rand.Rand
	n    int64 // operations of all parts so far, for evenly spaced shapes
	at   float64
}

// Clock returns a clock at the start of the stream.
func (l Load) Clock() *Clock {
	if l.Parts == 0 {
		l.Parts = 1
	}
	return &Clock{load: l, rng: rand.New(rand.NewPCG(l.Seed, uint64(l.Part))), n: int64(l.Part)}
}

// Next returns when the next operation is due, in nanoseconds since the start of the load, or false if there is none
// left.
func (c *Clock) Next() (int64, bool) {
	l := &c.load
	if len(l.Rates) == 0 {
		return 0, false
	}
	if l.Shape == Poisson {
		c.at += c.rng.ExpFloat64() * float64(l.Parts) / l.Rates[0]
	} else {
		c.at = l.due(float64(c.n))
		c.n += int64(l.Parts)
	}
	ns := c.at * 1e9
	return int64(ns), ns < float64(l.For)
}

// due returns when operation n of all parts is due, in seconds; for n beyond the total, some time after the end.
func (l *Load) due(n float64) float64 {
	total := l.For.Seconds()
	switch l.Shape {
	case Ramp:
		// n = a t + (b-a) t² / 2T, solved in the form that is also defined for b = a.
		a, k := l.Rates[0], (l.Rates[1]-l.Rates[0])/total
		root := a*a + 2*k*n
		if root < 0 {
			return total + 1
		}
		return 2 * n / (a + math.Sqrt(root))
	case Step:
		part := total / float64(len(l.Rates))
		for i, r := range l.Rates {
			if n < r*part {
				return float64(i)*part + n/r
			}
			n -= r * part
		}
		return total + 1
	case Burst:
		period := l.Period.Seconds()
		return math.Floor(n/(l.Rates[0]*period)) * period
	}
	return n / l.Rates[0]
}
