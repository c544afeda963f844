package watch

import "time"

// typedThreads is the number of threads in which a session may report typing within Config.Typing.
const typedThreads = 4

// typed records when a session reported typing in a thread.
type typed struct {
	thread int64
	at     time.Time
}

// Typing reports whether a session may send a typing notice for a thread now.
func (w *Watches[C]) Typing(c C, thread int64, now time.Time) bool {
	t := w.table
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.watcherLocked(c)
	if mine == nil {
		return false
	}
	oldest := &mine.typed[0]
	for i := range mine.typed {
		e := &mine.typed[i]
		if e.thread == thread && now.Sub(e.at) < w.cfg.Typing {
			return false
		}
		if e.at.Before(oldest.at) {
			oldest = e
		}
	}
	if now.Sub(oldest.at) < w.cfg.Typing {
		return false
	}
	*oldest = typed{thread, now}
	return true
}
