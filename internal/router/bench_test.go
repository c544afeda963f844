package router

import (
	"context"
	"log/slog"
	"testing"

	"parley/internal/session"
	"parley/internal/wire"
	"parley/test/benchgate/cputime"
)

// elsewhere is a cluster in which all users are on node b. It allocates nothing.
type elsewhere struct {
	found [][]string
	sent  chan struct{}
}

func (e *elsewhere) Locate(_ context.Context, uids []int32) ([][]string, bool, error) {
	return e.found[:len(uids)], true, nil
}

func (e *elsewhere) Knows(string) bool { return true }
func (e *elsewhere) Open(string) bool  { return true }
func (e *elsewhere) Nodes() []string   { return []string{"b"} }

func (e *elsewhere) Forward(string, *session.Push) bool {
	e.sent <- struct{}{}
	return true
}

// BenchmarkLane measures 64 pushes to 64 users on another node, from Deliver to Forward, with and without cached
// nodes.
func BenchmarkLane(b *testing.B) {
	const burst = 64
	for _, cached := range []bool{true, false} {
		b.Run(map[bool]string{true: "cached", false: "asked"}[cached], func(b *testing.B) {
			e := &elsewhere{sent: make(chan struct{}, burst)}
			for range burst {
				e.found = append(e.found, []string{"b"})
			}
			cfg := DefaultConfig()
			if !cached {
				cfg.CacheTTL = 0
			}
			r := New(cfg, slog.New(slog.DiscardHandler), nil, session.NewRegistry(), e, e, func(*session.Session, int64, int64) {}, nil)
			defer r.Close()
			pushes := make([]session.Push, burst)
			for i := range pushes {
				pushes[i] = session.Push{To: int32(i), ID: wire.MsgTextPush, Body: make([]byte, 200)}
			}
			deliver := func() {
				r.Deliver(pushes, nil)
				for range pushes {
					<-e.sent
				}
			}
			deliver()
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				deliver()
			}
		})
	}
}
