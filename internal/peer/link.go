// Package peer holds a chat node's connections to the other chat nodes. It packs the pushes for one node into few
// calls, and pauses before it calls a node again that did not answer.
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

// Codes for one push in a DeliverRsp, besides wire.CodeOK and wire.CodeSlowConsumer.
const (
	// CodeNotHere: the peer has no session of the push's user.
	CodeNotHere = int32(wire.CodeUIDInvalid)
	// CodeElsewhereToo: delivered, and the user has sessions on other nodes too.
	CodeElsewhereToo = int32(1)
)

// Clients are the two services of one node.
type Clients struct {
	Node  nodeservice.Client
	Chat  chatservice.Client
	Close func() // closes their connections; calls in flight fail
}

// Config bounds the links of a node. See DefaultConfig.
type Config struct {
	Lanes      int           // concurrent calls to one peer; a user or group always belongs to the same lane, which keeps order
	LanePushes int           // pushes waiting in a lane
	LaneBytes  int           // bytes of their bodies
	CallPushes int           // pushes per call
	CallBytes  int           // bytes of the pushes of one call, unless a single push is larger
	Timeout    time.Duration // of one call
	Tries      int           // attempts to make a call that is not answered in time
	MaxPause   time.Duration // longest pause after a failed call; the first pause is a twentieth of it
	Linger     time.Duration // how long a link outlives its node's lease; longer if the node still answers
}

// DefaultConfig returns the bounds of docs/CONFIG.md. In a call of 16, a push costs 1 µs; in a call of its own, 16 to
// 26 µs.
func DefaultConfig() Config {
	return Config{
		Lanes: 4, LanePushes: 8192, LaneBytes: 8 << 20, CallPushes: 256, CallBytes: 64 << 10,
		Timeout: time.Second, Tries: 3, MaxPause: 2 * time.Second, Linger: time.Minute,
	}
}

// A link is the connection to one other node.
type link struct {
	pool    *Pool
	node    string
	addr    string
	clients Clients
	lanes   []*linkLane
	speaks  atomic.Int32 // unknown, ours or foreign

	mu     sync.Mutex // guards the following
	paused time.Time  // nothing is sent before this time
	pause  time.Duration
	failed time.Time // when the pause was last made longer
	closed bool
}

// The protocol a peer speaks. A peer found by its lease speaks ours; a peer from the configuration is asked with the
// first push.
const (
	unknown int32 = iota
	ours          // NodeService
	foreign       // ChatService only, as llfcchat's nodes do
)

// learn asks a peer from the configuration which protocol it speaks.
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

// lacksNodeService recognises the answer of a server without NodeService, from gRPC or from Kitex.
func lacksNodeService(code codes.Code) bool {
	return code == codes.Unimplemented || code == codes.Code(remote.UnknownService) || code == codes.Code(remote.UnknownMethod)
}

// lane returns the lane of a push's user or, for a push without a user, of its group.
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

// open reports whether neither the link nor the pool has been closed.
func (l *link) open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && l.pool.ctx.Err() == nil
}

// noteFailure records that a call failed. A call that began before the latest failure was noted does not lengthen the
// pause: calls of several lanes that were in flight together fail for the same reason.
func (l *link) noteFailure(began time.Time, err error) {
	cfg := &l.pool.cfg
	l.mu.Lock()
	first := l.pause == 0 && !l.closed // a peer that has left is expected not to answer
	// Double the pause only for a call that began after the last failure; see above.
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

// rest waits out the pause, at most MaxPause.
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
