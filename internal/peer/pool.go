package peer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/session"
	"parley/kitex_gen/message"
)

// Deps are the dependencies of a Pool.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: registered nowhere
	Self    string                // this node's name
	// Dial makes the clients for one address; they connect lazily. grpc is set for peers that may be foreign.
	Dial func(addr string, grpc bool) (Clients, error)
	// NotHere is called with a push whose user the peer does not have; ElsewhereToo with a delivered push whose user
	// has sessions on other nodes too; Forget with a user whose cached node may be wrong.
	NotHere      func(node string, p *session.Push)
	ElsewhereToo func(*session.Push)
	Forget       func(uid int32)
	// Lost is called with a push that was queued but may not have arrived, because a call failed. It is not called
	// for foreign peers, which cannot receive a gap notice.
	Lost func(node string, p *session.Push)
}

// A Pool holds a link to each other chat node. It implements router.Forwarder. All methods are safe for concurrent
// use.
type Pool struct {
	cfg     Config
	self    string
	log     *slog.Logger
	metrics *metrics
	dial    func(string, bool) (Clients, error)
	deps    Deps

	ctx  context.Context // cancels the calls in flight at Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.RWMutex // guards the following
	links  map[string]*link
	static map[string]*link
	left   map[string]time.Time // links whose node has left the view, and until when they are kept
	closed bool
}

// New returns a pool without links.
func New(cfg Config, d Deps) *Pool {
	ctx, stop := context.WithCancel(context.Background())
	return &Pool{
		cfg: cfg, self: d.Self, log: d.Log.With("pkg", "peer"), metrics: newMetrics(d.Metrics), dial: d.Dial,
		deps: d, ctx: ctx, stop: stop,
		links: make(map[string]*link), static: make(map[string]*link), left: make(map[string]time.Time),
	}
}

// Close cancels the calls in flight, drops waiting pushes, and returns when all goroutines have ended.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.close()
	}
	for _, l := range p.static {
		l.close()
	}
}

// spawn starts a goroutine that Close waits for, unless the pool is closed.
func (p *Pool) spawn(f func()) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return false
	}
	// The lock orders wg.Go before the Wait in Close: Close sets closed under the same lock first.
	p.wg.Go(f)
	return true
}

// AddStatic adds a peer from the configuration, which stays regardless of the leases. It is called over gRPC, which
// both llfcchat's nodes and Parley's understand.
func (p *Pool) AddStatic(node, addr string) error {
	l, err := p.newLink(node, addr, true)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.static[node] = l
	return nil
}

// SetNodes links the nodes with the given addresses, except this node. A node missing from addrs keeps its link for a
// while: its lease may have been lost with Redis' data, or the node may be cut off from Redis, and in both cases it
// still has sessions. CloseLeft closes the link if the node then does not answer.
func (p *Pool) SetNodes(addrs map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for name, l := range p.links {
		addr, listed := addrs[name]
		switch {
		case addr == l.addr:
			delete(p.left, name)
		case listed: // the node restarted at another address
			p.dropLocked(name, l)
		case p.left[name].IsZero():
			p.left[name] = time.Now().Add(p.cfg.Linger)
			p.log.Info("peer has no lease", "peer", name)
		}
	}
	for name, addr := range addrs {
		if name == p.self || p.links[name] != nil {
			continue
		}
		l, err := p.newLink(name, addr, false)
		if err != nil {
			p.log.Warn("peer unusable", "peer", name, "err", err)
			continue
		}
		p.links[name] = l
		p.log.Info("peer found", "peer", name, "addr", addr)
	}
	p.metrics.links.Set(float64(len(p.links)))
}

func (p *Pool) dropLocked(name string, l *link) {
	l.close()
	delete(p.links, name)
	delete(p.left, name)
	p.metrics.links.Set(float64(len(p.links)))
	p.log.Info("peer gone", "peer", name)
}

// CloseLeft closes the links of nodes that have had no lease for Config.Linger and do not answer. It does not block;
// the caller calls it periodically.
func (p *Pool) CloseLeft() {
	now := time.Now()
	var late []*link
	p.mu.Lock()
	for name, until := range p.left {
		if l := p.links[name]; l != nil && !now.Before(until) {
			p.left[name] = now.Add(p.cfg.Linger) // no second check while this one runs
			late = append(late, l)
		}
	}
	p.mu.Unlock()
	for _, l := range late {
		p.spawn(func() {
			ctx, cancel := context.WithTimeout(p.ctx, p.cfg.Timeout)
			defer cancel()
			rsp, err := l.clients.Node.Hello(ctx, &message.HelloReq{Name: p.self})
			if err == nil && rsp.Name == l.node {
				return // it is alive, only without Redis
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.links[l.node] == l && !p.left[l.node].IsZero() {
				p.dropLocked(l.node, l)
			}
		})
	}
}

// newLink makes a link with its lanes. It does not connect: the clients do so with their first call.
func (p *Pool) newLink(node, addr string, static bool) (*link, error) {
	clients, err := p.dial(addr, static)
	if err != nil {
		return nil, fmt.Errorf("peer: clients of %s at %s: %w", node, addr, err)
	}
	l := &link{pool: p, node: node, addr: addr, clients: clients}
	if !static {
		l.speaks.Store(ours)
	}
	for range p.cfg.Lanes {
		l.lanes = append(l.lanes, newLane(l))
	}
	return l, nil
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.clients.Close()
}

func (p *Pool) link(node string) *link {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if l := p.static[node]; l != nil {
		return l
	}
	return p.links[node]
}

// Knows reports whether there is a link to a node, in whatever state.
func (p *Pool) Knows(node string) bool { return p.link(node) != nil }

// Nodes returns the names of the linked nodes.
func (p *Pool) Nodes() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	names := make([]string, 0, len(p.links)+len(p.static))
	for name := range p.links {
		names = append(names, name)
	}
	for name := range p.static {
		if p.links[name] == nil {
			names = append(names, name)
		}
	}
	return names
}

// Open reports whether a node is linked and not paused after a failure.
func (p *Pool) Open(node string) bool {
	l := p.link(node)
	return l != nil && l.up(time.Now())
}

// Static reports whether a node comes from the configuration.
func (p *Pool) Static(node string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.static[node] != nil
}

// Forward queues a copy of push for the node and keeps its body. It returns false if the node is unknown, paused
// after a failure, or its queue is full.
func (p *Pool) Forward(node string, push *session.Push) bool {
	l := p.link(node)
	return l != nil && l.lane(push).enqueue(push)
}

// Kick ends a session on another node, and waits for the answer until ctx ends. If the session has moved to this
// node, Kick returns the number of texts that the other node hands over, or nil if it keeps them.
func (p *Pool) Kick(ctx context.Context, node string, uid int32, sid string, moved bool) (texts *int32, err error) {
	l := p.link(node)
	if l == nil {
		return nil, fmt.Errorf("peer: kick on %s: no such node", node)
	}
	rsp, err := l.clients.Chat.NotifyKickUser(ctx, &message.KickUserReq{Uid: uid, Sid: sid, Moved: moved})
	if err != nil {
		return nil, fmt.Errorf("peer: kick on %s: %w", node, err)
	}
	if rsp.Error != 0 {
		return nil, fmt.Errorf("peer: kick on %s: code %d", node, rsp.Error)
	}
	return rsp.Texts, nil
}

// Hello asks the process at an address for its node name and boot id.
func (p *Pool) Hello(ctx context.Context, addr string) (name, boot string, err error) {
	clients, err := p.dial(addr, false)
	if err != nil {
		return "", "", fmt.Errorf("peer: hello to %s: %w", addr, err)
	}
	defer clients.Close()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	rsp, err := clients.Node.Hello(ctx, &message.HelloReq{Name: p.self})
	if err != nil {
		return "", "", fmt.Errorf("peer: hello to %s: %w", addr, err)
	}
	return rsp.Name, rsp.Boot, nil
}

// Paused returns the nodes paused after a failure, for operators.
func (p *Pool) Paused() []string {
	now := time.Now()
	p.mu.RLock()
	defer p.mu.RUnlock()
	var names []string
	for name, l := range p.links {
		if !l.up(now) {
			names = append(names, name)
		}
	}
	return names
}
