// Package peer holds a chat node's connections to the other chat nodes. It packs pushes for one node into few calls, and
// waits for a while before it calls a node again that did not answer.
package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/netpoll"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/chatservice"
	"parley/kitex_gen/message/nodeservice"
)

// Codes of one push in a DeliverRsp, besides wire.CodeOK and wire.CodeSlowConsumer.
const (
	// CodeNotHere: no session of the user that the push is meant for.
	CodeNotHere = int32(wire.CodeUIDInvalid)
	// CodeElsewhereToo: handed over, and the user has sessions on other nodes as well.
	CodeElsewhereToo = int32(1)
)

// Clients are the two services of one node.
type Clients struct {
	Node  nodeservice.Client
	Chat  chatservice.Client
	Close func() // ends their connections; calls under way fail
}

// Config bounds the links of a node. See DefaultConfig.
type Config struct {
	Lanes      int           // calls in flight to one peer; a user or group is always in the same lane, which keeps order
	LanePushes int           // pushes waiting in a lane
	LaneBytes  int           // bytes of their bodies
	CallPushes int           // pushes per call
	CallBytes  int           // bytes of their bodies, unless one alone is larger
	Timeout    time.Duration // one call
	Tries      int           // calls that a batch is worth when the peer does not answer in time
	MaxPause   time.Duration // a peer that fails is left alone this long at most; the first pause is a twentieth
	Linger     time.Duration // a link whose node has no lease is kept this long, and longer if the node answers then
}

// DefaultConfig returns the bounds of docs/CONFIG.md. A call of 16 pushes costs 1 µs a push, of one 16 to 26 µs.
func DefaultConfig() Config {
	return Config{
		Lanes: 4, LanePushes: 8192, LaneBytes: 8 << 20, CallPushes: 256, CallBytes: 64 << 10,
		Timeout: time.Second, Tries: 3, MaxPause: 2 * time.Second, Linger: time.Minute,
	}
}

// link is the way to one other node.
type link struct {
	pool    *Pool
	node    string
	addr    string
	clients Clients
	lanes   []*linkLane
	speaks  atomic.Int32 // one of the languages below

	mu     sync.Mutex // guards the following
	paused time.Time  // until when nothing is sent
	pause  time.Duration
	failed time.Time // when the pause was last made longer
	closed bool
}

// What a peer speaks. A peer found by its lease is one of ours; of one from the configuration the first push finds out.
const (
	unknown int32 = iota
	ours          // NodeService
	foreign       // ChatService only, as llfcchat's nodes do
)

// learn asks a peer from the configuration what it speaks.
func (l *link) learn() error {
	ctx, cancel := context.WithTimeout(l.pool.ctx, l.pool.cfg.Timeout)
	defer cancel()
	_, err := l.clients.Node.Hello(ctx, &message.HelloReq{Name: l.pool.self})
	switch {
	case err == nil:
		l.speaks.Store(ours)
	case lacksNodeService(status.Code(err)):
		l.speaks.Store(foreign)
		l.pool.log.Info("static peer speaks ChatService only", "peer", l.node)
	default:
		return err
	}
	return nil
}

// lacksNodeService recognises the answer of a server without NodeService: gRPC's own code, and what a Kitex server says.
func lacksNodeService(code codes.Code) bool {
	return code == codes.Unimplemented || code == codes.Code(remote.UnknownService) || code == codes.Code(remote.UnknownMethod)
}

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

// lane returns the lane of a push: that of its user or, without one, of its group.
func (l *link) lane(p *session.Push) *linkLane {
	key := uint32(p.To)
	if key == 0 {
		key = uint32(p.Thread)
	}
	return l.lanes[key%uint32(len(l.lanes))]
}

// up reports whether the peer may be called now.
func (l *link) up(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && !now.Before(l.paused)
}

// open reports whether the link is still one of the pool's, and the pool open.
func (l *link) open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && l.pool.ctx.Err() == nil
}

// noteFailure takes the failure of a call that began at a time. The calls of all lanes that were under way when the first
// of them failed have failed over the same trouble: they make the pause no longer.
func (l *link) noteFailure(began time.Time, err error) {
	cfg := &l.pool.cfg
	l.mu.Lock()
	first := l.pause == 0 && !l.closed // a peer that left is expected not to answer
	if l.pause == 0 || began.After(l.failed) {
		l.failed = time.Now()
		l.pause = min(max(l.pause*2, cfg.MaxPause/20), cfg.MaxPause)
		l.paused = l.failed.Add(l.pause)
	}
	l.mu.Unlock()
	l.pool.metrics.failures.Inc()
	if first {
		l.pool.log.Warn("peer unreachable", "peer", l.node, "err", err)
	}
}

// rest waits until the peer may be called again, at most MaxPause.
func (l *link) rest() {
	l.mu.Lock()
	wait := time.Until(l.paused)
	if l.closed {
		wait = 0
	}
	l.mu.Unlock()
	if wait <= 0 {
		return
	}
	select {
	case <-time.After(wait):
	case <-l.pool.ctx.Done():
	}
}

func (l *link) noteSuccess() {
	l.mu.Lock()
	was := l.pause
	l.pause, l.paused = 0, time.Time{}
	l.mu.Unlock()
	if was > 0 {
		l.pool.log.Info("peer reachable again", "peer", l.node)
	}
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
