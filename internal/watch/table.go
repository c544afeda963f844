package watch

import (
	"sync"
	"time"

	"parley/internal/bucket"
	"parley/internal/session"
	"parley/internal/wire"
)

// user is a watched user.
type user[C Client] struct {
	uid      int32
	seen     int32 // unix minutes; 0: unknown, or online
	allowed  int32 // watchers that may see the user
	at       int32 // in table.list
	known    bool
	online   bool
	dirty    bool         // the user is in table.unread
	lives    []*lifeEntry // of the sessions found by the last read
	watchers []watching[C]
}

// watching is an element of a user's list of watchers.
type watching[C Client] struct {
	w  *watcher[C]
	at int32 // in w.pairs
}

// pair is a session and a user it watches.
type pair[C Client] struct {
	u    *user[C]
	at   int32  // in u.watchers
	told uint32 // what the session was last told: unix minutes, then the flags below
}

// Flags of pair.told.
const (
	flagOnline  = 1 << iota
	flagAllowed // the session may see the user
	flagDecided // flagAllowed was read because of a change
	flagBits    = iota
	flagState   = ^uint32(flagAllowed | flagDecided)
)

// truth returns what the session should be told.
func (p *pair[C]) truth() uint32 {
	switch {
	case p.told&flagAllowed == 0 || !p.u.known:
		return 0
	case p.u.online:
		return flagOnline
	}
	return uint32(p.u.seen) << flagBits
}

func (p *pair[C]) state() wire.Presence {
	return wire.Presence{UID: p.u.uid, Online: p.told&flagOnline != 0, LastSeenMin: int32(p.told >> flagBits)}
}

// tell records that the session is told the truth now, and reports whether that is new to it.
func (p *pair[C]) tell() bool {
	truth := p.truth()
	if p.told&flagState == truth {
		return false
	}
	p.told = p.told&^flagState | truth
	return true
}

// watcher is a session that watches users or reports typing.
type watcher[C Client] struct {
	client C
	out    sync.Mutex // held while the session is told something; acquired before table.mu

	// Guarded by table.mu.
	pairs  []pair[C]
	set    int       // number of the current set; replacing it invalidates seats
	ready  bool      // the request for the set has been answered
	queued bool      // in table.untold
	next   time.Time // the next frame must not be sent earlier
	sets   bucket.Bucket
	typed  [typedThreads]typed
}

// table holds who watches whom, and what is known about the watched users. Its parts share its lock.
type table[C Client] struct {
	mu       sync.Mutex // guards the following
	watchers map[C]*watcher[C]
	users    map[int32]*user[C]
	list     []*user[C] // all users, in no order
	pairs    int
	learned  chan struct{} // closed when users have become known, then replaced

	lives  lives
	unread unread[C]
	untold untold[C]
}

func newTable[C Client]() *table[C] {
	t := &table[C]{
		watchers: make(map[C]*watcher[C]), users: make(map[int32]*user[C]), lives: make(lives), learned: make(chan struct{}),
	}
	t.unread.t, t.untold.t = t, t
	return t
}

// watcherLocked returns the entry of a session, or nil if the session has ended. A session's state becomes Dead
// before leave is called: so either leave finds the entry made here, or this call finds the state.
func (t *table[C]) watcherLocked(c C) *watcher[C] {
	w := t.watchers[c]
	if w == nil && c.State() != session.Dead {
		w = &watcher[C]{client: c}
		t.watchers[c] = w
	}
	return w
}

// replace gives a session a new set. The session may see none of the users yet.
func (t *table[C]) replace(c C, uids []int32, cfg *Config, now time.Time) (*watcher[C], error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.watcherLocked(c)
	if w == nil {
		return nil, session.ErrClosed
	}
	t.emptyLocked(w)
	switch {
	case len(uids) > cfg.PerWatch:
		return nil, ErrTooMany
	case t.pairs+len(uids) > cfg.Pairs:
		return nil, ErrFull
	case !w.sets.Take(now, 1, float32(time.Second)/float32(cfg.Sets), float32(cfg.SetBurst)):
		return nil, ErrOften
	}
	w.pairs = make([]pair[C], len(uids))
	for i, uid := range uids {
		u := t.users[uid]
		if u == nil {
			u = &user[C]{uid: uid, at: int32(len(t.list))}
			t.users[uid] = u
			t.list = append(t.list, u)
		}
		w.pairs[i] = pair[C]{u: u, at: int32(len(u.watchers))}
		u.watchers = append(u.watchers, watching[C]{w, int32(i)})
	}
	t.pairs += len(uids)
	return w, nil
}

// emptyLocked removes a session from the lists of the users it watches.
func (t *table[C]) emptyLocked(w *watcher[C]) {
	for i := range w.pairs {
		p := &w.pairs[i]
		u := p.u
		if p.told&flagAllowed != 0 {
			u.allowed--
		}
		last := len(u.watchers) - 1
		moved := u.watchers[last]
		u.watchers[p.at] = moved
		moved.w.pairs[moved.at].at = p.at
		u.watchers[last] = watching[C]{}
		u.watchers = u.watchers[:last]
		if last == 0 {
			t.dropLocked(u)
		}
	}
	t.pairs -= len(w.pairs)
	w.pairs, w.ready = nil, false
	w.set++
}

// dropLocked removes a user who has no watchers.
func (t *table[C]) dropLocked(u *user[C]) {
	delete(t.users, u.uid)
	last := len(t.list) - 1
	t.list[u.at] = t.list[last]
	t.list[u.at].at = u.at
	t.list[last] = nil
	t.list = t.list[:last]
	t.rememberLocked(u, nil)
}

// rememberLocked sets the lives in which a user has sessions.
func (t *table[C]) rememberLocked(u *user[C], now []*lifeEntry) {
	t.lives.remember(now, u.lives)
	u.lives = now
}

// clear empties the set of a session.
func (t *table[C]) clear(c C) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.watchers[c]; w != nil {
		t.emptyLocked(w)
	}
}

// leave removes a session.
func (t *table[C]) leave(c C) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.watchers[c]; w != nil {
		t.emptyLocked(w)
		delete(t.watchers, c)
	}
}

// allow records which users a session may see, except for pairs whose rights were read because of a change since. It
// reports whether users must be read.
func (t *table[C]) allow(w *watcher[C], visible []int32) (read bool) {
	may := make(map[int32]struct{}, len(visible))
	for _, uid := range visible {
		may[uid] = struct{}{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range w.pairs {
		p := &w.pairs[i]
		if _, ok := may[p.u.uid]; ok && p.told&flagDecided == 0 {
			read = t.allowLocked(p, true) || read
		}
	}
	return read
}

// allowLocked records whether a pair's session may see its user. It reports whether the user must be read.
func (t *table[C]) allowLocked(p *pair[C], allowed bool) (read bool) {
	switch was := p.told&flagAllowed != 0; {
	case was == allowed:
		return false
	case !allowed:
		p.told &^= flagAllowed
		p.u.allowed--
		return false
	}
	p.told |= flagAllowed
	p.u.allowed++
	return !p.u.known && t.unread.soilLocked(p.u)
}

// ready starts telling a session about changes, and returns the states at that moment.
func (t *table[C]) ready(w *watcher[C]) []wire.Presence {
	t.mu.Lock()
	defer t.mu.Unlock()
	states := make([]wire.Presence, len(w.pairs))
	for i := range w.pairs {
		p := &w.pairs[i]
		p.tell()
		states[i] = p.state()
	}
	w.ready = true
	return states
}

// size returns the sizes of the table and its queues.
func (t *table[C]) size() sizes {
	t.mu.Lock()
	defer t.mu.Unlock()
	return sizes{len(t.watchers), t.pairs, len(t.users), len(t.unread.dirty) + len(t.unread.doubtful), len(t.untold.changed)}
}
