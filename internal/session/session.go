// Package session holds one client connection's identity and its way out: who is logged in on it, and the bounded
// queue of bytes that wait for its socket. The registry finds a user's sessions on this node.
//
// It knows no message handlers and never reads from a connection; chat does both.
package session

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"parley/internal/wire"
)

var (
	// ErrClosed is returned when the session can take nothing more.
	ErrClosed = errors.New("session: closed")
	// ErrSlow is returned when the client does not read what it is sent; the session closes.
	ErrSlow = errors.New("session: slow consumer")
)

// SID names one login of one user for as long as it lives; random, so that it is never met again.
type SID uint64

// String returns the 16 hex digits that name the session in Redis and between nodes.
func (s SID) String() string { return fmt.Sprintf("%016x", uint64(s)) }

// State is how far a connection has come. It only ever grows.
type State uint32

// The states of a connection.
const (
	New     State = iota // nobody has logged in
	Pending              // a login is under way: known by its sid, found by no push
	Live                 // logged in, and found by pushes
	Dead                 // told goodbye or closed: takes nothing more
)

// Conn is what a session needs of its connection; netpoll.Connection and netpoll.Conn together offer it.
type Conn interface {
	Fd() int
	// Write blocks until the kernel took everything or the connection's write time-out passed.
	Write([]byte) (int, error)
	Close() error
	RemoteAddr() net.Addr
}

// Push is one frame for one user, on its way to whatever sessions the user has.
type Push struct {
	To     int32
	Device string // "": all devices
	SID    string // "": whatever session is there
	ID     wire.MsgID
	From   int32
	Thread int64 // of a text, else 0
	Seq    int64 // of a text: the number of the body's last element
	Body   []byte
	Again  bool // a second try, after the first node named did not know the user
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
	OutboxBytes int           // waiting for one socket; past it the client is a slow consumer
	Linger      time.Duration // how long a closing connection waits for the client to hang up
	SlowFrame   []byte        // the last frame a native slow consumer gets, if it starts to read again in time
	Go          func(func())  // starts a goroutine that the node waits for
	OnSlow      func(*Session)
	OnGap       func(*Session) // told of each push dropped into a gap
	OnWriteFail func(*Session, error)
}

// Session is one client connection. The zero value is not usable; see Init. All methods are safe for concurrent use
// unless they say otherwise.
type Session struct {
	// Fixed after Init.
	conn   Conn
	fd     int
	limits *Limits
	owner  any

	// Fixed by Identify, before the state becomes Pending.
	uid    int32
	native bool
	gap    bool
	device string
	sid    SID
	stock  Stock

	state    atomic.Uint32
	lastSeen atomic.Int64 // unix milliseconds of the last frame
	// elsewhere is set once another device of the user logged in on another node.
	elsewhere atomic.Bool

	// The registry's, guarded by the user's shard.
	next       *Session
	counted    bool
	superseded bool

	wmu sync.Mutex // guards the descriptor: held for each write, and by Gone

	mu      sync.Mutex      // guards the following
	out     []byte          // waits for the flusher; nil while idle
	gaps    map[int64]int64 // thread -> first text dropped; nil while there is none
	writing int             // bytes the flusher took and has not written yet
	busy    bool            // a flusher, or an inline write, owns the way out
	last    bool            // nothing may follow: shut the way out when all is written
	gone    bool            // the connection is closed and the descriptor may be somebody else's
}

// Init makes s the session of conn, in state New. It must be called once, before any other method. owner is whatever the
// caller wants to find again through Owner.
func (s *Session) Init(conn Conn, limits *Limits, owner any) {
	s.conn, s.fd, s.limits, s.owner = conn, conn.Fd(), limits, owner
}

// Owner returns what Init was given.
func (s *Session) Owner() any { return s.owner }

// Identity is what a login adds to a connection.
type Identity struct {
	UID    int32
	Device string
	SID    SID
	Native bool
	Gap    bool // told of dropped pushes instead of being closed
	Stock  Stock
}

// Identify gives the session its identity and makes it Pending. It returns false if the connection died meanwhile.
func (s *Session) Identify(id Identity) bool {
	s.uid, s.device, s.sid, s.native, s.gap, s.stock = id.UID, id.Device, id.SID, id.Native, id.Gap, id.Stock
	return s.state.CompareAndSwap(uint32(New), uint32(Pending))
}

// UID returns the user, 0 before Identify.
func (s *Session) UID() int32 { return s.uid }

// Device returns the device, "" for stock clients.
func (s *Session) Device() string { return s.device }

// SID returns the session's id, 0 before Identify.
func (s *Session) SID() SID { return s.sid }

// Native reports whether the client announced itself.
func (s *Session) Native() bool { return s.native }

// Stock returns the policy of a stock client's session, nil for a native one.
func (s *Session) Stock() Stock { return s.stock }

// State returns how far the connection has come.
func (s *Session) State() State { return State(s.state.Load()) }

// RemoteAddr returns the client's address.
func (s *Session) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Seen notes that a frame arrived.
func (s *Session) Seen(now time.Time) { s.lastSeen.Store(now.UnixMilli()) }

// LastSeen returns when the last frame arrived, as given to Seen.
func (s *Session) LastSeen() time.Time { return time.UnixMilli(s.lastSeen.Load()) }

// activate makes a Pending session Live. It returns false if the session died while it logged in.
func (s *Session) activate() bool {
	return s.state.CompareAndSwap(uint32(Pending), uint32(Live))
}

// die makes the session Dead and reports whether it was alive until now.
func (s *Session) die() bool { return State(s.state.Swap(uint32(Dead))) != Dead }

// Reply queues one whole frame, or several for a native client; the caller keeps frame. It never blocks on the client.
// It returns ErrClosed for a dead session and ErrSlow when more than Limits.OutboxBytes would wait; then the session
// closes.
func (s *Session) Reply(frame []byte) error {
	if s.State() == Dead {
		return ErrClosed
	}
	if s.stock != nil {
		return s.stock.Reply(frame)
	}
	return s.Write(frame)
}

// Push queues a push for the client. Errors and bounds are those of Reply.
func (s *Session) Push(p *Push) error {
	if s.State() == Dead {
		return ErrClosed
	}
	if s.stock != nil {
		return s.stock.Push(p)
	}
	if s.gap && p.ID == wire.MsgTextPush {
		return s.pushText(p)
	}
	return s.write(p.ID, p.Body, true, false)
}

// Write is Reply without the stock client's policy, which calls it.
func (s *Session) Write(frame []byte) error { return s.write(0, frame, false, false) }

// WriteInline is Write for the goroutine that just read a request: when nothing waits, the frames go to the socket at
// once, which saves starting a flusher. It never waits for the client.
func (s *Session) WriteInline(frames []byte) error {
	s.mu.Lock()
	if s.busy || s.last || s.gone {
		s.mu.Unlock()
		return s.Write(frames)
	}
	s.busy = true
	s.mu.Unlock()

	n, err := s.writeNow(frames)
	if err != nil {
		s.mu.Lock()
		s.busy = false
		s.mu.Unlock()
		s.fail(err)
		return ErrClosed
	}
	if n < len(frames) {
		// The socket is full: what is left goes first, on a goroutine that may wait.
		rest := append(getBuffer(), frames[n:]...)
		s.mu.Lock()
		s.writing = len(rest)
		s.mu.Unlock()
		s.limits.Go(func() {
			if s.writeTaken(rest) {
				s.flush()
			}
		})
		return nil
	}
	s.mu.Lock()
	if len(s.out) > 0 || s.last {
		s.mu.Unlock()
		s.limits.Go(s.flush)
		return nil
	}
	s.busy = false
	s.mu.Unlock()
	return nil
}

// write queues body, under a header when framed. With last the session takes nothing afterwards.
func (s *Session) write(id wire.MsgID, body []byte, framed, last bool) error {
	n := len(body)
	if framed {
		n += wire.HeaderLen
	}
	s.mu.Lock()
	if s.gone || s.last {
		s.mu.Unlock()
		return ErrClosed
	}
	if !last && !s.fitsLocked(n) {
		s.mu.Unlock()
		s.slow()
		return ErrSlow
	}
	if s.out == nil && n > 0 {
		s.out = getBuffer()
	}
	if framed {
		s.out = wire.AppendHeader(s.out, id, len(body))
	}
	s.out = append(s.out, body...)
	s.last = last
	start := !s.busy
	s.busy = true
	s.mu.Unlock()
	if start {
		s.limits.Go(s.flush)
	}
	return nil
}

// fitsLocked reports whether n more bytes may wait.
func (s *Session) fitsLocked(n int) bool { return len(s.out)+s.writing+n <= s.limits.OutboxBytes }

// flush writes what waits until nothing does. One runs at most for a session.
func (s *Session) flush() {
	for {
		s.mu.Lock()
		if len(s.out) == 0 && len(s.gaps) > 0 && !s.gone && !s.last {
			s.appendGapsLocked()
		}
		if s.gone || len(s.out) == 0 {
			shut := s.last && !s.gone
			s.busy = false
			putBuffer(s.out)
			s.out = nil
			s.mu.Unlock()
			if shut {
				s.shutdown()
			}
			return
		}
		b := s.out
		s.out, s.writing = nil, len(b)
		s.mu.Unlock()

		if !s.writeTaken(b) {
			return
		}
	}
}

// writeTaken writes what was taken from the outbox, and gives its buffer back. It returns false when the connection is
// lost.
func (s *Session) writeTaken(b []byte) bool {
	err := s.writeAll(b)
	putBuffer(b)
	s.mu.Lock()
	s.writing = 0
	if err != nil {
		s.busy = false
	}
	s.mu.Unlock()
	if err != nil {
		s.fail(err)
	}
	return err == nil
}

// writeNow hands the kernel what it takes at once.
func (s *Session) writeNow(b []byte) (int, error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.writeLocked(b)
}

// writeLocked needs wmu. A full socket is 0, nil.
func (s *Session) writeLocked(b []byte) (int, error) {
	if s.isGone() {
		return 0, ErrClosed
	}
	for {
		n, err := syscall.Write(s.fd, b)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, err
		}
	}
}

// writeAll waits for the client, as long as the connection's write time-out allows. It holds wmu while it waits: the
// connection's close ends the wait before it calls Gone, which wants wmu.
func (s *Session) writeAll(b []byte) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	n, err := s.writeLocked(b)
	if err != nil || n == len(b) {
		return err
	}
	// The connection's own Write keeps a 4 KiB node for good; only a client that lets its socket fill up costs that.
	_, err = s.conn.Write(b[n:])
	return err
}

func (s *Session) isGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// fail closes a connection whose write failed; netpoll would leave it open.
func (s *Session) fail(err error) {
	if s.limits.OnWriteFail != nil && !errors.Is(err, ErrClosed) {
		s.limits.OnWriteFail(s, err)
	}
	s.Close()
}

// slow ends the session of a client that does not read: what waits is dropped. A native client that reads again before
// the write time-out finds Limits.SlowFrame behind the frame that was being written.
func (s *Session) slow() {
	if !s.die() {
		return
	}
	if s.limits.OnSlow != nil {
		s.limits.OnSlow(s)
	}
	if !s.native || s.limits.SlowFrame == nil {
		s.CloseSoon()
		return
	}
	s.mu.Lock()
	putBuffer(s.out)
	s.out = nil
	s.mu.Unlock()
	s.FinishNow(s.limits.SlowFrame)
}

// Finish sends a last frame, which may be nil, then closes the connection politely: it shuts the way out, lets the
// client read, and closes for good when the client hangs up or Limits.Linger has passed. A plain close with unread
// input would reset the connection and destroy the frame. The first Finish wins; it reports whether it was this one.
// The caller keeps frame.
func (s *Session) Finish(frame []byte) bool {
	if !s.die() {
		return false
	}
	if s.stock != nil {
		s.stock.Close(frame)
		return true
	}
	s.FinishNow(frame)
	return true
}

// FinishNow is Finish without the stock client's policy, which calls it after the last frame's turn has come.
func (s *Session) FinishNow(frame []byte) {
	_ = s.write(0, frame, false, true) // ErrClosed: it is closing already
}

// shutdown ends our direction and gives the client Limits.Linger to end its own.
func (s *Session) shutdown() {
	s.wmu.Lock()
	gone := s.isGone()
	if !gone {
		// An error means the client is gone already; Close follows all the same.
		_ = syscall.Shutdown(s.fd, syscall.SHUT_WR)
	}
	s.wmu.Unlock()
	if !gone {
		// The timer holds the session for Linger at most, and Close after Gone does nothing.
		time.AfterFunc(s.limits.Linger, s.Close)
	}
}

// Close closes the connection at once, dropping what waits. It is safe to call at any time, any number of times, but
// not under a lock: the connection's close callback runs inside and calls Gone.
func (s *Session) Close() {
	s.die()
	_ = s.conn.Close() // closing twice is not an error worth telling
}

// CloseSoon is Close on a goroutine of its own, for callers that hold a lock which Gone's listeners want.
func (s *Session) CloseSoon() {
	s.die()
	s.limits.Go(s.Close)
}

// Gone says that the connection is closed. It must be called from the connection's close callback, before the
// descriptor is given back: from its return on nothing touches the descriptor.
func (s *Session) Gone() {
	s.die()
	s.wmu.Lock()
	s.mu.Lock()
	s.gone = true
	if !s.busy {
		putBuffer(s.out)
	}
	s.out, s.gaps = nil, nil
	s.mu.Unlock()
	s.wmu.Unlock()
	if s.stock != nil {
		s.stock.Gone()
	}
}

// Queued returns the bytes that wait for the socket.
func (s *Session) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.out) + s.writing
}

// buffers are the outboxes of sessions that have something to send; an idle session holds none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// maxPooled keeps the buffer of one slow consumer from staying in the pool for ever.
const maxPooled = 16 << 10

func getBuffer() []byte { return (*buffers.Get().(*[]byte))[:0] }

func putBuffer(b []byte) {
	if b == nil || cap(b) > maxPooled {
		return
	}
	buffers.Put(&b)
}

// ParseSID is the inverse of SID.String; false for anything else.
func ParseSID(s string) (SID, bool) {
	if len(s) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 64)
	return SID(n), err == nil
}
