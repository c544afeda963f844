package chat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// What the bytes of an attack on the WebSocket port are.
const (
	webBytes      = iota // all that is sent
	webHead              // the fields of a handshake
	webRaw               // what follows the handshake
	webFrames            // its frames, see framesOf
	webUserRaw           // the same behind a login
	webUserFrames        //
	webStates
)

// attacked is a node whose WebSocket port is attacked, and a session that must not notice.
type attacked struct {
	*fixture
	n       *node
	witness *client.Conn
}

// newAttacked starts a node. Its user 1 is the witness, user 2 its friend; the others attack.
func newAttacked(t testing.TB, users int) *attacked {
	f := newFixture(t, users)
	n := f.start("chat1", func(c *Config) { c.Limits.Linger = 10 * time.Millisecond })
	return &attacked{fixture: f, n: n, witness: f.loginVia(n, 1, wire.WS, client.Options{})}
}

// attack sends data by a connection, closes its own side and waits until the node closes the other.
func (a *attacked) attack(user int, state byte, data []byte) error {
	u, err := url.Parse(a.n.Address(wire.WS))
	if err != nil {
		return err
	}
	var send []byte
	hello := fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", u.Host) +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	switch state {
	case webBytes:
	case webHead:
		send = []byte(hello)
	default:
		send = []byte(hello + "\r\n")
	}
	if state >= webUserRaw {
		ticket := a.ticket(a.n, user)
		login, err := wire.EncodeFrame(wire.MsgLogin, map[string]any{
			"uid": ticket.UID, "token": ticket.Token, "client": "fuzz/1", "device": "fuzz", "caps": []string{wire.CapBatch, wire.CapGap},
		})
		if err != nil {
			return err
		}
		send = append(send, fragment(0x82, login)...)
	}
	if state == webFrames || state == webUserFrames {
		data = framesOf(data)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	// The node may have closed already, or reset what it does not read.
	_, _ = c.Write(send)
	if state >= webUserRaw { // the answer first: else the attack comes before the login
		if err := readUntil(c, []byte(`"error":0`)); err != nil {
			return fmt.Errorf("login: %w", err)
		}
	}
	_, _ = c.Write(data)
	_ = c.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("a connection whose other end is closed stays open")
	}
	return nil
}

// readUntil reads until what was read holds something.
func readUntil(c net.Conn, what []byte) error {
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(got, what) {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		got = append(got, buf[:n]...)
	}
	return nil
}

// framesOf makes frames of bytes: the first of a frame as it is, then a form, a length and a payload. So most have a mask and a length that
// fits; an odd form has no mask or a wrong length.
func framesOf(data []byte) (frames []byte) {
	for len(data) >= 3 {
		first, form, n := data[0], data[1], int(data[2])
		data = data[3:]
		n = min(n, len(data))
		payload := data[:n]
		data = data[n:]
		switch {
		case form < 0xe0:
			frames = append(frames, fragment(first, payload)...)
		case form < 0xe8: // no mask
			frames = append(append(frames, first, byte(n)&0x7f), payload...)
		case form < 0xf0: // a length in 16 bits that does not need them
			frames = binary.BigEndian.AppendUint16(append(frames, first, 0xfe), uint16(n))
			frames = append(append(frames, 0, 0, 0, 0), payload...)
		case form < 0xf8: // more is announced than comes
			frames = binary.BigEndian.AppendUint16(append(frames, first, 0xfe), uint16(n)+uint16(form)<<8)
			frames = append(append(frames, 0, 0, 0, 0), payload...)
		default:
			frames = binary.BigEndian.AppendUint64(append(frames, first, 0xff), uint64(form)<<56|uint64(n))
			frames = append(append(frames, 0, 0, 0, 0), payload...)
		}
	}
	return append(frames, data...)
}

// unharmed fails if the node or its session has noticed anything.
func (a *attacked) unharmed() error {
	found, err := a.witness.Search(a.t.Context(), "user2")
	if err != nil || found.UID != firstUID+1 {
		return fmt.Errorf("the session beside it: %w, uid %d", err, found.UID)
	}
	if n := counterValue(a.t, a.n.metrics.panics); n != 0 {
		return fmt.Errorf("%v panics", n)
	}
	return nil
}

// gone waits until nothing of the attacks is left.
func (a *attacked) gone() {
	eventually(a.t, "all other connections and sessions to go", func() bool { return a.n.conns.Count() == 1 && a.n.registry.Live() == 1 })
}

// webSeeds are the attacks that the fuzzer begins with.
func webSeeds(t testing.TB) (seeds [][]byte) {
	beat := string(frameOf(t, wire.MsgHeartbeat, map[string]any{"fromuid": firstUID + 2}))
	part := func(first, form byte, payload string) string {
		return string([]byte{first, form, byte(len(payload))}) + payload
	}
	for _, s := range []string{
		"", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"X: " + strings.Repeat("x", 9000), "Sec-WebSocket-Key: x\r\n\r\n", "Origin: http://a\r\nOrigin: http://b\r\n\r\n", "Content-Length: 99999999999999999999\r\n\r\n",
		"Sec-WebSocket-Protocol: parley.v1, \x00\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "a b: c\r\n\r\n", ":\r\n\r\n", "\r\n\r\n" + beat,
		part(0x82, 0, beat), part(0x02, 0, beat[:3]) + part(0x89, 0, "ping") + part(0x80, 0, beat[3:]), part(0x02, 0, beat[:3]) + part(0x82, 0, beat),
		part(0x80, 0, beat), part(0x82, 0, beat[:5]), part(0x81, 0, "text"), part(0xf2, 0, beat), part(0x8b, 0, ""), part(0x09, 0, "a ping in pieces"),
		part(0x89, 0, strings.Repeat("p", 126)), part(0x88, 0, ""), part(0x88, 0, "\x03"), part(0x88, 0, "\x03\xe8\xff\xfe"), part(0x88, 0, "\x00\x00") + part(0x82, 0, beat),
		part(0x82, 0xe0, beat), part(0x82, 0xe8, beat), part(0x82, 0xf0, beat), part(0x82, 0xff, beat), part(0x82, 0xff, "") + beat, strings.Repeat(part(0x8a, 0, ""), 100),
		strings.Repeat(part(0x89, 0, strings.Repeat("p", 125)), 200), strings.Repeat(part(0x02, 0, ""), 3), strings.Repeat(part(0x82, 0, ""), 300), strings.Repeat(part(0x82, 0, beat), 50),
	} {
		seeds = append(seeds, []byte(s))
	}
	return seeds
}

// FuzzLiveWebSocket throws bytes at a node's WebSocket port: before and in the handshake, and as frames before and after a login. The node
// must close the connection when its other end does, recover from nothing, and serve the session beside it.
func FuzzLiveWebSocket(f *testing.F) {
	for i, seed := range webSeeds(f) {
		f.Add(byte(i), seed) // each in one state: the random run beside has all of them in all
	}
	a := newAttacked(f, 3)
	f.Fuzz(func(t *testing.T, state byte, data []byte) {
		if len(data) > 1<<16 {
			t.Skip("long enough")
		}
		a.t = t
		require.NoError(t, a.attack(3, state%webStates, data))
		require.NoError(t, a.unharmed())
	})
	a.t = f
}

// A bounded run of what the fuzzer does, from several sides at once: seeds, changed a little, in any state.
func TestRandomBytesAtTheWebSocketPortHarmNobody(t *testing.T) {
	const attackers, rounds = 4, 30
	a := newAttacked(t, 2+attackers)
	seeds := webSeeds(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	faults := make(chan error, attackers)
	for i := range attackers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			for range rounds {
				state := byte(rnd.IntN(webStates))
				data := append([]byte(nil), seeds[rnd.IntN(len(seeds))]...)
				data = append(data, seeds[rnd.IntN(len(seeds))]...)
				for range rnd.IntN(4) {
					if len(data) > 0 {
						data[rnd.IntN(len(data))] = byte(rnd.Uint32())
					}
				}
				if rnd.IntN(4) == 0 {
					data = data[:rnd.IntN(len(data)+1)]
				}
				if err := a.attack(3+i, state, data); err != nil {
					faults <- fmt.Errorf("state %d, %q: %w", state, data, err)
					return
				}
			}
		})
	}
	for range 20 {
		require.NoError(t, a.unharmed())
	}
	wg.Wait()
	close(faults)
	for err := range faults {
		t.Error(err)
	}
	require.NoError(t, a.unharmed())
	_, err := a.witness.SendText(t.Context(), client.User(firstUID+1), "still served")
	require.NoError(t, err)
	a.gone()
	require.NoError(t, a.witness.Close())
	eventually(t, "the last connection to go", func() bool { return a.n.conns.Count() == 0 && a.n.registry.Live() == 0 })
}
