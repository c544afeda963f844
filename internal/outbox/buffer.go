package outbox

import "sync"

// buffers are the queues of outboxes that have something to send; an idle one holds none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// maxPooled keeps the buffer of one slow consumer from staying in the pool for ever.
const maxPooled = 16 << 10

// waitBytes is how much is handed to the connection while its socket is full.
const waitBytes = 8 << 10

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) > maxPooled {
		return
	}
	*b = (*b)[:0]
	buffers.Put(b)
}

// makeRoom grows a buffer that is too small for n bytes more, up to a bound: a small one doubles, a large one grows by a
// quarter, so that a client that does not read pins little more than what waits for it.
func makeRoom(b *[]byte, n, bound int) {
	need, grown := len(*b)+n, 2*cap(*b)
	if need <= cap(*b) {
		return
	}
	if cap(*b) >= maxPooled {
		grown = cap(*b) + cap(*b)/4
	}
	*b = append(make([]byte, 0, max(need, min(grown, bound))), *b...)
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
