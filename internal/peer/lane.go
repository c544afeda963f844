package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/netpoll"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/wire"
	"parley/kitex_gen/message"
)

// linkLane carries one call at a time. Its goroutine exists only while something waits.
type linkLane struct {
	l      *link
	stream uint64 // see DeliverReq
	call   uint64 // the last one's number; owned by run

	queue   *batch.Queue[session.Push]
	running atomic.Bool
}

func newLane(l *link) *linkLane {
	cfg := &l.pool.cfg
	return &linkLane{l: l, stream: rand.Uint64() | 1, queue: batch.NewQueue[session.Push](batch.Limits{
		Items: cfg.LanePushes, Weight: cfg.LaneBytes, BatchItems: cfg.CallPushes, BatchWeight: cfg.CallBytes,
	})}
}

// put queues a copy of p and reports whether it could.
func (n *linkLane) put(p *session.Push) bool {
	if !n.l.up(time.Now()) {
		return false
	}
	if p.ID.Fleeting() {
		if waiting, _ := n.queue.Waiting(); waiting > n.l.pool.cfg.LanePushes/2 {
			return false
		}
	}
	if !n.queue.Put(*p, len(p.Body)) {
		n.l.pool.metrics.full.Inc()
		return false
	}
	return !n.running.CompareAndSwap(false, true) || n.l.pool.spawn(n.run)
}

func (n *linkLane) run() {
	var pushes []session.Push
	for {
		n.l.rest()
		pushes = n.queue.Take(pushes[:0])
		if len(pushes) == 0 {
			n.running.Store(false)
			if waiting, _ := n.queue.Waiting(); waiting == 0 || !n.running.CompareAndSwap(false, true) {
				return
			}
			continue // put came between Take and Store, and has started nobody
		}
		n.l.pool.metrics.calls.Observe(float64(len(pushes)))
		if p := batch.Try(func() { n.send(pushes) }); p != nil { // it costs a batch of hints
			n.l.pool.metrics.panics.Inc()
			n.l.pool.log.Error("panic in a lane", "peer", n.l.node, "err", p.Value, "stack", string(p.Stack))
			n.lose(pushes)
		}
		clear(pushes)
	}
}

// lose counts pushes that may not have arrived, and has them remembered if the peer can be told later.
func (n *linkLane) lose(batch []session.Push) {
	n.l.pool.metrics.lost.Add(float64(len(batch)))
	if n.l.pool.deps.Lost == nil || n.l.speaks.Load() == foreign {
		return
	}
	for i := range batch {
		n.l.pool.deps.Lost(n.l.node, &batch[i])
	}
}

// send hands a batch over in the language of the peer.
func (n *linkLane) send(batch []session.Push) {
	if n.l.speaks.Load() == unknown {
		began := time.Now()
		if err := n.l.learn(); err != nil {
			n.l.noteFailure(began, err)
			n.lose(batch)
			return
		}
	}
	if n.l.speaks.Load() == foreign {
		n.notify(batch)
	} else {
		n.deliver(batch)
	}
}

// deliver makes one call to a node of ours, and acts on what it says of each push.
func (n *linkLane) deliver(batch []session.Push) {
	l := n.l
	n.call++
	req := &message.DeliverReq{From: l.pool.self, Pushes: make([]*message.Push, len(batch)), Stream: n.stream, Call: n.call}
	made := make([]message.Push, len(batch))
	for i := range batch {
		p := &batch[i]
		made[i] = message.Push{
			ToUid: p.To, Device: p.Device, MsgId: int32(p.ID), FromUid: p.From, ThreadId: p.Thread, Seq: p.Seq,
			Body: p.Body, Sid: p.SID, MemberVer: p.Ver, FirstSeq: p.First,
		}
		req.Pushes[i] = &made[i]
	}
	began := time.Now()
	rsp, err := n.do(req)
	if err != nil {
		l.noteFailure(began, err)
		n.lose(batch)
		for i := range batch {
			l.pool.deps.Forget(batch[i].To)
		}
		return
	}
	l.noteSuccess()
	for i := range batch {
		if i >= len(rsp.Codes) {
			break
		}
		p := &batch[i]
		switch {
		case p.ID == 0, p.To == 0: // a hint that the user is here too, or rows of a group: nobody to give it to is no loss
		case rsp.Codes[i] == CodeNotHere:
			l.pool.deps.NotHere(l.node, p)
		case rsp.Codes[i] == CodeElsewhereToo:
			l.pool.deps.ElsewhereToo(p)
		}
	}
}

// do makes a call, again at once when the pooled connection turned out to be dead, as after the peer's restart, and when the
// peer has not answered in time: it may have delivered, but knows the call by its number.
func (n *linkLane) do(req *message.DeliverReq) (*message.DeliverRsp, error) {
	cfg := &n.l.pool.cfg
	for try, dead := 1, false; ; try++ {
		ctx, cancel := context.WithTimeout(n.l.pool.ctx, cfg.Timeout)
		rsp, err := n.l.clients.Node.Deliver(ctx, req)
		cancel()
		if err == nil && rsp.Error != 0 {
			err = wire.Refuse(wire.Code(rsp.Error), errors.New("peer: call refused"))
		}
		switch {
		case err == nil:
			return rsp, nil
		case timedOut(err) && try < cfg.Tries && n.l.open():
			n.l.pool.metrics.repeated.Inc()
		case connectionLost(err) && !dead:
			dead = true
		default:
			return nil, err
		}
	}
}

// timedOut reports whether a call was given up.
func timedOut(err error) bool {
	return errors.Is(err, kerrors.ErrRPCTimeout) || errors.Is(err, context.DeadlineExceeded)
}

// connectionLost reports whether the connection ended before an answer. A peer answers all that it has begun before it
// closes, so it has either not handled the request or died over it, and the sessions it had given it to with it.
func connectionLost(err error) bool {
	if timedOut(err) || errors.Is(err, context.Canceled) {
		return false
	}
	return errors.Is(err, kerrors.ErrGetConnection) || errors.Is(err, netpoll.ErrEOF) || errors.Is(err, netpoll.ErrConnClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
