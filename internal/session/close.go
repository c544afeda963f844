package session

import (
	"errors"
	"time"
)

// ends is what a session does when its outbox cannot go on; see outbox.Owner.
type ends Session

// Slow ends the session of a client that does not read: what waits is dropped. A native client that reads again before
// the write time-out finds Limits.SlowFrame behind what was being written.
func (e *ends) Slow() {
	s := (*Session)(e)
	if !s.die() {
		return
	}
	if s.limits.OnSlow != nil {
		s.limits.OnSlow(s)
	}
	if !s.native || s.limits.SlowFrame == nil {
		s.box.Reset()
		s.CloseSoon()
		return
	}
	s.box.Last(s.limits.SlowFrame, true)
}

// Broken closes a connection whose write failed; netpoll would leave it open.
func (e *ends) Broken(err error) {
	s := (*Session)(e)
	if s.limits.OnWriteFail != nil && !errors.Is(err, ErrClosed) {
		s.limits.OnWriteFail(s, err)
	}
	s.box.Reset()
	s.CloseSoon() // a policy that writes holds a lock which Gone's listener wants
}

// Late gives a client up that takes nothing.
func (e *ends) Late() { (*Session)(e).Abort() }

// Shut gives the client Limits.Linger to end its direction. The timer holds the session for so long at most, and a Close after
// Gone does nothing.
func (e *ends) Shut() { time.AfterFunc(e.limits.Linger, (*Session)(e).Close) }

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
func (s *Session) FinishNow(frame []byte) { s.box.Last(frame, false) }

// HangUp is what Finish is for a client that has said that it reads no more: what waits is dropped.
func (s *Session) HangUp() {
	s.die()
	s.box.Last(nil, true)
}

// Close closes the connection at once, dropping what waits. It is safe to call at any time, any number of times, but
// not under a lock: the connection's close callback runs inside and calls Gone.
func (s *Session) Close() {
	s.die()
	_ = s.socket.Close() // closing twice is not an error worth telling
}

// Abort is Close for a client that reads nothing any more: the kernel drops what it has not taken, too.
func (s *Session) Abort() {
	s.box.Reset()
	s.Close()
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
	s.box.Gone()
	if s.stock != nil { // nobody sets it any more
		s.stock.Gone()
	}
}
