package engine

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"net/url"
	"os"
	"time"

	"parley/internal/websocket"
	"parley/internal/wire"
)

// Target is where a connection goes, and how.
type Target struct {
	Addr netip.AddrPort
	Via  wire.Transport
	// Name is the host, with its port if it has one, as the server knows itself: it must be in the certificate of a
	// server with TLS, and stands in the handshake of WebSocket. Path is that of the URL. TCP needs neither.
	Name, Path string
	// Raw is for a server that does not speak in Parley's frames. The handler's Frame gets all bytes as they come, with the
	// id 0. Via is ignored.
	Raw bool
}

// stream is what lies between the socket and the frames of a connection that is more than TCP. It has no goroutine:
// the loop gives it what has arrived, and takes what it has to send.
type stream struct {
	tls   *tlsClient                 // nil without TLS
	shake *websocket.ClientHandshake // of WebSocket, until the stream is open
	in    websocket.Decoder
	web   bool
	open  bool
	plain []byte // frames that wait for the end of the turn, as a message and a record
	out   []byte // to be sent
}

// newStream returns nil for TCP. config is for a transport with TLS.
func newStream(to Target, config *tls.Config) *stream {
	if to.Raw || to.Via == wire.TCP {
		return nil
	}
	s := &stream{web: to.Via.Web(), in: websocket.Decoder{Client: true}}
	if s.web {
		s.shake = new(websocket.ClientHandshake)
		s.plain = s.shake.Request(&url.URL{Host: to.Name, Path: cmp.Or(to.Path, "/")})
	}
	if to.Via.Encrypted() {
		s.tls = newTLSClient(config, &s.out)
	}
	return s
}

// begin makes the first bytes to send, when the socket is connected.
func (s *stream) begin() error {
	if s.tls != nil {
		return s.shakeTLS()
	}
	return s.release()
}

// shakeTLS goes on with the handshake of TLS.
func (s *stream) shakeTLS() error {
	done, err := s.tls.shake()
	if err == nil && done {
		err = s.release()
	}
	return err
}

// release sends the handshake of WebSocket, which waited for that of TLS.
func (s *stream) release() error {
	if s.shake == nil {
		return nil
	}
	b := s.plain
	s.plain = nil
	return s.send(b)
}

// sink takes what a stream receives: first nothing, when the stream is open, then the bytes of frames. end says that a
// message ends with them.
type sink interface {
	take(frames []byte, end bool) error
}

// receive passes what has arrived on to a sink. room is scratch space. It returns io.EOF when the server has ended the
// stream properly.
func (s *stream) receive(data, room []byte, to sink) error {
	if s.tls == nil {
		return s.decode(data, to)
	}
	s.tls.in = data
	if s.tls.next != nil {
		if err := s.shakeTLS(); err != nil || s.tls.next != nil {
			return err
		}
		if s.shake == nil {
			s.open = true
			if err := to.take(nil, false); err != nil {
				return err
			}
		}
	}
	for {
		n, err := s.tls.conn.Read(room)
		if n > 0 {
			if err := s.decode(room[:n], to); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err == io.EOF:
			return io.EOF
		case err != nil:
			return fmt.Errorf("engine: TLS: %w", err)
		}
	}
}

// decode takes frames out of messages.
func (s *stream) decode(data []byte, to sink) error {
	if !s.web {
		return to.take(data, false)
	}
	if s.shake != nil {
		rest, ok, err := s.shake.Next(data)
		if err != nil {
			return fmt.Errorf("engine: handshake: %w", err)
		}
		if !ok {
			return nil
		}
		s.shake, s.open, data = nil, true, rest
		if err := to.take(nil, false); err != nil {
			return err
		}
	}
	for {
		part, rest, ok, err := s.in.Next(data)
		if err != nil {
			return fmt.Errorf("engine: %w", err)
		}
		if !ok {
			return nil
		}
		data = rest
		switch part.Kind {
		case websocket.Data:
			if err := to.take(part.Payload, part.End); err != nil {
				return err
			}
		case websocket.Ping:
			if err := s.send(websocket.AppendPong(nil, websocket.WeakMask(), part.Payload)); err != nil {
				return err
			}
		case websocket.Close:
			return io.EOF
		case websocket.Pong:
		}
	}
}

// seal makes one message, and one record as a rule, of the frames that wait, and appends it to dst with all else that
// is to be sent.
func (s *stream) seal(dst []byte) ([]byte, error) {
	var err error
	if s.open && len(s.plain) > 0 {
		b := s.plain
		if s.web {
			b = websocket.AppendMessage(dst[len(dst):], websocket.WeakMask(), b) // dst has room, as a rule
		}
		err = s.send(b)
		s.plain = emptied(s.plain)
	}
	dst = append(dst, s.out...)
	s.out = emptied(s.out)
	return dst, err
}

// emptied returns a buffer for reuse, unless it is too large for an idle connection to hold.
func emptied(b []byte) []byte {
	if cap(b) > 512 {
		return nil
	}
	return b[:0]
}

// bye says that nothing follows.
func (s *stream) bye() {
	if !s.open {
		return
	}
	if s.web {
		_ = s.send(websocket.AppendClose(nil, websocket.WeakMask(), websocket.StatusNormal)) // the end of the stream follows in any case
	}
	if s.tls != nil {
		_ = s.tls.conn.CloseWrite() // likewise
	}
}

// send appends bytes to what is to be sent.
func (s *stream) send(b []byte) error {
	if s.tls == nil {
		s.out = append(s.out, b...)
		return nil
	}
	_, err := s.tls.conn.Write(b)
	if err != nil {
		return fmt.Errorf("engine: TLS: %w", err)
	}
	return nil
}

// end releases what a handshake holds.
func (s *stream) end() {
	if s.tls != nil && s.tls.next != nil {
		s.tls.stop()
	}
}

// tlsClient is crypto/tls over bytes. After the handshake it is asked for as much as the bytes yield, as
// internal/clientconn does it. The handshake itself cannot be asked twice, so that it runs as a coroutine, which
// pauses when it needs more bytes; it takes no goroutine of its own afterwards.
type tlsClient struct {
	conn *tls.Conn
	in   []byte  // arrived and not read yet; the caller's
	out  *[]byte // to be sent

	next  func() (struct{}, bool) // goes on with the handshake; nil when it is over
	stop  func()
	pause func(struct{}) bool
	err   error // of the handshake
}

func newTLSClient(config *tls.Config, out *[]byte) *tlsClient {
	t := &tlsClient{out: out}
	t.conn = tls.Client(beneath{t}, config)
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.pause = yield
		t.err = t.conn.Handshake()
		t.pause = nil
	})
	return t
}

// shake goes on with the handshake, and reports whether it is over.
func (t *tlsClient) shake() (done bool, err error) {
	if _, more := t.next(); more {
		return false, nil
	}
	t.next, t.stop = nil, nil
	if t.err != nil {
		return false, fmt.Errorf("engine: TLS handshake: %w", t.err)
	}
	return true, nil
}

// beneath is the connection as crypto/tls sees it.
type beneath struct{ t *tlsClient }

// Read implements net.Conn. That nothing is there looks like a deadline that has passed, after which crypto/tls may be
// asked again.
func (b beneath) Read(p []byte) (int, error) {
	t := b.t
	for len(t.in) == 0 {
		if t.pause == nil {
			return 0, os.ErrDeadlineExceeded
		}
		if !t.pause(struct{}{}) {
			return 0, net.ErrClosed
		}
	}
	n := copy(p, t.in)
	t.in = t.in[n:]
	return n, nil
}

// Write implements net.Conn.
func (b beneath) Write(p []byte) (int, error) {
	*b.t.out = append(*b.t.out, p...)
	return len(p), nil
}

func (beneath) Close() error                     { return nil } // the loop closes the socket
func (beneath) LocalAddr() net.Addr              { return nil }
func (beneath) RemoteAddr() net.Addr             { return nil }
func (beneath) SetDeadline(time.Time) error      { return nil }
func (beneath) SetReadDeadline(time.Time) error  { return nil }
func (beneath) SetWriteDeadline(time.Time) error { return nil }
