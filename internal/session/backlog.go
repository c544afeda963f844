package session

import "sync"

const (
	firstPiece = 512 // holds an answer and a few pushes
	// pieceBytes is the largest piece. A client that reads has less waiting as a rule, which one write takes.
	pieceBytes = 16 << 10
)

// piece is a part of what waits for one socket. Its whole capacity counts as held.
type piece struct {
	b    []byte
	next *piece
}

// backlog is what waits for one socket, a list of pieces. One array would be copied each time it has to grow, and leave its
// length again to the garbage collector behind each client that does not read. The zero value is empty, and holds nothing.
type backlog struct {
	first, last *piece
	held        int // bytes, the capacity of its pieces
}

// free returns how much can be added without holding more.
func (l *backlog) free() int {
	if l.last == nil {
		return 0
	}
	return cap(l.last.b) - len(l.last.b)
}

// add copies b to the end. The backlog may hold room bytes more for that, of which it returns how many it took; with what
// is free they must suffice.
func (l *backlog) add(room int, b []byte) (took int) {
	before := l.held
	for len(b) > 0 {
		if l.free() == 0 || l.last == l.first && l.free() < len(b) {
			l.extend(len(b), room-(l.held-before))
		}
		p := l.last
		n := copy(p.b[len(p.b):cap(p.b)], b)
		p.b, b = p.b[:len(p.b)+n], b[n:]
	}
	return l.held - before
}

// extend makes room for some of n bytes: in the only piece, if that may grow, or else in a new one.
func (l *backlog) extend(n, room int) {
	p := l.last
	if p != nil && p == l.first && cap(p.b) < pieceBytes && room > 0 {
		size := min(max(2*cap(p.b), len(p.b)+n), pieceBytes, cap(p.b)+room)
		l.held += size - cap(p.b)
		p.b = append(make([]byte, 0, size), p.b...)
		return
	}
	switch {
	case p == nil:
		l.first = newPiece(0, room)
		l.last = l.first
	case l.free() > 0:
		return // that comes first
	default:
		p.next = newPiece(min(pieceBytes, room), room)
		l.last = p.next
	}
	l.held += cap(l.last.b)
}

// shift gives back the first piece.
func (l *backlog) shift() {
	p := l.first
	l.held -= cap(p.b)
	if l.first = p.next; l.first == nil {
		l.last = nil
	}
	p.b, p.next = p.b[:0], nil
	pieces.Put(p)
}

// drop gives back all pieces.
func (l *backlog) drop() {
	for l.first != nil {
		l.shift()
	}
}

// pieces serve all sessions that have something to send; an idle one holds none.
var pieces = sync.Pool{New: func() any { return &piece{b: make([]byte, 0, firstPiece)} }}

// newPiece returns an empty piece that holds least to room bytes.
func newPiece(least, room int) *piece {
	if room <= 0 {
		panic("session: no room in an outbox") // add would never end
	}
	p := pieces.Get().(*piece)
	if cap(p.b) < least || cap(p.b) > room {
		p.b = make([]byte, 0, min(max(least, firstPiece), room))
	}
	return p
}
