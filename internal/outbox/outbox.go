// Package outbox holds the bytes that wait for one client's socket: a bounded queue that one goroutine at a time writes. It
// knows no users and no messages but the gap notice, which takes the place of what there was no room for.
package outbox

import (
	"errors"
	"sync"
	"time"

	"parley/internal/wire"
)

var (
	// ErrClosed is returned when the outbox can take nothing more.
	ErrClosed = errors.New("outbox: closed")
	// ErrSlow is returned when the client does not read what it is sent.
	ErrSlow = errors.New("outbox: slow consumer")
)

// Socket is what an outbox needs of a connection. The outbox calls one of TryWrite, Write and CloseWrite at a time, and none
// after Gone. A write holds whole frames, but for what one before it has left over: that comes first, and alone.
type Socket interface {
	// TryWrite writes what the socket takes at once: 0, nil when it is full.
	TryWrite([]byte) (int, error)
	// Write blocks until the socket took everything or the connection was closed.
	Write([]byte) (int, error)
	// Last says which frame will be the last, nil if there is none. It may come beside a Write that waits.
	Last(frame []byte)
	// CloseWrite ends our direction.
	CloseWrite()
	// Reset makes the coming Close drop what the client has not taken, beside a Write that waits.
	Reset()
}

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

// Limits bounds an outbox. All outboxes of a node share one.
type Limits struct {
	Bytes        int           // waiting for the socket when a push comes
	ReplyBytes   int           // as much more may wait when a reply comes: the client has asked for it
	WriteTimeout time.Duration // how long a full socket may take to accept some more
	Go           func(func())  // starts a goroutine that the node waits for
	OnGap        func()        // a push was dropped, and a gap notice will tell; may be nil
}

// Lossy is a push that a gap notice can stand for.
type Lossy interface {
	// Lost returns the thread of what is dropped, and the lowest number in it.
	Lost() (thread, first int64)
	// In returns the thread.
	In() int64
}

// Outbox is the way out of one connection. The zero value is not usable; see Init. All methods are safe for concurrent
// use.
type Outbox struct {
	socket Socket
	limits *Limits
	owner  Owner

	wmu sync.Mutex // guards the socket: held for each write, and by Gone

	mu      sync.Mutex      // guards the following
	out     *[]byte         // waits for the flusher; nil while idle
	gaps    map[int64]int64 // threads that lost pushes, and from which number on; nil while there are none
	writing int             // bytes that the flusher took and has not written yet
	busy    bool            // a flusher, or an inline write, owns the way out
	last    bool            // nothing may follow: shut the way out when all is written
	gone    bool            // the connection is closed, and the descriptor may be somebody else's
}

// Init gives o its socket. It must be called once, before any other method.
func (o *Outbox) Init(socket Socket, limits *Limits, owner Owner) {
	o.socket, o.limits, o.owner = socket, limits, owner
}

// Write queues whole frames, which the caller keeps. It never blocks on the client. Limits.Bytes and ReplyBytes bound it. The
// frames are written when cork is released, at once if that is nil.
func (o *Outbox) Write(frames []byte, cork *Cork) error {
	o.mu.Lock()
	return o.queue(0, frames, nil, false, o.limits.Bytes+o.limits.ReplyBytes, cork)
}

// Push is Write for a body that goes out under a header. Limits.Bytes bounds it. If there is no room, a gap notice takes the
// place of a push that is lossy, which may be nil, and of those that follow in its thread until it is written.
func (o *Outbox) Push(id wire.MsgID, body []byte, lossy Lossy, cork *Cork) error {
	o.mu.Lock()
	return o.queue(id, body, lossy, true, o.limits.Bytes, cork)
}

// queue needs mu, and releases it.
func (o *Outbox) queue(id wire.MsgID, body []byte, lossy Lossy, header bool, limit int, cork *Cork) error {
	n := len(body)
	if header {
		n += wire.HeaderLen
	}
	if o.gone || o.last {
		o.mu.Unlock()
		return ErrClosed
	}
	full := o.queuedLocked()+n > limit
	switch {
	case lossy != nil && o.dropLossyLocked(lossy, full):
	case full:
		o.mu.Unlock()
		o.owner.Slow()
		return ErrSlow
	default:
		o.roomLocked(n, limit)
		if header {
			*o.out = wire.AppendHeader(*o.out, id, len(body))
		}
		*o.out = append(*o.out, body...)
	}
	start := !o.busy
	o.busy = true
	o.mu.Unlock()
	switch {
	case start && cork != nil:
		cork.boxes = append(cork.boxes, o)
	case start:
		o.limits.Go(o.flush)
	}
	return nil
}

// WriteInline is Write for a goroutine that may spend a system call: when nothing waits, the frames go to the socket at
// once, which saves starting a flusher. It never waits for the client.
func (o *Outbox) WriteInline(frames []byte) error {
	o.mu.Lock()
	if o.busy || o.last || o.gone {
		return o.queue(0, frames, nil, false, o.limits.Bytes+o.limits.ReplyBytes, nil)
	}
	o.busy = true
	o.mu.Unlock()
	return o.writeOwned(frames)
}

// PushFrames is WriteInline for encoded pushes of one thread, which many outboxes share: first is the lowest number in them.
// If there is no room, a gap notice takes their place.
func (o *Outbox) PushFrames(frames []byte, thread, first int64) error {
	o.mu.Lock()
	switch {
	case o.gone || o.last:
		o.mu.Unlock()
		return ErrClosed
	case o.busy:
		o.queueFramesLocked(frames, thread, first)
		o.mu.Unlock()
		return nil
	}
	o.busy = true
	o.mu.Unlock()
	return o.writeOwned(frames)
}

// queueFramesLocked has the owner of the way out write frames too, or tell that there was no room for them.
func (o *Outbox) queueFramesLocked(frames []byte, thread, first int64) {
	_, lost := o.gaps[thread]
	if !lost && o.queuedLocked()+len(frames) <= o.limits.Bytes {
		o.roomLocked(len(frames), o.limits.Bytes)
		*o.out = append(*o.out, frames...)
		return
	}
	o.noteGapLocked(thread, first)
	if !lost && o.limits.OnGap != nil {
		o.limits.OnGap()
	}
}

// Last queues a last frame, which may be empty: when all is written, the way out is shut. It takes the place of what waits, or
// comes behind it. The bound does not count, for there is one such frame. The first call wins.
func (o *Outbox) Last(frame []byte, instead bool) {
	o.mu.Lock()
	if o.gone || o.last {
		o.mu.Unlock()
		return
	}
	o.last, o.gaps = true, nil // the client's next login tells what it has missed
	if instead {
		o.dropLocked()
	}
	o.socket.Last(frame)
	if len(frame) > 0 {
		if o.out == nil {
			o.out = getBuffer()
		}
		*o.out = append(*o.out, frame...)
	}
	start := !o.busy
	o.busy = true
	o.mu.Unlock()
	if start {
		o.limits.Go(o.flush)
	}
}

// Reset makes the coming close of the connection a reset. Otherwise the kernel keeps what it was given for the client for
// minutes after the node has forgotten it, and the client need not even notice.
func (o *Outbox) Reset() {
	o.mu.Lock() // not wmu, which a flusher may hold while it waits for this very client; Gone wants both
	defer o.mu.Unlock()
	if !o.gone {
		o.socket.Reset()
	}
}

// Gone says that the connection is closed: from its return on nothing touches the socket.
func (o *Outbox) Gone() {
	o.wmu.Lock()
	defer o.wmu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone = true
	o.dropLocked()
}

// BeforeGone calls f unless Gone was called before; a Gone that comes meanwhile waits for it. f must not use the outbox.
func (o *Outbox) BeforeGone(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.gone {
		f()
	}
}

// IsGone reports whether Gone was called.
func (o *Outbox) IsGone() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone
}

// Queued returns the bytes that are held for the socket.
func (o *Outbox) Queued() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queuedLocked()
}

func (o *Outbox) queuedLocked() int {
	if o.out == nil {
		return o.writing
	}
	return o.writing + len(*o.out)
}

// Held returns the bytes of memory that the outbox holds, about: a large buffer grows by a quarter.
func (o *Outbox) Held() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := o.writing + o.writing/4
	if o.out != nil {
		held += cap(*o.out)
	}
	return held
}

// Idle reports whether nothing waits and nobody writes: then the outbox holds no buffer.
func (o *Outbox) Idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out == nil && o.writing == 0 && !o.busy
}

// roomLocked makes room for n bytes more, within a limit.
func (o *Outbox) roomLocked(n, limit int) {
	if o.out == nil {
		o.out = getBuffer()
	}
	makeRoom(o.out, n, limit-o.writing)
}

// dropLocked forgets what waits.
func (o *Outbox) dropLocked() {
	if o.out != nil {
		putBuffer(o.out)
	}
	o.out, o.gaps = nil, nil
}
