package session

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/outbox"
	"parley/internal/wire"
)

// member returns a Pending session whose pushes are only counted.
func member(t testing.TB, uid int32, sid SID, device string) (*Session, *countingStock) {
	t.Helper()
	s, p := new(Session), new(countingStock)
	s.Init(&fileConn{fd: -1, close: s.Gone}, &Limits{Limits: outbox.Limits{Go: func(f func()) { f() }}})
	p.s = s
	require.True(t, s.Identify(Identity{UID: uid, SID: sid, Device: device, Stock: p}))
	return s, p
}

func TestSIDText(t *testing.T) {
	for _, sid := range []SID{0, 1, 1 << 63, 0xfedcba9876543210} {
		back, ok := ParseSID(sid.String())
		require.True(t, ok)
		require.Equal(t, sid, back)
	}
	for _, bad := range []string{"", "1", "00000000000000001", "000000000000000g", "+000000000000001", "0x00000000000001"} {
		_, ok := ParseSID(bad)
		require.False(t, ok, bad)
	}
}

func TestPushesFindLiveSessionsOnly(t *testing.T) {
	r := NewRegistry()
	s, p := member(t, 1, 1, "")
	push := &Push{To: 1, ID: wire.MsgTextPush}
	deliver := func() int { n, _, _ := r.Deliver(push, nil); return n }

	require.Zero(t, deliver())
	r.Add(s)
	require.Zero(t, deliver(), "a login is under way")
	require.Zero(t, r.Live())
	require.Equal(t, []SID{1}, r.Of(nil, 1))
	require.Equal(t, Activated, r.Activate(s))
	require.Equal(t, 1, deliver())
	require.Equal(t, 1, r.Live())
	s.Close()
	require.Zero(t, deliver())
	require.Empty(t, r.Of(nil, 1))
	require.True(t, r.Remove(s))
	require.False(t, r.Remove(s))
	require.Zero(t, r.Live())
	require.EqualValues(t, 1, p.pushes.Load())
}

func TestDevices(t *testing.T) {
	r := NewRegistry()
	var policies []*countingStock
	for i, device := range []string{"", "phone", "desk"} {
		s, p := member(t, 65, SID(i+1), device)
		r.Add(s)
		require.Equal(t, Activated, r.Activate(s))
		policies = append(policies, p)
	}
	other, strange := member(t, 1, 9, "phone") // the same shard
	r.Add(other)
	require.Equal(t, Activated, r.Activate(other))
	require.Equal(t, []SID{3, 2, 1}, r.Of(nil, 65), "newest first")
	for _, tc := range []struct {
		push Push
		want [3]int32
	}{
		{Push{To: 65}, [3]int32{1, 1, 1}},
		{Push{To: 65, Device: "phone"}, [3]int32{0, 1, 0}},
		{Push{To: 65, Skip: 2}, [3]int32{1, 0, 1}},
		{Push{To: 65, Device: "fridge"}, [3]int32{}},
		{Push{To: 65, SID: SID(3).String()}, [3]int32{0, 0, 1}},
		{Push{To: 65, SID: SID(3).String(), Device: "phone"}, [3]int32{}},
		{Push{To: 65, SID: "3"}, [3]int32{}},
	} {
		n, elsewhere, err := r.Deliver(&tc.push, nil)
		require.NoError(t, err)
		require.False(t, elsewhere)
		var got [3]int32
		sum := 0
		for i, p := range policies {
			got[i] = p.pushes.Swap(0)
			sum += int(got[i])
		}
		if tc.push.Skip != 0 {
			sum++ // needs no other way
		}
		require.Equal(t, tc.want, got)
		require.Equal(t, sum, n)
	}
	require.Zero(t, strange.pushes.Load())
	require.True(t, r.Elsewhere(65))
	require.False(t, r.Elsewhere(66))
	_, elsewhere, _ := r.Deliver(&Push{To: 65}, nil)
	require.True(t, elsewhere)
	_, elsewhere, _ = r.Deliver(&Push{To: 1}, nil)
	require.False(t, elsewhere)
}

func TestSupersede(t *testing.T) {
	r := NewRegistry()
	live, _ := member(t, 1, 1, "")
	r.Add(live)
	require.Equal(t, Activated, r.Activate(live))
	pending, _ := member(t, 1, 2, "")
	r.Add(pending)
	for _, other := range []struct {
		uid int32
		sid SID
		why string
	}{{1, 7, "no such session"}, {2, 1, "another user's"}} {
		old, login := r.Supersede(other.uid, other.sid)
		require.Nil(t, old, other.why)
		require.Nil(t, login, other.why)
	}
	old, login := r.Supersede(1, 1)
	require.Same(t, live, old)
	require.Nil(t, login)
	old, login = r.Supersede(1, 2)
	require.Nil(t, old, "it is told when its login is done")
	require.Same(t, pending, login)
	require.Equal(t, Superseded, r.Activate(pending))
	require.Equal(t, 1, r.Live())
}

// The close callback may run between Identify and Add; then it finds nothing to remove, and nobody comes after it.
func TestALoginThatDiedBeforeItWasAddedIsForgotten(t *testing.T) {
	r := NewRegistry()
	s, _ := member(t, 1, 1, "")
	s.Close()
	require.False(t, r.Remove(s))
	r.Add(s)
	require.Equal(t, Died, r.Activate(s))
	r.Each(func(*Session) { t.Fatal("a dead session stays in the registry") })
}

func TestRemoveFromTheMiddle(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {1, 0, 2}, {2, 1, 0}, {1, 2, 0}} {
		r := NewRegistry()
		var all []*Session
		for i := range 3 {
			s, _ := member(t, 1, SID(i), "")
			all = append(all, s)
			r.Add(s)
			require.Equal(t, Activated, r.Activate(s))
		}
		for left, i := range order {
			require.True(t, r.Remove(all[i]))
			require.Len(t, r.Of(nil, 1), 2-left)
			require.NotContains(t, r.Of(nil, 1), SID(i))
			require.Equal(t, 2-left, r.Live())
		}
	}
}

func TestRegistryUnderLoad(t *testing.T) {
	r := NewRegistry()
	var wg sync.WaitGroup
	var sids atomic.Uint64
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				uid := int32(rand.IntN(4))
				r.Deliver(&Push{To: uid, ID: wire.MsgTextPush}, nil)
				for _, sid := range r.Of(nil, uid) {
					if s, _ := r.Supersede(uid, sid); s != nil {
						s.Finish(nil)
						r.Remove(s)
					}
				}
				r.Elsewhere(uid)
				r.Each(func(s *Session) { _ = s.State() })
				require.GreaterOrEqual(t, r.Live(), 0)
			}
		})
	}
	var members sync.WaitGroup
	for range 4 {
		members.Go(func() {
			for range 3000 {
				s, _ := member(t, int32(rand.IntN(4)), SID(sids.Add(1)), "")
				if rand.IntN(4) == 0 {
					s.Close()
				}
				r.Add(s)
				if r.Activate(s) == Activated && rand.IntN(2) == 0 {
					s.Close()
				}
				r.Remove(s)
			}
		})
	}
	members.Wait()
	close(stop)
	wg.Wait()
	require.Zero(t, r.Live())
	r.Each(func(s *Session) { t.Error("left behind", s.SID()) })
	for i := range r.shard {
		require.Empty(t, r.shard[i].users)
	}
	require.Empty(t, slices.Concat(r.Of(nil, 0), r.Of(nil, 1), r.Of(nil, 2), r.Of(nil, 3)))
}
