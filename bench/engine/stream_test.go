//go:build linux

package engine

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/certs"
	"parley/internal/websocket"
	"parley/internal/wire"
	"parley/lab/certstest"
)

var transports = []wire.Transport{wire.TCP, wire.TLS, wire.WS, wire.WSS}

// echo serves a connection of a transport. It sends each frame back in the smallest pieces: a byte per write, and with
// WebSocket a byte per fragment, with a ping in the middle. Its result says how it ended.
func echo(c net.Conn, via wire.Transport, config *tls.Config) error {
	defer c.Close()
	if via.Encrypted() {
		c = tls.Server(c, config)
	}
	write := func(b ...byte) error {
		for _, one := range b {
			if _, err := c.Write([]byte{one}); err != nil {
				return err
			}
		}
		return nil
	}
	var in websocket.Decoder
	var frames wire.Splitter
	shaken := false
	var shake websocket.Handshake
	pongs := 0
	for buf := make([]byte, 4096); ; {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		data := buf[:n]
		if via.Web() && !shaken {
			answer, rest, ok := shake.Next(data, nil)
			if len(answer) == 0 {
				continue
			}
			if err := write(answer...); err != nil || !ok {
				return fmt.Errorf("%s: %w", answer, err)
			}
			shaken, data = true, rest
		}
		for len(data) > 0 {
			part := websocket.Part{Payload: data}
			data = nil
			if via.Web() {
				var ok bool
				if part, data, ok, err = in.Next(buf[n-len(part.Payload) : n]); err != nil {
					return err
				}
				if !ok {
					break
				}
			}
			switch part.Kind {
			case websocket.Pong:
				pongs++
				continue
			case websocket.Close:
				return fmt.Errorf("closed with %d after %d pongs", part.Status, pongs)
			}
			for rest := part.Payload; ; {
				id, body, more, ok, err := frames.Next(rest, wire.MaxBody)
				if err != nil {
					return err
				}
				if !ok {
					break
				}
				frame, err := wire.AppendFrame(nil, id, body)
				if err != nil {
					return err
				}
				if !via.Web() {
					err = write(frame...)
				} else {
					err = fragments(write, frame)
				}
				if err != nil {
					return err
				}
				rest = more
			}
			if part.End && frames.Held() > 0 {
				return fmt.Errorf("a message ends within a frame")
			}
		}
	}
}

// fragments writes a message of one byte per fragment.
func fragments(write func(...byte) error, frame []byte) error {
	for i, b := range frame {
		op := byte(0)
		if i == 0 {
			op = 2
		}
		if i == len(frame)-1 {
			op |= 0x80
		}
		if i == len(frame)/2 {
			if err := write(0x89, 3, 'h', 'i', '!'); err != nil { // a ping
				return err
			}
		}
		if err := write(op, 1, b); err != nil {
			return err
		}
	}
	return nil
}

func TestFramesOverAllTransportsInTheSmallestPieces(t *testing.T) {
	cert, key, trust, _ := certstest.Make(t)
	files, err := certs.Open(cert, key)
	require.NoError(t, err)
	for _, via := range transports {
		t.Run(via.String(), func(t *testing.T) {
			protocol := websocket.Protocol
			if via.Web() {
				protocol = "http/1.1"
			}
			ended := make(chan error, 1)
			to := listen(t, func(c net.Conn) { ended <- echo(c, via, files.Config(protocol)) })
			r := &recorder{}
			l := startWith(t, r, Options{Sources: 8, Roots: trust.RootCAs})
			l.Do(func() { l.Dial(Target{Addr: to, Via: via, Name: to.String(), Path: "/p"}, 7) })
			c := <-r.opened
			for _, size := range []int{0, 1, 200, 700} {
				body := strings.Repeat("x", size)
				frame, err := wire.AppendFrame(nil, 1024, []byte(body))
				require.NoError(t, err)
				l.Do(func() { c.Send(frame); c.Send(frame) }) // one message holds both
				require.Equal(t, "1024 "+body, <-r.frames)
				require.Equal(t, "1024 "+body, <-r.frames)
			}
			l.Do(func() { c.Close(false) })
			require.ErrorIs(t, <-r.closed, ErrClosed)
			if err := <-ended; via.Web() {
				require.ErrorContains(t, err, "closed with 1000 after 8 pongs")
			} else {
				require.ErrorIs(t, err, io.EOF)
			}
		})
	}
}

// TestWhatAServerMustNotSend ends connections with an error, or as hung up.
func TestWhatAServerMustNotSend(t *testing.T) {
	cert, key, trust, _ := certstest.Make(t)
	files, err := certs.Open(cert, key)
	require.NoError(t, err)
	half := []byte{0x82, 3, 1, 2, 3} // of a frame
	for _, c := range []struct {
		name, want string
		via        wire.Transport
		answer     func(ok []byte) []byte
	}{
		{"a refusal", "403", wire.WS, func([]byte) []byte { return []byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") }},
		{"another key", "not the answer", wire.WS, func(ok []byte) []byte {
			return []byte(strings.Replace(string(ok), "Accept: ", "Accept: a", 1))
		}},
		{"half a frame", "within a frame", wire.WS, func(ok []byte) []byte { return append(ok, half...) }},
		{"a mask", "mask", wire.WS, func(ok []byte) []byte { return append(ok, 0x82, 0x81, 1, 2, 3, 4, 5) }},
		{"a Close frame", "hung up", wire.WS, func(ok []byte) []byte {
			return append(ok, binary.BigEndian.AppendUint16([]byte{0x88, 2}, 4000)...)
		}},
		{"no TLS", "TLS", wire.TLS, func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }},
		{"an early end", "hung up", wire.WSS, func([]byte) []byte { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := listen(t, func(conn net.Conn) {
				defer conn.Close()
				buf := make([]byte, 4096)
				n, err := conn.Read(buf)
				var ok []byte
				if err == nil && c.via == wire.WS {
					ok, _, _ = new(websocket.Handshake).Next(buf[:n], nil)
				}
				_, _ = conn.Write(c.answer(ok))
			})
			r := &recorder{}
			l := startWith(t, r, Options{Sources: 8, Roots: trust.RootCAs})
			l.Do(func() { l.Dial(Target{Addr: to, Via: c.via, Name: to.String()}, 0) })
			require.ErrorContains(t, <-r.closed, c.want)
		})
	}
	t.Run("a certificate for another name", func(t *testing.T) {
		to := listen(t, func(c net.Conn) { _ = echo(c, wire.TLS, files.Config()) })
		r := &recorder{}
		l := startWith(t, r, Options{Sources: 8, Roots: trust.RootCAs})
		l.Do(func() { l.Dial(Target{Addr: to, Via: wire.TLS, Name: "example.org"}, 0) })
		require.ErrorContains(t, <-r.closed, "certificate")
	})
}

// TestAHandshakeEndsWithItsConnection leaves connections in the middle of the handshake.
func TestAHandshakeEndsWithItsConnection(t *testing.T) {
	reached := make(chan struct{}, 2)
	to := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); reached <- struct{}{}; _, _ = io.Copy(io.Discard, c) })
	r := &recorder{}
	l := start(t, r) // its end ends the second one
	conns := make(chan *Conn, 2)
	l.Do(func() {
		for range 2 {
			conns <- l.Dial(Target{Addr: to, Via: wire.TLS, Name: "localhost"}, 0)
		}
	})
	c := <-conns
	<-reached
	<-reached
	l.Do(func() { c.Close(false) })
	require.ErrorIs(t, <-r.closed, ErrClosed)
	require.Empty(t, r.opened)
}
