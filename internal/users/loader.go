package users

import (
	"context"
	"fmt"
	"sync"
	"time"

	"parley/internal/batch"
	"parley/internal/store"
	"parley/internal/wire"
)

const (
	// loaders is the maximum number of concurrent reads of users' data, each on a store connection of its own.
	loaders = 4
	// loaderUsers bounds the users per read, and thus its memory: the number of their friends has no other bound.
	loaderUsers = 64
	// maxLoads is the maximum number of logins and requests that wait for a read.
	maxLoads = 16384
)

// A loader reads what logins need to know about users who are not cached. Waiting logins share a read; a single login
// is not delayed.
type loader struct {
	d     *Deps
	read  func(ctx context.Context, uids []int32) (map[int32]*store.UserData, error)
	calls *batch.Calls[*load]
	ctx   context.Context // ends when run does
	stop  context.CancelFunc
}

// load is the request of one login.
type load struct {
	batch.Part
	uid  int32
	data *store.UserData
}

func newLoader(d *Deps) *loader {
	l := &loader{d: d}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.read = func(ctx context.Context, uids []int32) (map[int32]*store.UserData, error) {
		return d.Store.Data(ctx, uids, maxApplications)
	}
	l.calls = batch.NewCalls(batch.Limits{Items: maxLoads, BatchItems: loaderUsers}, l.ctx.Done(), l.serve, l.panicked)
	return l
}

// load returns the data of a user, which the caller must not modify because other callers may share it. The error for
// an unknown user has CodeUIDInvalid.
func (l *loader) load(ctx context.Context, uid int32) (*store.UserData, error) {
	j := &load{uid: uid}
	if err := l.calls.Do(ctx, j, 1, false); err != nil {
		return nil, fmt.Errorf("users: load user %d: %w", uid, err)
	}
	return j.data, nil
}

// run serves the waiting loads until ctx ends.
func (l *loader) run(ctx context.Context) {
	var readers sync.WaitGroup
	for range loaders {
		readers.Go(l.calls.Run)
	}
	<-ctx.Done()
	l.stop()
	readers.Wait()
}

// serve reads the data of a batch.
func (l *loader) serve(loads []*load) {
	began := time.Now()
	defer func() {
		l.d.Loads.Observe(float64(len(loads)))
		l.d.LoadSeconds.Observe(time.Since(began).Seconds())
	}()
	ctx, cancel := context.WithTimeout(l.ctx, l.d.Timeout) // not a login's context: the read serves many
	defer cancel()
	uids := make([]int32, len(loads))
	for i, j := range loads {
		uids[i] = j.uid
	}
	users, err := l.read(ctx, uids)
	for _, j := range loads {
		if j.data = users[j.uid]; err == nil && j.data == nil {
			j.Settle(wire.Refuse(wire.CodeUIDInvalid, store.ErrNotFound))
		} else {
			j.Settle(err)
		}
	}
}

func (l *loader) panicked(p *batch.Panic) {
	l.d.Panics.Inc()
	l.d.Log.Error("panic in a loader", "err", p.Value, "stack", string(p.Stack))
}
