package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"parley/internal/peer"
	"parley/internal/presence"
)

const (
	// deadPatience is how long a boot id found dead is believed to be, before a look-up of its users reads the nodes
	// again.
	deadPatience = time.Second
	// maxDead bounds the dead boot ids that are remembered.
	maxDead = 1024
)

// A locator is the router's view of presence: it finds the other live nodes of each user.
type locator struct {
	d     *Deps
	peers *peer.Pool
	link  func() // links the nodes of the latest view

	mu   sync.Mutex           // guards the following
	dead map[string]time.Time // when a boot id was found dead, by node and boot id
}

// Locate implements router.Locator. The view of the nodes may be a second old. If a user is on a boot id that is not
// in the view, Locate reads the nodes again, at most once a second for each such boot id.
func (l *locator) Locate(ctx context.Context, uids []int32) (nodes [][]string, sure bool, err error) {
	found, gen, err := l.d.Presence.Sessions.LocateIn(ctx, uids)
	if err != nil {
		return nil, false, err
	}
	nodes, err = l.living(ctx, found)
	return nodes, l.d.Settled(gen), err
}

// LocateGroups implements group.Locator. Like Locate, it reads the nodes again for a boot id that is not in the view.
// replaced holds the entries whose node now runs under another boot id; they are obsolete for good.
func (l *locator) LocateGroups(ctx context.Context, threads []int64) (nodes [][]string, replaced []presence.GroupEntry, sure bool, err error) {
	entries, gen, err := l.d.Presence.Groups.Entries(ctx, threads)
	if err != nil {
		return nil, nil, false, err
	}
	found := make([][]presence.Location, len(entries))
	for i, of := range entries {
		for _, e := range of {
			found[i] = append(found[i], presence.Location{Node: e.Node, Boot: e.Boot})
		}
	}
	if nodes, err = l.living(ctx, found); err != nil {
		return nil, nil, false, err
	}
	view := l.d.Presence.Nodes.View()
	for _, of := range entries {
		for _, e := range of {
			if n, ok := view.Node(e.Node); ok && n.Live && n.Boot != e.Boot {
				replaced = append(replaced, e)
			}
		}
	}
	return nodes, replaced, l.d.Settled(gen), nil
}

// living returns, for each list of locations, the nodes that are alive under the given boot ids, and makes sure that
// they are linked.
func (l *locator) living(ctx context.Context, found [][]presence.Location) ([][]string, error) {
	nodes, strange := l.alive(found)
	if !l.linked(nodes) {
		l.link() // the view has a node that the pool does not have yet
	}
	if l.worthReading(strange) {
		if _, err := l.d.Presence.Nodes.Read(ctx); err != nil {
			return nil, err
		}
		l.link()
		nodes, strange = l.alive(found)
		l.noteDead(strange)
	}
	return nodes, nil
}

// alive returns the live nodes of each user without this node, and the boot ids that are not live in the view. A node
// without a lease may be alive but cut off from Redis: it counts as long as there is a link to it.
func (l *locator) alive(found [][]presence.Location) (nodes [][]string, strange []string) {
	view, self := l.d.Presence.Nodes.View(), l.d.Node
	nodes = make([][]string, len(found))
	for i, locs := range found {
		for _, loc := range locs {
			switch {
			case loc.Node == self:
				continue
			case !view.Alive(loc.Node, loc.Boot) && !l.peers.Static(loc.Node):
				strange = append(strange, loc.Node+"|"+loc.Boot)
				if n, ok := view.Node(loc.Node); ok && n.Live || !l.peers.Knows(loc.Node) {
					continue
				}
			}
			if !slices.Contains(nodes[i], loc.Node) {
				nodes[i] = append(nodes[i], loc.Node)
			}
		}
	}
	return nodes, strange
}

// linked reports whether the pool has a link to each of these nodes.
func (l *locator) linked(nodes [][]string) bool {
	for _, of := range nodes {
		for _, name := range of {
			if !l.peers.Knows(name) {
				return false
			}
		}
	}
	return true
}

// worthReading reports whether any of these boot ids has not been found dead recently.
func (l *locator) worthReading(lives []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return slices.ContainsFunc(lives, func(life string) bool { return now.Sub(l.dead[life]) > deadPatience })
}

// noteDead remembers that these boot ids are not alive. When too many are remembered it starts over: forgetting one
// costs only another read of the nodes.
func (l *locator) noteDead(lives []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.dead)+len(lives) > maxDead {
		clear(l.dead)
	}
	for _, life := range lives[:min(len(lives), maxDead)] {
		l.dead[life] = time.Now()
	}
}
