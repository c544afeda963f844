package outbox

import "time"

// waitBytes is how much is handed to the connection while its socket is full.
const waitBytes = 8 << 10

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

// Owner hears of what becomes of an outbox. It is called without a lock, by the goroutine that found out.
type Owner interface {
	// Slow says that there was no room for what the client must get. The caller gets ErrSlow.
	Slow()
	// Broken says that a write failed with err, and that nothing will be written any more.
	Broken(err error)
	// Late says that the client has taken nothing for Limits.WriteTimeout: the connection is to be closed, which ends the
	// Write that waits.
	Late()
	// Shut says that the last frame was written and our direction is closed.
	Shut()
}

// flush writes what waits until nothing does. One runs at most for an outbox.
func (o *Outbox) flush() {
	for b := o.take(); b != nil && o.writeTaken(b); {
		b = o.take()
	}
}

// flushNow is flush for a goroutine that must not wait for the client: another one goes on when the socket is full.
func (o *Outbox) flushNow() {
	for b := o.take(); b != nil; b = o.take() {
		n, err := o.socket.write(*b)
		if err == nil && n < len(*b) {
			*b = (*b)[:copy(*b, (*b)[n:])]
			o.waitFor(b)
			return
		}
		putBuffer(b)
		if err != nil {
			o.broken(err)
			return
		}
	}
}

// take takes all that waits. When nothing does it gives up the way out, and returns nil.
func (o *Outbox) take() *[]byte {
	o.mu.Lock()
	b := o.waiting.take()
	shut := b == nil && o.last
	if b == nil {
		o.busy = false
	}
	o.mu.Unlock()
	if shut && o.socket.closeWrite() {
		o.owner.Shut()
	}
	return b
}

// writeOwned writes frames for a caller that has made itself the owner of the way out, and gives it up.
func (o *Outbox) writeOwned(frames []byte) error {
	n, err := o.socket.write(frames)
	if err != nil {
		o.broken(err)
		return ErrClosed
	}
	if n < len(frames) {
		rest := getBuffer()
		*rest = append(*rest, frames[n:]...)
		o.waitFor(rest)
		return nil
	}
	o.mu.Lock()
	more := o.waiting.out != nil || len(o.waiting.gaps) > 0 || o.last
	o.busy = more
	o.mu.Unlock()
	if more {
		o.limits.Go(o.flush)
	}
	return nil
}

// waitFor writes b, for which the socket had no room, and then what waits, on a goroutine that may wait for the client.
func (o *Outbox) waitFor(b *[]byte) {
	o.noteWriting(len(*b))
	o.limits.Go(func() {
		if o.writeTaken(b) {
			o.flush()
		}
	})
}

// noteWriting notes how much of what was taken is still to be written.
func (o *Outbox) noteWriting(n int) {
	o.mu.Lock()
	o.waiting.writing = n
	o.mu.Unlock()
}

// writeTaken writes what was taken, and gives its buffer back. It returns false when the connection is lost.
func (o *Outbox) writeTaken(b *[]byte) bool {
	err := o.writeAll(b)
	putBuffer(b)
	if err != nil {
		o.broken(err)
	}
	return err == nil
}

// writeAll waits for the client, as long as WriteTimeout allows. It holds the socket while it waits: the connection's close
// ends the wait before it calls Gone, which wants the socket. Meanwhile it exchanges the buffer for smaller ones.
func (o *Outbox) writeAll(b *[]byte) error {
	o.socket.mu.Lock()
	defer o.socket.mu.Unlock()
	if o.socket.gone() {
		return ErrClosed
	}
	for rest := *b; ; {
		n, err := o.socket.TryWrite(rest)
		if err != nil || n == len(rest) {
			return err
		}
		rest = shrink(b, rest[n:])
		o.noteWriting(len(rest))
		// The connection's own Write waits; netpoll's copies what it is given, and keeps a 4 KiB node for good. Only a client
		// that lets its socket fill up costs that.
		piece := min(len(rest), waitBytes)
		// Not netpoll's own time-out, whose error wants an address that our connections do not have.
		late := time.AfterFunc(o.limits.WriteTimeout, o.owner.Late)
		_, err = o.socket.Write(rest[:piece])
		if !late.Stop() && err == nil {
			err = ErrSlow // it is being closed
		}
		if err != nil || piece == len(rest) {
			return err
		}
		rest = rest[piece:]
	}
}

// broken ends the way out after a failed write: nothing may follow a frame that was cut.
func (o *Outbox) broken(err error) {
	o.mu.Lock()
	o.busy, o.last, o.waiting.writing = false, true, 0
	o.waiting.drop()
	o.mu.Unlock()
	o.owner.Broken(err)
}
