package swarm

import (
	"container/heap"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"parley/bench/engine"
	"parley/bench/foreign"
	"parley/bench/ledger"
	"parley/bench/scan"
	"parley/internal/wire"
)

type state uint8

const (
	out        state = iota // not connected, and not meant to be
	placing                 // waiting for a token
	waiting                 // waiting for the time of the next attempt
	connecting              // with the handshakes of TLS and WebSocket
	loggingIn               // 1005 is on its way
	in                      // logged in
	open                    // connected, which is the goal of the phase
)

const tokenLen = 43

// freshFor is how long a token is used before a new one is requested. Tokens are valid for 10 minutes, and a million
// users take longer to log in.
const freshFor = 8 * time.Minute

// user is a virtual user. Idle ones must stay small: about 200 bytes, including the connection.
type user struct {
	conn    *engine.Conn
	chat    *chatter // nil for a user who does not chat
	pings   []ping   // unanswered heartbeats, oldest first
	planned int64    // of the login in progress
	began   int64    // of the attempt in progress
	opened  int64    // when the connection was established
	lost    int64    // when the connection was lost; 0 if it was not
	token   [tokenLen]byte
	addr    uint16
	left    uint16 // the address where the goodbye came from
	state   state
	tries   uint8
	spent   bool // the token is used up, or may be, because it was sent; a resume ticket stays valid until a newer one is used
	resume  bool // token is a resume ticket
	moving  bool // the node said goodbye, because it drains; lost is when
	muted   bool
}

// Swarm is the set of users of one loop. All its methods run on the loop's goroutine.
type Swarm struct {
	fleet *Fleet
	cfg   *Config
	loop  *engine.Loop
	index int
	first int // of users, within the fleet
	users []user
	rng   *rand.Rand
	book  *ledger.Book

	speakers []foreign.Speaker // by user; nil: everybody speaks Parley's protocol
	rooms    []room
	pushed   [16]pushed // recently received 2144s, by a hash of their number

	views []view  // of the users, if they watch one another
	turns []int64 // when each last went online or offline

	online   int
	retry    retryQueue
	beatAt   int64 // next turn of the heartbeat wheel
	beatPos  int
	attempts []attempt // to connect and log in, oldest first, including ended ones
	expireAt int64     // when to check the oldest next
	buf      []byte
	closing  bool  // disconnections are intended
	prepared int64 // when Prepare obtained the first tokens

	p99 atomic.Int64 // of the last full second

	phase *running // nil between phases
	st    *stats   // of the phase; between phases an unused one
}

func newSwarm(f *Fleet, index, from, to int) (*Swarm, error) {
	s := &Swarm{
		fleet: f, cfg: &f.cfg, index: index, first: from, users: make([]user, to-from), st: newStats(),
		rng: rand.New(rand.NewPCG(f.cfg.Seed, uint64(f.cfg.Index*1000+index))), book: ledger.New(f.cfg.Run),
	}
	var err error
	if n := f.cfg.Rooms.Members; n > 0 && f.cfg.Rooms.Watch {
		s.views, s.turns = make([]view, len(s.users)), make([]int64, len(s.users))
	} else if n > 0 {
		s.rooms = make([]room, len(s.users)/n)
		if threads := f.cfg.Rooms.Part(from, to).Threads; threads != nil {
			for k := range s.rooms {
				s.rooms[k].thread, s.rooms[k].last = threads[k], 1 // the row that tells of the group
			}
			s.openRooms()
		}
	}
	if f.cfg.Foreign != nil {
		s.learnToSpeak()
	}
	s.loop, err = engine.New(s, f.cfg.sourceOptions(index))
	return s, err
}

func (s *Swarm) uid(i int) int32 { return s.cfg.FirstUID + int32(s.first+i) }

func (s *Swarm) setPlace(i int, p Place) {
	u := &s.users[i]
	u.addr = s.fleet.addrIndex(p)
	copy(u.token[:], p.Token)
	u.spent, u.resume = false, false
}

// stale reports whether a user's first token is too old to be used. Later tokens are used as they arrive.
func (s *Swarm) stale(u *user, now int64) bool {
	return !u.resume && now-s.prepared > int64(freshFor)
}

// connect starts an attempt of a user, who has a token unless the phase needs none. planned is when it was due.
func (s *Swarm) connect(i int, planned int64) {
	u := &s.users[i]
	u.planned, u.began = planned, engine.Clock()
	u.state = connecting
	s.attempts = append(s.attempts, attempt{u.began, int32(i)})
	u.conn = s.loop.Dial(s.fleet.addr(u.addr), i)
}

// Opened implements engine.Handler.
func (s *Swarm) Opened(c *engine.Conn) {
	u := &s.users[c.Tag]
	if u.conn != c {
		return
	}
	now := s.loop.Now()
	u.opened = now
	s.st.hist(HConnect).Record(now - u.began)
	if s.phase != nil && s.phase.Kind == "connect" {
		u.state = open
		s.phase.completed(s, c.Tag, now-u.planned)
		return
	}
	u.state = loggingIn
	if s.speakers != nil {
		s.speakers[c.Tag].Begin()
		return
	}
	c.Send(s.loginFrame(c.Tag))
	u.spent = !u.resume
}

func (s *Swarm) loginFrame(i int) []byte {
	u := &s.users[i]
	b := append(s.buf[:0], 0, 0, 0, 0)
	b = strconv.AppendInt(append(b, `{"uid":`...), int64(s.uid(i)), 10)
	if u.resume {
		b = append(append(b, `,"resume":"`...), u.token[:]...)
	} else {
		b = append(append(b, `,"token":"`...), u.token[:]...)
	}
	b = append(b, `","client":"parley-bench/1","caps":["batch"`...)
	if len(s.rooms) > 0 {
		b = append(b, `,"gap","groups"`...)
	}
	if s.cfg.Marks > 0 {
		b = append(b, `,"gap","marks"`...)
	}
	if s.views != nil {
		b = append(b, `,"gap","presence"`...)
	}
	if s.cfg.Resume {
		b = append(b, `,"resume"`...)
	}
	b = append(b, `],"device":"bench","heartbeat_s":`...)
	b = append(strconv.AppendInt(b, int64(s.cfg.Heartbeat/time.Second), 10), '}')
	return s.framed(b, wire.MsgLogin)
}

// framed writes the header into the space at the start of b, and keeps b for the next frame.
func (s *Swarm) framed(b []byte, id wire.MsgID) []byte {
	wire.AppendHeader(b[:0], id, len(b)-wire.HeaderLen)
	s.buf = b[:0]
	return b
}

// Frame implements engine.Handler.
func (s *Swarm) Frame(c *engine.Conn, id wire.MsgID, body []byte) {
	i := c.Tag
	u := &s.users[i]
	if u.conn != c {
		return
	}
	if s.speakers != nil {
		s.heard(i, body)
		return
	}
	switch id {
	case wire.MsgHeartbeatRsp:
		s.pong(u)
	case wire.MsgTextRsp:
		s.textReply(i, body)
	case wire.MsgTextPush:
		s.textPush(i, body)
	case wire.MsgLoginRsp:
		s.loginReply(i, body)
	case wire.MsgThreadsRsp:
		s.threadsReply(i, body)
	case wire.MsgHistoryRsp:
		s.historyReply(i, body)
	case wire.MsgGroupPush:
		if r := s.phase; r != nil && r.Kind == "fan" {
			s.fannedOut(r, i)
		} else if len(s.rooms) > 0 {
			s.groupPush(i, body)
		}
	case wire.MsgMarkRsp:
		s.markReply(i, body)
	case wire.MsgMarkPush:
		s.st.counters["marks of others"]++
	case wire.MsgWatchRsp:
		s.watchReply(i, body)
	case wire.MsgOnline:
		s.onlinePush(i, body)
	case wire.MsgGap:
		s.gapNotice(i, body)
	case wire.MsgGroupCreateRsp, wire.MsgGroupLinkRsp, wire.MsgGroupJoinRsp, wire.MsgGroupRemoveRsp:
		s.groupReply(i, id, body)
	case wire.MsgGoodbye:
		s.goodbye(u, body)
	case wire.MsgReplaced:
		s.st.errors["replaced by another login"]++
	default:
		s.st.counters["frames not expected"]++
	}
}

func (s *Swarm) loginReply(i int, body []byte) {
	u := &s.users[i]
	if u.state != loggingIn {
		s.st.fail("an unexpected 1006")
		return
	}
	if code := scan.Number(body, `"error":`); code != 0 {
		s.st.fail("login refused " + strconv.FormatInt(code, 10))
		u.spent = u.spent || code == int64(wire.CodeTokenInvalid)
		if code == int64(wire.CodeUIDInvalid) {
			u.tries = maxTries // no such user: a repetition would fail too
		}
		s.drop(i, false)
		return
	}
	if ticket := scan.Text(body, `"resume":"`); s.cfg.Resume && len(ticket) == tokenLen {
		copy(u.token[:], ticket)
		u.resume, u.spent = true, false
	}
	s.entered(i)
}

// entered records that a user is logged in.
func (s *Swarm) entered(i int) {
	u := &s.users[i]
	now := s.loop.Now()
	s.st.hist(HLogin).Record(now - u.opened)
	s.st.hist(HFull).Record(now - u.planned)
	u.state, u.tries = in, 0
	s.online++
	s.fleet.live.online.Add(1)
	s.turned(i, true)
	s.st.counters["logins"]++
	wasLost := u.lost != 0
	switch {
	case u.moving:
		u.moving = false
		s.st.hist(HMove).Record(now - u.lost)
		s.st.counters["moved"]++
		if u.addr == u.left {
			s.st.counters["returned"]++
		}
		u.lost = 0
	case wasLost:
		s.st.hist(HOutage).Record(now - u.lost)
		s.st.counters["came back"]++
		u.lost = 0
	}
	if u.chat != nil && s.speakers == nil {
		s.resend(i)
	}
	if s.phase != nil && !wasLost {
		s.phase.loggedIn(s, i, now-u.planned)
	}
}

// goodbye handles a 2101. A node that drains names the next one, where the user goes on.
func (s *Swarm) goodbye(u *user, body []byte) {
	code := wire.Code(scan.Number(body, `"error":`))
	if code != wire.CodeDraining || !s.cfg.Reconnect {
		s.st.errors["goodbye "+strconv.Itoa(int(code))]++
		return
	}
	s.st.counters["goodbyes"]++
	u.moving, u.lost, u.left = true, s.loop.Now(), u.addr
	if to := scan.Text(body, `"to":"`); len(to) > 0 {
		if next, ok := s.fleet.known(string(to)); ok {
			u.addr = next
		} else {
			s.st.errors["goodbye that names an unknown node"]++
		}
	}
}

// Closed implements engine.Handler.
func (s *Swarm) Closed(c *engine.Conn, err error) {
	i := c.Tag
	u := &s.users[i]
	if u.conn != c {
		return
	}
	was := u.state
	u.conn, u.pings, u.state = nil, nil, out
	if u.chat != nil {
		u.chat.marks = nil
	}
	if was == in {
		s.online--
		s.fleet.live.online.Add(-1)
		s.turned(i, false)
	}
	if s.closing || errors.Is(err, engine.ErrClosed) && was != connecting && was != loggingIn {
		return // intended
	}
	switch was {
	case in:
		if !u.moving {
			s.st.fail("connection lost: " + reason(err))
			u.lost = s.loop.Now()
		}
		s.book.Disturb(s.uid(i))
		if u.chat != nil {
			u.chat.inflight = 0
		}
		if s.phase != nil {
			s.phase.lost(s, i)
		}
	case connecting:
		if !errors.Is(err, engine.ErrClosed) {
			s.st.fail("connect: " + reason(err))
		}
		// The node may be gone: the next attempt goes to another one.
		if n := s.fleet.addrCount(); n > 1 {
			u.addr = uint16((int(u.addr) + 1) % n)
		}
	case loggingIn:
		if !errors.Is(err, engine.ErrClosed) {
			s.st.fail("login: " + reason(err))
		}
	default:
		return
	}
	s.comeBack(i)
}

const maxTries = 12

// comeBack schedules another attempt after a backoff with full jitter, as package client does, or gives the user up.
func (s *Swarm) comeBack(i int) {
	u := &s.users[i]
	if s.phase == nil || u.lost != 0 && !s.cfg.Reconnect || u.tries >= maxTries {
		if s.phase != nil && u.lost == 0 {
			s.phase.givenUp(s, i)
		}
		return
	}
	u.tries++
	most := min(500*time.Millisecond<<min(u.tries-1, 6), 30*time.Second)
	s.retryAt(i, s.loop.Now()+s.rng.Int64N(int64(most)))
}

func (s *Swarm) retryAt(i int, at int64) {
	s.users[i].state = waiting
	heap.Push(&s.retry, retry{at, int32(i)})
}

// tryAgain is called when the backoff is over.
func (s *Swarm) tryAgain(i int) {
	u := &s.users[i]
	if u.state != waiting {
		return
	}
	if s.phase != nil && s.phase.Kind == "connect" || !u.spent {
		s.connect(i, s.plannedAgain(u))
		return
	}
	u.state = placing
	s.fleet.want <- wanted{s, i} // has room for every user once
}

// plannedAgain returns the time from which a repeated login counts: its first attempt.
func (s *Swarm) plannedAgain(u *user) int64 {
	if u.lost != 0 || u.planned == 0 {
		return s.loop.Now()
	}
	return u.planned
}

func (s *Swarm) placed(i int, p Place) {
	u := &s.users[i]
	if u.state != placing {
		return
	}
	// A pair keeps its nodes unless a connect to one has just failed.
	addr := s.fleet.addrIndex(p)
	keep := (s.cfg.Cross >= 0 || s.cfg.KeepTo > 0) && u.tries <= 1
	old := u.addr
	s.setPlace(i, p)
	if u.addr = addr; keep {
		u.addr = old
	}
	s.connect(i, s.plannedAgain(u))
}

func (s *Swarm) notPlaced(i int) {
	if s.users[i].state == placing {
		s.st.fail("not placed by the status node")
		s.users[i].state = out
		s.comeBack(i)
	}
}

// drop closes a user's connection; with want it is meant to stay closed.
func (s *Swarm) drop(i int, want bool) {
	u := &s.users[i]
	if c := u.conn; c != nil {
		if want && (u.state == connecting || u.state == loggingIn) {
			u.state = out
		}
		c.Close(true)
	} else if want {
		u.state = out
	}
}

// Tick implements engine.Handler.
func (s *Swarm) Tick(now int64) int64 {
	next := now + int64(time.Second)
	for len(s.retry) > 0 {
		if at := s.retry[0].at; at > now {
			next = min(next, at)
			break
		}
		s.tryAgain(int(heap.Pop(&s.retry).(retry).user))
	}
	next = min(next, s.beat(now))
	if len(s.attempts) > 0 {
		if now >= s.expireAt {
			s.expireAt = now + int64(500*time.Millisecond)
			s.expire(now)
		}
		next = min(next, s.expireAt)
	}
	if s.phase != nil {
		next = min(next, s.phase.tick(s, now))
	}
	return next
}

// attempt is a user's attempt to connect and log in.
type attempt struct {
	began int64
	user  int32
}

// expire ends attempts that take too long.
func (s *Swarm) expire(now int64) {
	for len(s.attempts) > 0 && now-s.attempts[0].began > int64(s.cfg.LoginTimeout) {
		a := s.attempts[0]
		s.attempts = s.attempts[1:]
		u := &s.users[a.user]
		if u.began != a.began || u.state != connecting && u.state != loggingIn {
			continue // it has ended
		}
		if u.state == connecting {
			s.st.fail("connect: no answer in time")
		} else {
			s.st.fail("login: no answer in time")
		}
		u.conn.Close(true)
	}
}

// reason shortens an error to a text that is useful to count.
func reason(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return strings.TrimPrefix(err.Error(), "engine: ")
}

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

const never = math.MaxInt64
