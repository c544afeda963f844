//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"parley/client"
	"parley/internal/wire"
)

// Raw is a connection to a chat node under full control of the bar: it can send anything, and need not read.
type Raw struct {
	*net.TCPConn
	UID int32
}

// rawOptions configure a Raw.
type rawOptions struct {
	ReceiveBuffer int    // bytes, set before the handshake; 0: the kernel's choice
	From          string // local address; "": any
}

// dialRaw connects without logging in.
func dialRaw(ctx context.Context, addr string, o rawOptions) (*Raw, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if o.From != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(o.From)}
	}
	if o.ReceiveBuffer > 0 {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, o.ReceiveBuffer)
			})
			return errors.Join(err, failed)
		}
	}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Raw{TCPConn: c.(*net.TCPConn)}, nil
}

// native returns the keys of a native client's login.
func native(extra ...any) map[string]any {
	m := map[string]any{"client": "chaos/1", "heartbeat_s": 300}
	for i := 0; i+1 < len(extra); i += 2 {
		m[extra[i].(string)] = extra[i+1]
	}
	return m
}

// loginRaw connects and logs in. A stock client sends only uid and token; extra contains the keys of a native client.
func loginRaw(ctx context.Context, t client.Ticket, extra map[string]any, o rawOptions) (*Raw, error) {
	r, err := dialRaw(ctx, t.Addr, o)
	if err != nil {
		return nil, err
	}
	r.UID = t.UID
	body := map[string]any{"uid": t.UID, "token": t.Token}
	for k, v := range extra {
		body[k] = v
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.send(wire.MsgLogin, string(b))
	rsp, err := r.expect(wire.MsgLoginRsp, 10*time.Second)
	if err == nil && rsp.Error != wire.CodeOK {
		err = &client.Error{Op: "login", Code: client.Code(rsp.Error)}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("user %d: %w", t.UID, err), r.Close())
	}
	return r, nil
}

// crowdRaw logs many users in on a node, with one connection each and without goroutines.
func (l *Lab) crowdRaw(ctx context.Context, first int32, n, node int, extra map[string]any, o rawOptions) ([]*Raw, error) {
	uids := span(first, n)
	tickets, err := l.tickets(ctx, uids, node)
	if err != nil {
		return nil, err
	}
	out := make([]*Raw, n)
	err = each(n, 32, func(i int) (err error) {
		out[i], err = loginRaw(ctx, tickets[i], extra, o)
		return err
	})
	return out, err
}

// closeAll closes the connections that are not nil.
func closeAll(raws []*Raw) {
	for _, r := range raws {
		if r != nil {
			_ = r.Close() // the client disconnects
		}
	}
}

// frame returns a header and a body as given.
func frame(id wire.MsgID, body string) []byte {
	return append(wire.AppendHeader(nil, id, len(body)), body...)
}

// send writes a frame. It ignores that the peer has closed: bars check what the peer answers.
func (r *Raw) send(id wire.MsgID, body string) { r.write(frame(id, body)) }

func (r *Raw) write(b []byte) {
	_ = r.SetWriteDeadline(time.Now().Add(30 * time.Second))
	_, _ = r.Write(b)
}

// textBody returns the body of a 1017 with some texts.
func textBody(thread int64, drafts ...client.Draft) string {
	type element struct {
		Content  string `json:"content"`
		UniqueID string `json:"unique_id"`
	}
	body := struct {
		Thread int64     `json:"thread_id"`
		Texts  []element `json:"text_array"`
	}{Thread: thread}
	for _, d := range drafts {
		body.Texts = append(body.Texts, element{d.Text, d.UniqueID})
	}
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return string(b)
}

// reply is the part of a body that bars check.
type reply struct {
	Error   wire.Code `json:"error"`
	RetryMS int       `json:"retry_ms"`
	SID     string    `json:"sid"`
	Resume  string    `json:"resume"`
	raw     string
}

// stored and refused count the elements of a 1018.
func (r *reply) stored() int  { return strings.Count(r.raw, `"status":2`) }
func (r *reply) refused() int { return strings.Count(r.raw, `"status":1`) }

// next reads a frame. The error is io.EOF, or a reset, if the server has closed.
func (r *Raw) next(within time.Duration) (wire.MsgID, *reply, error) {
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
func (r *Raw) expect(id wire.MsgID, within time.Duration) (*reply, error) {
	deadline := time.Now().Add(within)
	for {
		got, body, err := r.next(time.Until(deadline))
		if err != nil {
			return nil, fmt.Errorf("waiting for message %v: %w", id, err)
		}
		if got == id {
			return body, nil
		}
	}
}

// errStillOpen means that the server did not close a connection in time.
var errStillOpen = errors.New("still open")

// awaitClosed reads and discards until the end of the connection.
func (r *Raw) awaitClosed(within time.Duration) error {
	_ = r.SetReadDeadline(time.Now().Add(within))
	_, err := io.Copy(io.Discard, struct{ io.Reader }{r})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errStillOpen
	}
	return nil // an end or a reset
}

// reset closes the connection with an RST.
func (r *Raw) reset() {
	_ = r.SetLinger(0) // fails on a closed connection
	_ = r.Close()
}
