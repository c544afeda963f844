package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// rights reads again who may see whom, after changes. It is one goroutine.
type rights[C Client] struct {
	*shared
	table  *table[C]
	reader *reader[C]
	teller *teller[C]
	wake   chan struct{} // holds a token while rights may have to be read

	mu      sync.Mutex // guards the following
	changed map[change]struct{}
	all     bool
}

// maxChanges bounds the waiting changes; beyond it the rights of all sessions are read again.
const maxChanges = 4096

// rightsBatch is the number of watchers of a user per read.
const rightsBatch = 256

// recheck schedules reading the rights of some pairs again.
func (r *rights[C]) recheck(changes []change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		if !r.table.watched(c.of) {
			continue
		}
		if r.changed[c] = struct{}{}; len(r.changed) > maxChanges {
			r.all = true
			clear(r.changed)
		}
	}
	if len(r.changed) > 0 || r.all {
		signal(r.wake)
	}
}

// recheckAll schedules reading all rights again.
func (r *rights[C]) recheckAll() {
	r.mu.Lock()
	r.all = true
	clear(r.changed)
	r.mu.Unlock()
	signal(r.wake)
}

// take removes and returns what is to be read. A change during the read is thus noted again.
func (r *rights[C]) take() (changes []change, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.changed {
		changes = append(changes, c)
	}
	clear(r.changed)
	all, r.all = r.all, false
	return changes, all
}

// step reads the rights that may have changed. After a failure or a panic it schedules again what it has not read.
func (r *rights[C]) step() (rest time.Duration) {
	changes, all := r.take()
	err := errPanicked
	defer func() {
		if err == nil {
			return
		}
		r.notChecked(err)
		if all {
			r.recheckAll()
		}
		r.recheck(changes)
		r.sleep(r.cfg.Retry) // loop would call again at once
	}()
	if all {
		for _, mine := range r.table.all() {
			if err = r.checkSession(mine); err != nil {
				return 0
			}
		}
	}
	for all = false; len(changes) > 0; changes = changes[1:] {
		if err = r.checkUser(changes[0]); err != nil {
			return 0
		}
	}
	err = nil
	return 0
}

var errPanicked = errors.New("watch: panic")

func (r *rights[C]) notChecked(err error) {
	if r.ctx.Err() == nil {
		r.metrics.rightsFailures.Inc()
		r.log.Warn("rights of watchers not read, retrying", "err", err)
	}
}

// checkUser reads which watchers of a user may see the user.
func (r *rights[C]) checkUser(c change) error {
	seats := r.table.seats(c)
	for part := range slices.Chunk(seats, rightsBatch) {
		uids := make([]int32, len(part))
		for i := range part {
			uids[i] = part[i].w.client.UID()
		}
		ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Timeout)
		may, err := r.d.Watchers(ctx, distinct(uids), c.of)
		cancel()
		if err != nil {
			return err
		}
		r.metrics.rightsRead.Add(float64(len(part)))
		allowed := make([]bool, len(part))
		for i := range part {
			allowed[i] = slices.Contains(may, uids[i])
		}
		r.decide(part, allowed)
	}
	return nil
}

// checkSession reads which users a session may see.
func (r *rights[C]) checkSession(mine *watcher[C]) error {
	seats, uids := r.table.seatsOf(mine)
	if len(uids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Timeout)
	defer cancel()
	may, err := r.d.Visible(ctx, mine.client.UID(), uids)
	if err != nil {
		return err
	}
	r.metrics.rightsRead.Add(float64(len(uids)))
	visible := make(map[int32]struct{}, len(may))
	for _, uid := range may {
		visible[uid] = struct{}{}
	}
	allowed := make([]bool, len(uids))
	for i, uid := range uids {
		_, allowed[i] = visible[uid]
	}
	r.decide(seats, allowed)
	return nil
}

func (r *rights[C]) decide(seats []seat[C], allowed []bool) {
	read, changed := r.table.decide(seats, allowed)
	if read {
		signal(r.reader.wake)
	}
	if changed {
		signal(r.teller.wake)
	}
}
