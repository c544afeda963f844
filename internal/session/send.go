package session

import "parley/internal/outbox"

// Cork gathers what a batch queues for many sessions; see outbox.Cork.
type Cork = outbox.Cork

// Reply queues one whole frame, or several for a native client; the caller keeps frame. It never blocks on the client.
// It returns ErrClosed for a dead session and ErrSlow when more than Limits.Bytes and ReplyBytes would wait; then the
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
	return s.box.Write(frame, cork)
}

// Push queues a push for the client. Errors are those of Reply and the bound is Limits.Bytes, but a client with
// Identity.Gap is told of the texts for which there was no room, once there is. A client that is not shown such pushes is
// not sent it; that is no error.
func (s *Session) Push(p *Push) error { return s.PushCorked(p, nil) }

// PushCorked is Push, written when cork is released.
func (s *Session) PushCorked(p *Push, cork *Cork) error {
	if s.State() == Dead {
		return ErrClosed
	}
	if !s.Shown(p.ID.Needs()) {
		return nil
	}
	if p.ID.Fleeting() && s.box.Queued() > 0 {
		return nil
	}
	if s.stock != nil {
		return s.stock.Push(p)
	}
	if s.gap && p.ID.Rows() {
		return s.box.Push(p.ID, p.Body, p, cork)
	}
	if p.ID.Passing() && s.box.Queued()+len(p.Body) > s.limits.Bytes/2 {
		if s.limits.OnPassed != nil {
			s.limits.OnPassed()
		}
		return nil // the rest of the room is for what cannot be asked for again
	}
	return s.box.Push(p.ID, p.Body, nil, cork)
}

// PushFrames is Push for encoded pushes of one group, which many sessions share: first is the lowest number in them. When
// nothing waits, they go to the socket at once, as with WriteInline. The caller keeps frames. Only a Live session takes
// them: what it missed before, its client asks for.
func (s *Session) PushFrames(frames []byte, thread, first int64) error {
	if s.State() != Live {
		return ErrClosed
	}
	return s.box.PushFrames(frames, thread, first)
}

// Write is Reply without the stock client's policy, which calls it.
func (s *Session) Write(frame []byte) error { return s.box.Write(frame, nil) }

// WriteInline is Write for a goroutine that may spend a system call: when nothing waits, the frames go to the socket at
// once, which saves starting a flusher. It never waits for the client.
func (s *Session) WriteInline(frames []byte) error { return s.box.WriteInline(frames) }

// Queued returns the bytes that are held for the socket.
func (s *Session) Queued() int { return s.box.Queued() }

// Gap tells a client with Identity.Gap that it has missed texts of a thread from a number on, or with thread 0 that it may
// have missed some of any. It returns false if the session cannot be told: the client has no Gap, or the session is dead.
func (s *Session) Gap(thread, from int64) bool { return s.gap && s.box.Gap(thread, from) }
