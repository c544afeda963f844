// Package legacy does everything that a stock client needs and a native one does not: it spaces frames, holds pushes back
// until the client's first load is done, announces threads before they are used, and merges waiting texts into one frame.
//
// The stock client decodes only the first frame header of each read from its socket, and crashes on pushes about an
// unknown thread or friend. It does not identify itself, so every session is treated this way until it announces itself
// as native. docs/PROTOCOL.md lists the rules.
package legacy

import (
	"sync"
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// Times and bounds; docs/PROTOCOL.md "Stock clients" has the measurements.
const (
	// Gap is the usual Spacing.Frame. The real client lost its place after 17 of 300 frames at 5 ms and after
	// 264 at 10 ms; at 20 ms it took 1,000, under load as well.
	Gap = 20 * time.Millisecond
	// FirstLoad is how long after 1006 a client that sends no 1025 is taken for one that never will.
	FirstLoad = 5 * time.Second
	// LoadPatience is how long pushes wait for a thread's history to be loaded, from the last sign that the client loads.
	LoadPatience = 30 * time.Second
	// MaxHeld bounds the bytes of waiting pushes; past it the session closes.
	MaxHeld = 64 << 10
	// maxAppliedHeld bounds the applications for friendship that wait: many accounts must not fill the place of texts.
	maxAppliedHeld = 16
	// maxMerged bounds the body of merged texts: upstream's servers cannot send more, its clients were never given more.
	maxMerged = 32000
	// maxReplies and maxReplyBytes bound the replies that wait for their turn. A client has at most 16 requests queued and
	// 64 texts, and one that does not read must not pin more than a native one may.
	maxReplies    = 128
	maxReplyBytes = 128 << 10
)

// Counters are what a node counts of all its policies; any may be nil.
type Counters struct {
	HeartbeatDropped, Merged, Reannounced, Unsafe, Overflowed, Panicked func()
	// ApplicationsDropped counts applications that the next login will list; LeftToHistory texts that a page to come will bring.
	ApplicationsDropped, LeftToHistory func()
}

func count(f func()) {
	if f != nil {
		f()
	}
}

// thread is what the client knows of one.
type thread struct {
	loading bool  // its history is still being read
	reading bool  // a page of it is just being read from the store
	served  int64 // the client has everything up to this number
	pushed  int64 // the lowest number a push has brought, 0 none: history must not bring it again
}

// Policy decides what a stock session is sent, and when. It implements session.Stock. All methods are safe for
// concurrent use and none blocks.
type Policy struct {
	s        *session.Session
	wheel    *Wheel
	counters *Counters
	opened   time.Time

	mu       sync.Mutex // guards the following
	friends  map[int32]struct{}
	threads  map[int64]thread
	stored   map[int64]int64 // of the first generation: what was stored before its login, up to this number
	received received
	asked    bool // the first 1025 came
	listed   bool // the last 1026 was sent
	gen1     bool // no threads: first generation
	beat     bool // a heartbeat is to be answered, if nothing else is to be sent
	naming   bool // a thread is known here that only the coming reply will name
	replies  [][]byte
	waiting  int // bytes of them
	pushes   []session.Push
	progress time.Time // when the client last loaded something
	held     int       // bytes of their bodies
	applied  int       // how many of them are applications for friendship
	last     time.Time // when the last frame went to the socket
	texts    int       // in it
	due      bool      // the wheel has us
	closing  bool
	final    []byte
	finished bool
}

// New returns the policy of a session that logs in now. friends is the friend_list the client is about to get, and stored
// the number of the last text of each of their threads, read after the client asked to log in.
func New(s *session.Session, wheel *Wheel, friends map[int32]struct{}, stored map[int64]int64, counters *Counters, now time.Time) *Policy {
	return &Policy{
		s: s, wheel: wheel, friends: friends, stored: stored, counters: counters, opened: now, progress: now,
		threads: make(map[int64]thread), received: make(received),
	}
}

// Of returns the policy of a stock client's session, nil for a native one.
func Of(s *session.Session) *Policy {
	p, _ := s.Stock().(*Policy)
	return p
}

// Reply queues an answer; answers go before pushes. The answer to a heartbeat is dropped when anything waits: the client
// does not read it.
func (p *Policy) Reply(frame []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return session.ErrClosed
	}
	now := time.Now()
	id, _ := wire.ParseHeader(frame)
	if id == wire.MsgHeartbeatRsp {
		if p.waitingLocked(now) {
			count(p.counters.HeartbeatDropped)
			return nil
		}
		p.beat = true
		p.pumpLocked(now)
		return nil
	}
	if len(p.replies) >= maxReplies || len(p.replies) > 0 && p.waiting+len(frame) > maxReplyBytes {
		return p.overflowLocked()
	}
	p.replies = append(p.replies, append([]byte(nil), frame...))
	p.waiting += len(frame)
	if id != wire.MsgTextRsp {
		p.naming = false // the other replies come one by one: it is this one, or the refusal in its place
	}
	p.pumpLocked(now)
	return nil
}

// overflowLocked ends the session of a client that is sent more than it takes.
func (p *Policy) overflowLocked() error {
	count(p.counters.Overflowed)
	p.s.CloseSoon() // not at once: the close callback wants our lock
	return session.ErrSlow
}

// Push queues a push until the client can process it.
func (p *Policy) Push(push *session.Push) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return session.ErrClosed
	}
	if !understood(push.ID) {
		return nil // one of ours; the store has what it was about
	}
	if push.ID == wire.MsgApplied && p.applied >= maxAppliedHeld {
		count(p.counters.ApplicationsDropped) // the next login lists it
		return nil
	}
	if p.held+len(push.Body) > MaxHeld {
		p.dropLoadingLocked()
		if p.loadsLocked(push) {
			count(p.counters.LeftToHistory)
			return nil
		}
		if p.held+len(push.Body) > MaxHeld {
			return p.overflowLocked()
		}
	}
	if push.ID == wire.MsgApplied {
		p.applied++
	}
	p.pushes = append(p.pushes, *push)
	p.held += len(push.Body)
	p.pumpLocked(time.Now())
	return nil
}

func understood(id wire.MsgID) bool {
	return id == wire.MsgTextPush || id == wire.MsgApplied || id == wire.MsgApproved
}

// Close takes the last frame; what waits before it is still sent, pushes are not.
func (p *Policy) Close(last []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing, p.beat, p.pushes, p.held, p.applied = true, false, nil, 0, 0
	p.final = append([]byte(nil), last...)
	p.pumpLocked(time.Now())
}

// Gone drops what waits.
func (p *Policy) Gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing, p.finished, p.beat = true, true, false
	p.replies, p.waiting, p.pushes, p.held, p.applied, p.final = nil, 0, nil, 0, 0, nil
}

// Tick lets time pass: holds that have lasted too long end. The node calls it each second.
func (p *Policy) Tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked && !p.gen1 && now.Sub(p.opened) >= FirstLoad {
		p.gen1 = true
	}
	if len(p.pushes) > 0 {
		p.pumpLocked(now)
	}
}

func (p *Policy) pump(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = false
	p.pumpLocked(now)
}

// pumpLocked writes the next frame if its time has come, and asks to be called again while something waits.
func (p *Policy) pumpLocked(now time.Time) {
	if p.due || p.finished {
		return
	}
	gap := p.wheel.spacing.Frame
	wait := gap + time.Duration(p.texts)*p.wheel.spacing.Text - now.Sub(p.last)
	if wait <= 0 && p.s.Queued() > 0 {
		// The socket did not take the last frame whole. Another behind it would go out with its rest, and be lost on a
		// client that reads them together.
		wait = gap
	}
	if wait <= 0 {
		if !p.writeLocked(now) {
			return
		}
		wait = gap + time.Duration(p.texts)*p.wheel.spacing.Text
	}
	if p.waitingLocked(now) {
		p.due = true
		p.wheel.after(wait, p)
	}
}

// writeLocked writes the next frame to the socket, in place: the spacing is between system calls, not between turns of a
// goroutine. It returns false if there was none to write.
func (p *Policy) writeLocked(now time.Time) bool {
	var frame []byte
	p.texts = 0
	switch {
	case len(p.replies) > 0:
		frame = p.replies[0]
		p.waiting -= len(frame)
		p.replies[0] = nil
		if p.replies = p.replies[1:]; len(p.replies) == 0 {
			p.replies = nil
		}
	case p.closing:
		p.finished = true
		p.s.FinishNow(p.final)
		return false
	default:
		frame = p.nextPushLocked(now)
	}
	switch {
	case frame == nil && !p.beat:
		return false
	case frame == nil:
		frame = wire.HeartbeatFrame
	case p.beat:
		count(p.counters.HeartbeatDropped)
	}
	p.beat = false
	_ = p.s.WriteInline(frame) // an error has closed the session
	p.last = time.Now()
	return true
}

// waitingLocked reports whether the wheel should come back. Held pushes do not count: what releases them pumps.
func (p *Policy) waitingLocked(now time.Time) bool {
	if len(p.replies) > 0 || p.closing || p.beat {
		return true
	}
	for i := range p.pushes {
		if p.releasableLocked(&p.pushes[i], now) {
			return true
		}
	}
	return false
}
