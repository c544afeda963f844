package outbox

// maxGaps bounds the threads of which an outbox remembers that pushes were dropped.
const maxGaps = 1024

// Gap has the client told that it has missed rows of a thread from a number on, or with thread 0 that it may have missed
// some of any. It returns false if nothing can be written any more.
func (o *Outbox) Gap(thread, from int64) bool {
	o.mu.Lock()
	if o.gone || o.last {
		o.mu.Unlock()
		return false
	}
	o.noteGapLocked(thread, from)
	start := !o.busy
	o.busy = true
	o.mu.Unlock()
	if start {
		o.limits.Go(o.flush)
	}
	return true
}

func (o *Outbox) noteGapLocked(thread, from int64) {
	if o.gaps == nil {
		o.gaps = make(map[int64]int64)
	}
	if at, known := o.gaps[thread]; known {
		from = min(from, at)
	} else if len(o.gaps) >= maxGaps {
		thread, from = 0, 0 // too many to name
	}
	o.gaps[thread] = from
}

// dropLossyLocked drops a push for which there is no room, or one of a thread that has lost pushes and was not told yet: the
// client reads both from history. It reports whether it did.
func (o *Outbox) dropLossyLocked(p Lossy, full bool) bool {
	if len(o.gaps) > 0 {
		if _, lost := o.gaps[p.In()]; lost {
			return true
		}
	}
	if !full || len(o.gaps) >= maxGaps {
		return false
	}
	o.noteGapLocked(p.Lost())
	if o.limits.OnGap != nil {
		o.limits.OnGap()
	}
	return true
}
