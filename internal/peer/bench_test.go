package peer

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cloudwego/kitex/client/callopt"
	"github.com/stretchr/testify/require"

	"parley/internal/session"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/nodeservice"
	"parley/test/benchgate/cputime"
)

// instant is a node that accepts everything at once.
type instant struct {
	nodeservice.Client
	rsp   message.DeliverRsp
	taken chan int
}

func (n *instant) Deliver(_ context.Context, r *message.DeliverReq, _ ...callopt.Option) (*message.DeliverRsp, error) {
	n.taken <- len(r.Pushes)
	return &n.rsp, nil
}

// BenchmarkPack measures pushes to many users of one node, from Forward to the calls.
func BenchmarkPack(b *testing.B) {
	for _, burst := range []int{1, 256} {
		b.Run(fmt.Sprint(burst), func(b *testing.B) {
			node := &instant{taken: make(chan int, burst), rsp: message.DeliverRsp{Codes: make([]int32, burst)}}
			pool := New(DefaultConfig(), Deps{
				Log: slog.New(slog.DiscardHandler), Self: "a",
				Dial: func(string, bool) (Clients, error) { return Clients{Node: node, Close: func() {}}, nil },
			})
			defer pool.Close()
			pool.SetNodes(map[string]string{"b": "b:1"})
			require.True(b, pool.Knows("b"))
			pushes := make([]session.Push, burst)
			for i := range pushes {
				pushes[i] = session.Push{To: int32(i), ID: wire.MsgTextPush, From: 1, Thread: 7, Seq: 1, Body: make([]byte, 200)}
			}
			forward := func() {
				for i := range pushes {
					if !pool.Forward("b", &pushes[i]) {
						b.Fatal("refused")
					}
				}
				for taken := 0; taken < burst; {
					taken += <-node.taken
				}
			}
			forward()
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				forward()
			}
		})
	}
}
