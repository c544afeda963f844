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
	// deadPatience is how long a node that was found dead is believed to be, before its users make us look again.
	deadPatience = time.Second
	// maxDead bounds the dead lives that are remembered.
	maxDead = 1024
)

// locator is the router's view of presence: the other live nodes of each user.
type locator struct {
	d     *Deps
	peers *peer.Pool
	link  func() // makes ways to the nodes of the latest view

	mu   sync.Mutex // guards the following
	dead map[string]time.Time
}

// Locate implements router.Locator. The view of the nodes is up to a second old: for a user on a life of a node that is
// not in it, the nodes are read again, once a second for each such life.
func (l *locator) Locate(ctx context.Context, uids []int32) (nodes [][]string, sure bool, err error) {
	found, gen, err := l.d.Presence.LocateIn(ctx, uids)
	if err != nil {
		return nil, false, err
	}
	nodes, err = l.living(ctx, found)
	return nodes, l.d.Settled(gen), err
}

// LocateGroups implements group.Locator. Like Locate, it reads the nodes again for a life that is not in the view. replaced
// are entries of lives whose node lives another one: they never count again.
func (l *locator) LocateGroups(ctx context.Context, threads []int64) (nodes [][]string, replaced []presence.GroupEntry, sure bool, err error) {
	entries, gen, err := l.d.Presence.GroupEntries(ctx, threads)
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
	view := l.d.Presence.View()
	for _, of := range entries {
		for _, e := range of {
			if n, ok := view.Node(e.Node); ok && n.Live && n.Boot != e.Boot {
				replaced = append(replaced, e)
			}
		}
	}
	return nodes, replaced, l.d.Settled(gen), nil
}

// living returns, for each list, the nodes of the lives in it that go on, and sees to it that there is a way to them.
func (l *locator) living(ctx context.Context, found [][]presence.Location) ([][]string, error) {
	nodes, strange := l.alive(found)
	if !l.linked(nodes) {
		l.link() // the view has them, the pool not yet
	}
	if l.worthReading(strange) {
		if _, err := l.d.Presence.Nodes(ctx); err != nil {
			return nil, err
		}
		l.link()
		nodes, strange = l.alive(found)
		l.noteDead(strange)
	}
	return nodes, nil
}

// alive returns the nodes of each user that live, this one left out, and the lives that do not. A node without any lease
// may live all the same, cut off from Redis: it counts as long as there is a link to it.
func (l *locator) alive(found [][]presence.Location) (nodes [][]string, strange []string) {
	view, self := l.d.Presence.View(), l.d.Node
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

// linked reports whether there is a way to all these nodes.
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

// worthReading reports whether one of the lives was not found dead just now.
func (l *locator) worthReading(lives []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return slices.ContainsFunc(lives, func(life string) bool { return now.Sub(l.dead[life]) > deadPatience })
}

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
