package watch

// seat identifies a pair as of the start of a read. If the session has replaced its set since, the result does not
// apply.
type seat[C Client] struct {
	w   *watcher[C]
	set int
	at  int32
}

// watched reports whether a user is watched.
func (t *table[C]) watched(uid int32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.users[uid] != nil
}

// all returns the sessions that watch any user.
func (t *table[C]) all() (list []*watcher[C]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.watchers {
		if len(w.pairs) > 0 {
			list = append(list, w)
		}
	}
	return list
}

// seats returns the pairs that a change affects.
func (t *table[C]) seats(c change) (seats []seat[C]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.users[c.of]
	if u == nil {
		return nil
	}
	for _, at := range u.watchers {
		if c.watcher == 0 || at.w.client.UID() == c.watcher {
			seats = append(seats, seat[C]{at.w, at.w.set, at.at})
		}
	}
	return seats
}

// seatsOf returns the pairs of a session, and their users.
func (t *table[C]) seatsOf(w *watcher[C]) (seats []seat[C], uids []int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range w.pairs {
		seats = append(seats, seat[C]{w, w.set, int32(i)})
		uids = append(uids, w.pairs[i].u.uid)
	}
	return seats, uids
}

// decide records whether the sessions may see the users of their pairs, except for sessions that have replaced their
// set. It reports whether users must be read, and whether sessions must be told.
func (t *table[C]) decide(seats []seat[C], allowed []bool) (read, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, s := range seats {
		if s.w.set != s.set {
			continue
		}
		p := &s.w.pairs[s.at]
		p.told |= flagDecided
		read = t.allowLocked(p, allowed[i]) || read
		if p.told&flagState != p.truth() {
			changed = t.untold.addLocked(s.w) || changed
		}
	}
	return read, changed
}
