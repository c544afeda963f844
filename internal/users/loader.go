package users

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"parley/internal/store"
	"parley/internal/wire"
)

const (
	// loaders is the maximum number of concurrent reads of users' data, each on a store connection of its own.
	loaders = 4
	// loaderUsers bounds the users per read, and thus its memory: the number of their friends has no other bound.
	loaderUsers = 64
)

// A loader reads what logins need to know about users who are not cached. Waiting logins share a read. There is no
// timer, so a single login is not delayed.
type loader struct {
	d     *Deps
	read  func(ctx context.Context, uids []int32) (map[int32]*store.UserData, error)
	queue chan *load
}

// load is the request of one login.
type load struct {
	uid  int32
	done chan struct{} // closed when the fields below are set
	data *store.UserData
	err  error
}

func newLoader(d *Deps) *loader {
	read := func(ctx context.Context, uids []int32) (map[int32]*store.UserData, error) {
		return d.Store.UserData(ctx, uids, maxApplications)
	}
	return &loader{d: d, read: read, queue: make(chan *load, loaders*loaderUsers)}
}

// load returns the data of a user, which the caller must not modify because other callers may share it. The error for
// an unknown user has CodeUIDInvalid.
func (l *loader) load(ctx context.Context, uid int32) (*store.UserData, error) {
	j := &load{uid: uid, done: make(chan struct{})}
	select {
	case l.queue <- j:
	case <-ctx.Done():
		return nil, fmt.Errorf("users: load user: %w", context.Cause(ctx))
	}
	select {
	case <-j.done:
		return j.data, j.err
	case <-ctx.Done():
		return nil, fmt.Errorf("users: load user: %w", context.Cause(ctx))
	}
}

// run serves the queue until ctx ends. Several goroutines call it.
func (l *loader) run(ctx context.Context) {
	batch := make([]*load, 0, loaderUsers)
	for {
		select {
		case j := <-l.queue:
			batch = append(batch[:0], j)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(batch) < loaderUsers; {
			select {
			case j := <-l.queue:
				batch = append(batch, j)
			default:
				more = false
			}
		}
		l.serve(ctx, batch)
		clear(batch)
	}
}

// serve reads the data of a batch. It includes users whose callers have left.
func (l *loader) serve(ctx context.Context, batch []*load) {
	began := time.Now()
	err := errors.New("users: load users: panic") // reported unless the read below returns
	var users map[int32]*store.UserData
	defer func() {
		if v := recover(); v != nil {
			l.d.Panics.Inc()
			l.d.Log.Error("panic in a loader", "err", v, "stack", string(debug.Stack()))
		}
		l.d.Loads.Observe(float64(len(batch)))
		l.d.LoadSeconds.Observe(time.Since(began).Seconds())
		for _, j := range batch {
			if j.data, j.err = users[j.uid], err; j.data == nil && err == nil {
				j.err = wire.Refuse(wire.CodeUIDInvalid, fmt.Errorf("users: load user %d: %w", j.uid, store.ErrNotFound))
			}
			close(j.done)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, l.d.Timeout)
	defer cancel()
	uids := make([]int32, len(batch))
	for i, j := range batch {
		uids[i] = j.uid
	}
	users, err = l.read(ctx, uids)
}
