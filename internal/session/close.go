package session

import (
	"errors"
	"syscall"
	"time"
)

// broken closes a connection whose write failed; netpoll would leave it open. Nothing may follow a frame that was cut.
func (s *Session) broken(err error) {
	s.mu.Lock()
	s.busy, s.last, s.writing = false, true, 0
	s.dropLocked()
	s.mu.Unlock()
	if s.limits.OnWriteFail != nil && !errors.Is(err, ErrClosed) {
		s.limits.OnWriteFail(s, err)
	}
	s.reset()
	s.CloseSoon() // a policy that writes holds a lock which Gone's listener wants
}

// slow ends the session of a client that does not read: what waits is dropped. A native client that reads again before
// the write time-out finds Limits.SlowFrame behind what was being written.
func (s *Session) slow() {
	if !s.die() {
		return
	}
	if s.limits.OnSlow != nil {
		s.limits.OnSlow(s)
	}
	if !s.native || s.limits.SlowFrame == nil {
		s.reset()
		s.CloseSoon()
		return
	}
	s.finish(s.limits.SlowFrame, true)
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
func (s *Session) FinishNow(frame []byte) { s.finish(frame, false) }

// finish queues the last frame, instead of what waits or behind it. The bound does not count: there is one such frame.
func (s *Session) finish(frame []byte, instead bool) {
	s.mu.Lock()
	if s.gone || s.last {
		s.mu.Unlock()
		return
	}
	s.last, s.gaps = true, nil // the client's next login tells what it has missed
	if instead {
		s.dropLocked()
	}
	if len(frame) > 0 {
		if s.out == nil {
			s.out = getBuffer()
		}
		*s.out = append(*s.out, frame...)
	}
	start := !s.busy
	s.busy = true
	s.mu.Unlock()
	if start {
		s.limits.Go(s.flush)
	}
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

// Abort is Close for a client that reads nothing any more: the kernel drops what it has not taken, too.
func (s *Session) Abort() {
	s.reset()
	s.Close()
}

// reset makes the coming close a reset. Otherwise the kernel keeps what it was given for the client for minutes after the
// node has forgotten it, and the client need not even notice.
func (s *Session) reset() {
	s.mu.Lock() // not wmu, which a flusher may hold while it waits for this very client; Gone wants both
	defer s.mu.Unlock()
	if !s.gone {
		_ = syscall.SetsockoptLinger(s.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}) // else a plain close
	}
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
	stock := s.stock
	s.dropLocked()
	s.mu.Unlock()
	s.wmu.Unlock()
	if stock != nil {
		stock.Gone()
	}
}
