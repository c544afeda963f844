package session

// corkShare is how many sessions one goroutine writes to when a cork is released: 64 writes take about half a
// millisecond, which bounds what the last of them waits, and more sessions than that keep several processors busy.
const corkShare = 64

// Cork gathers the sessions for which a batch queues frames, so that each is written to once, and one goroutine serves
// many of them instead of starting a flusher each. The zero value is ready. It belongs to one goroutine, which must
// call Release after the batch, come what may: until then nothing reaches the sessions gathered.
type Cork struct {
	sessions []*Session
}

// Release has what the sessions gathered were given written, without waiting for it, and makes the cork ready for the
// next batch.
func (c *Cork) Release() {
	for len(c.sessions) > 0 {
		share := append([]*Session(nil), c.sessions[:min(len(c.sessions), corkShare)]...)
		c.sessions = c.sessions[len(share):]
		share[0].limits.Go(func() {
			for _, s := range share {
				s.flushNow()
			}
		})
	}
	c.sessions = nil
}
