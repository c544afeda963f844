package client

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func msgs(ids ...int64) []Message {
	out := make([]Message, len(ids))
	for i, id := range ids {
		out[i] = Message{ThreadID: 1, ID: id}
	}
	return out
}

func ids(ms []Message) []int64 {
	out := make([]int64, len(ms))
	for i := range ms {
		out[i] = ms[i].ID
	}
	return out
}

func TestOrder(t *testing.T) {
	var o order
	require.Equal(t, []int64{1, 2}, ids(o.push(1, msgs(1, 2))))
	require.Empty(t, o.push(1, msgs(2, 1)), "doubles")
	require.Empty(t, o.push(1, msgs(5, 4)), "early")
	require.True(t, o.hole(1))
	require.Equal(t, []int64{3, 4, 5}, ids(o.push(1, msgs(3))))
	require.False(t, o.hole(1))

	o.push(1, msgs(9))
	require.Equal(t, []int64{6, 8, 9}, ids(o.page(1, msgs(5, 6, 8), 8)), "7 does not exist")
	require.False(t, o.hole(1))

	o.expect(1, 12)
	require.True(t, o.hole(1))
	o.push(1, msgs(14, 13))
	require.Equal(t, []int64{13, 14}, ids(o.skip(1)))
	require.False(t, o.hole(1))
	require.Equal(t, int64(14), o.cursor(1))

	o.start(2, 7)
	o.start(2, 3)
	require.Equal(t, []Cursor{{1, 14}, {2, 7}}, o.cursors())
	require.Equal(t, []int64{8}, ids(o.push(2, msgs(7, 8))))
}

func TestOrderKeepsABoundedPart(t *testing.T) {
	var o order
	for id := int64(5000); id > 1; id-- {
		require.Empty(t, o.push(1, msgs(id)))
	}
	require.Len(t, o.at(1).ahead, maxAhead)
	require.Equal(t, []int64{1}, ids(o.push(1, msgs(1))))
	require.True(t, o.hole(1), "the rest is read from the history")
}

// Whatever arrives, however often and in whatever order, with pages in between: every id once, ascending.
func TestOrderOfAnything(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		const n = 60
		arrivals := make([]int64, 0, 2*n)
		for id := int64(1); id <= n; id++ {
			for range rnd.IntN(3) {
				arrivals = append(arrivals, id)
			}
		}
		rnd.Shuffle(len(arrivals), func(i, j int) { arrivals[i], arrivals[j] = arrivals[j], arrivals[i] })
		var o order
		var got []int64
		for _, id := range arrivals {
			got = append(got, ids(o.push(1, msgs(id)))...)
			if rnd.IntN(4) == 0 {
				from := o.cursor(1)
				to := min(from+rnd.Int64N(5), n)
				var page []int64
				for i := from + 1; i <= to; i++ {
					page = append(page, i)
				}
				got = append(got, ids(o.page(1, msgs(page...), max(from, to)))...)
			}
		}
		for o.cursor(1) < n {
			got = append(got, ids(o.page(1, msgs(o.cursor(1)+1), o.cursor(1)+1))...)
		}
		require.Len(t, got, n, "seed %d", seed)
		require.True(t, slices.IsSorted(got))
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{base: 500 * time.Millisecond, limit: 30 * time.Second}
	for n, most := range []time.Duration{500, 1000, 2000, 4000, 8000, 16000, 30000, 30000} {
		var longest time.Duration
		for range 2000 {
			w := b.wait(n, 0)
			require.LessOrEqual(t, w, most*time.Millisecond)
			longest = max(longest, w)
		}
		require.Greater(t, longest, most*time.Millisecond*9/10, "the whole range is used")
		require.GreaterOrEqual(t, b.wait(n, 7*time.Second), 7*time.Second)
	}
	require.LessOrEqual(t, b.wait(1000, 0), 30*time.Second)
}

// After an outage of the database texts do not wait as long as logins would.
func TestRefusedTextsAreSentAgainWithinSeconds(t *testing.T) {
	var b outbox
	b.init(10, backoff{DefaultBackoffBase, DefaultBackoffLimit})
	for n := range 40 {
		for range 100 {
			require.LessOrEqual(t, b.backoff.wait(n, 0), 5*time.Second)
		}
	}
	require.GreaterOrEqual(t, b.backoff.wait(0, 7*time.Second), 7*time.Second, "the node knows better")
}
