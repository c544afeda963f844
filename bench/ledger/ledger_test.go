package ledger

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTextSurvivesTheWayAndNothingElseDoes(t *testing.T) {
	want := Text{Run: 0xfeed0001, From: 100001, To: 2147483647, Counter: 4294967295, Planned: 1 << 50}
	for _, size := range []int{0, 80, 100, 4096} {
		b := want.AppendText(nil, size)
		require.Len(t, b, max(size, MinText))
		got, known, intact := ParseText(b)
		require.True(t, known)
		require.True(t, intact)
		require.Equal(t, want, got)
		for i := range b {
			changed := bytes.Clone(b)
			changed[i] ^= 1
			_, known, intact = ParseText(changed)
			require.False(t, known && intact, "byte %d of %d changed", i, size)
		}
		_, _, intact = ParseText(b[:len(b)-1])
		require.False(t, intact)
	}
	run, from, counter, ok := ParseUniqueID(want.AppendUniqueID(nil))
	require.True(t, ok)
	require.Equal(t, []any{want.Run, want.From, want.Counter}, []any{run, from, counter})
	_, _, _, ok = ParseUniqueID([]byte("{6f1c2a3e-0b4d-4c5e-9f60-718293a4b5c6}"))
	require.False(t, ok)
}

// run is a pair of users with the events between them.
type run struct {
	*Book
	ab, ba int
}

func newRun() *run {
	r := &run{Book: New(7)}
	r.ab = r.Open(1, 2, 50)
	r.ba = r.Open(2, 1, 50)
	return r
}

func (r *run) send(planned int64) Text {
	t := r.Plan(r.ab, planned)
	r.Sent(r.ab, t.Counter, planned)
	return t
}

func (r *run) push(t Text, seq int64) {
	r.Delivered(2, 1, 50, seq, t.AppendText(nil, 100), t.Planned+5)
}

func (r *run) store(t Text, seq int64) {
	r.Stored(50, seq, t.From, string(t.AppendUniqueID(nil)), t.AppendText(nil, 100))
}

func TestBooks(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *run)
		want func(s *Summary) int64
		ok   bool
	}{
		{"all is well", func(r *run) {
			for seq := int64(1); seq <= 3; seq++ {
				x := r.send(seq)
				r.Acked(r.ab, x.Counter, seq)
				r.push(x, seq)
				r.store(x, seq)
			}
		}, func(s *Summary) int64 { return s.Delivered - 2 }, true},
		{"acknowledged and gone", func(r *run) { r.Acked(r.ab, r.send(1).Counter, 1) }, func(s *Summary) int64 { return s.Lost }, false},
		{"acknowledged before it was stored", func(r *run) {
			x := r.send(1)
			r.Acked(r.ab, x.Counter, 1)
			r.push(x, 1)
		}, func(s *Summary) int64 { return s.Unstored }, false},
		{"not pushed", func(r *run) {
			x := r.send(1)
			r.Acked(r.ab, x.Counter, 1)
			r.store(x, 1)
		}, func(s *Summary) int64 { return s.Missed }, false},
		{"not pushed to one who was away", func(r *run) {
			x := r.send(1)
			r.Acked(r.ab, x.Counter, 1)
			r.store(x, 1)
			r.Disturb(2)
		}, func(s *Summary) int64 { return s.ReadBack }, true},
		{"pushed twice", func(r *run) {
			x := r.send(1)
			r.Acked(r.ab, x.Counter, 1)
			r.push(x, 1)
			r.push(x, 1)
			r.store(x, 1)
		}, func(s *Summary) int64 { return s.Duplicated }, false},
		{"pushed twice after a disconnection", func(r *run) {
			x := r.send(1)
			r.Acked(r.ab, x.Counter, 1)
			r.push(x, 1)
			r.Disturb(1)
			r.push(x, 1)
			r.store(x, 1)
		}, func(s *Summary) int64 { return s.Redelivered }, true},
		{"swapped", func(r *run) {
			x, y := r.send(1), r.send(2)
			r.Acked(r.ab, x.Counter, 1)
			r.Acked(r.ab, y.Counter, 2)
			r.push(y, 2)
			r.push(x, 1)
			r.store(x, 1)
			r.store(y, 2)
		}, func(s *Summary) int64 { return s.Reordered }, false},
		{"to the wrong user", func(r *run) {
			x := r.send(1)
			r.Delivered(1, 1, 50, 1, x.AppendText(nil, 100), 5)
		}, func(s *Summary) int64 { return s.Misrouted }, false},
		{"in the wrong thread", func(r *run) {
			x := r.send(1)
			r.Delivered(2, 1, 51, 1, x.AppendText(nil, 100), 5)
		}, func(s *Summary) int64 { return s.Misrouted }, false},
		{"changed on the way", func(r *run) {
			b := r.send(1).AppendText(nil, 100)
			b[60]++
			r.Delivered(2, 1, 50, 1, b, 5)
		}, func(s *Summary) int64 { return s.Corrupt }, false},
		{"an ack of nothing", func(r *run) { r.Acked(r.ab, 5, 1) }, func(s *Summary) int64 { return s.Corrupt }, false},
		{"acked and delivered under different numbers", func(r *run) {
			x := r.send(1)
			r.Acked(r.ab, x.Counter, 1)
			r.push(x, 2)
			r.store(x, 1)
		}, func(s *Summary) int64 { return s.WrongSeq - 1 }, false},
		{"stored twice", func(r *run) {
			x := r.send(1)
			r.Acked(r.ab, x.Counter, 1)
			r.push(x, 1)
			r.store(x, 1)
			r.store(x, 2)
		}, func(s *Summary) int64 { return s.StoredTwice }, false},
		{"resent, answered twice alike", func(r *run) {
			x := r.send(1)
			r.Sent(r.ab, x.Counter, 9)
			r.Acked(r.ab, x.Counter, 1)
			r.Acked(r.ab, x.Counter, 1)
			r.push(x, 1)
			r.store(x, 1)
		}, func(s *Summary) int64 { return s.Resent }, true},
		{"never answered, stored", func(r *run) { r.store(r.send(1), 1) }, func(s *Summary) int64 { return s.StoredUnacked + s.Unanswered - 1 }, true},
		{"refused", func(r *run) { r.Refused(r.ab, r.send(1).Counter) }, func(s *Summary) int64 { return s.Refused }, true},
		{"late", func(r *run) {
			x := r.send(1)
			r.Acked(r.ab, x.Counter, 1)
			r.Delivered(2, 1, 50, 1, x.AppendText(nil, 100), 2e9)
			r.store(x, 1)
		}, func(s *Summary) int64 { return s.Late }, true},
		{"a hole", func(r *run) { r.Hole(50, 3) }, func(s *Summary) int64 { return s.Holes }, false},
		{"another run's", func(r *run) {
			r.Delivered(2, 1, 50, 1, Text{Run: 8, From: 1, To: 9}.AppendText(nil, 100), 5)
		}, func(s *Summary) int64 { return 1 - s.Delivered }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRun()
			c.do(r)
			r.ReadAll()
			s := r.Summary()
			require.EqualValues(t, 1, c.want(&s), "%+v", s)
			require.Equal(t, c.ok, s.Wrong() == 0, "%+v", s)
			if !c.ok {
				require.NotEmpty(t, s.Faults)
			}
		})
	}
}

func TestWithoutHistoryAMissingPushIsALoss(t *testing.T) {
	r := newRun()
	r.Acked(r.ab, r.send(1).Counter, 1)
	s := r.Summary()
	require.EqualValues(t, 1, s.Lost)
	r.Disturb(1)
	s = r.Summary()
	require.EqualValues(t, 0, s.Wrong())
	require.EqualValues(t, 1, s.ReadBack)
}

func TestSummariesAddUp(t *testing.T) {
	a, b := newRun(), newRun()
	a.Acked(a.ab, a.send(1).Counter, 1)
	b.Acked(b.ab, b.send(1).Counter, 1)
	a.ReadAll()
	var s Summary
	s.Add(a.Summary())
	require.True(t, s.HistoryChecked)
	s.Add(b.Summary())
	require.False(t, s.HistoryChecked)
	require.EqualValues(t, 2, s.Lost)
	require.EqualValues(t, 2, s.Acked)
}
