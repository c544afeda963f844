package session

import (
	"syscall"
	"time"

	"parley/internal/wire"
)

// Reply queues one whole frame, or several for a native client; the caller keeps frame. It never blocks on the client.
// It returns ErrClosed for a dead session and ErrSlow when more than Limits.OutboxBytes would wait; then the session
// closes.
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

// Push queues a push for the client. Errors and bounds are those of Reply, but that a client with Identity.Gap is told of
// the texts for which there was no room, once there is.
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

	n, err := s.writeNow(frames)
	if err != nil {
		s.broken(err)
		return ErrClosed
	}
	if n < len(frames) {
		var rest backlog
		rest.add(len(frames)-n, frames[n:])
		s.mu.Lock()
		s.writing = rest.held
		s.mu.Unlock()
		s.waitFor(rest)
		return nil
	}
	s.mu.Lock()
	more := s.out.first != nil || len(s.gaps) > 0 || s.last
	s.busy = more
	s.mu.Unlock()
	if more {
		s.limits.Go(s.flush)
	}
	return nil
}

// waitFor writes what was taken from the outbox, for which the socket had no room, and then what waits, on a goroutine
// that may wait for the client.
func (s *Session) waitFor(taken backlog) {
	s.limits.Go(func() {
		if s.writeTaken(taken) {
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
	room := s.limits.OutboxBytes - s.heldLocked()
	full := n > s.out.free()+room
	switch {
	case push != nil && s.gapLocked(push, full):
	case full:
		s.mu.Unlock()
		s.slow()
		return ErrSlow
	default:
		if push != nil {
			var header [wire.HeaderLen]byte
			room -= s.out.add(room, wire.AppendHeader(header[:0], id, len(body)))
		}
		s.out.add(room, body)
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
	if !s.gap || p.ID != wire.MsgTextPush {
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
	s.gaps[p.Thread] = firstSeq(p)
	if s.limits.OnGap != nil {
		s.limits.OnGap()
	}
	return true
}

// firstSeq returns the number of the first text of a push, which itself names the last.
func firstSeq(p *Push) int64 {
	var body wire.TextPush
	if wire.Decode(p.Body, &body) != nil || len(body.Chats) == 0 {
		return p.Seq
	}
	return body.Chats[0].Seq
}

// flush writes what waits until nothing does. One runs at most for a session.
func (s *Session) flush() {
	for taken := s.take(); taken.first != nil; taken = s.take() {
		if !s.writeTaken(taken) {
			return
		}
	}
}

// flushNow is flush for a goroutine that must not wait for the client: another one goes on when the socket is full.
func (s *Session) flushNow() {
	for taken := s.take(); taken.first != nil; taken = s.take() {
		for p := taken.first; p != nil; p = taken.first {
			n, err := s.writeNow(p.b)
			if err != nil {
				taken.drop()
				s.broken(err)
				return
			}
			if n < len(p.b) {
				p.b = p.b[:copy(p.b, p.b[n:])]
				s.waitFor(taken)
				return
			}
			s.written(&taken)
		}
	}
}

// take takes all that waits from the outbox. When nothing does it gives up the way out, and returns nothing.
func (s *Session) take() backlog {
	s.mu.Lock()
	if s.out.first == nil && len(s.gaps) > 0 && !s.gone {
		var frames []byte
		for thread, from := range s.gaps {
			frames = wire.AppendGap(frames, thread, from)
		}
		s.out.add(len(frames), frames)
		s.gaps = nil
	}
	if s.gone || s.out.first == nil {
		shut := s.last && !s.gone
		s.busy = false
		s.dropLocked()
		s.mu.Unlock()
		if shut {
			s.shutdown()
		}
		return backlog{}
	}
	taken := s.out
	s.out, s.writing = backlog{}, taken.held
	s.mu.Unlock()
	return taken
}

// writeTaken writes what was taken from the outbox, and gives its pieces back. It returns false when the connection is
// lost.
func (s *Session) writeTaken(taken backlog) bool {
	for p := taken.first; p != nil; p = taken.first {
		if err := s.writeAll(p.b); err != nil {
			taken.drop()
			s.broken(err)
			return false
		}
		s.written(&taken)
	}
	return true
}

// written gives back the first piece of what was taken, which the kernel has now.
func (s *Session) written(taken *backlog) {
	taken.shift()
	s.mu.Lock()
	s.writing = taken.held
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
// the wait before it calls Gone, which wants wmu.
func (s *Session) writeAll(b []byte) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	for {
		n, err := s.writeLocked(b)
		if err != nil || n == len(b) {
			return err
		}
		// The connection's own Write waits; it copies what it is given, and keeps a 4 KiB node for good. Only a client that
		// lets its socket fill up costs that.
		b = b[n:]
		piece := min(len(b), waitBytes)
		// Not netpoll's own time-out, whose error wants an address that our connections do not have.
		late := time.AfterFunc(s.limits.WriteTimeout, s.Abort)
		_, err = s.conn.Write(b[:piece])
		if !late.Stop() && err == nil {
			err = ErrSlow // it is being closed
		}
		if err != nil || piece == len(b) {
			return err
		}
		b = b[piece:]
	}
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
	s.out.drop()
	s.gaps = nil
}

// Queued returns the bytes that are held for the socket.
func (s *Session) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heldLocked()
}

func (s *Session) heldLocked() int { return s.writing + s.out.held }
