package lab

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// liar stands between clients and one chat node and has one of the faults that a server could have. It is how the ledger
// is shown to find them: each is done once in a run.
type liar struct {
	t      *testing.T
	ln     net.Listener
	target string
	fault  string

	mu    sync.Mutex // guards the following
	done  bool
	held  []byte // a push to be sent after the next
	conns []*lie
}

type lie struct {
	client net.Conn
	write  sync.Mutex
	pushed int // texts
}

func startLiar(t *testing.T, target, fault string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &liar{t: t, ln: ln, target: target, fault: fault}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go l.serve(c)
		}
	}()
	return ln.Addr().String()
}

func (l *liar) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer server.Close()
	c := &lie{client: client}
	l.mu.Lock()
	l.conns = append(l.conns, c)
	l.mu.Unlock()
	go func() {
		defer server.Close()
		frames(client, func(id wire.MsgID, body []byte) bool {
			if id == wire.MsgText && l.fault == "forge" && l.once(c, 3) {
				return c.send(wire.MsgTextRsp, forged(body)) // and the server never sees it
			}
			frame, _ := wire.AppendFrame(nil, id, body)
			_, err := server.Write(frame)
			return err == nil
		})
	}()
	frames(server, func(id wire.MsgID, body []byte) bool {
		if id != wire.MsgTextPush {
			return c.send(id, body)
		}
		return l.push(c, body)
	})
}

// push passes a 1019 on, or not.
func (l *liar) push(c *lie, body []byte) bool {
	switch l.fault {
	case "drop":
		if l.once(c, 3) {
			return true
		}
	case "duplicate":
		if l.once(c, 3) && !c.send(wire.MsgTextPush, body) {
			return false
		}
	case "corrupt":
		if l.once(c, 3) {
			body = append([]byte(nil), body...)
			at := len(body) / 2
			body[at] = 'a' + (body[at]-'a'+1)%26
		}
	case "swap":
		l.mu.Lock()
		held := l.held
		mine := !l.done && c.pushed == 3
		if mine {
			l.done, l.held = true, append([]byte(nil), body...)
			c.pushed = 1000 // remember whose it is
		}
		if held != nil && c.pushed >= 1000 {
			l.held = nil
		} else {
			held = nil
		}
		if c.pushed < 1000 {
			c.pushed++
		}
		l.mu.Unlock()
		if mine {
			return true
		}
		if held != nil {
			return c.send(wire.MsgTextPush, body) && c.send(wire.MsgTextPush, held)
		}
	case "misroute":
		l.mu.Lock()
		var other *lie
		for _, o := range l.conns {
			if o != c {
				other = o
			}
		}
		l.mu.Unlock()
		if l.once(c, 3) && other != nil {
			return other.send(wire.MsgTextPush, body)
		}
	}
	return c.send(wire.MsgTextPush, body)
}

// once says yes for one text of the run: the n-th of some connection.
func (l *liar) once(c *lie, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.pushed++
	if l.done || c.pushed < n {
		return false
	}
	l.done = true
	return true
}

func (c *lie) send(id wire.MsgID, body []byte) bool {
	frame, err := wire.AppendFrame(nil, id, body)
	if err != nil {
		return false
	}
	c.write.Lock()
	defer c.write.Unlock()
	_, err = c.client.Write(frame)
	return err == nil
}

// forged is the 1018 that a server would send that had stored the text.
func forged(request []byte) []byte {
	req, err := wire.DecodeText(request)
	if err != nil {
		return nil
	}
	sent := []wire.SentText{{Seq: 1 << 20, CreatedMS: 1, UniqueID: req.Texts[0].UniqueID, Content: req.Texts[0].Content}}
	return wire.AppendTextBody(nil, 1, req.ToUID, req.ThreadID, sent)
}

// frames reads frames until the stream ends or f says no.
func frames(c net.Conn, f func(id wire.MsgID, body []byte) bool) {
	var in wire.Splitter
	for buf := make([]byte, 32<<10); ; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		for data := buf[:n]; ; {
			id, body, rest, ok, err := in.Next(data, wire.MaxBody)
			if err != nil {
				return
			}
			if !ok {
				break
			}
			if !f(id, body) {
				return
			}
			data = rest
		}
	}
}
