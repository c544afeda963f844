package watch

import "parley/internal/presence"

// life is a run of a node under one boot id.
type life struct{ node, boot string }

// lifeEntry says whether a life has a lease.
type lifeEntry struct {
	life
	alive bool
	users int // users that remember it
}

// lives holds a life while it has a lease or users remember it. It is guarded by table.mu, like the users that
// remember lives: so no read can miss a change.
type lives map[life]*lifeEntry

// set records which lives have a lease. It returns the remembered lives whose lease began or ended, and whether any
// has ended.
func (ls lives) set(alive map[life]struct{}) (turned map[*lifeEntry]struct{}, ended bool) {
	turned = make(map[*lifeEntry]struct{})
	for l, e := range ls {
		if _, now := alive[l]; now != e.alive {
			e.alive, ended = now, ended || !now
			if e.users == 0 {
				delete(ls, l)
				continue
			}
			turned[e] = struct{}{}
		}
	}
	for l := range alive {
		if ls[l] == nil {
			ls[l] = &lifeEntry{life: l, alive: true}
		}
	}
	return turned, ended
}

// of returns the lives of some sessions, and whether any has a lease. The caller either has a user remember them or
// drops them.
func (ls lives) of(locs []presence.Location) (found []*lifeEntry, online bool) {
next:
	for i := range locs {
		l := life{locs[i].Node, locs[i].Boot}
		for _, e := range found {
			if e.life == l {
				continue next
			}
		}
		e := ls[l]
		if e == nil {
			e = &lifeEntry{life: l}
			ls[l] = e
		}
		found = append(found, e)
		online = online || e.alive
	}
	return found, online
}

// remember notes that a user remembers some lives in place of those before.
func (ls lives) remember(now, before []*lifeEntry) {
	for _, e := range now {
		e.users++
	}
	for _, e := range before {
		e.users--
	}
	ls.drop(before)
}

// drop removes those of some lives that neither have a lease nor are remembered by users.
func (ls lives) drop(some []*lifeEntry) {
	for _, e := range some {
		if e.users == 0 && !e.alive {
			delete(ls, e.life)
		}
	}
}
