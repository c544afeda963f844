package hogs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"parley/internal/wire"
)

// Seat is a place for a hog: two friends, each with a token. A stranger needs only the address.
type Seat struct {
	Node, Addr          string
	UID, Friend         int32
	Token, FriendsToken string
}

// Outcome is what happened to one hog.
type Outcome struct {
	Refused error         // it could not start
	Closed  bool          // by the node
	After   time.Duration // from the start of the misbehaviour
	Code    wire.Code     // of the goodbye; 0 for none
	Wrote   int64         // bytes
	Lasted  time.Duration // until it was closed or stopped
}

// peer is a hog.
type peer struct {
	kind   Kind
	seat   Seat
	conn   net.Conn
	thread int64 // with the friend

	wrote atomic.Int64
	began time.Time
	ended atomic.Int64 // when the node was seen to close the connection, in ns since began; 0: not yet

	split wire.Splitter // owned by the goroutine that reads
	code  wire.Code
}

// receiveBuffer is small, so that unread data stays on the node's side.
const receiveBuffer = 4096

// patience bounds connecting, logging in, each request before the misbehaviour, and reading the rest after it.
const patience = 10 * time.Second

func dial(ctx context.Context, k Kind, s Seat) (*peer, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp4", s.Addr)
	if err != nil {
		return nil, err
	}
	p := &peer{kind: k, seat: s, conn: conn}
	if !k.drains {
		_ = conn.(*net.TCPConn).SetReadBuffer(receiveBuffer) // a larger buffer would only make the node look better
	}
	if k.Class != Stranger {
		err = p.logIn()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return p, nil
}

// logIn logs in and learns the thread with the friend. A stock client then also reads its history, as the real one
// does.
func (p *peer) logIn() error {
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	login := wire.LoginRequest{UID: p.seat.UID, Token: p.seat.Token}
	if !p.kind.stock {
		login.Client, login.Caps, login.Device = "parley-hog/1", p.kind.caps, "hog"
	}
	var welcome struct {
		Error wire.Code `json:"error"`
	}
	if err := p.ask(wire.MsgLogin, login, &welcome); err != nil {
		return err
	}
	if welcome.Error != 0 {
		return fmt.Errorf("hogs: login refused with %d", welcome.Error)
	}
	var threads wire.ThreadsReply
	if err := p.ask(wire.MsgThreads, wire.ThreadsRequest{}, &threads); err != nil {
		return err
	}
	var last int64
	for _, t := range threads.Threads {
		if t.User1 == p.seat.Friend || t.User2 == p.seat.Friend {
			p.thread, last = t.ID, t.LastSeq
		}
	}
	if p.thread == 0 {
		return errors.New("hogs: no thread with the friend")
	}
	if p.kind.stock {
		var page wire.HistoryReply
		return errors.Join(p.ask(wire.MsgHistory, wire.HistoryRequest{ThreadID: p.thread, After: last}, &page), p.conn.SetDeadline(time.Time{}))
	}
	return p.conn.SetDeadline(time.Time{})
}

// ask sends a request and reads up to its reply.
func (p *peer) ask(id wire.MsgID, request, reply any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if err := p.put(append(wire.AppendHeader(nil, id, len(body)), body...)); err != nil {
		return err
	}
	for {
		var head [wire.HeaderLen]byte
		if _, err := io.ReadFull(p.conn, head[:]); err != nil {
			return fmt.Errorf("hogs: waiting for the answer to %v: %w", id, err)
		}
		got, n := wire.ParseHeader(head[:])
		body := make([]byte, n)
		if _, err := io.ReadFull(p.conn, body); err != nil {
			return fmt.Errorf("hogs: waiting for the answer to %v: %w", id, err)
		}
		if got == id+1 {
			return json.Unmarshal(body, reply)
		}
	}
}

func (p *peer) put(b []byte) error {
	n, err := p.conn.Write(b)
	p.wrote.Add(int64(n))
	return err
}

// misbehave misbehaves until ctx ends or the node closes the connection.
func (p *peer) misbehave(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetWriteDeadline(time.Now()) }) // also ends a blocked write
	defer stop()
	var reading sync.WaitGroup
	if p.kind.drains {
		reading.Go(func() {
			if p.drain() && ctx.Err() == nil {
				p.noteEnd()
			}
		})
		defer reading.Wait()
		defer func() { _ = p.conn.SetReadDeadline(time.Now()) }()
	}
	if err := p.kind.write(p, ctx); err != nil && ctx.Err() == nil {
		p.noteEnd()
		return
	}
	<-ctx.Done()
}

func (p *peer) noteEnd() { p.ended.CompareAndSwap(0, max(int64(time.Since(p.began)), 1)) }

// drain reads until the end and keeps only a goodbye. It returns true if the node has closed the connection.
func (p *peer) drain() bool {
	buf := make([]byte, 32<<10)
	for {
		n, err := p.conn.Read(buf)
		for data := buf[:n]; len(data) > 0; {
			id, body, rest, ok, err := p.split.Next(data, wire.MaxBody)
			if err != nil || !ok {
				break
			}
			var bye wire.Goodbye
			if id == wire.MsgGoodbye && json.Unmarshal(body, &bye) == nil {
				p.code = bye.Error
			}
			data = rest
		}
		if err != nil {
			timeout, ok := errors.AsType[net.Error](err)
			return !ok || !timeout.Timeout()
		}
	}
}

// farewell reads what the node has sent last, and closes.
func (p *peer) farewell() Outcome {
	o := Outcome{Wrote: p.wrote.Load(), Lasted: time.Since(p.began)}
	if at := time.Duration(p.ended.Load()); at > 0 {
		o.Closed, o.After, o.Lasted = true, at, at
		_ = p.conn.SetReadDeadline(time.Now().Add(time.Second)) // fails only for a reset connection, which has nothing to read
		p.drain()
	}
	o.Code = p.code
	_ = p.conn.(*net.TCPConn).SetLinger(0) // reset the connection, as a killed process does
	p.conn.Close()
	return o
}

func (p *peer) local() netip.AddrPort { return p.conn.LocalAddr().(*net.TCPAddr).AddrPort() }
