package session

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheWheelBringsEachSessionWhenItsTimeHasCome(t *testing.T) {
	r := NewRegistry()
	began := r.wheel.began
	second := func(n int) time.Time { return began.Add(time.Duration(n) * time.Second) }
	due := func(now time.Time) []*Session { return r.Due(nil, now) }
	a, b, c := new(Session), new(Session), new(Session)

	r.LookAt(a, second(3))
	r.LookAt(b, second(3).Add(400*time.Millisecond))
	r.LookAt(c, second(9))
	require.Empty(t, due(second(2).Add(999*time.Millisecond)))
	require.ElementsMatch(t, []*Session{a, b}, due(second(3)), "whole seconds")
	require.Empty(t, due(second(8)), "each once")

	r.LookAt(c, second(20)) // another time, in place of the first
	r.LookAt(a, second(1))  // one that has passed
	r.LookAt(b, second(8))  // one that is just being looked at
	require.ElementsMatch(t, []*Session{a, b}, due(second(10)))
	require.Equal(t, []*Session{c}, due(second(60)), "after a pause")

	r.LookAt(a, second(70))
	r.LookAt(b, second(70))
	r.LookAt(c, second(70))
	r.Remove(b)
	c.die()
	require.ElementsMatch(t, []*Session{a, c}, due(second(71)))
	r.LookAt(c, second(75))
	require.Empty(t, due(second(80)), "a dead one is let go")

	r.LookAt(a, second(80+3*wheelSlots))
	var came []*Session
	at := 80
	for ; len(came) == 0; at++ {
		require.Less(t, at, 80+wheelSlots+1)
		came = due(second(at))
	}
	require.Equal(t, []*Session{a}, came, "what is too far ahead comes early")
	r.LookAt(a, second(at+10))
	require.Equal(t, []*Session{a}, due(second(at+5*wheelSlots)), "a pause of more than a turn")
	for i := range r.wheel.slots {
		require.Empty(t, r.wheel.slots[i])
	}
}

// TestTheWheelLosesNobody plays logins, looks and ends against a map.
func TestTheWheelLosesNobody(t *testing.T) {
	r := NewRegistry()
	rnd := rand.New(rand.NewPCG(3, 4))
	want := map[*Session]int{} // second
	sessions := make([]*Session, 200)
	for i := range sessions {
		sessions[i] = new(Session)
	}
	for now := 1; now < 5000; now++ {
		for range rnd.IntN(20) {
			s := sessions[rnd.IntN(len(sessions))]
			if rnd.IntN(4) == 0 {
				r.Remove(s)
				delete(want, s)
				continue
			}
			at := now + rnd.IntN(wheelSlots)
			r.LookAt(s, r.wheel.began.Add(time.Duration(at)*time.Second))
			want[s] = max(at, now)
		}
		for _, s := range r.Due(nil, r.wheel.began.Add(time.Duration(now)*time.Second)) {
			require.Equal(t, now, want[s])
			delete(want, s)
		}
		for _, at := range want {
			require.Greater(t, at, now)
		}
	}
}
