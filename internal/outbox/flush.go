package outbox

import (
	"time"

	"parley/internal/wire"
)

// flush writes what waits until nothing does. One runs at most for an outbox.
func (o *Outbox) flush() {
	for b := o.take(); b != nil; b = o.take() {
		if !o.writeTaken(b) {
			return
		}
	}
}

// flushNow is flush for a goroutine that must not wait for the client: another one goes on when the socket is full.
func (o *Outbox) flushNow() {
	for b := o.take(); b != nil; b = o.take() {
		n, err := o.writeNow(*b)
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
		o.noteWritten()
	}
}

// take takes all that waits. When nothing does it gives up the way out, and returns nil.
func (o *Outbox) take() *[]byte {
	o.mu.Lock()
	if o.out == nil && len(o.gaps) > 0 && !o.gone {
		o.out = getBuffer()
		for thread, from := range o.gaps {
			*o.out = wire.AppendGap(*o.out, thread, from)
		}
		o.gaps = nil
	}
	if o.gone || o.out == nil {
		shut := o.last && !o.gone
		o.busy = false
		o.dropLocked()
		o.mu.Unlock()
		if shut {
			o.shut()
		}
		return nil
	}
	b := o.out
	o.out, o.writing = nil, len(*b)
	o.mu.Unlock()
	return b
}

// shut ends our direction.
func (o *Outbox) shut() {
	o.wmu.Lock()
	gone := o.IsGone()
	if !gone {
		o.socket.CloseWrite()
	}
	o.wmu.Unlock()
	if !gone {
		o.owner.Shut()
	}
}

// writeOwned writes frames for a caller that has made itself the owner of the way out, and gives it up.
func (o *Outbox) writeOwned(frames []byte) error {
	n, err := o.writeNow(frames)
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
	more := o.out != nil || len(o.gaps) > 0 || o.last
	o.busy = more
	o.mu.Unlock()
	if more {
		o.limits.Go(o.flush)
	}
	return nil
}

// waitFor writes b, for which the socket had no room, and then what waits, on a goroutine that may wait for the client.
func (o *Outbox) waitFor(b *[]byte) {
	o.mu.Lock()
	o.writing = len(*b)
	o.mu.Unlock()
	o.limits.Go(func() {
		if o.writeTaken(b) {
			o.flush()
		}
	})
}

// writeTaken writes what was taken, and gives its buffer back. It returns false when the connection is lost.
func (o *Outbox) writeTaken(b *[]byte) bool {
	err := o.writeAll(b)
	putBuffer(b)
	if err != nil {
		o.broken(err)
		return false
	}
	o.noteWritten()
	return true
}

func (o *Outbox) noteWritten() {
	o.mu.Lock()
	o.writing = 0
	o.mu.Unlock()
}

// writeNow hands the socket what it takes at once.
func (o *Outbox) writeNow(b []byte) (int, error) {
	o.wmu.Lock()
	defer o.wmu.Unlock()
	return o.writeLocked(b)
}

// writeLocked needs wmu. A full socket is 0, nil.
func (o *Outbox) writeLocked(b []byte) (int, error) {
	if o.IsGone() {
		return 0, ErrClosed
	}
	return o.socket.TryWrite(b)
}

// writeAll waits for the client, as long as WriteTimeout allows. It holds wmu while it waits: the connection's close ends
// the wait before it calls Gone, which wants wmu. Meanwhile it exchanges the buffer for smaller ones.
func (o *Outbox) writeAll(b *[]byte) error {
	o.wmu.Lock()
	defer o.wmu.Unlock()
	for rest := *b; ; {
		n, err := o.writeLocked(rest)
		if err != nil || n == len(rest) {
			return err
		}
		rest = shrink(b, rest[n:])
		o.mu.Lock()
		o.writing = len(rest)
		o.mu.Unlock()
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
	o.busy, o.last, o.writing = false, true, 0
	o.dropLocked()
	o.mu.Unlock()
	o.owner.Broken(err)
}
