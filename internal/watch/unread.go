package watch

import "time"

// unread holds the watched users whose presence is to be read, and the next ones that are to be read in any case. Its
// fields are guarded by the table's lock. soil, soilAll and audit report whether the reader has something to do.
type unread[C Client] struct {
	t        *table[C]
	dirty    []*user[C]
	doubtful []*user[C] // read before all nodes had written their sessions; dirty again at doubtAt
	doubtAt  time.Time
	audited  int // index in table.list of the last audited user
	auditAt  time.Time
}

// soilLocked marks a user dirty and reports whether the reader has something to do. A user whom no watcher may see is
// not read, but becomes unknown.
func (q *unread[C]) soilLocked(u *user[C]) bool {
	switch {
	case u.dirty:
	case u.allowed == 0:
		u.known = false
		return false
	default:
		u.dirty = true
		q.dirty = append(q.dirty, u)
	}
	return true
}

// soil marks the watched ones of some users dirty.
func (q *unread[C]) soil(uids []int32) (read bool) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	for _, uid := range uids {
		if u := q.t.users[uid]; u != nil {
			read = q.soilLocked(u) || read
		}
	}
	return read
}

// soilAll marks all users dirty.
func (q *unread[C]) soilAll() (read bool) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	for _, u := range q.t.list {
		read = q.soilLocked(u) || read
	}
	return read
}

// audit marks the next n users dirty, at most once per second.
func (q *unread[C]) audit(n int, now time.Time) (read bool) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	if now.Sub(q.auditAt) < time.Second {
		return false
	}
	q.auditAt = now
	list := q.t.list
	for range min(n, len(list)) {
		q.audited = (q.audited + 1) % len(list)
		read = q.soilLocked(list[q.audited]) || read
	}
	return read
}

// take removes up to n dirty users, marks them clean, and returns those to be read.
func (q *unread[C]) take(n int, now time.Time) (users []*user[C]) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	if len(q.doubtful) > 0 && !now.Before(q.doubtAt) {
		q.dirty, q.doubtful = append(q.dirty, q.doubtful...), nil
	}
	for len(q.dirty) > 0 && len(users) < n {
		u := q.dirty[0]
		q.dirty[0] = nil
		q.dirty = q.dirty[1:]
		u.dirty = false
		switch {
		case q.t.users[u.uid] != u:
		case u.allowed == 0:
			u.known = false
		default:
			users = append(users, u)
		}
	}
	if len(q.dirty) == 0 {
		q.dirty = nil
	}
	return users
}

// giveBack marks users dirty again.
func (q *unread[C]) giveBack(users []*user[C]) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	for _, u := range users {
		if q.t.users[u.uid] == u {
			q.soilLocked(u)
		}
	}
}

// doubtLocked schedules reading a user again at a time, or together with users already waiting for that.
func (q *unread[C]) doubtLocked(u *user[C], again time.Time) {
	if u.dirty {
		return
	}
	if u.dirty = true; len(q.doubtful) == 0 {
		q.doubtAt = again
	}
	q.doubtful = append(q.doubtful, u)
}

// left reports whether users are dirty now, and whether others become dirty later.
func (q *unread[C]) left() (now, later bool) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	return len(q.dirty) > 0, len(q.doubtful) > 0
}
