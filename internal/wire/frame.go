// Package wire implements the protocol between clients and chat nodes: the frame, the message ids, the codes, and the
// JSON bodies with their limits. It works on byte slices only: no sockets, no goroutines, no state.
//
// docs/PROTOCOL.md is the same contract in prose.
package wire

import (
	"encoding/binary"
	"errors"
)

// The frame: two unsigned 16-bit big-endian integers, message id and body length, then the body. No magic, no
// version, no checksum, no terminator; an empty body is legal.
//
//	offset 0      2      4                 4+len
//	       | id   | len  | JSON body       |
const (
	HeaderLen = 4     // bytes before the body
	MaxBody   = 65535 // bytes; what the length field can say

	// MaxLoginBody bounds the only frame a client may send before it has logged in. The stock client sends 80 bytes.
	MaxLoginBody = 2048
	// DefaultMaxBody bounds a logged-in client's frames unless configured otherwise, in bytes.
	DefaultMaxBody = 16 << 10
	// MaxDevice bounds the name of a device, in bytes.
	MaxDevice = 32
	// MaxInt is the largest integer the stock client can read; anything above becomes 0 there.
	MaxInt = 1<<31 - 1
)

// ErrBodyTooLong is returned for a body that does not fit a frame.
var ErrBodyTooLong = errors.New("wire: body longer than 65535 bytes")

// ParseHeader reads a frame header. b must hold at least HeaderLen bytes.
func ParseHeader(b []byte) (id MsgID, bodyLen int) {
	_ = b[HeaderLen-1]
	return MsgID(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
}

// AppendHeader appends the header of a frame whose body of n bytes follows. n must be at most MaxBody.
func AppendHeader(dst []byte, id MsgID, n int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(id))
	return binary.BigEndian.AppendUint16(dst, uint16(n))
}

// EndFrame writes the length of its body into the header of frame, which AppendHeader began. It returns ErrBodyTooLong if
// the body is longer than MaxBody.
func EndFrame(frame []byte) error {
	n := len(frame) - HeaderLen
	if n > MaxBody {
		return ErrBodyTooLong
	}
	binary.BigEndian.PutUint16(frame[2:], uint16(n))
	return nil
}

// AppendFrame appends a whole frame. It returns ErrBodyTooLong, and dst as it was, if body does not fit one.
func AppendFrame(dst []byte, id MsgID, body []byte) ([]byte, error) {
	if len(body) > MaxBody {
		return dst, ErrBodyTooLong
	}
	return append(AppendHeader(dst, id, len(body)), body...), nil
}
