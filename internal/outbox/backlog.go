package outbox

import (
	"sync"

	"parley/internal/wire"
)

// buffers are the queues of outboxes that have something to send; an idle one holds none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// maxPooled keeps the buffer of one slow consumer from staying in the pool for ever.
const maxPooled = 16 << 10

// maxGaps bounds the threads of which an outbox remembers that pushes were dropped.
const maxGaps = 1024

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) > maxPooled {
		return
	}
	*b = (*b)[:0]
	buffers.Put(b)
}

// backlog is what waits for a client: frames, and the threads that have lost pushes, of which gap notices will tell.
type backlog struct {
	out     *[]byte         // frames for the flusher; nil while there are none
	writing int             // bytes that the flusher took and has not written yet
	gaps    map[int64]int64 // threads that lost pushes, and from which number on; nil while there are none
}

// bytes returns how many bytes are held for the socket.
func (b *backlog) bytes() int {
	if b.out == nil {
		return b.writing
	}
	return b.writing + len(*b.out)
}

// memory returns the bytes of memory that these take, about: a large buffer grows by a quarter.
func (b *backlog) memory() int {
	held := b.writing + b.writing/4
	if b.out != nil {
		held += cap(*b.out)
	}
	return held
}

// room makes room in out for n bytes more, within a limit: a small buffer doubles, a large one grows by a quarter, so that a
// client that does not read pins little more than what waits for it.
func (b *backlog) room(n, limit int) {
	if b.out == nil {
		b.out = getBuffer()
	}
	need, grown := len(*b.out)+n, 2*cap(*b.out)
	if need <= cap(*b.out) {
		return
	}
	if cap(*b.out) >= maxPooled {
		grown = cap(*b.out) + cap(*b.out)/4
	}
	*b.out = append(make([]byte, 0, max(need, min(grown, limit-b.writing))), *b.out...)
}

// lost reports whether a thread has lost pushes, and the client was not told yet.
func (b *backlog) lost(thread int64) bool {
	_, lost := b.gaps[thread]
	return lost
}

// note notes that a thread has lost pushes, from a number on.
func (b *backlog) note(thread, from int64) {
	if b.gaps == nil {
		b.gaps = make(map[int64]int64)
	}
	if at, known := b.gaps[thread]; known {
		from = min(from, at)
	} else if len(b.gaps) >= maxGaps {
		thread, from = 0, 0 // too many to name
	}
	b.gaps[thread] = from
}

// take takes the frames, and when none are left the gap notices. It returns nil when nothing waits.
func (b *backlog) take() *[]byte {
	out := b.out
	if out == nil && len(b.gaps) > 0 {
		out = getBuffer()
		for thread, from := range b.gaps {
			*out = wire.AppendGap(*out, thread, from)
		}
		b.gaps = nil
	}
	b.out, b.writing = nil, 0
	if out != nil {
		b.writing = len(*out)
	}
	return out
}

// drop forgets what waits.
func (b *backlog) drop() {
	if b.out != nil {
		putBuffer(b.out)
	}
	b.out, b.gaps = nil, nil
}

// shrink moves the unwritten rest of b to a smaller buffer once a quarter of a large one is free. As bytes are written as
// many new ones may wait beside them; without this a client that reads slowly would pin twice its bound.
func shrink(b *[]byte, rest []byte) []byte {
	if cap(*b) > maxPooled && len(rest) <= cap(*b)/4*3 {
		*b = append(make([]byte, 0, len(rest)), rest...)
		return *b
	}
	return rest
}
