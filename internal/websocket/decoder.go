// Package websocket is the WebSocket protocol (RFC 6455) as functions of bytes: the handshake, the frames that come in and
// those that go out. It holds no socket and starts no goroutine, so an idle connection costs what its state takes.
//
// Only what Parley needs is here: binary messages, no extension, no compression.
package websocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Status is the code of a Close frame.
type Status uint16

// The codes used here; see RFC 6455, 7.4.1. StatusParley is from the range that the RFC leaves to applications: the reason
// that follows it is a code of Parley's, in decimal.
const (
	StatusNormal      Status = 1000
	StatusProtocol    Status = 1002
	StatusUnsupported Status = 1003
	StatusNone        Status = 1005 // never sent: a Close frame without a code
	StatusInvalid     Status = 1007
	StatusTooBig      Status = 1009
	StatusParley      Status = 4000
)

// Error is input that breaks the protocol. Nothing after it can be read.
type Error struct {
	Status  Status // for the Close frame
	Problem string
}

func (e *Error) Error() string { return fmt.Sprintf("websocket: %s", e.Problem) }

func protocolError(problem string) error { return &Error{Status: StatusProtocol, Problem: problem} }

// StatusOf returns the code for the Close frame that answers err.
func StatusOf(err error) Status {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return StatusProtocol
}

// Kind is what a Part is.
type Kind uint8

// The kinds of parts.
const (
	Data  Kind = iota // payload of a binary message, or the end of one
	Ping              // to be answered by a Pong with the same payload
	Pong              // says only that the peer lives
	Close             // the peer sends nothing after it
)

// Part is what a Decoder found.
type Part struct {
	Kind Kind
	// Payload is borrowed: it is valid as long as what was passed to Next, or until the next call. That of a Close is the
	// reason.
	Payload []byte
	// End says that a message ends with this part of it.
	End bool
	// Status is that of a Close, StatusNone if it has none.
	Status Status
}

// The frame's first two bytes.
const (
	bitFin  = 0x80
	bitsRsv = 0x70
	bitMask = 0x80

	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	maxHeader  = 14
	maxControl = 125
)

// Decoder reads the frames of one direction. It holds back less than a frame's header and what a control frame carries, at
// most 125 bytes; payload is passed on as it comes. The zero value is a server's without a bound.
type Decoder struct {
	// MaxMessage bounds a message, in bytes; 0 means no limit.
	MaxMessage int
	// Client makes it a client's: a server's frames are not masked.
	Client bool
	// Text has it take text messages like binary ones, without a look at their UTF-8. Parley's servers and clients send none.
	Text bool

	head    [maxHeader]byte
	have    uint8 // bytes of head
	op      byte  // of the frame whose payload is being read
	fin     bool
	payload bool // the header is complete, left bytes of payload follow
	message bool // a message has begun and not ended
	closed  bool // a Close came
	turn    uint8
	mask    [4]byte
	left    uint64
	size    uint64 // of the message so far, with what is left of the frame
	control []byte // payload of a control frame that came in pieces
}

// Next returns the first part of the stream and the rest of data, to be passed to the following call. ok is false when all
// of data was taken without there being a part. data is changed: payload is unmasked in place.
func (d *Decoder) Next(data []byte) (p Part, rest []byte, ok bool, err error) {
	if d.closed {
		return p, nil, false, nil // whatever comes behind a Close means nothing
	}
	if !d.payload {
		if data, err = d.header(data); err != nil || !d.payload {
			return p, nil, false, err
		}
	}
	n := min(uint64(len(data)), d.left)
	if n == 0 && d.left > 0 {
		return p, nil, false, nil
	}
	piece := data[:n]
	d.unmask(piece)
	d.left -= n
	d.payload = d.left > 0
	if d.op >= opClose {
		p, ok, err = d.controlPart(piece)
		return p, data[n:], ok, err
	}
	p = Part{Kind: Data, Payload: piece, End: !d.payload && d.fin}
	if p.End {
		d.message, d.size = false, 0
	}
	return p, data[n:], true, nil
}

// header takes as much of data as the frame's header needs.
func (d *Decoder) header(data []byte) (rest []byte, err error) {
	for {
		need := d.headerLen()
		k := copy(d.head[d.have:need], data)
		d.have += uint8(k)
		data = data[k:]
		if d.have < need {
			return nil, nil
		}
		if need == d.headerLen() {
			d.have = 0
			return data, d.begin(need)
		}
		if err := d.early(); err != nil { // it need not send the rest
			return nil, err
		}
	}
}

// headerLen is how long the header is as far as its bytes tell.
func (d *Decoder) headerLen() uint8 {
	if d.have < 2 {
		return 2
	}
	n := uint8(2)
	switch d.head[1] &^ bitMask {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if d.head[1]&bitMask != 0 {
		n += 4
	}
	return n
}

// early checks what the first two bytes say.
func (d *Decoder) early() error {
	op, n := d.head[0]&0x0f, d.head[1]&^bitMask
	switch {
	case d.head[0]&bitsRsv != 0:
		return protocolError("reserved bits are set")
	case (d.head[1]&bitMask != 0) == d.Client:
		return protocolError("a client's frame without a mask, or a server's with one")
	case op == opText && !d.Text:
		return &Error{Status: StatusUnsupported, Problem: "text message"}
	case op != opContinuation && op != opText && op != opBinary && op != opClose && op != opPing && op != opPong:
		return protocolError("unknown opcode")
	case op >= opClose && (n > maxControl || d.head[0]&bitFin == 0):
		return protocolError("control frame that is too long or fragmented")
	case op == opContinuation && !d.message:
		return protocolError("continuation of nothing")
	case (op == opBinary || op == opText) && d.message:
		return protocolError("message within a message")
	}
	return nil
}

// begin makes the frame whose header is complete the current one.
func (d *Decoder) begin(headerLen uint8) error {
	if err := d.early(); err != nil {
		return err
	}
	d.op, d.fin = d.head[0]&0x0f, d.head[0]&bitFin != 0
	at := 2
	switch n := d.head[1] &^ bitMask; n {
	case 126:
		d.left = uint64(binary.BigEndian.Uint16(d.head[2:]))
		at += 2
	case 127:
		d.left = binary.BigEndian.Uint64(d.head[2:])
		at += 8
	default:
		d.left = uint64(n)
	}
	if d.left > 1<<63-1 || at == 4 && d.left < 126 || at == 10 && d.left <= 0xffff {
		return protocolError("length that is not in its shortest form")
	}
	d.mask, d.turn = [4]byte{}, 0
	if !d.Client {
		copy(d.mask[:], d.head[at:headerLen])
	}
	d.payload = true
	if d.op >= opClose {
		return nil
	}
	d.message = true
	d.size += d.left // no overflow: the bound of the frames before is far below
	if d.MaxMessage > 0 && d.size > uint64(d.MaxMessage) {
		return &Error{Status: StatusTooBig, Problem: "message too big"}
	}
	if d.size > 1<<62 {
		return &Error{Status: StatusTooBig, Problem: "message too big"}
	}
	return nil
}

func (d *Decoder) unmask(b []byte) {
	if !d.Client {
		d.turn = applyMask(b, d.mask, d.turn)
	}
}

// controlPart takes the payload of a control frame.
func (d *Decoder) controlPart(piece []byte) (p Part, ok bool, err error) {
	if d.payload || len(d.control) > 0 {
		d.control = append(d.control, piece...)
		if d.payload {
			return p, false, nil
		}
		piece = d.control
		d.control = nil // the caller reads it
	}
	p = Part{Payload: piece}
	switch d.op {
	case opPing:
		p.Kind = Ping
	case opPong:
		p.Kind = Pong
	default:
		d.closed = true
		p.Kind = Close
		if p.Status, p.Payload, err = parseClose(piece); err != nil {
			return p, false, err
		}
	}
	return p, true, nil
}

func parseClose(b []byte) (Status, []byte, error) {
	if len(b) == 0 {
		return StatusNone, nil, nil
	}
	if len(b) == 1 {
		return 0, nil, protocolError("half a code in a Close frame")
	}
	s := Status(binary.BigEndian.Uint16(b))
	if s < 1000 || s >= 1004 && s <= 1006 || s >= 1015 && s < 3000 || s >= 5000 {
		return 0, nil, protocolError("impossible code in a Close frame")
	}
	if !utf8.Valid(b[2:]) {
		return 0, nil, &Error{Status: StatusInvalid, Problem: "reason of a Close frame is not UTF-8"}
	}
	return s, b[2:], nil
}

// applyMask masks or unmasks b, whose first byte is under mask[turn], and returns the turn of the byte behind it.
func applyMask(b []byte, mask [4]byte, turn uint8) uint8 {
	var m [8]byte
	for i := range m {
		m[i] = mask[(int(turn)+i)%4]
	}
	long := binary.LittleEndian.Uint64(m[:])
	n := len(b)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^long)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= m[i]
	}
	return uint8((int(turn) + n) % 4)
}
