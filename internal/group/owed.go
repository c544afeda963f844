package group

import "sync"

// owed holds the groups whose members here wait for a gap notice. It is safe for concurrent use.
type owed struct {
	mu    sync.Mutex      // guards the following
	first map[int64]int64 // by group: the number from which on rows are missing
}

func newOwed() *owed { return &owed{first: make(map[int64]int64)} }

// add schedules a gap notice to the members here about rows from a number on.
func (o *owed) add(thread, first int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at, known := o.first[thread]; known {
		first = min(first, at)
	}
	o.first[thread] = max(first, 1)
}

// take removes and returns all.
func (o *owed) take() map[int64]int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.first) == 0 {
		return nil
	}
	all := o.first
	o.first = make(map[int64]int64)
	return all
}

// size returns the number of groups.
func (o *owed) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.first)
}
