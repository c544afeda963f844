package ledger

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// hall is a room of the members 1 to 4, of whom 1 and 2 write. It has four texts with the numbers 11 to 14: the third
// is from 2, the others are from 1.
type hall struct {
	*Book
	texts []Text
}

func newHall() *hall {
	h := &hall{Book: New(7)}
	h.OpenRoom(50, 10, []int32{1, 2, 3, 4})
	sides := []int{h.Open(1, 0, 50), h.Open(2, 0, 50)}
	for i, from := range []int32{1, 1, 2, 1} {
		side, seq := sides[from-1], int64(11+i)
		t := h.Plan(side, seq)
		h.Sent(side, t.Counter, t.Planned)
		h.Acked(side, t.Counter, seq)
		h.Stored(50, seq, from, string(t.AppendUniqueID(nil)), t.AppendText(nil, 100))
		h.texts = append(h.texts, t)
	}
	h.ReadAll()
	return h
}

// push delivers a text to the given members, or by default to all but its sender.
func (h *hall) push(seq int64, members ...int32) {
	t := h.texts[seq-11]
	row, _ := h.Row(t.From, 50, seq, t.AppendText(nil, 100))
	if members == nil {
		members = []int32{3 - t.From, 3, 4}
	}
	for _, uid := range members {
		h.Copied(uid, &row, t.Planned+int64(uid))
	}
}

func (h *hall) pushAll(seqs ...int64) {
	for _, seq := range seqs {
		h.push(seq)
	}
}

func TestWhatMayHappenInARoom(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(*hall)
		n    int64
		of   func(*Summary) int64
		ok   bool
	}{
		{"all well", func(h *hall) { h.pushAll(11, 12, 13, 14) }, 12, func(s *Summary) int64 { return s.Copies }, true},
		{"own texts as well", func(h *hall) { h.push(11, 1, 2, 3, 4); h.pushAll(12, 13, 14) }, 12, func(s *Summary) int64 { return s.Copies }, true},
		{"dropped for one", func(h *hall) { h.push(11); h.push(12, 2, 3); h.pushAll(13, 14) }, 1, func(s *Summary) int64 { return s.Missed }, false},
		{"dropped for all", func(h *hall) { h.pushAll(11, 13, 14) }, 3, func(s *Summary) int64 { return s.Missed }, false},
		{"doubled for one", func(h *hall) { h.pushAll(11, 12, 13, 14); h.push(12, 4) }, 1, func(s *Summary) int64 { return s.Duplicated }, false},
		{"of two senders in another order", func(h *hall) { h.pushAll(11, 12); h.push(14, 4); h.push(13); h.push(14, 2, 3) }, 1, func(s *Summary) int64 { return s.ReorderedPushes }, true},
		{"of one sender in another order", func(h *hall) { h.push(11); h.push(13); h.push(14, 4); h.push(12); h.push(14, 2, 3) }, 1, func(s *Summary) int64 { return s.Reordered }, false},
		{"to a stranger", func(h *hall) { h.pushAll(11, 12, 13, 14); h.push(13, 9) }, 1, func(s *Summary) int64 { return s.Misrouted }, false},
		{"after a removal", func(h *hall) { h.pushAll(11, 12, 13, 14); h.Removed(4, 12) }, 2, func(s *Summary) int64 { return s.AfterRemoval }, false},
		{"none after a removal", func(h *hall) { h.pushAll(11, 12); h.push(13, 1, 3); h.push(14, 2, 3); h.Removed(4, 12) }, 10, func(s *Summary) int64 { return s.Copies }, true},
		{"dropped before a removal", func(h *hall) { h.push(11); h.push(12, 2, 3); h.push(13, 1, 3); h.push(14, 2, 3); h.Removed(4, 12) }, 1, func(s *Summary) int64 { return s.Missed }, false},
		{"dropped with a notice", func(h *hall) { h.push(11); h.push(12, 2, 3); h.pushAll(13, 14); h.Gap(4, 12) }, 1, func(s *Summary) int64 { return s.ReadBack }, true},
		{"dropped with a notice of later ones", func(h *hall) { h.push(11); h.push(12, 2, 3); h.pushAll(13, 14); h.Gap(4, 13) }, 1, func(s *Summary) int64 { return s.Missed }, false},
		{"dropped for one who was away", func(h *hall) { h.push(11); h.Disturb(4); h.push(12, 2, 3); h.pushAll(13, 14) }, 1, func(s *Summary) int64 { return s.ReadBack }, true},
		{"under two numbers", func(h *hall) {
			h.pushAll(11, 12, 13, 14)
			h.Row(1, 50, 99, h.texts[3].AppendText(nil, 100))
		}, 1, func(s *Summary) int64 { return s.StoredTwice }, false},
		{"changed on the way", func(h *hall) {
			h.pushAll(11, 12, 13, 14)
			b := h.texts[2].AppendText(nil, 100)
			b[60]++
			h.Row(2, 50, 13, b)
		}, 1, func(s *Summary) int64 { return s.Corrupt }, false},
		{"in another thread", func(h *hall) {
			h.pushAll(11, 12, 13, 14)
			h.Row(2, 51, 13, h.texts[2].AppendText(nil, 100))
		}, 1, func(s *Summary) int64 { return s.Misrouted }, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := newHall()
			c.do(h)
			s := h.Summary()
			require.EqualValues(t, c.n, c.of(&s), "%+v", s)
			require.Equal(t, c.ok, s.Wrong() == 0, "%+v", s)
		})
	}
}

func TestARoomKnowsWhenAllHaveAllAndHowLongItTook(t *testing.T) {
	h := newHall()
	h.pushAll(11, 12, 13)
	h.push(14, 2, 3)
	require.False(t, h.Settled())
	h.Removed(4, 12)
	require.True(t, h.Settled())
	var first, last []int64
	h.EachSpread(func(planned, f, l int64) { first, last = append(first, f-planned), append(last, l-planned) })
	require.Equal(t, [][]int64{{2, 2, 2, 1}, {4, 4, 3, 4}}, [][]int64{first, last}, "the texts of 1, then that of 2")
}
