// Package session holds who is logged in on a client's connection, and how the session ends. Its way out is an outbox. The
// registry finds a user's sessions on this node.
//
// It knows no message handlers and never reads from a connection.
package session

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"parley/internal/outbox"
	"parley/internal/wire"
)

var (
	// ErrClosed is returned when the session can take nothing more.
	ErrClosed = outbox.ErrClosed
	// ErrSlow is returned when the client does not read what it is sent; the session closes.
	ErrSlow = outbox.ErrSlow
)

// SID names one login of one user: its time, 32 bits of unix milliseconds, then 32 random bits. So no two sessions of a
// user have the same.
type SID uint64

// NewSID returns an id for a session that begins now.
func NewSID(now time.Time) SID {
	var b [4]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return SID(uint64(uint32(now.UnixMilli()))<<32 | uint64(max(binary.BigEndian.Uint32(b[:]), 1)))
}

// Age returns how long ago the session began, by the clock of the node that accepted it, modulo 49 days. A session that
// seems to begin in the future is new: 0.
func (s SID) Age(now time.Time) time.Duration {
	age := uint32(now.UnixMilli()) - uint32(s>>32)
	if age > math.MaxUint32-uint32(time.Hour/time.Millisecond) {
		return 0 // clocks differ
	}
	return time.Duration(age) * time.Millisecond
}

// String returns the 16 hex digits that name the session in Redis and between nodes.
func (s SID) String() string {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], uint64(s))
	return hex.EncodeToString(raw[:])
}

// ParseSID is the inverse of SID.String; false for anything else.
func ParseSID(s string) (SID, bool) {
	if len(s) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 64)
	return SID(n), err == nil
}

// State is how far a connection has come. It only ever grows.
type State uint32

// The states of a connection.
const (
	New     State = iota // nobody has logged in
	Pending              // a login is under way: known by its sid, found by no push
	Live                 // logged in, and found by pushes
	Dead                 // told goodbye or closed: takes nothing more
)

// Push is one frame for one user, on its way to whatever sessions the user has. To 0 means the members of the group Thread.
type Push struct {
	To     int32
	Ver    int32  // of rows of a group: the version of its membership under which they were stored
	Device string // "": all devices
	SID    string // "": whatever session is there
	Skip   SID    // not for this session; known on this node only
	ID     wire.MsgID
	From   int32
	Thread int64 // of a text, else 0
	Seq    int64 // of a text: the number of the body's last element
	First  int64 // of rows: the lowest number in the body
	Body   []byte
	Route  Route
}

// Route is what the router remembers of a push on its way, so that a second try reaches no session twice: a stock client
// cannot tell a repeated text from a new one. Others carry it unread.
type Route struct {
	Here   bool     // a session of this node has it
	Cached bool     // Tried was remembered, not looked up
	Again  bool     // this is the second try; there is no third
	Failed string   // the node that did not know the user, which sent the push on its second try
	Tried  []string // the nodes it was handed to; shared, never changed
	// Moved is taken by the first of several nodes whose answer sends the push to nodes not in Tried; nil for one node.
	Moved *atomic.Bool
}

// Stock is the policy for clients that did not announce themselves; internal/legacy implements it. It decides when a
// frame is written, with Session.Write, so that the fast path does not pay for it.
type Stock interface {
	// Reply takes one encoded frame that answers a request; it keeps no reference.
	Reply(frame []byte) error
	// Push takes a push; it keeps no reference to p, but may to p.Body.
	Push(p *Push) error
	// Close takes the last frame, may be empty, after which the policy calls Session.FinishNow, and then takes no more.
	Close(last []byte)
	// Gone says that the connection is closed; the policy drops what waits.
	Gone()
}

// Limits bounds what one session may hold and says who counts it. It is shared by all sessions of a node.
type Limits struct {
	outbox.Limits               // past Bytes the client is a slow consumer
	Linger        time.Duration // how long a closing connection waits for the client to hang up
	SlowFrame     []byte        // the last frame a native slow consumer gets, if it starts to read again in time
	OnSlow        func(*Session)
	OnPassed      func() // a push was dropped that is not worth remembering; may be nil
	OnWriteFail   func(*Session, error)
}

// Session is one client connection. The zero value is not usable; see Init. All methods are safe for concurrent use
// unless they say otherwise.
type Session struct {
	who
	signs
	life
	others

	limits *Limits // fixed after Init
	socket outbox.Descriptor
	box    outbox.Outbox

	// The registry's: look guarded by the wheel, the others by the user's shard.
	next       *Session
	look       look
	counted    bool
	superseded bool

	joined atomic.Bool // here it fits behind the others
}

// Init makes s the session of conn, in state New. It must be called once, before any other method. What is written goes to
// the descriptor, or to conn itself if that is an outbox.Socket.
func (s *Session) Init(conn outbox.Conn, limits *Limits) {
	s.limits = limits
	s.socket.Open(conn)
	var socket outbox.Socket = &s.socket
	if own, ok := conn.(outbox.Socket); ok {
		socket = own
	}
	s.box.Init(socket, &limits.Limits, (*ends)(s))
}

// Conn returns what Init was given.
func (s *Session) Conn() outbox.Conn { return s.socket.Conn }

// Transport returns how the client is connected: TCP, unless the connection says otherwise by a method of that name.
func (s *Session) Transport() wire.Transport {
	if c, ok := s.socket.Conn.(interface{ Transport() wire.Transport }); ok {
		return c.Transport()
	}
	return wire.TCP
}

// Identity is what a login adds to a connection.
type Identity struct {
	UID    int32
	Device string
	SID    SID
	Native bool
	Gap    bool // told of dropped texts instead of being closed
	// Features are what the client is shown; without Gap, and for a stock client, nothing.
	Features wire.Features
	Stock    Stock
	Boot     string        // the life of the node in which it logs in
	Began    time.Time     // when
	Silent   time.Duration // how long it may send nothing; see SetSilence
}

// Identify gives the session its identity and makes it Pending. It returns false, and the session stays nobody's, if the
// connection died meanwhile.
//
// UID, Device, SID, Native, Stock, Boot and Began are for the goroutine that called it, for goroutines that have seen the session Pending or
// Live or found it in a registry, and for the connection's close callback after Gone.
func (s *Session) Identify(id Identity) bool {
	alive := false
	s.box.BeforeGone(func() {
		if s.State() != New {
			return
		}
		features := id.Features
		if !id.Gap || id.Stock != nil {
			features = 0
		}
		s.who = who{
			uid: id.UID, device: id.Device, sid: id.SID, native: id.Native, gap: id.Gap, stock: id.Stock, boot: id.Boot,
			features: features, began: id.Began.UnixMilli(),
		}
		s.SetSilence(id.Silent)
		alive = s.advance(New, Pending)
	})
	return alive
}

// who is what Identify fixes, before the state becomes Pending.
type who struct {
	uid      int32
	native   bool
	gap      bool
	features wire.Features
	device   string
	sid      SID
	stock    Stock
	boot     string
	began    int64 // unix milliseconds of the login
}

// UID returns the user, 0 before Identify.
func (w *who) UID() int32 { return w.uid }

// Device returns the device, "" for stock clients.
func (w *who) Device() string { return w.device }

// SID returns the session's id, 0 before Identify.
func (w *who) SID() SID { return w.sid }

// Native reports whether the client announced itself.
func (w *who) Native() bool { return w.native }

// Stock returns the policy of a stock client's session, nil for a native one.
func (w *who) Stock() Stock { return w.stock }

// Groups reports whether the client is shown groups.
func (w *who) Groups() bool { return w.Shown(wire.FeatureGroups) }

// Shown reports whether the client is shown all of the features.
func (w *who) Shown(f wire.Features) bool { return w.features&f == f }

// CanGap reports whether a gap notice tells the client anything.
func (w *who) CanGap() bool { return w.gap }

// Boot returns the life of the node in which the session logged in, as it stands in Redis beside it.
func (w *who) Boot() string { return w.boot }

// Began returns when the session logged in, before its claim.
func (w *who) Began() time.Time { return time.UnixMilli(w.began) }

// signs is when the client was last heard.
type signs struct {
	silence  atomic.Int64 // how long the client may send nothing, a time.Duration
	lastSeen atomic.Int64 // unix milliseconds of the last frame
}

// Silence returns how long the client may send nothing before the session ends.
func (s *signs) Silence() time.Duration { return time.Duration(s.silence.Load()) }

// SetSilence changes what Silence returns.
func (s *signs) SetSilence(d time.Duration) { s.silence.Store(int64(d)) }

// Seen notes that a frame arrived.
func (s *signs) Seen(now time.Time) { s.lastSeen.Store(now.UnixMilli()) }

// LastSeen returns when the last frame arrived, as given to Seen.
func (s *signs) LastSeen() time.Time { return time.UnixMilli(s.lastSeen.Load()) }

// others is what is known of the user's other sessions.
type others struct {
	here      atomic.Bool // there is one on this node
	elsewhere atomic.Bool // there was one on another node
}

// Alone reports whether no other session of the user is known, here or on other nodes.
func (o *others) Alone() bool { return !o.here.Load() && !o.elsewhere.Load() }

// SetJoined notes whether the session uses its user's limit of texts, and reports whether it did before.
func (s *Session) SetJoined(joined bool) (before bool) { return s.joined.Swap(joined) }

// life is how far a connection has come.
type life struct {
	state  atomic.Uint32
	missed atomic.Bool // a push came while it was Pending
}

// State returns how far the connection has come.
func (l *life) State() State { return State(l.state.Load()) }

// Missed reports whether a push did not reach the session because it was still Pending. It is final once the session is
// Live.
func (l *life) Missed() bool { return l.missed.Load() }

// advance takes the connection from one state to the next. It returns false if that is not its state.
func (l *life) advance(from, to State) bool { return l.state.CompareAndSwap(uint32(from), uint32(to)) }

// die makes the session Dead and reports whether it was alive until now.
func (l *life) die() bool { return State(l.state.Swap(uint32(Dead))) != Dead }
