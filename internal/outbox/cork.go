package outbox

// CorkShare is how many sockets one goroutine writes to when a cork is released: 64 writes take about half a
// millisecond, which bounds what the last of them waits, and more than that keep several processors busy.
const CorkShare = 64

// Cork gathers the outboxes for which a batch queues frames, so that each is written to once, and one goroutine serves
// many of them instead of starting a flusher each. The zero value is ready. It belongs to one goroutine, which must
// call Release after the batch, come what may: until then nothing reaches the clients.
type Cork struct {
	boxes []*Outbox
}

// Release has what was gathered written, without waiting for it, and makes the cork ready for the next batch.
func (c *Cork) Release() {
	for len(c.boxes) > 0 {
		share := append([]*Outbox(nil), c.boxes[:min(len(c.boxes), CorkShare)]...)
		c.boxes = c.boxes[len(share):]
		share[0].limits.Go(func() {
			for _, o := range share {
				o.flushNow()
			}
		})
	}
	c.boxes = nil
}

// Len returns how many outboxes wait for the release.
func (c *Cork) Len() int { return len(c.boxes) }
