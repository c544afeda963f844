package websocket

import (
	"encoding/binary"
	"sync"
)

// Lower is the socket below a Writer; see outbox.Socket.
type Lower interface {
	TryWrite([]byte) (int, error)
	Write([]byte) (int, error)
	CloseWrite()
	Reset()
}

// Writer is a server's way out: it makes a binary message of each write to a socket. One of TryWrite and Write is called at
// a time, and what one has left over comes with the next call, before anything else: a message is as long as the write that
// began it. Pong, Raw, Open and End may be called beside them. It implements outbox.Socket but for Last.
type Writer struct {
	lower Lower

	// Owned by who writes.
	left int    // bytes of the message that have not been written
	pre  []byte // goes before them; of head as a rule
	head [10]byte

	mu      sync.Mutex // guards the following
	control []byte     // control frames and raw bytes that wait for the end of the message
	open    bool       // the handshake is over
	status  Status     // of our Close; 0 if there was no reason
	reason  string
}

// copyBytes is how much of a message is copied behind its header, so that one system call writes both.
const copyBytes = 16 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Init gives w its socket.
func (w *Writer) Init(lower Lower) { w.lower = lower }

// begin makes a message of n bytes the current one, unless another one is not over.
func (w *Writer) begin(n int) {
	if w.left > 0 || len(w.pre) > 0 {
		return
	}
	w.mu.Lock()
	if len(w.control) > 0 {
		w.pre, w.control = w.control, nil
	}
	w.mu.Unlock()
	if n == 0 {
		return
	}
	if len(w.pre) > 0 {
		w.pre = appendHeader(w.pre, opBinary, n)
	} else {
		w.pre = appendHeader(w.head[:0], opBinary, n)
	}
	w.left = n
}

// TryWrite implements outbox.Socket.
func (w *Writer) TryWrite(b []byte) (n int, err error) {
	w.begin(len(b))
	if len(w.pre) > 0 {
		buf := buffers.Get().(*[]byte)
		*buf = append(append((*buf)[:0], w.pre...), b[:min(len(b), w.left, copyBytes)]...)
		n, err = w.lower.TryWrite(*buf)
		whole := n == len(*buf)
		if cap(*buf) <= 2*copyBytes {
			buffers.Put(buf)
		}
		k := min(n, len(w.pre))
		if w.pre = w.pre[k:]; len(w.pre) == 0 {
			w.pre = nil
		}
		n -= k
		w.left -= n
		if err != nil || !whole {
			return n, err
		}
	}
	for n < len(b) && w.left > 0 {
		var m int
		m, err = w.lower.TryWrite(b[n : n+min(len(b)-n, w.left)])
		n += m
		w.left -= m
		if m == 0 || err != nil {
			break
		}
	}
	return n, err
}

// Write implements outbox.Socket.
func (w *Writer) Write(b []byte) (n int, err error) {
	for {
		w.begin(len(b) - n)
		if len(w.pre) > 0 {
			if _, err := w.lower.Write(w.pre); err != nil {
				return n, err
			}
			w.pre = nil
		}
		if n == len(b) {
			return n, nil
		}
		m, err := w.lower.Write(b[n : n+min(len(b)-n, w.left)])
		n += m
		w.left -= m
		if err != nil {
			return n, err
		}
	}
}

// CloseWrite implements outbox.Socket: it sends a Close frame, if the socket takes it, and ends our direction.
func (w *Writer) CloseWrite() {
	w.mu.Lock()
	if w.open {
		w.control = appendClose(w.control, w.status, w.reason)
	}
	w.mu.Unlock()
	if w.left == 0 {
		_, _ = w.TryWrite(nil) // the end of the stream follows in any case
	}
	w.lower.CloseWrite()
}

// Reset implements outbox.Socket.
func (w *Writer) Reset() { w.lower.Reset() }

// maxWaiting bounds what waits for the end of a message, in bytes.
const maxWaiting = 4 * (maxControl + 2)

// Pong queues the answer to a ping; the next write, which may be empty, sends it. Too many at once are dropped: the peer
// learns from the others that we live.
func (w *Writer) Pong(payload []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.control) < maxWaiting {
		w.control = append(appendHeader(w.control, opPong, len(payload)), payload...)
	}
}

// Raw queues bytes that are no frame: the answer to the handshake.
func (w *Writer) Raw(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.control = append(w.control, b...)
}

// Open says that the handshake is over: a Close frame will end the stream.
func (w *Writer) Open() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = true
}

// End says why the stream will be closed. The first call wins, but for one with StatusNone, which counts as no reason.
func (w *Writer) End(status Status, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 && status != StatusNone {
		w.status, w.reason = status, reason
	}
}

// appendHeader appends the header of a server's frame.
func appendHeader(dst []byte, op byte, n int) []byte {
	switch {
	case n <= maxControl:
		return append(dst, bitFin|op, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, bitFin|op, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, bitFin|op, 127), uint64(n))
	}
}

func appendClose(dst []byte, status Status, reason string) []byte {
	if status == 0 {
		status = StatusNormal
	}
	dst = appendHeader(dst, opClose, 2+len(reason))
	return append(binary.BigEndian.AppendUint16(dst, uint16(status)), reason...)
}
