// Package legacy implements what a stock client needs and a native one does not: it spaces frames, holds pushes back
// until the client's first load is done, announces threads before they are used, and merges waiting texts into one
// frame.
//
// The stock client decodes only the first frame header in each read from its socket, and crashes on pushes about an
// unknown thread or friend. It does not identify itself, so every session is treated this way until its client
// announces itself as native. docs/PROTOCOL.md lists the rules.
package legacy

import (
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// Times and bounds; docs/PROTOCOL.md "Stock clients" has the measurements.
const (
	// Gap is the usual Spacing.Frame. The stock client lost its position in the stream after 17 of 300 frames at 5
	// ms, and after 264 at 10 ms. At 20 ms it received 1,000 frames, also under load.
	Gap = 20 * time.Millisecond
	// FirstLoad is how long after the 1006 a client that has sent no 1025 is considered first generation.
	FirstLoad = 5 * time.Second
	// LoadPatience is how long pushes of a thread wait for its history, counted from the client's latest progress.
	LoadPatience = 30 * time.Second
	// MaxHeld bounds the bytes of held pushes; beyond it the session is closed.
	MaxHeld = 64 << 10
	// maxAppliedHeld bounds the held friend requests, so that many accounts cannot displace texts.
	maxAppliedHeld = 16
	// maxReplies and maxReplyBytes bound the waiting replies. A client has at most 16 queued requests and 64 texts in
	// flight, and a client that does not read must not hold more memory than a native one.
	maxReplies    = 128
	maxReplyBytes = 128 << 10
)

// Counters count events of all policies of a node; any may be nil.
type Counters struct {
	HeartbeatDropped, Merged, Reannounced, Unsafe, Overflowed, Panicked func()
	// ApplicationsDropped counts friend requests left to the next login, LeftToHistory texts left to a coming page of
	// history.
	ApplicationsDropped, LeftToHistory func()
}

func count(f func()) {
	if f != nil {
		f()
	}
}

// A Policy decides what is sent to a stock session, and when. It implements session.Stock. Its methods are safe for
// concurrent use and do not block.
type Policy struct {
	s        *session.Session
	wheel    *Wheel
	counters *Counters

	client // and its mu, which guards the following

	replies  replies
	held     held
	beat     bool      // a heartbeat waits for its answer, needed only if nothing else is sent
	opened   time.Time // when the 1006, which is the first frame, was written; zero before
	last     time.Time // when the last frame was written
	texts    int       // texts in that frame
	due      bool      // the wheel will call pump
	closing  bool
	final    []byte
	finished bool
}

// replies are the replies that wait.
type replies struct {
	frames [][]byte
	bytes  int
}

// add adds a copy of a reply. It returns false if too many wait.
func (r *replies) add(frame []byte) bool {
	if len(r.frames) >= maxReplies || len(r.frames) > 0 && r.bytes+len(frame) > maxReplyBytes {
		return false
	}
	r.frames = append(r.frames, append([]byte(nil), frame...))
	r.bytes += len(frame)
	return true
}

// next removes the first reply.
func (r *replies) next() []byte {
	frame := r.frames[0]
	r.bytes -= len(frame)
	r.frames[0] = nil
	if r.frames = r.frames[1:]; len(r.frames) == 0 {
		r.frames = nil
	}
	return frame
}

// New returns the policy of a session that is logging in. friends is the friend_list the client is about to receive.
// stored holds the number of the last text in each of their threads, read after the client asked to log in.
func New(s *session.Session, wheel *Wheel, friends map[int32]struct{}, stored map[int64]int64, counters *Counters) *Policy {
	return &Policy{
		s: s, wheel: wheel, counters: counters,
		client: client{friends: friends, threads: make(map[int64]thread), stored: stored, received: make(received)},
	}
}

// Of returns the policy of a stock client's session, or nil for a native one.
func Of(s *session.Session) *Policy {
	p, _ := s.Stock().(*Policy)
	return p
}

// Reply queues a reply. Replies precede pushes. The answer to a heartbeat is dropped if anything else waits, because
// the client does not read it.
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
	if !p.replies.add(frame) {
		return p.overflowLocked()
	}
	if id != wire.MsgTextRsp {
		p.naming = false // other requests are answered one at a time, so this is the naming reply or its refusal
	}
	p.pumpLocked(now)
	return nil
}

// overflowLocked ends the session of a client that reads too slowly.
func (p *Policy) overflowLocked() error {
	count(p.counters.Overflowed)
	p.s.CloseSoon() // not at once: the close callback takes p.mu
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
		return nil // a native message; the client reads its content from the store
	}
	if push.ID == wire.MsgApplied && p.held.applied >= maxAppliedHeld {
		count(p.counters.ApplicationsDropped) // the next login lists it
		return nil
	}
	if p.held.bytes+len(push.Body) > MaxHeld {
		p.dropLoadingLocked()
		if p.loadsLocked(push) {
			count(p.counters.LeftToHistory)
			return nil
		}
		if p.held.bytes+len(push.Body) > MaxHeld {
			return p.overflowLocked()
		}
	}
	p.held.add(push)
	p.pumpLocked(time.Now())
	return nil
}

func understood(id wire.MsgID) bool {
	return id == wire.MsgTextPush || id == wire.MsgApplied || id == wire.MsgApproved
}

// Close sets the last frame. Waiting replies are still sent before it; pushes are not.
func (p *Policy) Close(last []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing, p.beat, p.held = true, false, held{}
	p.final = append([]byte(nil), last...)
	p.pumpLocked(time.Now())
}

// Gone drops everything that waits.
func (p *Policy) Gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing, p.finished, p.beat = true, true, false
	p.replies, p.held, p.final = replies{}, held{}, nil
}

// Tick ends holds that have lasted too long. The node calls it every second.
func (p *Policy) Tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asking && !p.gen1 && !p.opened.IsZero() && now.Sub(p.opened) >= FirstLoad {
		p.gen1 = true
	}
	if len(p.held.pushes) > 0 {
		p.pumpLocked(now)
	}
}

func (p *Policy) pump(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = false
	p.pumpLocked(now)
}

// pumpLocked writes the next frame if it is due, and schedules another call while something waits.
func (p *Policy) pumpLocked(now time.Time) {
	if p.due || p.finished {
		return
	}
	gap := p.wheel.spacing.Frame
	wait := gap + time.Duration(p.texts)*p.wheel.spacing.Text - now.Sub(p.last)
	if wait <= 0 && p.s.Queued() > 0 {
		// The socket has not accepted all of the last frame. Another frame would be sent together with the rest of
		// it, and a client that reads both at once would lose it.
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

// writeLocked writes the next frame to the socket on this goroutine, because the spacing must hold between system
// calls and not between turns of a goroutine. It returns false if there is no frame.
func (p *Policy) writeLocked(now time.Time) bool {
	var frame []byte
	p.texts = 0
	switch {
	case len(p.replies.frames) > 0:
		frame = p.replies.next()
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
	_ = p.s.WriteInline(frame) // after an error the session closes
	p.last = time.Now()
	if p.opened.IsZero() {
		p.opened = p.last
	}
	return true
}

// waitingLocked reports whether the wheel should call again. Pushes held back do not count: whatever releases them
// calls pumpLocked.
func (p *Policy) waitingLocked(now time.Time) bool {
	if len(p.replies.frames) > 0 || p.closing || p.beat {
		return true
	}
	for i := range p.held.pushes {
		if p.releasableLocked(&p.held.pushes[i], now) {
			return true
		}
	}
	return false
}
