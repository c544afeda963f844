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
	limits *Limits
	owner  Owner
	socket guarded

	mu      sync.Mutex // guards the following; may be taken under the socket's
	waiting backlog
	busy    bool // a flusher, or an inline write, owns the way out
	last    bool // nothing may follow: shut the way out when all is written
}

// Init gives o its socket. It must be called once, before any other method.
func (o *Outbox) Init(socket Socket, limits *Limits, owner Owner) {
	o.socket.Socket, o.limits, o.owner = socket, limits, owner
}

// Write queues whole frames, which the caller keeps. It never blocks on the client. Limits.Bytes and ReplyBytes bound it. The
// frames are written when cork is released, at once if that is nil.
func (o *Outbox) Write(frames []byte, cork *Cork) error {
	o.mu.Lock()
	return o.queue(0, frames, nil, o.limits.Bytes+o.limits.ReplyBytes, cork)
}

// Push is Write for a body that goes out under a header. Limits.Bytes bounds it. If there is no room, a gap notice takes the
// place of a push that is lossy, which may be nil, and of those that follow in its thread until it is written.
func (o *Outbox) Push(id wire.MsgID, body []byte, lossy Lossy, cork *Cork) error {
	o.mu.Lock()
	return o.queue(id, body, lossy, o.limits.Bytes, cork)
}

// queue queues a body under a header, or whole frames if id is 0. It needs mu, and releases it.
func (o *Outbox) queue(id wire.MsgID, body []byte, lossy Lossy, limit int, cork *Cork) error {
	if o.socket.gone() || o.last {
		o.mu.Unlock()
		return ErrClosed
	}
	n := len(body)
	if id != 0 {
		n += wire.HeaderLen
	}
	full := o.waiting.bytes()+n > limit
	switch gaps := len(o.waiting.gaps); {
	case lossy != nil && gaps > 0 && o.waiting.lost(lossy.In()): // the client reads it from history, too
	case lossy != nil && full && gaps < maxGaps:
		o.loseLocked(lossy.Lost())
	case full:
		o.mu.Unlock()
		o.owner.Slow()
		return ErrSlow
	default:
		o.waiting.room(n, limit)
		if id != 0 {
			*o.waiting.out = wire.AppendHeader(*o.waiting.out, id, len(body))
		}
		*o.waiting.out = append(*o.waiting.out, body...)
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

// loseLocked has a gap notice stand for pushes of a thread from a number on.
func (o *Outbox) loseLocked(thread, first int64) {
	if o.limits.OnGap != nil && !o.waiting.lost(thread) {
		o.limits.OnGap()
	}
	o.waiting.note(thread, first)
}

// WriteInline is Write for a goroutine that may spend a system call: when nothing waits, the frames go to the socket at
// once, which saves starting a flusher. It never waits for the client.
func (o *Outbox) WriteInline(frames []byte) error {
	o.mu.Lock()
	if o.busy || o.last || o.socket.gone() {
		return o.queue(0, frames, nil, o.limits.Bytes+o.limits.ReplyBytes, nil)
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
	case o.socket.gone() || o.last:
		o.mu.Unlock()
		return ErrClosed
	case !o.busy:
		o.busy = true
		o.mu.Unlock()
		return o.writeOwned(frames)
	}
	// The owner of the way out writes them too, or tells that there was no room for them.
	if o.waiting.lost(thread) || o.waiting.bytes()+len(frames) > o.limits.Bytes {
		o.loseLocked(thread, first)
	} else {
		o.waiting.room(len(frames), o.limits.Bytes)
		*o.waiting.out = append(*o.waiting.out, frames...)
	}
	o.mu.Unlock()
	return nil
}

// Gap has the client told that it has missed rows of a thread from a number on, or with thread 0 that it may have missed
// some of any. It returns false if nothing can be written any more.
func (o *Outbox) Gap(thread, from int64) bool {
	o.mu.Lock()
	if o.socket.gone() || o.last {
		o.mu.Unlock()
		return false
	}
	o.waiting.note(thread, from)
	start := !o.busy
	o.busy = true
	o.mu.Unlock()
	if start {
		o.limits.Go(o.flush)
	}
	return true
}

// Last queues a last frame, which may be empty: when all is written, the way out is shut. It takes the place of what waits, or
// comes behind it. The bound does not count, for there is one such frame. The first call wins.
func (o *Outbox) Last(frame []byte, instead bool) {
	o.mu.Lock()
	if o.socket.gone() || o.last {
		o.mu.Unlock()
		return
	}
	o.last, o.waiting.gaps = true, nil // the client's next login tells what it has missed
	if instead {
		o.waiting.drop()
	}
	o.socket.Last(frame)
	if len(frame) > 0 {
		if o.waiting.out == nil {
			o.waiting.out = getBuffer()
		}
		*o.waiting.out = append(*o.waiting.out, frame...)
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
	o.mu.Lock() // not the socket's, which a flusher may hold while it waits for this very client; Gone wants both
	defer o.mu.Unlock()
	if !o.socket.gone() {
		o.socket.Reset()
	}
}

// Gone says that the connection is closed: from its return on nothing touches the socket.
func (o *Outbox) Gone() {
	o.socket.mu.Lock()
	defer o.socket.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.socket.Socket = nil
	o.waiting.drop()
}

// BeforeGone calls f unless Gone was called before; a Gone that comes meanwhile waits for it. f must not use the outbox.
func (o *Outbox) BeforeGone(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.socket.gone() {
		f()
	}
}

// Queued returns the bytes that are held for the socket.
func (o *Outbox) Queued() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting.bytes()
}

// Held returns the bytes of memory that the outbox holds, about.
func (o *Outbox) Held() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting.memory()
}

// Idle reports whether nothing waits and nobody writes: then the outbox holds no buffer.
func (o *Outbox) Idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting.out == nil && o.waiting.writing == 0 && !o.busy
}
