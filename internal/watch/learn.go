package watch

import (
	"time"

	"parley/internal/presence"
)

// soilLocked marks a user dirty and reports whether the reader has something to do. A user whom no watcher may see is
// not read, but becomes unknown.
func (t *table[C]) soilLocked(u *user[C]) bool {
	switch {
	case u.dirty:
	case u.allowed == 0:
		u.known = false
		return false
	default:
		u.dirty = true
		t.dirty = append(t.dirty, u)
	}
	return true
}

// soil marks the watched ones of some users dirty, and reports whether the reader has something to do.
func (t *table[C]) soil(uids []int32) (read bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, uid := range uids {
		if u := t.users[uid]; u != nil {
			read = t.soilLocked(u) || read
		}
	}
	return read
}

// soilAll marks all users dirty, and reports whether the reader has something to do.
func (t *table[C]) soilAll() (read bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range t.list {
		read = t.soilLocked(u) || read
	}
	return read
}

// audit marks the next n users dirty, at most once per second.
func (t *table[C]) audit(n int, now time.Time) (read bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.auditAt) < time.Second {
		return false
	}
	t.auditAt = now
	for range min(n, len(t.list)) {
		t.audited = (t.audited + 1) % len(t.list)
		read = t.soilLocked(t.list[t.audited]) || read
	}
	return read
}

// takeDirty removes up to n users from the dirty queue, marks them clean, and returns those to be read.
func (t *table[C]) takeDirty(n int, now time.Time) (users []*user[C]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.doubtful) > 0 && !now.Before(t.doubtAt) {
		t.dirty, t.doubtful = append(t.dirty, t.doubtful...), nil
	}
	for len(t.dirty) > 0 && len(users) < n {
		u := t.dirty[0]
		t.dirty[0] = nil
		t.dirty = t.dirty[1:]
		u.dirty = false
		switch {
		case t.users[u.uid] != u:
		case u.allowed == 0:
			u.known = false
		default:
			users = append(users, u)
		}
	}
	if len(t.dirty) == 0 {
		t.dirty = nil
	}
	return users
}

// giveBack marks users dirty again.
func (t *table[C]) giveBack(users []*user[C]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range users {
		if t.users[u.uid] == u {
			t.soilLocked(u)
		}
	}
}

// live records which lives have a lease, and marks the users dirty that have sessions in a life whose lease began or
// ended. It reports whether users must be read, and whether a life has ended.
func (t *table[C]) live(alive map[life]struct{}) (read, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	turned := make(map[*lifeEntry]struct{})
	for l, e := range t.lives {
		if _, now := alive[l]; now != e.alive {
			e.alive, ended = now, ended || !now
			if e.users == 0 {
				delete(t.lives, l)
				continue
			}
			turned[e] = struct{}{}
		}
	}
	for l := range alive {
		if t.lives[l] == nil {
			t.lives[l] = &lifeEntry{life: l, alive: true}
		}
	}
	if len(turned) == 0 {
		return false, ended
	}
	for _, u := range t.list {
		for _, l := range u.lives {
			if _, yes := turned[l]; yes {
				read = t.soilLocked(u) || read
				break
			}
		}
	}
	return read, ended
}

// learn records what was read. Unless settled, the absence of a user means nothing: the user is read again at the
// time again. changed reports whether sessions must be told. crashed are the users who went offline without a
// release, because their node died.
func (t *table[C]) learn(users []*user[C], found []presence.Whereabouts, settled bool, minute int32, again time.Time) (changed bool, crashed []int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := false
	for i, u := range users {
		if t.users[u.uid] != u {
			continue // the user has no watchers any more
		}
		lives, online := t.livesLocked(found[i].Locations)
		if !online && !settled {
			t.unusedLocked(lives)
			t.doubtLocked(u, again)
			continue
		}
		seen := int32(0)
		if !online {
			seen = found[i].SeenMin
			switch {
			case u.known && u.online && len(lives) > 0:
				seen = minute
				crashed = append(crashed, u.uid)
			case u.known && !u.online && seen <= u.seen+1: // Redis lost the time, or another node noted it by its own clock
				seen = u.seen
			}
		}
		t.rememberLocked(u, lives)
		if u.known && online == u.online && seen == u.seen {
			continue
		}
		first = first || !u.known
		u.known, u.online, u.seen = true, online, seen
		for _, at := range u.watchers {
			if p := &at.w.pairs[at.at]; p.told&flagState != p.truth() {
				changed = t.changedLocked(at.w) || changed
			}
		}
	}
	if first {
		close(t.learned)
		t.learned = make(chan struct{})
	}
	return changed, crashed
}

// doubtLocked schedules reading a user again at a time, or together with users already waiting for that.
func (t *table[C]) doubtLocked(u *user[C], again time.Time) {
	if u.dirty {
		return
	}
	if u.dirty = true; len(t.doubtful) == 0 {
		t.doubtAt = again
	}
	t.doubtful = append(t.doubtful, u)
}

// unread reports whether users are dirty now, and whether others become dirty later.
func (t *table[C]) unread() (now, later bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.dirty) > 0, len(t.doubtful) > 0
}

// livesLocked returns the lives of some sessions, and whether any has a lease.
func (t *table[C]) livesLocked(locs []presence.Location) (lives []*lifeEntry, online bool) {
next:
	for i := range locs {
		l := life{locs[i].Node, locs[i].Boot}
		for _, e := range lives {
			if e.life == l {
				continue next
			}
		}
		e := t.lives[l]
		if e == nil {
			e = &lifeEntry{life: l}
			t.lives[l] = e
		}
		lives = append(lives, e)
		online = online || e.alive
	}
	return lives, online
}

// unusedLocked drops those of some lives that neither have a lease nor are remembered by users.
func (t *table[C]) unusedLocked(lives []*lifeEntry) {
	for _, l := range lives {
		if l.users == 0 && !l.alive {
			delete(t.lives, l.life)
		}
	}
}
