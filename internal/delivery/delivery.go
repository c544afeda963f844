// Package delivery brings pushes to their users, on this node or another. It joins the router, the links to other
// nodes and the refiller of missed texts, and serves the RPC calls of other nodes.
package delivery

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/group"
	"parley/internal/peer"
	"parley/internal/presence"
	"parley/internal/refill"
	"parley/internal/router"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/watch"
	"parley/internal/wire"
)

// Deps are the dependencies of a Delivery.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: registered nowhere
	Node    string                // this node's name
	Boot    func() string         // this node's life
	Groups  group.Store
	// Watch bounds what sessions watch; Rights decides who may see whose presence.
	Watch    watch.Config
	Rights   Rights // this node's boot id now
	Presence *presence.Presence
	Registry *session.Registry
	// Settled reports whether all nodes have written their sessions into the Redis data with this generation id.
	Settled func(gen string) bool
	// Dial makes the clients for a node's RPC address; see peer.Deps.
	Dial    func(addr string, grpc bool) (peer.Clients, error)
	Context context.Context // ends the refilling of sessions
	Go      func(func())    // starts a goroutine that the node waits for
	// History and Member read the store for sessions that are sent missed texts. Reload ends a session if nothing
	// tells what it has missed.
	History func(ctx context.Context, thread, after int64, limit, maxBytes int) ([]store.Message, bool, error)
	Member  func(ctx context.Context, thread int64, uid int32) (bool, error)
	Reload  func(*session.Session)
	// Refilled counts texts sent again, RefillsGivenUp the refills given up.
	Refilled, RefillsGivenUp prometheus.Counter
}

// Rights decide who may see whose presence; *store.Visibility implements it.
type Rights interface {
	VisibleTo(ctx context.Context, watcher int32, of []int32) ([]int32, error)
	WatchersOf(ctx context.Context, watchers []int32, of int32) ([]int32, error)
}

// A Delivery brings pushes to their users. New starts it; Close ends it. Its methods are safe for concurrent use.
type Delivery struct {
	Router *router.Router
	Peers  *peer.Pool
	Groups *group.Groups
	Watch  *watch.Watches[*session.Session]

	d       Deps
	refills *refill.Refiller
	telling atomic.Int64 // pending requests to tell all sessions that they may have missed texts
	linkMu  sync.Mutex   // held while the view is read and its nodes are linked, so that an older view never replaces a newer one
}

// New starts a Delivery over the sessions of d.Registry.
func New(deps Deps) *Delivery {
	d := &Delivery{d: deps}
	// The parts refer to each other only through these functions, which are not called before New returns: a peer is
	// linked by LinkNodes, and only links and their calls produce the events.
	d.Peers = peer.New(peer.DefaultConfig(), peer.Deps{
		Log: deps.Log, Metrics: deps.Metrics, Self: deps.Node, Dial: deps.Dial,
		NotHere:      func(node string, p *session.Push) { d.Router.NotHere(node, p) },
		ElsewhereToo: func(p *session.Push) { d.Router.ElsewhereToo(p) },
		Forget:       func(uid int32) { d.Router.Forget(uid) },
		Lost: func(node string, p *session.Push) {
			if p.ID == wire.MsgOnline {
				d.Watch.Lost(node, p)
				return
			}
			d.Router.Lost(node, p)
		},
	})
	d.Watch = watch.New[*session.Session](deps.Watch, watch.Deps{
		Log: deps.Log, Metrics: deps.Metrics, Visible: deps.Rights.VisibleTo, Watchers: deps.Rights.WatchersOf,
		Whereabouts: deps.Presence.Sessions.Whereabouts, Settled: deps.Settled, NoteSeen: deps.Presence.Sessions.NoteSeen,
		Nodes: d.Peers.Nodes, Forward: d.Peers.Forward,
	})
	d.refills = refill.New(refill.Deps{
		Log: deps.Log, Context: deps.Context, Go: deps.Go, History: deps.History, Member: deps.Member, Reload: deps.Reload,
		Refilled: deps.Refilled, GivenUp: deps.RefillsGivenUp,
	})
	loc := &locator{d: &d.d, peers: d.Peers, link: d.LinkNodes, dead: make(map[string]time.Time)}
	d.Router = router.New(router.DefaultConfig(), deps.Log, deps.Metrics, deps.Registry, loc, d.Peers, d.refills.Add,
		func(p *session.Push) (n int, elsewhere bool) { return d.Groups.User(p) })
	d.Groups = group.New(group.DefaultConfig(), group.Deps{
		Log: deps.Log, Metrics: deps.Metrics, Node: deps.Node, Boot: deps.Boot, Store: deps.Groups, Interest: deps.Presence.Groups,
		Registry: deps.Registry, Locate: loc.LocateGroups, Nodes: d.Peers.Nodes, Forward: d.Peers.Forward,
		Lost: d.Router.Lost, Deliver: d.Router.Deliver,
	})
	return d
}

// Close drops waiting pushes and returns when all goroutines have ended.
func (d *Delivery) Close() {
	d.Watch.Close()
	d.Groups.Close()
	d.Router.Close()
	d.Peers.Close()
}

// LinkNodes updates the links to match the live leases. It is called after each read of the leases. Concurrent calls
// are safe: the latest view wins.
func (d *Delivery) LinkNodes() {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	addrs := make(map[string]string)
	for _, n := range d.d.Presence.Nodes.View().Nodes() {
		if n.Live {
			addrs[n.Name] = n.RPCAddr
		}
	}
	d.Peers.SetNodes(addrs)
}

// TellElsewhere tells the nodes that hold other devices of a user about each other, so that none treats its sessions
// as the only ones.
func (d *Delivery) TellElsewhere(others []presence.Location) {
	view := d.d.Presence.Nodes.View()
	names := []string{d.d.Node}
	for i := range others {
		if !slices.Contains(names, others[i].Node) {
			names = append(names, others[i].Node)
		}
	}
	nodes := len(names)
	for i := range others {
		o := &others[i]
		if o.Node == d.d.Node {
			continue
		}
		d.d.Registry.Elsewhere(o.UID)
		if n, known := view.Node(o.Node); known && !n.Live {
			continue // its sessions are gone
		}
		// The hint may be late, but not lost: without it that node's users reach one device less, and the user's text
		// limit is not yet divided among the nodes. A node or boot id that is not in the view yet is told when it can
		// be reached.
		hint := session.Push{To: o.UID, Seq: int64(nodes)}
		if !view.Alive(o.Node, o.Boot) || !d.Peers.Forward(o.Node, &hint) {
			d.Router.Lost(o.Node, &hint)
		}
	}
}
