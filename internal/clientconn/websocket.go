package clientconn

import (
	"strconv"
	"time"

	"parley/internal/outbox"
	"parley/internal/session"
	"parley/internal/websocket"
	"parley/internal/wire"
)

// webSocket is the connection of a client that speaks WebSocket: it takes frames out of messages and puts them into
// messages. The session sees it as its socket.
type webSocket struct {
	outbox.Conn
	plain outbox.Descriptor // of a connection without TLS
	tls   *tlsSocket        // nil without TLS

	websocket.Writer // what goes out

	// Owned by the reader.
	in    websocket.Decoder
	shake *websocket.Handshake // nil when it is over
}

func newWebSocket(conn outbox.Conn, maxMessage int) *webSocket {
	w := &webSocket{Conn: conn, shake: new(websocket.Handshake)}
	w.in.MaxMessage = maxMessage
	var lower outbox.Socket = &w.plain
	if w.tls, _ = conn.(*tlsSocket); w.tls != nil {
		lower = w.tls
	} else {
		w.plain.Open(conn)
	}
	w.Init(lower)
	return w
}

// TryWrite, Write, CloseWrite and Reset are the Writer's.
func (w *webSocket) TryWrite(b []byte) (int, error) { return w.Writer.TryWrite(b) }

// Write implements outbox.Socket.
func (w *webSocket) Write(b []byte) (int, error) { return w.Writer.Write(b) }

// Transport is what session.Session asks for.
func (w *webSocket) Transport() wire.Transport {
	if w.tls != nil {
		return wire.WSS
	}
	return wire.WS
}

// Last implements outbox.Socket: the code of the last frame becomes the reason of the Close frame.
func (w *webSocket) Last(frame []byte) {
	if code, ok := wire.CodeIn(frame); ok && code != wire.CodeOK {
		w.End(websocket.StatusParley, strconv.Itoa(int(code)))
	}
}

// receive takes what has arrived. false: close the connection.
func (w *webSocket) receive(c *Conn, data []byte) bool {
	cheap := 0
	for c.State() != session.Dead {
		if w.shake != nil {
			answer, rest, ok := w.shake.Next(data, c.of.cfg.Origins)
			if len(answer) == 0 {
				return true
			}
			w.Raw(answer)
			if !ok {
				c.of.d.Metrics.BadHandshakes.Inc()
				c.HangUp()
				return true
			}
			w.shake = nil
			w.Open()
			_ = c.WriteInline(nil) // a failed write has closed the connection
			data = rest
			continue
		}
		part, rest, ok, err := w.in.Next(data)
		if err != nil {
			return w.refuse(c, websocket.StatusOf(err))
		}
		if !ok {
			break
		}
		data = rest
		switch part.Kind {
		case websocket.Data:
			if len(part.Payload) == 0 {
				cheap++
			} else if !c.Receive(part.Payload) {
				return false
			}
			if part.End && c.split.Held() > 0 {
				return w.refuse(c, websocket.StatusProtocol)
			}
		case websocket.Ping:
			w.Pong(part.Payload)
			_ = c.WriteInline(nil) // a failed write has closed the connection
			cheap++
		case websocket.Pong:
			cheap++
		case websocket.Close:
			w.End(part.Status, "")
			c.hangUp()
			return true
		}
	}
	if cheap > 0 {
		now := time.Now()
		c.Seen(now)
		if !c.rates.cheap(now, cheap, &c.of.cfg) {
			return c.refuseStream(wire.CodeRateLimited)
		}
	}
	return true
}

// refuse ends a connection whose messages cannot be understood.
func (w *webSocket) refuse(c *Conn, status websocket.Status) bool {
	if c.State() == session.Dead {
		return true // it was told goodbye
	}
	w.End(status, strconv.Itoa(int(wire.CodeBadRequest)))
	if !c.refuseStream(wire.CodeBadRequest) {
		c.hangUp()
	}
	return true
}

// hangUp ends a connection whose client reads no more.
func (c *Conn) hangUp() {
	st := c.State()
	c.HangUp()
	if st == session.Pending || st == session.Live {
		c.of.d.Ender.Leave(&c.Session)
	}
}
