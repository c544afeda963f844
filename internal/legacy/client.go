package legacy

import (
	"maps"
	"slices"
	"sync"
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// thread is what the client knows of a thread.
type thread struct {
	loading bool  // the client has not read all of its history yet
	reading bool  // a page of it is being read from the store
	served  int64 // the client has everything up to this number
	pushed  int64 // lowest number delivered by a push, 0 if none: history must not repeat it
}

// client is what a policy knows of its client: its friends and threads, how far it has loaded them, which texts it has.
type client struct {
	mu sync.Mutex // guards this and the rest of the policy

	friends  map[int32]struct{}
	threads  map[int64]thread
	stored   map[int64]int64 // for a first-generation client: the number of the last text stored before its login, by thread
	received received
	asking   bool      // a 1025 has arrived
	asked    bool      // its turn has come
	listed   bool      // the last 1026 has been sent
	gen1     bool      // first generation: the client knows no threads
	naming   bool      // a thread has been recorded that only the next reply will name
	progress time.Time // when the client last loaded something
}

// Asking records that a 1025 has arrived. Its turn comes after the end of the login, which on a busy node may take longer than FirstLoad.
func (c *client) Asking() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking, c.gen1 = true, false
}

// ThreadsAsked receives the cursor of a 1025 and returns the cursor to use. The first 1025 of a session starts from
// the beginning whatever its cursor: after a new login the client still has its old cursor, but no longer its list.
func (c *client) ThreadsAsked(after int64) (cursor int64, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked {
		return after, false
	}
	c.asking, c.asked, c.gen1, c.stored = true, true, false, nil
	return 0, true
}

// Announce records that the next 1026 lists a thread. It returns false if the thread must not be listed: either its
// peer is not in the friend_list of this login, which would crash the client; or the client knows the thread already,
// and would forget its texts. Texts of the thread wait until its history has been served. The client asks for the
// history even if it is empty.
func (c *client) Announce(id int64, peer int32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, friend := c.friends[peer]
	_, known := c.threads[id]
	if !friend || known {
		return false
	}
	c.threads[id] = thread{loading: true}
	c.naming = true
	return true
}

// AnnounceLoaded records that the next reply (a 1028) names a thread that needs no loading. It returns false if the
// reply must not name it, because its peer is not a friend of the client's user.
func (c *client) AnnounceLoaded(id int64, peer int32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.friends[peer]; !ok {
		return false
	}
	if _, known := c.threads[id]; !known {
		c.threads[id] = thread{}
		c.naming = true
	}
	return true
}

// Befriended records that the next 1014 announces a new friend and the first messages of their thread.
func (c *client) Befriended(uid int32, id, lastSeq int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.befriendLocked(uid, id, lastSeq)
	c.naming = true
}

func (c *client) befriendLocked(uid int32, id, lastSeq int64) {
	c.friends[uid] = struct{}{}
	if t := c.threads[id]; t.served < lastSeq {
		t.served = lastSeq
		c.threads[id] = t
	}
}

// HistoryAsked records that a 1029 is about to be answered; pushes of the thread wait for the answer. It returns the
// number from which on the answer must omit texts, because pushes have delivered them, or 0 if there is none. A
// client whose load was interrupted by a new login in the same process also goes through its old list of threads, and
// so asks for some threads twice.
func (c *client) HistoryAsked(id int64) (pushed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress = time.Now()
	t, ok := c.threads[id]
	if !ok {
		return 0
	}
	t.loading, t.reading = true, true
	c.threads[id] = t
	return t.pushed
}

// releasableLocked reports whether the client's load permits sending a push now.
func (c *client) releasableLocked(push *session.Push, now time.Time) bool {
	if c.naming || (!c.listed && !c.gen1) {
		return false
	}
	if push.ID != wire.MsgTextPush || c.gen1 {
		return true
	}
	return !c.threads[push.Thread].loading || now.Sub(c.progress) >= LoadPatience
}

// loadsLocked reports whether the client will get a text from a page of history that has not been read from the store
// yet. A page that is being read may lack the text.
func (c *client) loadsLocked(push *session.Push) bool {
	t := c.threads[push.Thread]
	return push.ID == wire.MsgTextPush && !c.gen1 && t.loading && !t.reading
}

// servedLocked returns the number up to which the client has all texts of a thread, so that none of them is sent. A
// first-generation client loads no history and keeps its texts over a new login: it has everything stored before.
func (c *client) servedLocked(id int64) int64 {
	if c.gen1 {
		return max(c.threads[id].served, c.stored[id])
	}
	return c.threads[id].served
}

// Lacks reports whether the client has received a text neither from history nor by a push.
func (c *client) Lacks(id, seq int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, in := c.received.find(id, seq)
	return !in && seq > c.servedLocked(id)
}

// Floor returns the number up to which the client lacks no text of a thread.
func (c *client) Floor(id int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.servedLocked(id), c.received.floor(id))
}

// Settled reports whether the policy knows which texts of a thread the client has: the client is not loading the
// thread, nor about to.
func (c *client) Settled(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return (c.listed || c.gen1) && !c.threads[id].loading
}

// Known returns the threads that the client has been told of or sent texts of, and for a first-generation client
// those of its friends.
func (c *client) Known() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := slices.AppendSeq(make([]int64, 0, len(c.threads)), maps.Keys(c.threads))
	ids = slices.AppendSeq(ids, maps.Keys(c.received))
	if c.gen1 {
		ids = slices.AppendSeq(ids, maps.Keys(c.stored))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
