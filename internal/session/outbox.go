package session

import (
	"sync"
	"syscall"
	"time"

	"parley/internal/wire"
)

// Reply queues one whole frame, or several for a native client; the caller keeps frame. It never blocks on the client.
// It returns ErrClosed for a dead session and ErrSlow when more than Limits.OutboxBytes and ReplyBytes would wait; then the
// session closes.
func (s *Session) Reply(frame []byte) error { return s.ReplyCorked(frame, nil) }

// ReplyCorked is Reply, written when cork is released.
func (s *Session) ReplyCorked(frame []byte, cork *Cork) error {
	if s.State() == Dead {
		return ErrClosed
	}
	if s.stock != nil {
		return s.stock.Reply(frame)
	}
	return s.write(0, frame, nil, cork)
}

// Push queues a push for the client. Errors are those of Reply and the bound is Limits.OutboxBytes, but a client with
// Identity.Gap is told of the texts for which there was no room, once there is.
func (s *Session) Push(p *Push) error { return s.PushCorked(p, nil) }

// PushCorked is Push, written when cork is released.
func (s *Session) PushCorked(p *Push, cork *Cork) error {
	if s.State() == Dead {
		return ErrClosed
	}
	if s.stock != nil {
		return s.stock.Push(p)
	}
	return s.write(p.ID, p.Body, p, cork)
}

// Write is Reply without the stock client's policy, which calls it.
func (s *Session) Write(frame []byte) error { return s.write(0, frame, nil, nil) }

// WriteInline is Write for a goroutine that may spend a system call: when nothing waits, the frames go to the socket at
// once, which saves starting a flusher. It never waits for the client.
func (s *Session) WriteInline(frames []byte) error {
	s.mu.Lock()
	if s.busy || s.last || s.gone {
		s.mu.Unlock()
		return s.Write(frames)
	}
	s.busy = true
	s.mu.Unlock()
	return s.writeOwned(frames)
}

// PushFrames is Push for encoded pushes of one group, which many sessions share: first is the lowest number in them. When
// nothing waits, they go to the socket at once, as with WriteInline. The caller keeps frames. Only a Live session takes
// them: what it missed before, its client asks for.
func (s *Session) PushFrames(frames []byte, thread, first int64) error {
	s.mu.Lock()
	switch {
	case s.gone || s.last || s.State() != Live:
		s.mu.Unlock()
		return ErrClosed
	case s.busy:
		s.queueFramesLocked(frames, thread, first)
		s.mu.Unlock()
		return nil
	}
	s.busy = true
	s.mu.Unlock()
	return s.writeOwned(frames)
}

// queueFramesLocked has the owner of the way out write frames too, or tell that there was no room for them.
func (s *Session) queueFramesLocked(frames []byte, thread, first int64) {
	_, lost := s.gaps[thread]
	if !lost && s.queuedLocked()+len(frames) <= s.limits.OutboxBytes {
		if s.out == nil {
			s.out = getBuffer()
		}
		makeRoom(s.out, len(frames), s.limits.OutboxBytes-s.writing)
		*s.out = append(*s.out, frames...)
		return
	}
	s.noteGapLocked(thread, first)
	if !lost && s.limits.OnGap != nil {
		s.limits.OnGap()
	}
}

// writeOwned writes frames for a caller that has made itself the owner of the way out, and gives it up.
func (s *Session) writeOwned(frames []byte) error {
	n, err := s.writeNow(frames)
	if err != nil {
		s.broken(err)
		return ErrClosed
	}
	if n < len(frames) {
		rest := getBuffer()
		*rest = append(*rest, frames[n:]...)
		s.waitFor(rest)
		return nil
	}
	s.mu.Lock()
	more := s.out != nil || len(s.gaps) > 0 || s.last
	s.busy = more
	s.mu.Unlock()
	if more {
		s.limits.Go(s.flush)
	}
	return nil
}

// waitFor writes b, for which the socket had no room, and then what waits, on a goroutine that may wait for the client.
func (s *Session) waitFor(b *[]byte) {
	s.mu.Lock()
	s.writing = len(*b)
	s.mu.Unlock()
	s.limits.Go(func() {
		if s.writeTaken(b) {
			s.flush()
		}
	})
}

// write queues body, of a push under a header, and sees to it that somebody writes it.
func (s *Session) write(id wire.MsgID, body []byte, push *Push, cork *Cork) error {
	n := len(body)
	if push != nil {
		n += wire.HeaderLen
	}
	s.mu.Lock()
	if s.gone || s.last {
		s.mu.Unlock()
		return ErrClosed
	}
	limit := s.limits.OutboxBytes
	if push == nil {
		limit += s.limits.ReplyBytes
	}
	full := s.queuedLocked()+n > limit
	switch {
	case push != nil && s.gapLocked(push, full):
	case full:
		s.mu.Unlock()
		s.slow()
		return ErrSlow
	default:
		if s.out == nil {
			s.out = getBuffer()
		}
		makeRoom(s.out, n, limit-s.writing)
		if push != nil {
			*s.out = wire.AppendHeader(*s.out, id, len(body))
		}
		*s.out = append(*s.out, body...)
	}
	start := !s.busy
	s.busy = true
	s.mu.Unlock()
	switch {
	case start && cork != nil:
		cork.sessions = append(cork.sessions, s)
	case start:
		s.limits.Go(s.flush)
	}
	return nil
}

// maxGaps bounds the threads of which a session remembers that texts were dropped.
const maxGaps = 1024

// gapLocked drops a text for which there is no room, or one of a thread that has lost texts and was not told yet: the
// client reads both from history. It reports whether it did.
func (s *Session) gapLocked(p *Push, full bool) bool {
	if !s.gap || p.ID != wire.MsgTextPush && p.ID != wire.MsgGroupPush {
		return false
	}
	if _, lost := s.gaps[p.Thread]; lost {
		return true
	}
	if !full || len(s.gaps) >= maxGaps {
		return false
	}
	if s.gaps == nil {
		s.gaps = make(map[int64]int64)
	}
	s.gaps[p.Thread] = p.FirstSeq()
	if s.limits.OnGap != nil {
		s.limits.OnGap()
	}
	return true
}

// flush writes what waits until nothing does. One runs at most for a session.
func (s *Session) flush() {
	for b := s.take(); b != nil; b = s.take() {
		if !s.writeTaken(b) {
			return
		}
	}
}

// flushNow is flush for a goroutine that must not wait for the client: another one goes on when the socket is full.
func (s *Session) flushNow() {
	for b := s.take(); b != nil; b = s.take() {
		n, err := s.writeNow(*b)
		if err == nil && n < len(*b) {
			*b = (*b)[:copy(*b, (*b)[n:])]
			s.waitFor(b)
			return
		}
		putBuffer(b)
		if err != nil {
			s.broken(err)
			return
		}
		s.noteWritten()
	}
}

// take takes all that waits from the outbox. When nothing does it gives up the way out, and returns nil.
func (s *Session) take() *[]byte {
	s.mu.Lock()
	if s.out == nil && len(s.gaps) > 0 && !s.gone {
		s.out = getBuffer()
		for thread, from := range s.gaps {
			*s.out = wire.AppendGap(*s.out, thread, from)
		}
		s.gaps = nil
	}
	if s.gone || s.out == nil {
		shut := s.last && !s.gone
		s.busy = false
		s.dropLocked()
		s.mu.Unlock()
		if shut {
			s.shutdown()
		}
		return nil
	}
	b := s.out
	s.out, s.writing = nil, len(*b)
	s.mu.Unlock()
	return b
}

// writeTaken writes what was taken from the outbox, and gives its buffer back. It returns false when the connection is
// lost.
func (s *Session) writeTaken(b *[]byte) bool {
	err := s.writeAll(b)
	putBuffer(b)
	if err != nil {
		s.broken(err)
		return false
	}
	s.noteWritten()
	return true
}

func (s *Session) noteWritten() {
	s.mu.Lock()
	s.writing = 0
	s.mu.Unlock()
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

// writeAll waits for the client, as long as WriteTimeout allows. It holds wmu while it waits: the connection's close ends
// the wait before it calls Gone, which wants wmu. Meanwhile it exchanges the buffer for smaller ones.
func (s *Session) writeAll(b *[]byte) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	for rest := *b; ; {
		n, err := s.writeLocked(rest)
		if err != nil || n == len(rest) {
			return err
		}
		rest = shrink(b, rest[n:])
		s.mu.Lock()
		s.writing = len(rest)
		s.mu.Unlock()
		// The connection's own Write waits; it copies what it is given, and keeps a 4 KiB node for good. Only a client that
		// lets its socket fill up costs that.
		piece := min(len(rest), waitBytes)
		// Not netpoll's own time-out, whose error wants an address that our connections do not have.
		late := time.AfterFunc(s.limits.WriteTimeout, s.Abort)
		_, err = s.conn.Write(rest[:piece])
		if !late.Stop() && err == nil {
			err = ErrSlow // it is being closed
		}
		if err != nil || piece == len(rest) {
			return err
		}
		rest = rest[piece:]
	}
}

// shrink moves the unwritten rest of b to a smaller buffer once a quarter of a large one is free. As bytes are written as
// many new ones may wait beside them; without this a client that reads slowly would pin twice its bound.
func shrink(b *[]byte, rest []byte) []byte {
	if cap(*b) > maxPooled && len(rest) <= cap(*b)/4*3 {
		*b = append(make([]byte, 0, len(rest)), rest...)
		return *b
	}
	return rest
}

// waitBytes is how much of an outbox is handed to the connection while its socket is full.
const waitBytes = 8 << 10

func (s *Session) isGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// dropLocked forgets what waits.
func (s *Session) dropLocked() {
	if s.out != nil {
		putBuffer(s.out)
	}
	s.out, s.gaps = nil, nil
}

// Queued returns the bytes that are held for the socket.
func (s *Session) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queuedLocked()
}

func (s *Session) queuedLocked() int {
	if s.out == nil {
		return s.writing
	}
	return s.writing + len(*s.out)
}

// buffers are the outboxes of sessions that have something to send; an idle session holds none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// makeRoom grows an outbox that is too small for n bytes more, up to a bound: a small one doubles, a large one grows by a
// quarter, so that a client that does not read pins little more than what waits for it.
func makeRoom(b *[]byte, n, bound int) {
	need, grown := len(*b)+n, 2*cap(*b)
	if need <= cap(*b) {
		return
	}
	if cap(*b) >= maxPooled {
		grown = cap(*b) + cap(*b)/4
	}
	*b = append(make([]byte, 0, max(need, min(grown, bound))), *b...)
}

// maxPooled keeps the buffer of one slow consumer from staying in the pool for ever.
const maxPooled = 16 << 10

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) > maxPooled {
		return
	}
	*b = (*b)[:0]
	buffers.Put(b)
}
