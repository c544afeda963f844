// Package peer holds a chat node's connections to the other chat nodes. It packs pushes for one node into few calls, and
// waits for a while before it calls a node again that did not answer.
package peer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

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
