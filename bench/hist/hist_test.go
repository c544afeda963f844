package hist

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMergingLosesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	one, a, b := New(), New(), New()
	for i := range 20000 {
		v := int64(rng.ExpFloat64() * 5e6)
		one.Record(v)
		if i%3 == 0 {
			a.Record(v)
		} else {
			b.Record(v)
		}
	}
	wireA, err := a.Encode()
	require.NoError(t, err)
	merged, err := Decode(wireA)
	require.NoError(t, err)
	merged.Add(b)
	require.Equal(t, one.Summary(), merged.Summary())
	require.Equal(t, one.Curve(), merged.Curve())

	packed, err := Merge([][]byte{a.Pack(), nil, b.Pack(), New().Pack()})
	require.NoError(t, err)
	require.Equal(t, one.Pack(), packed)
	unpacked, err := Unpack(packed)
	require.NoError(t, err)
	require.Equal(t, one.Summary(), unpacked.Summary())
}

func TestWhatIsNotPackedIsRefused(t *testing.T) {
	h := New()
	h.Record(highest)
	good := h.Pack()
	_, err := Unpack(good)
	require.NoError(t, err)
	for name, b := range map[string][]byte{
		"cut":            good[:len(good)-1],
		"past the end":   append(bytes.Clone(good), 0x80, 0x80, 0x40, 1),
		"no gap":         {0, 1},
		"gap too long":   {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1},
		"count too long": {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		_, err := Unpack(b)
		require.Error(t, err, name)
	}
}

func TestBounds(t *testing.T) {
	h := New()
	require.Zero(t, h.Summary())
	require.Empty(t, h.Curve())
	h.Record(-5)
	h.Record(1 << 60)
	require.EqualValues(t, 1, h.Clamped)
	require.InEpsilon(t, 120e9, h.Max(), .001)
	h.Reset()
	require.Zero(t, h.Count())
	require.Zero(t, h.Clamped)
	_, err := Decode([]byte("no"))
	require.Error(t, err)
}

func TestThreeDigits(t *testing.T) {
	for _, v := range []int64{543210, 1234567, 999999999, 60e9} {
		h := New()
		h.Record(v)
		require.InEpsilon(t, v, h.Quantile(.5), .001)
	}
}

func TestHGRM(t *testing.T) {
	h := New()
	h.Record(5e6)
	var b bytes.Buffer
	require.NoError(t, h.WriteHGRM(&b))
	require.Contains(t, b.String(), "Percentile")
	require.Contains(t, b.String(), "5.0")
}

func TestFormat(t *testing.T) {
	for ns, want := range map[int64]string{5: "5ns", 1500: "1.5µs", 2345678: "2.35ms", 12345678901: "12.3s"} {
		require.Equal(t, want, Format(ns))
	}
}
