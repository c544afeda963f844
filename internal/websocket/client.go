package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	weak "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// ClosedError is the Close frame that ended a stream.
type ClosedError struct {
	Status Status
	Reason string
}

func (e *ClosedError) Error() string {
	return fmt.Sprintf("websocket: closed by the peer with %d %q", e.Status, e.Reason)
}

// Unwrap makes a Close frame the end of the stream.
func (e *ClosedError) Unwrap() error { return io.EOF }

// ClientHandshake is a client's side of the handshake, as bytes. The zero value is ready.
type ClientHandshake struct {
	// Foreign makes it one with any server: it does not ask for Parley's subprotocol.
	Foreign bool

	key  string
	held head
}

// Request returns what opens the stream at u.
func (h *ClientHandshake) Request(u *url.URL) []byte {
	var raw [16]byte
	rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	h.key = base64.StdEncoding.EncodeToString(raw[:])
	protocol := "Sec-WebSocket-Protocol: " + Protocol + "\r\n"
	if h.Foreign {
		protocol = ""
	}
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n", u.RequestURI(), u.Host, h.key, protocol)
}

// Next takes data of the answer and returns the rest of it once the stream is open. ok is false while more is to come.
func (h *ClientHandshake) Next(data []byte) (rest []byte, ok bool, err error) {
	answer, rest, err := h.held.next(data)
	if answer == nil || err != nil {
		return nil, false, err
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, false, err
	}
	_ = r.Body.Close() // the answer has none
	switch {
	case r.StatusCode != http.StatusSwitchingProtocols:
		return nil, false, fmt.Errorf("HTTP %s", r.Status)
	case !hasToken(r.Header, "Upgrade", "websocket") || !hasToken(r.Header, "Connection", "upgrade") || r.Header.Get("Sec-Websocket-Accept") != acceptOf(h.key):
		return nil, false, errors.New("not the answer of a WebSocket server")
	case !h.Foreign && r.Header.Get("Sec-Websocket-Protocol") != Protocol:
		return nil, false, errors.New("the server does not speak " + Protocol)
	}
	return rest, true, nil
}

// Conn is a client's connection: a stream of bytes that travels in binary messages, one for each Write. It answers pings
// while Read is called. Reads and writes may go on at the same time, but only one of each.
type Conn struct {
	net.Conn

	// Owned by the reader.
	in      Decoder
	buf     []byte
	data    []byte // received, not taken apart yet
	payload []byte // not read yet
	err     error

	mu    sync.Mutex // guards writes
	out   []byte
	begun bool // a message of several fragments
}

// readBytes is as much as a Conn reads at once.
const readBytes = 4 << 10

// NewClient makes the handshake of u on conn, which was dialed for it. The context bounds that. On failure conn is the
// caller's to close.
func NewClient(ctx context.Context, conn net.Conn, u *url.URL) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c, err := handshake(conn, u)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("websocket: handshake: %w", err)
	}
	return c, nil
}

func handshake(conn net.Conn, u *url.URL) (*Conn, error) {
	var h ClientHandshake
	if _, err := conn.Write(h.Request(u)); err != nil {
		return nil, err
	}
	c := &Conn{Conn: conn, in: Decoder{Client: true}, buf: make([]byte, readBytes)}
	for {
		n, err := conn.Read(c.buf)
		rest, ok, bad := h.Next(c.buf[:n])
		switch {
		case ok:
			c.data = rest
			return c, nil
		case bad != nil:
			return nil, bad
		case err != nil:
			return nil, err
		}
	}
}

// Read returns payload of messages as it comes. After a Close frame it returns a *ClosedError, which is an io.EOF.
func (c *Conn) Read(p []byte) (int, error) {
	for len(c.payload) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		if len(c.data) == 0 {
			n, err := c.Conn.Read(c.buf)
			if err != nil {
				return 0, err // it may be a deadline
			}
			c.data = c.buf[:n]
		}
		c.next()
	}
	n := copy(p, c.payload)
	c.payload = c.payload[n:]
	return n, nil
}

// next takes one part off what has been received.
func (c *Conn) next() {
	part, rest, ok, err := c.in.Next(c.data)
	c.data = rest
	if err != nil {
		c.err = err
		return
	}
	if !ok {
		return
	}
	switch part.Kind {
	case Data:
		c.payload = part.Payload
	case Ping:
		_ = c.send(opPong, part.Payload) // a failed write shows in the next read
	case Close:
		c.err = &ClosedError{part.Status, string(part.Payload)}
		_ = c.send(opClose, nil) // the server has stopped reading, perhaps
	case Pong:
	}
}

// Write sends b, which it does not change, as one message.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.send(opBinary, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// WriteFragment sends b as a part of a message, whose last one has end set.
func (c *Conn) WriteFragment(b []byte, end bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	op := byte(opBinary)
	if c.begun {
		op = opContinuation
	}
	c.begun = !end
	return c.sendLocked(op, end, b)
}

// send writes one frame.
func (c *Conn) send(op byte, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sendLocked(op, true, payload)
}

func (c *Conn) sendLocked(op byte, end bool, payload []byte) error {
	var mask [4]byte
	rand.Read(mask[:]) // never fails: crypto/rand ends the process instead
	c.out = appendMasked(c.out[:0], op, mask, payload)
	if !end {
		c.out[0] &^= bitFin
	}
	_, err := c.Conn.Write(c.out)
	if cap(c.out) > 4*readBytes {
		c.out = nil
	}
	return err
}

// CloseWrite says that nothing follows, with a Close frame.
func (c *Conn) CloseWrite(status Status) error {
	return c.send(opClose, binary.BigEndian.AppendUint16(nil, uint16(status)))
}

// WeakMask returns a mask that can be guessed, at little cost: for load generators, which have no proxies to confuse.
func WeakMask() (m [4]byte) {
	binary.NativeEndian.PutUint32(m[:], weak.Uint32())
	return m
}

// AppendMessage appends a client's binary message.
func AppendMessage(dst []byte, mask [4]byte, payload []byte) []byte {
	return appendMasked(dst, opBinary, mask, payload)
}

// AppendText appends a client's text message.
func AppendText(dst []byte, mask [4]byte, payload []byte) []byte {
	return appendMasked(dst, opText, mask, payload)
}

// AppendPong appends a client's answer to a ping.
func AppendPong(dst []byte, mask [4]byte, payload []byte) []byte {
	return appendMasked(dst, opPong, mask, payload)
}

// AppendClose appends a client's Close frame.
func AppendClose(dst []byte, mask [4]byte, status Status) []byte {
	return appendMasked(dst, opClose, mask, binary.BigEndian.AppendUint16(nil, uint16(status)))
}

// appendMasked appends a client's frame.
func appendMasked(dst []byte, op byte, mask [4]byte, payload []byte) []byte {
	at := len(dst) + 1
	dst = appendHeader(dst, op, len(payload))
	dst[at] |= bitMask
	dst = append(dst, mask[:]...)
	from := len(dst)
	dst = append(dst, payload...)
	applyMask(dst[from:], mask, 0)
	return dst
}
