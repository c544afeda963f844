package presence

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"time"
)

const (
	// forgetAfter is how long a node without a lease stays in the load counts.
	forgetAfter = time.Hour
	// viewMaxAge is the oldest view Place uses. It lets a refresh each second be late by half of one.
	viewMaxAge = 1500 * time.Millisecond
	// emptyViewMaxAge is the same for a view without a node that takes logins. It keeps users whom nobody can take from
	// costing Redis more than ten readings a second.
	emptyViewMaxAge = 100 * time.Millisecond
)

// A Node is a chat node that has reported its load.
type Node struct {
	Lease       // only Name is set unless Live
	Count int64 // sessions logged in, as last reported
	Live  bool  // has a lease
}

// Nodes reads the state of all nodes, by name. Nodes that had no lease for an hour, as seen by this process, are
// removed from Redis on the way.
func (p *Presence) Nodes(ctx context.Context) ([]Node, error) {
	v, err := p.refresh(ctx, 0)
	if err != nil {
		return nil, failed("nodes", err)
	}
	return slices.Clone(v.nodes), nil
}

// refresh returns the view if it is younger than maxAge, else reads it. Callers that come meanwhile share one reading.
func (p *Presence) refresh(ctx context.Context, maxAge time.Duration) (*View, error) {
	if v := p.view.Load(); v.Age() < maxAge {
		return v, nil
	}
	asked := time.Now()
	select {
	case p.refreshing <- struct{}{}:
		defer func() { <-p.refreshing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if v := p.view.Load(); v.at.After(asked) || v.Age() < maxAge {
		return v, nil
	}
	v, err := p.readView(ctx)
	if err != nil {
		p.metrics.viewErrors.Inc()
		return nil, err
	}
	p.view.Store(v)
	return v, nil
}

// readView needs refreshing.
func (p *Presence) readView(ctx context.Context) (*View, error) {
	ctx, cancel := p.bound(ctx)
	defer cancel()
	v := &View{at: time.Now(), index: make(map[string]int)} // before reading: Age errs on the old side
	counts, err := p.rdb.HGetAll(ctx, keyLoginCount).Result()
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(counts))
	leases, err := p.leases(ctx, names)
	if err != nil {
		return nil, err
	}
	var gone []string
	for i, name := range names {
		n := Node{Lease: Lease{Name: name}}
		n.Count, _ = strconv.ParseInt(counts[name], 10, 64) // malformed: 0, and its owner writes it every second
		if leases[i] != nil {
			n.Lease, n.Live = *leases[i], true
			delete(p.missing, name)
		} else if since, ok := p.missing[name]; !ok {
			p.missing[name] = v.at
		} else if v.at.Sub(since) >= forgetAfter {
			gone = append(gone, name)
			continue
		}
		v.index[name] = len(v.nodes)
		v.nodes = append(v.nodes, n)
	}
	maps.DeleteFunc(p.missing, func(name string, _ time.Time) bool { _, ok := counts[name]; return !ok })
	if len(gone) > 0 {
		// A node that takes its lease just now writes its count again within a second.
		if err := p.forget(ctx, gone...); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// A View is a snapshot of the nodes. It does not change and is safe for concurrent use.
type View struct {
	at    time.Time // monotonic; zero if never read
	nodes []Node    // by name
	index map[string]int
}

// View returns the latest snapshot without blocking; an empty, very old one before the first. Watch renews it.
func (p *Presence) View() *View { return p.view.Load() }

// Node returns a node by name.
func (v *View) Node(name string) (Node, bool) {
	i, ok := v.index[name]
	if !ok {
		return Node{}, false
	}
	return v.nodes[i], true
}

// Alive tells whether a node's lease carried this boot id: whether a Location counts.
func (v *View) Alive(name, boot string) bool {
	i, ok := v.index[name]
	return ok && v.nodes[i].Live && v.nodes[i].Boot == boot
}

// Nodes returns all nodes by name. The slice is shared: do not change it.
func (v *View) Nodes() []Node { return v.nodes }

// Age is the time since the snapshot was begun. It grows while Redis is away.
func (v *View) Age() time.Duration {
	if v.at.IsZero() {
		return 1<<63 - 1
	}
	return time.Since(v.at)
}

// Watch renews the view at once and then every so often (0: each second), until ctx ends or Close is called. The caller
// runs it on a goroutine it waits for. onChange, if not nil, is called on that goroutine after the first reading and
// whenever a lease was added, lost or changed; not when only counts moved. While Redis cannot be read the view stays as
// it was.
func (p *Presence) Watch(ctx context.Context, every time.Duration, onChange func(*View)) {
	if every <= 0 {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var told *View
	for {
		// Half a period: another Watch or Place on this Presence may have read just now.
		v, err := p.refresh(ctx, every/2)
		if err == nil && onChange != nil && (told == nil || !slices.EqualFunc(told.nodes, v.nodes, sameLease)) {
			told = v
			onChange(v)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.stop:
			return
		case <-tick.C:
		}
	}
}

func sameLease(a, b Node) bool { return a.Live == b.Live && a.Lease == b.Lease }

// open returns the nodes that take logins, by name.
func (v *View) open() []Node {
	var open []Node
	for _, n := range v.nodes {
		if n.Live && !n.Draining && n.ClientAddr != "" {
			open = append(open, n)
		}
	}
	slices.SortFunc(open, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return open
}
