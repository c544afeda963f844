package foreign

import (
	"errors"
	"net/url"

	"parley/internal/websocket"
)

// web is a WebSocket connection that carries text messages.
type web struct {
	at     *url.URL
	write  func(b []byte) // queues a copy
	opened func()
	// message takes one message, which is valid until it returns.
	message func(b []byte) error

	shake *websocket.ClientHandshake // nil once the handshake is over
	in    websocket.Decoder
	held  []byte // of a message that has not ended
	buf   []byte
}

// maxMessage bounds what a server may send in one message, in bytes.
const maxMessage = 1 << 20

// begin starts the handshake on a new connection.
func (w *web) begin() {
	w.shake = &websocket.ClientHandshake{Foreign: true}
	w.in = websocket.Decoder{Client: true, Text: true, MaxMessage: maxMessage}
	w.held = w.held[:0]
	w.write(w.shake.Request(w.at))
}

// say sends a message.
func (w *web) say(b []byte) {
	w.buf = websocket.AppendText(w.buf[:0], websocket.WeakMask(), b)
	w.write(w.buf)
}

var errClosed = errors.New("the server has closed the stream")

// heard takes bytes from the server.
func (w *web) heard(data []byte) error {
	if w.shake != nil {
		rest, ok, err := w.shake.Next(data)
		if err != nil || !ok {
			return err
		}
		w.shake, data = nil, rest
		w.opened()
	}
	for {
		part, rest, ok, err := w.in.Next(data)
		if err != nil || !ok {
			return err
		}
		data = rest
		switch part.Kind {
		case websocket.Data:
			whole := part.Payload
			if len(w.held) > 0 || !part.End {
				w.held = append(w.held, part.Payload...)
				whole = w.held
			}
			if part.End {
				err := w.message(whole)
				w.held = w.held[:0]
				if err != nil {
					return err
				}
			}
		case websocket.Ping:
			w.buf = websocket.AppendPong(w.buf[:0], websocket.WeakMask(), part.Payload)
			w.write(w.buf)
		case websocket.Close:
			if len(part.Payload) > 0 {
				return errors.New("closed: " + string(part.Payload))
			}
			return errClosed
		case websocket.Pong:
		}
	}
}
