package presence

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// forgetAfter is how long a node without a lease remains in the load counts.
	forgetAfter = time.Hour
	// viewMaxAge is the maximum age of the view that Place uses. A refresh every second may thus be half a second
	// late.
	viewMaxAge = 1500 * time.Millisecond
	// emptyViewMaxAge is the same for a view in which no node takes logins. It limits placement without nodes to ten
	// reads of Redis per second.
	emptyViewMaxAge = 100 * time.Millisecond
)

// Nodes are the chat nodes of the cluster as all programs see them.
type Nodes struct {
	*conn
	leases     *Leases
	placements combiner[*placeJob]

	view       atomic.Pointer[View]
	refreshing chan struct{}        // semaphore held while a caller reads the nodes; guards missing
	missing    map[string]time.Time // nodes without a lease, and since when
}

func newNodes(c *conn, leases *Leases) *Nodes {
	ns := &Nodes{conn: c, leases: leases, refreshing: make(chan struct{}, 1), missing: make(map[string]time.Time)}
	ns.view.Store(&View{})
	ns.placements = newCombiner(c, "placements", placeBatch, ns.runPlacements)
	for range placeWorkers {
		c.wg.Go(ns.placements.Run)
	}
	return ns
}

// A Node is a chat node that has reported its load.
type Node struct {
	Lease       // only Name is set unless Live is true
	Count int64 // logged-in sessions, as last reported
	Live  bool  // the node has a lease
}

// Open reports whether the node takes logins.
func (n Node) Open() bool { return n.Live && !n.Draining }

// Read reads the state of all nodes, ordered by name. It removes nodes from Redis that this process has seen without
// a lease for an hour.
func (ns *Nodes) Read(ctx context.Context) ([]Node, error) {
	v, err := ns.refresh(ctx, 0)
	if err != nil {
		return nil, failed("nodes", err)
	}
	return slices.Clone(v.nodes), nil
}

// refresh returns the view if it is younger than maxAge; otherwise it reads a new one. Concurrent callers share one
// read.
func (ns *Nodes) refresh(ctx context.Context, maxAge time.Duration) (*View, error) {
	if v := ns.view.Load(); v.Age() < maxAge {
		return v, nil
	}
	asked := time.Now()
	select {
	case ns.refreshing <- struct{}{}:
		defer func() { <-ns.refreshing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// Another caller may have read the nodes while this one waited; a read begun after this call satisfies any
	// maxAge.
	if v := ns.view.Load(); v.at.After(asked) || v.Age() < maxAge {
		return v, nil
	}
	v, err := ns.readView(ctx)
	if err != nil {
		ns.metrics.viewErrors.Inc()
		return nil, err
	}
	ns.view.Store(v)
	return v, nil
}

// readView reads the nodes. The caller must hold refreshing, which guards missing.
func (ns *Nodes) readView(ctx context.Context) (*View, error) {
	ctx, cancel := ns.bound(ctx)
	defer cancel()
	v := &View{at: time.Now(), index: make(map[string]int)} // set before the read, so that Age never underestimates
	counts, err := ns.rdb.HGetAll(ctx, keyLoginCount).Result()
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(counts))
	leases, err := ns.leases.read(ctx, names)
	if err != nil {
		return nil, err
	}
	var gone []string
	for i, name := range names {
		n := Node{Lease: Lease{Name: name}}
		n.Count, _ = strconv.ParseInt(counts[name], 10, 64) // if malformed 0, until the node's next report
		if leases[i] != nil {
			n.Lease, n.Live = *leases[i], true
			delete(ns.missing, name)
		} else if since, ok := ns.missing[name]; !ok {
			ns.missing[name] = v.at
		} else if v.at.Sub(since) >= forgetAfter {
			gone = append(gone, name)
			continue
		}
		v.index[name] = len(v.nodes)
		v.nodes = append(v.nodes, n)
	}
	maps.DeleteFunc(ns.missing, func(name string, _ time.Time) bool { _, ok := counts[name]; return !ok })
	if len(gone) > 0 {
		// If one of them takes its lease at this moment, its next report writes its count again.
		if err := ns.leases.forget(ctx, gone...); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Alive reports whether a node's lease carries a boot id. A view up to a second old may prove a node alive, but not
// dead; in that case Alive reads the leases again.
func (ns *Nodes) Alive(ctx context.Context, node, boot string) (bool, error) {
	_, ok, err := ns.holder(ctx, Location{Node: node, Boot: boot})
	return ok, err
}

// holder returns the node that holds a session, and false if that node has no lease with the session's boot id.
func (ns *Nodes) holder(ctx context.Context, at Location) (Node, bool, error) {
	if v := ns.View(); v.Alive(at.Node, at.Boot) {
		n, _ := v.Node(at.Node)
		return n, true, nil
	}
	if _, err := ns.Read(ctx); err != nil {
		return Node{}, false, fmt.Errorf("is node %s alive: %w", at.Node, err)
	}
	v := ns.View()
	n, _ := v.Node(at.Node)
	return n, v.Alive(at.Node, at.Boot), nil
}

// A View is an immutable snapshot of the nodes. It is safe for concurrent use.
type View struct {
	at    time.Time      // start of the read, monotonic; zero if never read
	nodes []Node         // ordered by name
	index map[string]int // in nodes, by name
}

// View returns the latest snapshot without blocking; before the first read, an empty one of maximal age. Watch renews
// it.
func (ns *Nodes) View() *View { return ns.view.Load() }

// Node returns a node by name.
func (v *View) Node(name string) (Node, bool) {
	i, ok := v.index[name]
	if !ok {
		return Node{}, false
	}
	return v.nodes[i], true
}

// Alive reports whether the node's lease carried this boot id, so that a Location counts.
func (v *View) Alive(name, boot string) bool {
	i, ok := v.index[name]
	return ok && v.nodes[i].Live && v.nodes[i].Boot == boot
}

// Nodes returns all nodes, ordered by name. The caller must not modify the slice.
func (v *View) Nodes() []Node { return v.nodes }

// Age returns the time since the read of the snapshot began. It grows while Redis does not answer.
func (v *View) Age() time.Duration {
	if v.at.IsZero() {
		return 1<<63 - 1
	}
	return time.Since(v.at)
}

// Watch renews the view at once and then at the given interval (0: each second), until ctx ends or Close is called.
// If onChange is not nil, Watch calls it after the first read and whenever a lease was added, lost or changed, but
// not if only counts changed. While Redis cannot be read, the view stays as it is.
func (ns *Nodes) Watch(ctx context.Context, every time.Duration, onChange func(*View)) {
	if every <= 0 {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var told *View
	for {
		// Half the interval: another Watch, or Place, may have just read the nodes.
		v, err := ns.refresh(ctx, every/2)
		if err == nil && onChange != nil && (told == nil || !slices.EqualFunc(told.nodes, v.nodes, sameLease)) {
			told = v
			onChange(v)
		}
		select {
		case <-ctx.Done():
			return
		case <-ns.stop:
			return
		case <-tick.C:
		}
	}
}

func sameLease(a, b Node) bool { return a.Live == b.Live && a.Lease == b.Lease }

// open returns the nodes that accept logins, ordered by name.
func (v *View) open() []Node {
	var open []Node
	for _, n := range v.nodes {
		if n.Open() && (n.ClientAddr != "" || n.Web != Web{}) {
			open = append(open, n)
		}
	}
	slices.SortFunc(open, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return open
}
