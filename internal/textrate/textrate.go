// Package textrate limits how many texts a user may store, over all devices, connections and nodes.
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
	// recountEvery is how often Redis is asked on which nodes a busy user has sessions.
	recountEvery   = 5 * time.Second
	recountTimeout = time.Second
	// maxRecounts bounds the users waiting for that. Users beyond it are counted when they send more.
	maxRecounts = 4096
	// recountBatch is the number of users per round trip.
	recountBatch = 256
	// maxLate bounds the ended sessions that are not released yet.
	maxLate = 65536
	// movePart divides a user's burst: one part in movePart is reserved for the time just after a move to another
	// node.
	movePart = 10
	// moveTime is how long after the start of a session that part may be used. It covers a slow login.
	moveTime = 3 * time.Second
	// keepIdle is how long a full bucket is kept after its user's last session was removed from Redis. A login that
	// claimed its place before the removal then still finds the bucket, and is not mistaken for a move from another
	// node.
	keepIdle = 10 * time.Second
	// shards is the number of locks of the table; a power of two.
	shards = 64
)

// A Limiter limits the texts of each user over all devices, connections and nodes: in any period, at most TextRate
// per second plus TextBurst.
//
// Each node with sessions of a user has a bucket for the user. The bucket fills at the node's share of the rate and
// holds the node's share of the burst. A new bucket may start full only if the user cannot have just sent texts
// elsewhere. Redis tells: a claim returns the user's sessions on other nodes, and a session stays in Redis until its
// bucket is full again. So if the user comes from another node, or is still there, the claim shows it, and the new
// bucket starts empty.
//
// A move to another node should not cause the client's first text to be refused. Therefore the node of the replaced
// session hands over what is left in its bucket. If it cannot, or if the user has another device there, a part of the
// burst that no bucket holds is used: a bucket that starts empty may go into debt by a tenth of the burst for 3 s. If
// the user moves on before the debt is paid, the debt is lost. So if an older session may still be in debt, the new
// bucket starts with the whole debt. Session ids tell the age of sessions.
type Limiter struct {
	d           Deps
	rate, burst float32             // burst is shared by all buckets of a user
	debt        float32             // allowed in a bucket just after a move
	settled     time.Duration       // age from which on a session has paid its debt
	recounts    *batch.Queue[int32] // users whose nodes are to be counted
	shard       [shards]shard

	lateMu sync.Mutex // guards the following
	late   map[presence.Location]*time.Timer
	closed bool
}

// Deps are the dependencies of a Limiter.
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

// A User is a user's share of the limit on this node.
type User struct {
	uid int32

	mu       sync.Mutex // guards the following
	bucket   bucket.Bucket
	moved    session.SID // session that brought the user from another node, if debt is allowed since; else 0
	sessions int32       // of the user on this node
	ids      session.SID // exclusive or of their ids: if there is only one session, its id
	nodes    int32       // nodes with sessions of the user, including this one
	changes  int32       // changes of nodes other than by recount
	handed   bool        // the bucket was handed over: the session here is about to end
	owed     float32     // debt of this bucket at the last move: at most 0
	counted  int64       // when nodes was last counted, unix milliseconds
	free     int64       // when the bucket was or will be full after the last session here, unix milliseconds
}

// New returns a Limiter that lets each user store rate texts per second and burst in addition. A rate of 0 means no
// limit. The caller must run Run beside it.
func New(rate, burst int, d Deps) *Limiter {
	debt := burst / movePart
	t := &Limiter{
		d: d, rate: float32(rate), burst: float32(burst - debt), debt: float32(debt),
		recounts: batch.NewQueue[int32](batch.Limits{Items: maxRecounts, BatchItems: recountBatch}),
		late:     make(map[presence.Location]*time.Timer),
	}
	if rate > 0 { // time to pay the debt at the smallest share of the rate
		t.settled = moveTime + time.Duration(debt)*time.Second*session.MaxDevices/time.Duration(rate)
	}
	for i := range t.shard {
		t.shard[i].users = make(map[int32]*User)
	}
	return t
}

func (t *Limiter) shardOf(uid int32) *shard { return &t.shard[uint32(uid)%shards] }

// Of returns the share of a user, or nil if there is none or texts are not limited.
func (t *Limiter) Of(uid int32) *User {
	sh := t.shardOf(uid)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.users[uid]
}

// shareOf returns the rate and the burst of the user's bucket on this node.
func (t *Limiter) shareOf(u *User) (rate, burst float32) {
	return t.rate / float32(u.nodes), t.burst / float32(u.nodes)
}

// leftLocked returns what is left in the bucket of u; negative if the bucket is in debt.
func (t *Limiter) leftLocked(u *User, now time.Time) float32 {
	rate, burst := t.shareOf(u)
	return u.bucket.Left(now, rate, burst)
}

// Join returns the share of a user who logs in here with session sid, or nil if texts are not limited. Each Join must
// be followed by one Leave.
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
		elsewhere = elsewhere || claimed.Old != nil || len(claimed.Others) > 0 // this node has dropped its bucket
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

// moveLocked empties the bucket of a user who comes from another node. If an older bucket may be in debt, it starts
// in debt.
func (t *Limiter) moveLocked(u *User, sid session.SID, claimed *presence.Claimed, now time.Time) {
	left := min(t.leftLocked(u, now), 0)
	u.moved, u.owed = sid, left
	if left < 0 || claimed.Old != nil && t.owes(claimed.Old, now) || t.othersOwe(claimed, now) {
		left, u.moved = -t.debt, 0
	}
	u.bucket.Set(now, left)
}

// HandOver empties the user's bucket and returns what was left, for the node that replaces session sid, the user's
// last one here. If the user has another session here, it returns nil and changes nothing: a late call must not take
// from a session that has begun since.
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
		left, u.moved = u.owed, 0 // what is left is known, so no debt is needed
	}
	_, burst := t.shareOf(u)
	u.bucket.Set(now, min(left+float32(texts), burst))
}

func (t *Limiter) othersOwe(claimed *presence.Claimed, now time.Time) bool {
	return slices.ContainsFunc(claimed.Others, func(l presence.Location) bool { return t.owes(&l, now) })
}

// owes reports whether a session is young enough that it may be in debt. Ids of llfcchat's sessions do not parse;
// those sessions have no bucket.
func (t *Limiter) owes(l *presence.Location, now time.Time) bool {
	sid, ok := session.ParseSID(l.SID)
	return ok && sid.Age(now) < t.settled
}

// debtLocked returns how far the bucket of u may go below zero now.
func (t *Limiter) debtLocked(u *User, now time.Time) float32 {
	if u.moved == 0 || u.moved.Age(now) >= moveTime {
		return 0
	}
	return t.debt
}

// here reports whether a session belongs to this node under its current boot id.
func (t *Limiter) here(l *presence.Location) bool {
	return l.Node == t.d.Node && l.Boot == t.d.Boot()
}

// addNode adds a name to a list unless the list contains it.
func addNode(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// shareLocked sets the share to one nth.
func (t *Limiter) shareLocked(u *User, n int32, now time.Time) {
	left := t.leftLocked(u, now)
	u.nodes = n
	_, burst := t.shareOf(u)
	u.bucket.Set(now, min(left, burst))
}

// Shared records that the user logged in on another node, so that n nodes now hold sessions of the user.
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

// Take charges u for n texts. It returns how many of them may be stored, and when to retry the others. It is safe for
// concurrent use. A nil u is not limited.
func (t *Limiter) Take(u *User, n int, now time.Time) (granted int, retry time.Duration) {
	if u == nil {
		return n, 0
	}
	u.mu.Lock()
	rate, burst := t.shareOf(u)
	left := u.bucket.Left(now, rate, burst)
	if u.sessions > 0 && !u.handed { // else the last session has ended, and what is left may be used elsewhere
		granted = max(min(n, int(left+t.debtLocked(u, now))), 0)
	}
	u.bucket.Set(now, left-float32(granted))
	recount := left < burst/2 && now.UnixMilli()-u.counted >= recountEvery.Milliseconds()
	if recount {
		u.counted = now.UnixMilli()
	}
	u.mu.Unlock()
	if granted < n {
		// The time until there is room for the refused texts, or for a full burst if they exceed it.
		missing := max(min(float32(n-granted), burst), 1) - (left - float32(granted))
		retry = time.Duration(missing / rate * float32(time.Second))
	}
	if recount {
		t.recounts.Put(u.uid, 1) // if the queue is full, the next texts try again
	}
	return granted, retry
}

// Spent reports whether u may store no text now, and after what time it may again.
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

// Leave ends what Join began and has the session removed from Redis: at once, or when the bucket is full if it is the
// user's last session here. u is the result of Join, or nil for a session that did not join.
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

// fullIn removes a session from the count. It returns the time until the user's bucket is full, or 0 if other
// sessions still use it.
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

// later releases a session after wait. It returns false if too many sessions wait or the node is stopping.
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

// Close releases all waiting sessions at once. From then on Leave releases at once too.
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

// Sweep drops the buckets in one part of the table that have been full and unused for a while.
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

// Run counts the nodes of busy users until ctx ends. A user who has left another node gets that node's share back. A
// user whose other node could not tell this one about its sessions loses the share.
func (t *Limiter) Run(ctx context.Context) {
	t.recounts.Run(ctx.Done(), func(uids []int32) { t.recount(ctx, uids) }, func(_ []int32, p *batch.Panic) {
		t.d.Log.Error("panic while counting the nodes of users", "err", p.Value, "stack", string(p.Stack))
	})
}

// recount sets the shares of users according to Redis.
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
		t.d.Log.Debug("nodes of busy users not counted", "n", len(uids), "err", err)
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
		if u.changes == changes[i] && u.nodes != int32(len(others)+1) { // else a change during the read is newer
			t.shareLocked(u, int32(len(others)+1), now)
		}
		u.mu.Unlock()
	}
}
