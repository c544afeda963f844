// Package hist provides latency histograms with three significant digits from 1 µs to two minutes, which can be
// merged without loss across goroutines and processes. It wraps HdrHistogram without changing its arithmetic.
package hist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	lowest  = 1_000           // ns; smaller values count as this
	highest = 120_000_000_000 // ns; larger values count as this, and as Clamped
	digits  = 3
)

// Hist is a histogram of durations. It is not safe for concurrent use; use one per goroutine and merge them.
type Hist struct {
	h *hdrhistogram.Histogram
	// Clamped is the number of values larger than two minutes.
	Clamped int64
}

// New returns an empty histogram, about 140 KiB.
func New() *Hist { return &Hist{h: hdrhistogram.New(lowest, highest, digits)} }

// Record counts a duration in nanoseconds. Negative ones count as zero.
func (h *Hist) Record(ns int64) {
	if ns < 0 {
		ns = 0
	}
	if ns > highest {
		ns = highest
		h.Clamped++
	}
	_ = h.h.RecordValue(ns) // fails only for values out of range
}

// Count returns the number of recorded values.
func (h *Hist) Count() int64 { return h.h.TotalCount() }

// Reset removes all values.
func (h *Hist) Reset() { h.h.Reset(); h.Clamped = 0 }

// Add adds the values of o to h, without loss.
func (h *Hist) Add(o *Hist) {
	h.h.Merge(o.h)
	h.Clamped += o.Clamped
}

// Quantile returns the value, in nanoseconds, that the share q (0 to 1) of all values does not exceed; 0 if the
// histogram is empty.
func (h *Hist) Quantile(q float64) int64 {
	if h.Count() == 0 {
		return 0
	}
	return h.h.ValueAtQuantile(q * 100)
}

// Max returns the largest value to three digits, 0 when empty.
func (h *Hist) Max() int64 {
	if h.Count() == 0 {
		return 0
	}
	return h.h.Max()
}

// Min returns the smallest value to three digits, 0 when empty.
func (h *Hist) Min() int64 {
	if h.Count() == 0 {
		return 0
	}
	return h.h.Min()
}

// Mean returns the mean in nanoseconds, 0 when empty.
func (h *Hist) Mean() float64 {
	if h.Count() == 0 {
		return 0
	}
	return h.h.Mean()
}

// Encode returns the histogram in HdrHistogram's compressed V2 form, usually a few hundred bytes.
func (h *Hist) Encode() ([]byte, error) {
	b, err := h.h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, fmt.Errorf("hist: encode: %w", err)
	}
	return b, nil
}

// Decode decodes the result of Encode.
func Decode(b []byte) (*Hist, error) {
	d, err := hdrhistogram.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("hist: decode: %w", err)
	}
	h := New()
	h.h.Merge(d)
	return h, nil
}

// Pack returns the histogram in the form of Unpack and Merge: for each value that occurs, the distance from the
// previous one and its count, as varints. It replaces HdrHistogram's own form between processes, whose compressor
// allocates 640 KiB each time: with 57 generators that each send a histogram a second, that took 2 % of the machine
// and made most of their garbage.
func (h *Hist) Pack() []byte {
	var b []byte
	last := -1
	for i, n := range h.h.Export().Counts {
		if n > 0 {
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(i-last)), uint64(n))
			last = i
		}
	}
	return b
}

// Unpack decodes the result of Pack.
func Unpack(b []byte) (*Hist, error) { return unpackAll([][]byte{b}) }

// Merge returns the sum of packed histograms in packed form; nil for none.
func Merge(parts [][]byte) ([]byte, error) {
	parts = slices.DeleteFunc(slices.Clone(parts), func(b []byte) bool { return len(b) == 0 })
	switch len(parts) {
	case 0:
		return nil, nil
	case 1:
		return parts[0], nil
	}
	sum, err := unpackAll(parts)
	if err != nil {
		return nil, err
	}
	return sum.Pack(), nil
}

var errPacked = errors.New("hist: unpack: not what Pack wrote")

func unpackAll(parts [][]byte) (*Hist, error) {
	sum := New().h.Export()
	for _, b := range parts {
		for at := -1; len(b) > 0; {
			gap, k := binary.Uvarint(b)
			if k <= 0 || gap == 0 || gap >= uint64(len(sum.Counts)-at) {
				return nil, errPacked
			}
			n, l := binary.Uvarint(b[k:])
			if l <= 0 || n > math.MaxInt64 {
				return nil, errPacked
			}
			at += int(gap)
			sum.Counts[at] += int64(n)
			b = b[k+l:]
		}
	}
	return &Hist{h: hdrhistogram.Import(sum)}, nil
}

// WriteHGRM writes the percentile distribution, in milliseconds, in the format of HdrHistogram's plotter.
func (h *Hist) WriteHGRM(w io.Writer) error {
	if _, err := h.h.PercentilesPrint(w, 5, 1e6); err != nil {
		return fmt.Errorf("hist: write: %w", err)
	}
	return nil
}

// Point is a step of a percentile curve.
type Point struct {
	Quantile float64 // 0 to 1
	Value    int64   // ns
}

// Curve returns the distribution in at most one or two hundred steps, which get finer towards the end, for plotting.
func (h *Hist) Curve() []Point {
	if h.Count() == 0 {
		return nil
	}
	brackets := h.h.CumulativeDistributionWithTicks(5)
	points := make([]Point, 0, len(brackets))
	for _, b := range brackets {
		points = append(points, Point{b.Quantile / 100, b.ValueAt})
	}
	return points
}

// Summary holds the figures of a histogram that tables show. Durations are in nanoseconds.
type Summary struct {
	Count                                int64
	Min, P50, P90, P99, P999, P9999, Max int64
	Mean                                 float64
}

// Summary returns the usual figures.
func (h *Hist) Summary() Summary {
	return Summary{
		Count: h.Count(), Min: h.Min(), P50: h.Quantile(.5), P90: h.Quantile(.9), P99: h.Quantile(.99),
		P999: h.Quantile(.999), P9999: h.Quantile(.9999), Max: h.Max(), Mean: h.Mean(),
	}
}

// Format formats nanoseconds for reading, with three digits and a unit.
func Format(ns int64) string {
	d := time.Duration(ns)
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%dns", ns)
	case d < time.Millisecond:
		return fmt.Sprintf("%.3gµs", float64(ns)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.3gms", float64(ns)/1e6)
	}
	return fmt.Sprintf("%.3gs", float64(ns)/1e9)
}
