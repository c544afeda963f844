package stockmodel

import (
	"encoding/binary"
	"fmt"
	"time"

	"parley/internal/wire"
)

// parser is the client's way from bytes to frames, with its defect. It outlives connections: what a connection left in
// it meets the first bytes of the next.
type parser struct {
	buffer  []byte
	pending bool // a header was read, its body is not complete
	id      wire.MsgID
	need    int
}

// coalesced is the window within which a stall of this process explains that two frames came in one read. It is longer
// than the servers' frame spacing of 20 ms: a machine that keeps one connection waiting does not always keep the watched ones.
const coalesced = time.Second

// readyRead takes what one read of the socket brought. Only the first header of a call is read from where it is: the
// stream that reads headers keeps its position while the buffer below it is cut, so every later one is taken four
// bytes too far, from inside the frame's body. lost tells of the first time that happened; frame gets every frame,
// right or wrong.
//
// With forgive a second header is read properly, and only counted.
func (p *parser) readyRead(data []byte, forgive bool, frame func(wire.MsgID, []byte) bool) (lost string, forgiven int) {
	p.buffer = append(p.buffer, data...)
	position := 0 // of the stream
	for {
		if !p.pending {
			if len(p.buffer) < wire.HeaderLen {
				return lost, forgiven
			}
			if position > 0 && forgive {
				position = 0
				forgiven++
			}
			id, n := headerAt(p.buffer, position)
			if position > 0 && lost == "" {
				right, _ := headerAt(p.buffer, 0)
				lost = fmt.Sprintf("two frames in one read: the header of a %d after a %d was read as id %d, length %d",
					uint16(right), uint16(p.id), uint16(id), n)
			}
			position += wire.HeaderLen
			p.id, p.need = id, n
			p.buffer = p.buffer[wire.HeaderLen:]
		}
		if len(p.buffer) < p.need {
			p.pending = true
			return lost, forgiven
		}
		p.pending = false
		body := p.buffer[:p.need]
		p.buffer = p.buffer[p.need:]
		if !frame(p.id, body) {
			return lost, forgiven
		}
	}
}

// headerAt reads a header; bytes that are not there read as zero.
func headerAt(b []byte, at int) (wire.MsgID, int) {
	var h [wire.HeaderLen]byte
	if at < len(b) {
		copy(h[:], b[at:])
	}
	return wire.MsgID(binary.BigEndian.Uint16(h[:])), int(binary.BigEndian.Uint16(h[2:]))
}
