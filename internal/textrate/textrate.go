// Package textrate bounds how many texts a user may store, over all devices, connections and nodes.
package textrate

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/batch"
	"parley/internal/bucket"
	"parley/internal/presence"
	"parley/internal/session"
)

const (
	// recountEvery is how often a user who sends much is looked for on other nodes.
	recountEvery   = 5 * time.Second
	recountTimeout = time.Second
	// maxRecounts bounds the users that wait for that; the others are looked for when they send more.
	maxRecounts = 4096
	// recountBatch is how many are looked for in one round trip.
	recountBatch = 256
	// maxLate bounds the sessions that ended and are not released yet.
	maxLate = 65536
	// movePart is the part of a user's burst that is kept for the moment after a move to another node: one in so many.
	movePart = 10
	// moveTime is how long after the begin of a session that part may be used. It covers a slow login.
	moveTime = 3 * time.Second
	// keepIdle is how long a full bucket is kept after its user's last session was taken out of Redis. A login that claimed
	// its place before that finds the bucket, and is not taken for a move from another node.
	keepIdle = 10 * time.Second
	// shards spreads the locks of the table; a power of two.
	shards = 64
)

// A Limiter bounds the texts of each user over all devices, connections and nodes: in any period, at most TextRate per
// second plus TextBurst.
//
// Each node that holds sessions of a user has a bucket for the user. The bucket fills at the node's share of the rate and
// holds its share of the burst. A new bucket may start full only if the user cannot just have sent elsewhere. Redis tells:
// a claim returns the user's sessions on other nodes, and a session stays in Redis until its bucket is full again. So a
// user who comes from another node, or is still there, is found there, and the new bucket starts empty.
//
// A client should not have its first text refused because its user has moved. So the node of a session that is replaced
// hands over what is left. If it cannot, or the user has another device there, a part of the burst helps that no bucket
// holds: a bucket that starts empty may go into debt by a tenth of the burst for 3 s. The debt is lost when the user moves on
// before it is paid; so if an older session may still be in debt, the new bucket starts with the whole debt. Session ids
// tell how old the sessions are.
type Limiter struct {
	d           Deps
	rate, burst float32             // burst is what the buckets of a user hold together
	debt        float32             // that a bucket may have just after a move
	settled     time.Duration       // after which a session is not in debt from its move any more
	recounts    *batch.Queue[int32] // users to be looked for on other nodes
	shard       [shards]shard

	lateMu sync.Mutex // guards the following
	late   map[presence.Location]*time.Timer
	closed bool
}

// Deps is what a Limiter works with.
type Deps struct {
	Log     *slog.Logger
	Node    string
	Boot    func() string
	Locate  func(context.Context, []int32) ([][]presence.Location, error)
	Alive   func(node, boot string) bool
	Release func(presence.Location)
	Hurried prometheus.Counter // sessions released before their user's bucket was full
}

type shard struct {
	mu    sync.Mutex // guards users
	users map[int32]*User
}

// A User is one user's share on this node.
type User struct {
	uid int32

	mu       sync.Mutex // guards the following
	bucket   bucket.Bucket
	moved    session.SID // of the session that brought the user from another node, if debt is allowed since; else 0
	sessions int32       // of the user on this node
	ids      session.SID // theirs, combined by exclusive or: the id of the only one
	nodes    int32       // that hold sessions of the user, this one among them
	changes  int32       // of nodes, by others than recount
	handed   bool        // over to another node: the session here is about to end
	owed     float32     // at the last move, by this bucket: at most 0
	counted  int64       // when nodes was counted, in unix milliseconds
	free     int64       // when the last session here had ended and the bucket was full, in unix milliseconds
}

// New returns a Limiter that lets each user store rate texts per second and burst beyond. A rate of 0 means no limit. Run
// has to run with it.
func New(rate, burst int, d Deps) *Limiter {
	debt := burst / movePart
	t := &Limiter{
		d: d, rate: float32(rate), burst: float32(burst - debt), debt: float32(debt),
		recounts: batch.NewQueue[int32](batch.Limits{Items: maxRecounts, BatchItems: recountBatch}),
		late:     make(map[presence.Location]*time.Timer),
	}
	if rate > 0 { // the debt is paid at the smallest share of the rate
		t.settled = moveTime + time.Duration(debt)*time.Second*session.MaxDevices/time.Duration(rate)
	}
	for i := range t.shard {
		t.shard[i].users = make(map[int32]*User)
	}
	return t
}

func (t *Limiter) shardOf(uid int32) *shard { return &t.shard[uint32(uid)%shards] }

// Of returns what is known of a user; nil if that is nothing, or if texts are not limited.
func (t *Limiter) Of(uid int32) *User {
	sh := t.shardOf(uid)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.users[uid]
}

// shareOf returns the rate and the burst of the user's bucket here.
func (t *Limiter) shareOf(u *User) (rate, burst float32) {
	return t.rate / float32(u.nodes), t.burst / float32(u.nodes)
}

// leftLocked returns what is left in the bucket of u, negative if some is owed.
func (t *Limiter) leftLocked(u *User, now time.Time) float32 {
	rate, burst := t.shareOf(u)
	return u.bucket.Left(now, rate, burst)
}

// Join returns the bucket of a user who logs in here with session sid. Each Join is followed by one Leave. It returns nil
// if texts are not limited.
func (t *Limiter) Join(uid int32, sid session.SID, claimed *presence.Claimed, now time.Time) *User {
	if t.rate == 0 {
		return nil
	}
	var few [4]string
	others := few[:0]
	elsewhere := claimed.Old != nil && !t.here(claimed.Old)
	for i := range claimed.Others {
		if o := &claimed.Others[i]; !t.here(o) {
			elsewhere = true
			others = addNode(others, o.Node)
		}
	}
	nodes := int32(len(others) + 1)
	sh := t.shardOf(uid)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	u := sh.users[uid]
	if u == nil {
		u = &User{uid: uid, nodes: 1}
		sh.users[uid] = u
		elsewhere = elsewhere || claimed.Old != nil || len(claimed.Others) > 0 // a bucket of this node's was forgotten
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	alone := u.sessions == 0
	u.sessions++
	u.ids ^= sid
	u.handed = false
	if alone && elsewhere {
		t.moveLocked(u, sid, claimed, now)
	}
	if alone || nodes > u.nodes {
		t.shareLocked(u, nodes, now)
		u.changes++
	}
	return u
}

// moveLocked empties the bucket of a user who comes from another node. It starts in debt if an older bucket may be.
func (t *Limiter) moveLocked(u *User, sid session.SID, claimed *presence.Claimed, now time.Time) {
	left := min(t.leftLocked(u, now), 0)
	u.moved, u.owed = sid, left
	if left < 0 || claimed.Old != nil && t.owes(claimed.Old, now) || t.othersOwe(claimed, now) {
		left, u.moved = -t.debt, 0
	}
	u.bucket.Set(now, left)
}

// HandOver gives what a user may still send to the node that replaces session sid, the user's last one here. It returns
// nil, and gives nothing, if the user has another session here: a call that comes late must not take from a session that
// has begun since.
func (t *Limiter) HandOver(uid int32, sid session.SID, now time.Time) *int32 {
	u := t.Of(uid)
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sessions > 1 || u.sessions == 1 && u.ids != sid || u.handed {
		return nil
	}
	left := int32(math.Floor(float64(t.leftLocked(u, now))))
	u.bucket.Set(now, 0)
	u.handed = true
	return &left
}

// Receive adds what the node of the replaced session has handed over.
func (t *Limiter) Receive(u *User, claimed *presence.Claimed, texts int32, now time.Time) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	left := t.leftLocked(u, now)
	if u.sessions == 1 && !t.othersOwe(claimed, now) {
		left, u.moved = u.owed, 0 // what is left is known, so there is no need for debt
	}
	_, burst := t.shareOf(u)
	u.bucket.Set(now, min(left+float32(texts), burst))
}

func (t *Limiter) othersOwe(claimed *presence.Claimed, now time.Time) bool {
	return slices.ContainsFunc(claimed.Others, func(l presence.Location) bool { return t.owes(&l, now) })
}

// owes reports whether the session is so young that it may be in debt. The ids of llfcchat's sessions do not parse; they
// have no bucket.
func (t *Limiter) owes(l *presence.Location, now time.Time) bool {
	sid, ok := session.ParseSID(l.SID)
	return ok && sid.Age(now) < t.settled
}

// debtLocked returns how far below zero the bucket of u may go now.
func (t *Limiter) debtLocked(u *User, now time.Time) float32 {
	if u.moved == 0 || u.moved.Age(now) >= moveTime {
		return 0
	}
	return t.debt
}

// here reports whether a session is of this life of this node.
func (t *Limiter) here(l *presence.Location) bool {
	return l.Node == t.d.Node && l.Boot == t.d.Boot()
}

// addNode adds a name to a short list of names, once.
func addNode(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// shareLocked makes the share one of n.
func (t *Limiter) shareLocked(u *User, n int32, now time.Time) {
	left := t.leftLocked(u, now)
	u.nodes = n
	_, burst := t.shareOf(u)
	u.bucket.Set(now, min(left, burst))
}

// Shared notes that a user logged in on another node, so that n nodes hold sessions of it now.
func (t *Limiter) Shared(uid int32, n int, now time.Time) {
	u := t.Of(uid)
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changes++
	if n := int32(max(n, 2)); n > u.nodes {
		t.shareLocked(u, n, now)
	}
}

// Take charges u for n texts and returns how many of them may be stored; for the others it returns when to try again. It
// is safe for concurrent use; a nil u is not limited.
func (t *Limiter) Take(u *User, n int, now time.Time) (granted int, retry time.Duration) {
	if u == nil {
		return n, 0
	}
	u.mu.Lock()
	rate, burst := t.shareOf(u)
	left := u.bucket.Left(now, rate, burst)
	if u.sessions > 0 && !u.handed { // else the last one has ended meanwhile, and what is left may be used elsewhere
		granted = max(min(n, int(left+t.debtLocked(u, now))), 0)
	}
	u.bucket.Set(now, left-float32(granted))
	recount := left < burst/2 && now.UnixMilli()-u.counted >= recountEvery.Milliseconds()
	if recount {
		u.counted = now.UnixMilli()
	}
	u.mu.Unlock()
	if granted < n {
		// As many as were refused, or as ever fit.
		missing := max(min(float32(n-granted), burst), 1) - (left - float32(granted))
		retry = time.Duration(missing / rate * float32(time.Second))
	}
	if recount {
		t.recounts.Put(u.uid, 1) // if it is full, when the user sends more
	}
	return granted, retry
}

// Spent reports whether u may store no text now, and when it may.
func (t *Limiter) Spent(u *User, now time.Time) (time.Duration, bool) {
	if u == nil {
		return 0, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	rate, _ := t.shareOf(u)
	left := t.leftLocked(u, now) + t.debtLocked(u, now)
	return time.Duration((1 - left) / rate * float32(time.Second)), left < 1
}

// Leave ends what Join began, and takes the session out of Redis: at once, or, if it is the user's last one here, when the
// bucket is full. u is what Join returned, nil for a session that did not join.
func (t *Limiter) Leave(u *User, loc presence.Location, now time.Time) {
	wait := time.Duration(0)
	if u != nil {
		sid, _ := session.ParseSID(loc.SID)
		wait = t.fullIn(u, sid, now)
	}
	if wait <= 0 || !t.later(loc, wait) {
		t.d.Release(loc)
	}
}

// fullIn counts a session out, and returns how long its user's bucket takes to be full; 0 if others go on using it.
func (t *Limiter) fullIn(u *User, sid session.SID, now time.Time) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ids ^= sid
	if u.sessions--; u.sessions > 0 {
		return 0
	}
	t.shareLocked(u, 1, now)
	u.changes++
	wait := time.Duration((t.burst - u.bucket.Left(now, t.rate, t.burst)) / t.rate * float32(time.Second))
	u.free = now.Add(wait).UnixMilli()
	return wait
}

// later releases a session after a time. false: too many wait for that, or the node stops.
func (t *Limiter) later(loc presence.Location, wait time.Duration) bool {
	t.lateMu.Lock()
	defer t.lateMu.Unlock()
	if t.closed || len(t.late) >= maxLate {
		t.d.Hurried.Inc()
		return false
	}
	t.late[loc] = time.AfterFunc(wait, func() {
		t.lateMu.Lock()
		_, waits := t.late[loc]
		delete(t.late, loc)
		t.lateMu.Unlock()
		if waits {
			t.d.Release(loc)
		}
	})
	return true
}

// Close releases at once what waits for its time, now and from now on.
func (t *Limiter) Close() {
	t.lateMu.Lock()
	late := t.late
	t.late, t.closed = make(map[presence.Location]*time.Timer), true
	t.lateMu.Unlock()
	for loc, timer := range late {
		timer.Stop()
		t.d.Release(loc)
	}
}

func (t *Limiter) idle(u *User, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sessions == 0 && now.UnixMilli()-u.free >= keepIdle.Milliseconds() && u.bucket.Full(now, t.rate, t.burst)
}

// Sweep drops the buckets in a part of the table that have been full and unused for a while.
func (t *Limiter) Sweep(part int, now time.Time) {
	sh := &t.shard[part%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for uid, u := range sh.users {
		if t.idle(u, now) {
			delete(sh.users, uid)
		}
	}
}

// Run counts the nodes of users who send much, until ctx ends: one that left another node gets its share back, and one
// whose other node could not tell us loses it.
func (t *Limiter) Run(ctx context.Context) {
	t.recounts.Run(ctx.Done(), func(uids []int32) { t.recount(ctx, uids) }, func(_ []int32, p *batch.Panic) {
		t.d.Log.Error("panic while nodes of users were counted", "err", p.Value, "stack", string(p.Stack))
	})
}

// recount sets the shares of users by what Redis says.
func (t *Limiter) recount(ctx context.Context, uids []int32) {
	changes := make([]int32, len(uids))
	users := make([]*User, len(uids))
	for i, uid := range uids {
		if u := t.Of(uid); u != nil {
			u.mu.Lock()
			users[i], changes[i] = u, u.changes
			u.mu.Unlock()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, recountTimeout)
	defer cancel()
	found, err := t.d.Locate(ctx, uids)
	if err != nil {
		t.d.Log.Debug("users who send much not looked for", "n", len(uids), "err", err)
		return
	}
	now := time.Now()
	for i, u := range users {
		if u == nil {
			continue
		}
		var few [4]string
		others := few[:0]
		for j := range found[i] {
			if l := &found[i][j]; !t.here(l) && t.d.Alive(l.Node, l.Boot) {
				others = addNode(others, l.Node)
			}
		}
		u.mu.Lock()
		if u.changes == changes[i] && u.nodes != int32(len(others)+1) { // else what was told meanwhile is newer
			t.shareLocked(u, int32(len(others)+1), now)
		}
		u.mu.Unlock()
	}
}
