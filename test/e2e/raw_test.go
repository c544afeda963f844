package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// raw is a connection to a chat node under full control of the test: it can send anything.
type raw struct {
	t testing.TB
	*net.TCPConn
}

// dialRaw connects without logging in. A receive buffer other than 0 is set before the handshake, so that the server
// can never send more than that.
func dialRaw(t testing.TB, addr string, receiveBuffer int) *raw {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if receiveBuffer > 0 {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
			})
			return errors.Join(err, failed)
		}
	}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return &raw{t, c.(*net.TCPConn)}
}

// loginRaw connects a user. A stock client sends only uid and token; extra contains the keys of a native client, such
// as "client".
func (w *world) loginRaw(t testing.TB, uid int32, node int, extra map[string]any, receiveBuffer int) *raw {
	t.Helper()
	r := dialRaw(t, w.Chat[node].Addr(), receiveBuffer)
	r.sendLogin(w.ticket(t, uid, node), extra)
	require.Equal(t, wire.CodeOK, r.expect(wire.MsgLoginRsp).Error)
	r.send(wire.MsgHeartbeat, "{}") // answered once the session is live
	r.expect(wire.MsgHeartbeatRsp)
	return r
}

var native = map[string]any{"client": "e2e/1"}

func (r *raw) sendLogin(ticket client.Ticket, extra map[string]any) {
	r.t.Helper()
	body := map[string]any{"uid": ticket.UID, "token": ticket.Token}
	for k, v := range extra {
		body[k] = v
	}
	b, err := json.Marshal(body)
	require.NoError(r.t, err)
	r.send(wire.MsgLogin, string(b))
}

// frame returns a header and a body as given.
func frame(id wire.MsgID, body string) []byte {
	return append(wire.AppendHeader(nil, id, len(body)), body...)
}

// send writes a frame. It ignores that the peer has closed: tests check what the peer answers.
func (r *raw) send(id wire.MsgID, body string) { r.write(frame(id, body)) }

func (r *raw) write(b []byte) {
	_ = r.SetWriteDeadline(time.Now().Add(patience))
	_, _ = r.Write(b)
}

// reply is the part of a body that tests check.
type reply struct {
	Error   wire.Code       `json:"error"`
	UID     int32           `json:"uid"`
	To      string          `json:"to"`
	From    int32           `json:"fromuid"`
	Threads []wire.Thread   `json:"threads"`
	Chats   json.RawMessage `json:"chat_datas"`
	raw     string
}

// next reads a frame. The error is io.EOF, or a reset, if the server has closed.
func (r *raw) next(within time.Duration) (wire.MsgID, *reply, error) {
	_ = r.SetReadDeadline(time.Now().Add(within))
	var head [wire.HeaderLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	id, n := wire.ParseHeader(head[:])
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return id, nil, err
	}
	out := &reply{raw: string(body)}
	if err := json.Unmarshal(body, out); err != nil {
		return id, nil, fmt.Errorf("message %v is not JSON: %w", id, err)
	}
	return id, out, nil
}

// expect skips to the next frame with the given id.
func (r *raw) expect(id wire.MsgID) *reply {
	r.t.Helper()
	for {
		got, body, err := r.next(patience)
		require.NoError(r.t, err, "waiting for message %v", id)
		if got == id {
			return body
		}
	}
}

// drain reads to the end and returns the frames before it. It fails if the server does not close.
func (r *raw) drain(within time.Duration) (frames []wire.MsgID, last *reply) {
	r.t.Helper()
	deadline := time.Now().Add(within)
	for {
		id, body, err := r.next(time.Until(deadline))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			r.t.Fatalf("not closed by the server within %v, after %v", within, frames)
		}
		if err != nil {
			return frames, last
		}
		frames, last = append(frames, id), body
	}
}

// reset closes the connection with an RST, as the kernel does for a killed process with unread data.
func (r *raw) reset() {
	require.NoError(r.t, r.SetLinger(0))
	require.NoError(r.t, r.Close())
}
