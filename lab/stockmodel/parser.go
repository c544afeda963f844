package stockmodel

import (
	"encoding/binary"
	"fmt"
	"time"

	"parley/internal/wire"
)

// parser extracts frames from bytes as the client does, including its defect. It survives connections: bytes left by
// one connection precede the first bytes of the next.
type parser struct {
	buffer  []byte
	pending bool // a header was read, but its body is incomplete
	id      wire.MsgID
	need    int
}

// coalesced is the period within which a stall of this process explains that two frames arrived in one read. It is
// longer than the servers' frame spacing of 20 ms, because a machine that delays one connection need not delay the
// watched ones at the same moment.
const coalesced = time.Second

// readyRead handles the data of one read of the socket. Only the first header of a call is read at the right
// position. The stream that reads headers keeps its position while the buffer below it is cut, so each later header
// is read four bytes too far, within the frame's body. lost describes the first time that happens. frame is called
// with every frame, right or wrong.
//
// With forgive, a second header is read correctly and only counted.
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

// headerAt reads a header; missing bytes read as zero.
func headerAt(b []byte, at int) (wire.MsgID, int) {
	var h [wire.HeaderLen]byte
	if at < len(b) {
		copy(h[:], b[at:])
	}
	return wire.MsgID(binary.BigEndian.Uint16(h[:])), int(binary.BigEndian.Uint16(h[2:]))
}
