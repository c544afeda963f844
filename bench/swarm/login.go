package swarm

import (
	"container/heap"
	"strconv"
	"time"

	"parley/bench/engine"
	"parley/bench/scan"
	"parley/internal/wire"
)

// logins connects users, logs them in, and again after their connections were lost.
type logins struct {
	*shared
	texts *texts
	views *views
	rooms *rooms

	online   int
	retry    retryQueue
	attempts []attempt // to connect and log in, oldest first, including ended ones
	expireAt int64     // when to check the oldest next
	closing  bool      // disconnections are intended
	prepared int64     // when Prepare obtained the first tokens
}

// freshFor is how long a token is used before a new one is requested. Tokens are valid for 10 minutes, and a million
// users take longer to log in.
const freshFor = 8 * time.Minute

const maxTries = 12

// attempt is a user's attempt to connect and log in.
type attempt struct {
	began int64
	user  int32
}

func (ls *logins) setPlace(i int, p Place) {
	u := &ls.users[i]
	u.addr = ls.fleet.addrIndex(p)
	copy(u.token[:], p.Token)
	u.spent, u.resume = false, false
}

// stale reports whether a user's first token is too old to be used. Later tokens are used as they arrive.
func (ls *logins) stale(u *user, now int64) bool {
	return !u.resume && now-ls.prepared > int64(freshFor)
}

// connect starts an attempt of a user, who has a token unless the phase needs none. planned is when it was due.
func (ls *logins) connect(i int, planned int64) {
	u := &ls.users[i]
	u.planned, u.began = planned, engine.Clock()
	u.state = connecting
	ls.attempts = append(ls.attempts, attempt{u.began, int32(i)})
	u.conn = ls.loop.Dial(ls.fleet.addr(u.addr), i)
}

// frame returns the request for a login.
func (ls *logins) frame(i int) []byte {
	u := &ls.users[i]
	b := append(ls.buf[:0], 0, 0, 0, 0)
	b = strconv.AppendInt(append(b, `{"uid":`...), int64(ls.uid(i)), 10)
	if u.resume {
		b = append(append(b, `,"resume":"`...), u.token[:]...)
	} else {
		b = append(append(b, `,"token":"`...), u.token[:]...)
	}
	b = append(b, `","client":"parley-bench/1","caps":["batch"`...)
	if len(ls.rooms.all) > 0 {
		b = append(b, `,"gap","groups"`...)
	}
	if ls.cfg.Marks > 0 {
		b = append(b, `,"gap","marks"`...)
	}
	if ls.views.all != nil {
		b = append(b, `,"gap","presence"`...)
	}
	if ls.cfg.Resume {
		b = append(b, `,"resume"`...)
	}
	b = append(b, `],"device":"bench","heartbeat_s":`...)
	b = append(strconv.AppendInt(b, int64(ls.cfg.Heartbeat/time.Second), 10), '}')
	return ls.framed(b, wire.MsgLogin)
}

// reply handles a 1006.
func (ls *logins) reply(i int, body []byte) {
	u := &ls.users[i]
	if u.state != loggingIn {
		ls.st.fail("an unexpected 1006")
		return
	}
	if code := scan.Number(body, `"error":`); code != 0 {
		ls.st.fail("login refused " + strconv.FormatInt(code, 10))
		u.spent = u.spent || code == int64(wire.CodeTokenInvalid)
		if code == int64(wire.CodeUIDInvalid) {
			u.tries = maxTries // no such user: a repetition would fail too
		}
		ls.drop(i, false)
		return
	}
	if ticket := scan.Text(body, `"resume":"`); ls.cfg.Resume && len(ticket) == tokenLen {
		copy(u.token[:], ticket)
		u.resume, u.spent = true, false
	}
	ls.entered(i)
}

// entered records that a user is logged in.
func (ls *logins) entered(i int) {
	u := &ls.users[i]
	now := ls.loop.Now()
	ls.st.hist(HLogin).Record(now - u.opened)
	ls.st.hist(HFull).Record(now - u.planned)
	u.state, u.tries = in, 0
	ls.online++
	ls.fleet.live.online.Add(1)
	ls.views.turned(i, true)
	ls.st.counters["logins"]++
	wasLost := u.lost != 0
	switch {
	case u.moving:
		u.moving = false
		ls.st.hist(HMove).Record(now - u.lost)
		ls.st.counters["moved"]++
		if u.addr == u.left {
			ls.st.counters["returned"]++
		}
		u.lost = 0
	case wasLost:
		ls.st.hist(HOutage).Record(now - u.lost)
		ls.st.counters["came back"]++
		u.lost = 0
	}
	if u.chat != nil && ls.speakers == nil {
		ls.texts.resend(i)
	}
	if ls.phase != nil && !wasLost {
		ls.phase.loggedIn(i, now-u.planned)
	}
}

// goodbye handles a 2101. A node that drains names the next one, where the user goes on.
func (ls *logins) goodbye(u *user, body []byte) {
	code := wire.Code(scan.Number(body, `"error":`))
	if code != wire.CodeDraining || !ls.cfg.Reconnect {
		ls.st.errors["goodbye "+strconv.Itoa(int(code))]++
		return
	}
	ls.st.counters["goodbyes"]++
	u.moving, u.lost, u.left = true, ls.loop.Now(), u.addr
	if to := scan.Text(body, `"to":"`); len(to) > 0 {
		if next, ok := ls.fleet.known(string(to)); ok {
			u.addr = next
		} else {
			ls.st.errors["goodbye that names an unknown node"]++
		}
	}
}

// comeBack schedules another attempt after a backoff with full jitter, as package client does, or gives the user up.
func (ls *logins) comeBack(i int) {
	u := &ls.users[i]
	if ls.phase == nil || u.lost != 0 && !ls.cfg.Reconnect || u.tries >= maxTries {
		if ls.phase != nil && u.lost == 0 {
			ls.phase.givenUp(i)
		}
		return
	}
	u.tries++
	most := min(500*time.Millisecond<<min(u.tries-1, 6), 30*time.Second)
	ls.retryAt(i, ls.loop.Now()+ls.rng.Int64N(int64(most)))
}

func (ls *logins) retryAt(i int, at int64) {
	ls.users[i].state = waiting
	heap.Push(&ls.retry, retry{at, int32(i)})
}

// tryAgain is called when the backoff is over.
func (ls *logins) tryAgain(i int) {
	u := &ls.users[i]
	if u.state != waiting {
		return
	}
	if ls.phase != nil && ls.phase.Kind == "connect" || !u.spent {
		ls.connect(i, ls.plannedAgain(u))
		return
	}
	u.state = placing
	ls.fleet.want <- wanted{ls, i} // has room for every user once
}

// plannedAgain returns the time from which a repeated login counts: its first attempt.
func (ls *logins) plannedAgain(u *user) int64 {
	if u.lost != 0 || u.planned == 0 {
		return ls.loop.Now()
	}
	return u.planned
}

func (ls *logins) placed(i int, p Place) {
	u := &ls.users[i]
	if u.state != placing {
		return
	}
	// A pair keeps its nodes unless a connect to one has just failed.
	addr := ls.fleet.addrIndex(p)
	keep := (ls.cfg.Cross >= 0 || ls.cfg.KeepTo > 0) && u.tries <= 1
	old := u.addr
	ls.setPlace(i, p)
	if u.addr = addr; keep {
		u.addr = old
	}
	ls.connect(i, ls.plannedAgain(u))
}

func (ls *logins) notPlaced(i int) {
	if ls.users[i].state == placing {
		ls.st.fail("not placed by the status node")
		ls.users[i].state = out
		ls.comeBack(i)
	}
}

// drop closes a user's connection; with want it is meant to stay closed.
func (ls *logins) drop(i int, want bool) {
	u := &ls.users[i]
	if c := u.conn; c != nil {
		if want && (u.state == connecting || u.state == loggingIn) {
			u.state = out
		}
		c.Close(true)
	} else if want {
		u.state = out
	}
}

// due starts the attempts that are due and ends those that take too long. It returns when it must be called next.
func (ls *logins) due(now int64) int64 {
	next := now + int64(time.Second)
	for len(ls.retry) > 0 {
		if at := ls.retry[0].at; at > now {
			next = min(next, at)
			break
		}
		ls.tryAgain(int(heap.Pop(&ls.retry).(retry).user))
	}
	if len(ls.attempts) > 0 {
		if now >= ls.expireAt {
			ls.expireAt = now + int64(500*time.Millisecond)
			ls.expire(now)
		}
		next = min(next, ls.expireAt)
	}
	return next
}

// expire ends attempts that take too long.
func (ls *logins) expire(now int64) {
	for len(ls.attempts) > 0 && now-ls.attempts[0].began > int64(ls.cfg.LoginTimeout) {
		a := ls.attempts[0]
		ls.attempts = ls.attempts[1:]
		u := &ls.users[a.user]
		if u.began != a.began || u.state != connecting && u.state != loggingIn {
			continue // it has ended
		}
		if u.state == connecting {
			ls.st.fail("connect: no answer in time")
		} else {
			ls.st.fail("login: no answer in time")
		}
		u.conn.Close(true)
	}
}

// leaveAndReturn ends a user's session gracefully and logs the user in again, at once or after the phase's Away.
func (ls *logins) leaveAndReturn(i int, planned int64) {
	u := &ls.users[i]
	u.conn.Close(false)
	u.tries = 0
	if away := int64(ls.phase.Away); away > 0 {
		u.planned = planned + away
		ls.retryAt(i, u.planned)
		return
	}
	u.planned, u.state = planned, waiting
	ls.tryAgain(i)
}

// storm disconnects all users at once and has them reconnect.
func (ls *logins) storm(now int64) {
	r := ls.phase
	r.goal = 0
	for i := range ls.users {
		u := &ls.users[i]
		if u.state != in {
			continue
		}
		r.goal++
		u.conn.Close(true)
		u.tries = 0
		at := now
		if r.Spread > 0 {
			at += ls.rng.Int64N(int64(r.Spread))
		}
		u.planned = at
		ls.retryAt(i, at)
	}
	ls.st.now.Offered = int64(r.goal)
}

// closeAll ends all sessions gracefully.
func (ls *logins) closeAll() {
	ls.closing = true
	for i := range ls.users {
		u := &ls.users[i]
		if u.conn != nil {
			u.conn.Close(u.state != in)
		}
		u.state, u.lost = out, 0
	}
	ls.retry = ls.retry[:0]
}

// retry is an attempt to be made at a time.
type retry struct {
	at   int64
	user int32
}

type retryQueue []retry

func (q retryQueue) Len() int           { return len(q) }
func (q retryQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q retryQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *retryQueue) Push(x any)        { *q = append(*q, x.(retry)) }
func (q *retryQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
