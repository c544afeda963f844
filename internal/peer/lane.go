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

// A linkLane makes one call at a time. Its goroutine exists only while pushes wait.
type linkLane struct {
	l      *link
	stream uint64 // identifies the lane to the peer; see DeliverReq
	call   uint64 // number of the latest call; owned by sendQueued

	queue   *batch.Queue[session.Push]
	running atomic.Bool
}

func newLane(l *link) *linkLane {
	cfg := &l.pool.cfg
	return &linkLane{l: l, stream: rand.Uint64() | 1, queue: batch.NewQueue[session.Push](batch.Limits{
		Items: cfg.LanePushes, Weight: cfg.LaneBytes, BatchItems: cfg.CallPushes, BatchWeight: cfg.CallBytes,
	})}
}

// enqueue queues a copy of p and reports whether it could. It starts the lane's goroutine if none is running. Fleeting
// pushes may use half of the queue only, so that they never displace texts.
func (n *linkLane) enqueue(p *session.Push) bool {
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
	return !n.running.CompareAndSwap(false, true) || n.l.pool.spawn(n.sendQueued)
}

// sendQueued sends the queued pushes and returns when none is left.
func (n *linkLane) sendQueued() {
	var pushes []session.Push
	for {
		n.l.rest()
		pushes = n.queue.Take(pushes[:0])
		if len(pushes) == 0 {
			// An enqueue between Take and Store saw the lane running and started no goroutine. So look once more after
			// Store, and go on if this goroutine, and no new one, sets the flag again.
			n.running.Store(false)
			if waiting, _ := n.queue.Waiting(); waiting == 0 || !n.running.CompareAndSwap(false, true) {
				return
			}
			continue
		}
		n.l.pool.metrics.calls.Observe(float64(len(pushes)))
		if p := batch.Try(func() { n.send(pushes) }); p != nil { // a panic costs one batch
			n.l.pool.metrics.panics.Inc()
			n.l.pool.log.Error("panic in a lane", "peer", n.l.node, "err", p.Value, "stack", string(p.Stack))
			n.lose(pushes)
		}
		clear(pushes)
	}
}

// lose counts pushes that may not have arrived. It has them noted for later unless the peer is foreign and cannot
// receive a gap notice.
func (n *linkLane) lose(batch []session.Push) {
	n.l.pool.metrics.lost.Add(float64(len(batch)))
	if n.l.pool.deps.Lost == nil || n.l.speaks.Load() == foreign {
		return
	}
	for i := range batch {
		n.l.pool.deps.Lost(n.l.node, &batch[i])
	}
}

// send sends a batch in the protocol of the peer.
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

// deliver sends a batch to a Parley node in one call, and acts on the code of each push.
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
	rsp, err := n.callDeliver(req)
	if err != nil {
		l.noteFailure(began, err)
		n.lose(batch)
		for i := range batch {
			// The user may have moved while the peer was down.
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
		case p.ID == 0, p.To == 0: // a hint that the user is here too, or group rows: not finding a session is no loss
		case rsp.Codes[i] == CodeNotHere:
			l.pool.deps.NotHere(l.node, p)
		case rsp.Codes[i] == CodeElsewhereToo:
			l.pool.deps.ElsewhereToo(p)
		}
	}
}

// callDeliver calls Deliver. It repeats the call at once if the pooled connection turns out to be dead, as after a restart of
// the peer, and if the peer does not answer in time. Repeating is safe although the peer may have delivered the
// pushes: it recognises the call by stream and number, and answers without delivering again.
func (n *linkLane) callDeliver(req *message.DeliverReq) (*message.DeliverRsp, error) {
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

// timedOut reports whether a call was given up after its timeout.
func timedOut(err error) bool {
	return errors.Is(err, kerrors.ErrRPCTimeout) || errors.Is(err, context.DeadlineExceeded)
}

// connectionLost reports whether the connection ended before an answer. The call may then be repeated. A peer answers
// every request it has begun before it closes a connection, so either it has not handled this one, or it has died and
// the sessions it delivered to with it.
func connectionLost(err error) bool {
	if timedOut(err) || errors.Is(err, context.Canceled) {
		return false
	}
	return errors.Is(err, kerrors.ErrGetConnection) || errors.Is(err, netpoll.ErrEOF) || errors.Is(err, netpoll.ErrConnClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
