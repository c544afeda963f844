package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// rights collects the rights that must be read again.
type rights struct {
	mu      sync.Mutex // guards the following
	changed map[change]struct{}
	all     bool
}

// maxChanges bounds the waiting changes; beyond it the rights of all sessions are read again.
const maxChanges = 4096

// rightsBatch is the number of watchers of a user per read.
const rightsBatch = 256

// recheck schedules reading the rights of some pairs again.
func (w *Watches[C]) recheck(changes []change) {
	r := &w.rights
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		if !w.table.watched(c.of) {
			continue
		}
		if r.changed[c] = struct{}{}; len(r.changed) > maxChanges {
			r.all = true
			clear(r.changed)
		}
	}
	if len(r.changed) > 0 || r.all {
		signal(w.check)
	}
}

// recheckAll schedules reading all rights again.
func (w *Watches[C]) recheckAll() {
	r := &w.rights
	r.mu.Lock()
	r.all = true
	clear(r.changed)
	r.mu.Unlock()
	signal(w.check)
}

// takeRights removes and returns what is to be read. A change during the read is thus noted again.
func (w *Watches[C]) takeRights() (changes []change, all bool) {
	r := &w.rights
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.changed {
		changes = append(changes, c)
	}
	clear(r.changed)
	all, r.all = r.all, false
	return changes, all
}

// checkRights reads the rights that may have changed. After a failure or a panic it schedules again what it has not
// read.
func (w *Watches[C]) checkRights() (rest time.Duration) {
	changes, all := w.takeRights()
	err := errPanicked
	defer func() {
		if err == nil {
			return
		}
		w.notChecked(err)
		if all {
			w.recheckAll()
		}
		w.recheck(changes)
		w.sleep(w.cfg.Retry) // loop would call again at once
	}()
	if all {
		for _, mine := range w.table.all() {
			if err = w.checkSession(mine); err != nil {
				return 0
			}
		}
	}
	for all = false; len(changes) > 0; changes = changes[1:] {
		if err = w.checkUser(changes[0]); err != nil {
			return 0
		}
	}
	err = nil
	return 0
}

var errPanicked = errors.New("watch: panic")

func (w *Watches[C]) notChecked(err error) {
	if w.ctx.Err() == nil {
		w.metrics.rightsFailures.Inc()
		w.log.Warn("rights of watchers not read, retrying", "err", err)
	}
}

// seat identifies a pair as of the start of a read. If the session has replaced its set since, the result does not
// apply.
type seat[C Client] struct {
	w   *watcher[C]
	set int
	at  int32
}

// checkUser reads which watchers of a user may see the user.
func (w *Watches[C]) checkUser(c change) error {
	seats := w.table.seats(c)
	for part := range slices.Chunk(seats, rightsBatch) {
		uids := make([]int32, len(part))
		for i := range part {
			uids[i] = part[i].w.client.UID()
		}
		ctx, cancel := context.WithTimeout(w.ctx, w.cfg.Timeout)
		may, err := w.d.Watchers(ctx, distinct(uids), c.of)
		cancel()
		if err != nil {
			return err
		}
		w.metrics.rightsRead.Add(float64(len(part)))
		allowed := make([]bool, len(part))
		for i := range part {
			allowed[i] = slices.Contains(may, uids[i])
		}
		w.decide(part, allowed)
	}
	return nil
}

// checkSession reads which users a session may see.
func (w *Watches[C]) checkSession(mine *watcher[C]) error {
	seats, uids := w.table.seatsOf(mine)
	if len(uids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.cfg.Timeout)
	defer cancel()
	may, err := w.d.Visible(ctx, mine.client.UID(), uids)
	if err != nil {
		return err
	}
	w.metrics.rightsRead.Add(float64(len(uids)))
	visible := make(map[int32]struct{}, len(may))
	for _, uid := range may {
		visible[uid] = struct{}{}
	}
	allowed := make([]bool, len(uids))
	for i, uid := range uids {
		_, allowed[i] = visible[uid]
	}
	w.decide(seats, allowed)
	return nil
}

func (w *Watches[C]) decide(seats []seat[C], allowed []bool) {
	read, changed := w.table.decide(seats, allowed)
	if read {
		signal(w.read)
	}
	if changed {
		signal(w.tell)
	}
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
			changed = t.changedLocked(s.w) || changed
		}
	}
	return read, changed
}
