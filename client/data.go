package client

import "context"

// dataChanged reports whether conn's server works on other data than the session so far; then all starts anew.
func (s *Session) dataChanged(conn *Conn) bool {
	before, now := s.data, conn.Data()
	if now == "" {
		return false
	}
	s.data = now
	if before == now {
		return false
	}
	if before == "" {
		s.mu.Lock()
		s.seenData = now
		s.mu.Unlock()
		return false
	}
	s.ord, s.since = order{self: s.ord.self}, ""
	s.receipts.rest() // other threads have these ids now
	return true
}

// setBack deals with a thread that ends before what of it was handed on.
func (s *Session) setBack(ctx context.Context, conn *Conn, thread, last int64) error {
	s.ord.setBack(thread, last)
	if err := s.hand(ctx, conn, DataReplaced{ThreadID: thread, LastID: last}); err != nil {
		return err
	}
	return s.pull(ctx, conn, thread)
}
