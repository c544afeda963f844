package swarm

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"

	"parley/bench/engine"
	"parley/bench/foreign"
	"parley/bench/ledger"
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

// shared is what all parts of a Swarm share.
type shared struct {
	fleet    *Fleet
	cfg      *Config
	loop     *engine.Loop
	first    int // of users, within the fleet
	users    []user
	rng      *rand.Rand
	book     *ledger.Book
	speakers []foreign.Speaker // by user; nil: everybody speaks Parley's protocol
	buf      []byte

	phase *running // nil between phases
	st    *stats   // of the phase; between phases an unused one
}

// Swarm is the set of users of one loop. All its methods, and those of its parts, run on the loop's goroutine.
type Swarm struct {
	*shared
	logins    *logins
	beats     *beats
	texts     *texts
	marks     *marks
	histories *histories
	views     *views
	rooms     *rooms

	p99 atomic.Int64 // of the last full second
}

func newSwarm(f *Fleet, index, from, to int) (*Swarm, error) {
	sh := &shared{
		fleet: f, cfg: &f.cfg, first: from, users: make([]user, to-from), st: newStats(),
		rng: rand.New(rand.NewPCG(f.cfg.Seed, uint64(f.cfg.Index*1000+index))), book: ledger.New(f.cfg.Run),
	}
	s := &Swarm{
		shared: sh, beats: &beats{shared: sh}, marks: &marks{sh}, histories: &histories{sh}, views: newViews(sh), rooms: newRooms(sh, from, to),
	}
	s.texts = &texts{shared: sh, marks: s.marks}
	s.logins = &logins{shared: sh, texts: s.texts, views: s.views, rooms: s.rooms}
	if f.cfg.Foreign != nil {
		s.learnToSpeak()
	}
	var err error
	s.loop, err = engine.New(s, f.cfg.sourceOptions(index))
	return s, err
}

func (s *shared) uid(i int) int32 { return s.cfg.FirstUID + int32(s.first+i) }

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
		s.phase.completed(c.Tag, now-u.planned)
		return
	}
	u.state = loggingIn
	if s.speakers != nil {
		s.speakers[c.Tag].Begin()
		return
	}
	c.Send(s.logins.frame(c.Tag))
	u.spent = !u.resume
}

// framed writes the header into the space at the start of b, and keeps b for the next frame.
func (s *shared) framed(b []byte, id wire.MsgID) []byte {
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
		s.beats.pong(u)
	case wire.MsgTextRsp:
		s.texts.reply(i, body)
	case wire.MsgTextPush:
		s.texts.pushed(i, body)
	case wire.MsgLoginRsp:
		s.logins.reply(i, body)
	case wire.MsgThreadsRsp:
		s.histories.threadsReply(i, body)
	case wire.MsgHistoryRsp:
		s.histories.historyReply(i, body)
	case wire.MsgGroupPush:
		if r := s.phase; r != nil && r.Kind == "fan" {
			s.rooms.fannedOut(r, i)
		} else if len(s.rooms.all) > 0 {
			s.rooms.deliver(i, body)
		}
	case wire.MsgMarkRsp:
		s.marks.reply(i, body)
	case wire.MsgMarkPush:
		s.st.counters["marks of others"]++
	case wire.MsgWatchRsp:
		s.views.reply(i, body)
	case wire.MsgOnline:
		s.views.pushed(i, body)
	case wire.MsgGap:
		s.rooms.gapNotice(i, body)
	case wire.MsgGroupCreateRsp, wire.MsgGroupLinkRsp, wire.MsgGroupJoinRsp, wire.MsgGroupRemoveRsp:
		s.rooms.reply(i, id, body)
	case wire.MsgGoodbye:
		s.logins.goodbye(u, body)
	case wire.MsgReplaced:
		s.st.errors["replaced by another login"]++
	default:
		s.st.counters["frames not expected"]++
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
		s.logins.online--
		s.fleet.live.online.Add(-1)
		s.views.turned(i, false)
	}
	if s.logins.closing || errors.Is(err, engine.ErrClosed) && was != connecting && was != loggingIn {
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
			s.phase.lost(i)
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
	s.logins.comeBack(i)
}

// Tick implements engine.Handler.
func (s *Swarm) Tick(now int64) int64 {
	next := min(s.logins.due(now), s.beats.due(now))
	if s.phase != nil {
		next = min(next, s.phase.tick(now))
	}
	return next
}

// reason shortens an error to a text that is useful to count.
func reason(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return strings.TrimPrefix(err.Error(), "engine: ")
}

const never = math.MaxInt64
