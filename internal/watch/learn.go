package watch

import (
	"time"

	"parley/internal/presence"
)

// live records which lives have a lease, and marks the users dirty that have sessions in a life whose lease began or
// ended. It reports whether users must be read, and whether a life has ended.
func (t *table[C]) live(alive map[life]struct{}) (read, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	turned, ended := t.lives.set(alive)
	if len(turned) == 0 {
		return false, ended
	}
	for _, u := range t.list {
		for _, l := range u.lives {
			if _, yes := turned[l]; yes {
				read = t.unread.soilLocked(u) || read
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
		lives, online := t.lives.of(found[i].Locations)
		if !online && !settled {
			t.lives.drop(lives)
			t.unread.doubtLocked(u, again)
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
				changed = t.untold.addLocked(at.w) || changed
			}
		}
	}
	if first {
		close(t.learned)
		t.learned = make(chan struct{})
	}
	return changed, crashed
}

// known reports whether all users that a session may see are known. If not, it returns a channel that is closed when
// more have become known.
func (t *table[C]) known(w *watcher[C]) (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range w.pairs {
		if p := &w.pairs[i]; p.told&flagAllowed != 0 && !p.u.known {
			return false, t.learned
		}
	}
	return true, nil
}
