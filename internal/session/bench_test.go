package session

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/outbox"
	"parley/internal/wire"
	"parley/test/benchgate/cputime"
)

// drained returns a session and a function that takes as many bytes from its socket. There is no reader of its own: when
// that one ran would be chance, and part of what is measured.
func drained(b *testing.B, run func(func())) (s *Session, drain func(n int)) {
	b.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(b, err)
	b.Cleanup(func() { _, _ = syscall.Close(fds[0]), syscall.Close(fds[1]) })
	s = new(Session)
	s.Init(&fileConn{fd: fds[0]}, &Limits{Limits: outbox.Limits{Bytes: 128 << 10, WriteTimeout: 5 * time.Second, Go: run}})
	require.True(b, s.Identify(Identity{UID: 1, SID: 1, Native: true}))
	require.True(b, s.advance(Pending, Live))
	buf := make([]byte, 64<<10)
	return s, func(n int) {
		for n > 0 {
			got, err := syscall.Read(fds[1], buf)
			if err != nil {
				b.Fatal(err)
			}
			n -= got
		}
	}
}

// BenchmarkPush is pushes to an idle session: its flusher starts, writes what waits, and ends.
func BenchmarkPush(b *testing.B) {
	for _, burst := range []int{1, 32} {
		b.Run(fmt.Sprint(burst), func(b *testing.B) {
			var wg sync.WaitGroup
			s, drain := drained(b, wg.Go)
			p := text(1, 1, 300)
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				for range burst {
					if s.Push(p) != nil {
						b.Fatal("push failed")
					}
				}
				wg.Wait()
				drain(burst * (wire.HeaderLen + len(p.Body)))
			}
		})
	}
}

func BenchmarkWriteInline(b *testing.B) {
	s, drain := drained(b, func(f func()) { f() })
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		if s.WriteInline(wire.HeartbeatFrame) != nil {
			b.Fatal("write failed")
		}
		drain(len(wire.HeartbeatFrame))
	}
}

// taker is the policy of a session that takes pushes and forgets them.
type taker struct{}

func (taker) Reply([]byte) error { return nil }
func (taker) Push(*Push) error   { return nil }
func (taker) Close([]byte)       {}
func (taker) Gone()              {}

// BenchmarkRegistry looks users up among 10,000 with two sessions each, from all processors at once.
func BenchmarkRegistry(b *testing.B) {
	const users = 10_000
	r := NewRegistry()
	for uid := range int32(users) {
		for sid, device := range []string{"native", "phone"} {
			s := new(Session)
			s.Init(&fileConn{}, &Limits{})
			if !s.Identify(Identity{UID: uid, Device: device, SID: SID(sid), Native: true, Stock: taker{}}) {
				b.Fatal("no identity")
			}
			r.Add(s)
			if r.Activate(s) != Activated {
				b.Fatal("not activated")
			}
		}
	}
	b.Run("deliver", func(b *testing.B) {
		b.ReportAllocs()
		defer cputime.Report(b)()
		b.RunParallel(func(pb *testing.PB) {
			p := Push{ID: wire.MsgTextPush}
			for pb.Next() {
				p.To = (p.To + 7919) % users
				if n, _, _ := r.Deliver(&p, nil); n != 2 {
					b.Error("taken by ", n)
					return
				}
			}
		})
	})
	b.Run("of", func(b *testing.B) {
		b.ReportAllocs()
		defer cputime.Report(b)()
		b.RunParallel(func(pb *testing.PB) {
			var uid int32
			sids := make([]SID, 0, MaxDevices)
			for pb.Next() {
				uid = (uid + 7919) % users
				if sids = r.Of(sids[:0], uid); len(sids) != 2 {
					b.Error("found ", len(sids))
					return
				}
			}
		})
	})
}
