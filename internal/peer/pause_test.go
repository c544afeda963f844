package peer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudwego/kitex/client/callopt"
	"github.com/stretchr/testify/require"

	"parley/internal/session"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/nodeservice"
)

// deliverFunc is the NodeService of a peer.
type deliverFunc func(context.Context, *message.DeliverReq) (*message.DeliverRsp, error)

func (f deliverFunc) Deliver(ctx context.Context, r *message.DeliverReq, _ ...callopt.Option) (*message.DeliverRsp, error) {
	return f(ctx, r)
}

func (deliverFunc) Hello(context.Context, *message.HelloReq, ...callopt.Option) (*message.HelloRsp, error) {
	return nil, errors.New("not reached")
}

func (deliverFunc) Operate(context.Context, *message.OperateReq, ...callopt.Option) (*message.OperateRsp, error) {
	return nil, errors.New("not reached")
}

var _ nodeservice.Client = deliverFunc(nil)

// withFake runs f in a bubble of fake time with a pool whose one peer, b, is node.
func withFake(t *testing.T, node nodeservice.Client, change func(*Config, *Deps), f func(t *testing.T, p *Pool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		d := Deps{
			Log: slog.New(slog.DiscardHandler), Self: "a", Forget: func(int32) {},
			Dial: func(string, bool) (Clients, error) { return Clients{Node: node, Close: func() {}}, nil },
		}
		if change != nil {
			change(&cfg, &d)
		}
		p := New(cfg, d)
		defer p.Close()
		p.SetNodes(map[string]string{"b": "b:1"})
		f(t, p)
	})
}

// pauseOf returns the current pause of a link.
func pauseOf(l *link) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pause
}

// E8: the lanes fail for the same reason.
func TestThePauseDoublesOncePerRoundOfFailures(t *testing.T) {
	down := deliverFunc(func(ctx context.Context, _ *message.DeliverReq) (*message.DeliverRsp, error) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
		return nil, errors.New("down")
	})
	withFake(t, down, nil, func(t *testing.T, p *Pool) {
		l := p.link("b")
		for _, want := range []time.Duration{100, 200, 400, 800, 1600, 2000, 2000} {
			for lane := range int32(p.cfg.Lanes) {
				require.True(t, p.Forward("b", push(lane, 1)))
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			require.Equal(t, want*time.Millisecond, pauseOf(l))
			require.False(t, p.Forward("b", push(1, 1)), "left alone")
			time.Sleep(want * time.Millisecond)
		}
	})
}

// E8: a lane with many waiting pushes must neither try to send them during a pause nor lengthen the pause.
func TestNothingIsSentDuringAPause(t *testing.T) {
	var calls atomic.Int32
	down := deliverFunc(func(context.Context, *message.DeliverReq) (*message.DeliverRsp, error) {
		calls.Add(1)
		time.Sleep(time.Millisecond)
		return nil, errors.New("down")
	})
	withFake(t, down, func(c *Config, _ *Deps) { c.Lanes, c.CallPushes = 1, 1 }, func(t *testing.T, p *Pool) {
		for i := range int64(5) {
			require.True(t, p.Forward("b", push(1, i)))
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		require.EqualValues(t, 1, calls.Load())
		require.Equal(t, 100*time.Millisecond, pauseOf(p.link("b")))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		require.EqualValues(t, 2, calls.Load())
	})
}

// deliverHello is a peer that also answers Hello.
type deliverHello struct {
	deliverFunc
	hello func() (*message.HelloRsp, error)
}

func (d deliverHello) Hello(context.Context, *message.HelloReq, ...callopt.Option) (*message.HelloRsp, error) {
	return d.hello()
}

// C1: a Redis without its data lists no nodes.
func TestALinkOutlivesItsNodesLeaseWhileTheNodeAnswers(t *testing.T) {
	var delivered atomic.Int32
	var gone atomic.Bool
	b := deliverHello{
		func(_ context.Context, r *message.DeliverReq) (*message.DeliverRsp, error) {
			delivered.Add(int32(len(r.Pushes)))
			return &message.DeliverRsp{Codes: make([]int32, len(r.Pushes))}, nil
		},
		func() (*message.HelloRsp, error) {
			if gone.Load() {
				return nil, errors.New("gone")
			}
			return &message.HelloRsp{Name: "b"}, nil
		},
	}
	withFake(t, b, func(c *Config, _ *Deps) { c.Linger = time.Minute }, func(t *testing.T, p *Pool) {
		p.SetNodes(nil)
		for minute := range 3 {
			p.CloseLeft()
			synctest.Wait()
			require.True(t, p.Forward("b", push(1, 1)))
			synctest.Wait()
			require.EqualValues(t, minute+1, delivered.Load())
			time.Sleep(time.Minute)
		}
		p.SetNodes(map[string]string{"b": "b:1"})
		gone.Store(true)
		time.Sleep(time.Hour)
		p.CloseLeft()
		synctest.Wait()
		require.True(t, p.Knows("b"), "it has a lease")

		p.SetNodes(nil)
		p.CloseLeft()
		synctest.Wait()
		require.True(t, p.Knows("b"), "not yet")
		time.Sleep(time.Minute)
		p.CloseLeft()
		synctest.Wait()
		require.False(t, p.Knows("b"), "left for good")
		require.Empty(t, p.Nodes())
	})
}

// C1: the caller remembers the pushes of a failed call.
func TestThePushesOfAFailedCallAreReported(t *testing.T) {
	down := deliverFunc(func(context.Context, *message.DeliverReq) (*message.DeliverRsp, error) {
		time.Sleep(time.Second) // all pushes are taken by then: a link whose call failed takes none
		return nil, errors.New("down")
	})
	var mu sync.Mutex
	var lost []int64
	change := func(c *Config, d *Deps) {
		c.Lanes = 1
		d.Lost = func(_ string, p *session.Push) {
			mu.Lock()
			defer mu.Unlock()
			lost = append(lost, p.Seq)
		}
	}
	withFake(t, down, change, func(t *testing.T, p *Pool) {
		require.True(t, p.Open("b"))
		for i := range int64(3) {
			require.True(t, p.Forward("b", push(1, i)))
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		mu.Lock()
		require.Equal(t, []int64{0, 1, 2}, lost)
		mu.Unlock()
		require.False(t, p.Open("c"))
	})
}
