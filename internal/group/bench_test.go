package group

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/outbox"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
	"parley/test/benchgate/cputime"
)

// alone is a Store and an Interest for one group with a fixed membership.
type alone struct{}

func (alone) Memberships(_ context.Context, uids []int32) (map[int32][]store.ThreadMembership, error) {
	out := make(map[int32][]store.ThreadMembership, len(uids))
	for _, uid := range uids {
		out[uid] = []store.ThreadMembership{{Thread: 1, Ver: 1, Membership: store.Membership{UID: uid, FromSeq: 1}}}
	}
	return out, nil
}

func (alone) LocalMembers(context.Context, int64, []int32) (int32, map[int32]store.Membership, error) {
	return 1, nil, nil
}

func (alone) Hold(_ context.Context, entries []presence.GroupEntry) ([]bool, error) {
	return make([]bool, len(entries)), nil
}

func (alone) Drop(context.Context, []presence.GroupEntry) error { return nil }

// BenchmarkFanOut measures one row of 300 bytes to n sessions of this node, next to a loop that writes the same frame
// to the same sockets.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1000} {
		var run sync.WaitGroup
		reg := session.NewRegistry()
		g := New(DefaultConfig(), Deps{
			Log: slog.New(slog.DiscardHandler), Node: "a", Boot: func() string { return "b" }, Store: alone{}, Interest: alone{}, Registry: reg,
			Locate: func(_ context.Context, threads []int64) ([][]string, []presence.GroupEntry, bool, error) {
				return make([][]string, len(threads)), nil, true, nil
			},
		})
		limits := &session.Limits{Limits: outbox.Limits{Bytes: 128 << 10, WriteTimeout: time.Minute, Go: run.Go}}
		ours, theirs := make([]int, n), make([]int, n)
		for i := range n {
			fds := socketpair(b)
			ours[i], theirs[i] = fds[0], fds[1]
			s := new(session.Session)
			s.Init(&socket{fds[0]}, limits)
			require.True(b, s.Identify(session.Identity{UID: int32(i + 1), SID: session.SID(i + 1), Native: true, Gap: true, Features: wire.FeatureGroups, Boot: "b"}))
			reg.Add(s)
			require.NoError(b, g.Enter(b.Context(), s))
			require.Equal(b, session.Activated, reg.Activate(s))
		}
		row := rowOf(1, 1, 1)
		row.Body = append(row.Body[:len(row.Body)-2], make([]byte, 300-len(row.Body))...) // not decoded by the test
		frame := appendFrame(nil, row.Body)
		buf := make([]byte, 64<<10)
		drain := func() {
			for _, fd := range theirs {
				for got := 0; got < len(frame); {
					n, err := syscall.Read(fd, buf)
					if err != nil && err != syscall.EAGAIN {
						b.Fatal(err)
					}
					if got += max(n, 0); got < len(frame) {
						runtime.Gosched() // the lane is at work
					}
				}
			}
		}
		lane := newHome(g.shared, g.owed)
		lane.deliver([]item{{rows: row}}) // its buffers
		drain()
		b.Run(fmt.Sprint("rows/", n), func(b *testing.B) {
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				lane.deliver([]item{{rows: row}})
				b.StopTimer()
				drain()
				b.StartTimer()
			}
		})
		b.Run(fmt.Sprint("bare/", n), func(b *testing.B) {
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				for _, fd := range ours {
					if _, err := syscall.Write(fd, frame); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				drain()
				b.StartTimer()
			}
		})
		g.Close()
		run.Wait()
		for i := range n {
			_, _ = syscall.Close(ours[i]), syscall.Close(theirs[i])
		}
	}
}

// TestASessionInAHundredGroupsTakesLittleMemory checks the index against its budget of 1.5 KiB.
func TestASessionInAHundredGroupsTakesLittleMemory(t *testing.T) {
	const sessions, groups, each = 4000, 2000, 100
	x := newIndex()
	list := make([]*session.Session, sessions)
	lists := make([][]store.ThreadMembership, sessions)
	for i := range list {
		list[i] = new(session.Session)
		for j := range each {
			lists[i] = append(lists[i], store.ThreadMembership{
				Thread: int64((i*37+j*(groups/each))%groups + 1), Ver: 1, Membership: store.Membership{UID: int32(i + 1), FromSeq: 1},
			})
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i, s := range list {
		x.add(s, lists[i])
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / sessions
	t.Logf("%.0f bytes per session in %d groups", per, each)
	require.Less(t, per, 1536.0)
	g, n := x.size()
	require.Equal(t, groups, g)
	require.Equal(t, sessions*each, n)
	for _, s := range list {
		x.leave(s, 0)
	}
	all, dropped := x.threads("a", time.Hour)
	require.Empty(t, all)
	require.Len(t, dropped, groups)
	require.Empty(t, x.slotOf)
	require.Len(t, x.free, sessions)
	runtime.KeepAlive(lists)
}
