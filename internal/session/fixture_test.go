package session

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/netpoll"
	"github.com/stretchr/testify/require"

	"parley/internal/outbox"
	"parley/internal/wire"
)

// node accepts connections as a chat node does, and makes a session of each.
type node struct {
	t      testing.TB
	addr   string
	limits Limits
	wg     sync.WaitGroup
	opened chan *Session
	closed chan *Session // when not nil
}

type owner struct {
	context.Context
	Session
}

func startNode(t testing.TB, change func(*Limits)) *node {
	t.Helper()
	n := &node{t: t, opened: make(chan *Session, 1024)}
	n.limits = Limits{Limits: outbox.Limits{Bytes: 128 << 10, WriteTimeout: time.Minute, Go: n.wg.Go}, Linger: 100 * time.Millisecond}
	if change != nil {
		change(&n.limits)
	}
	ln, err := netpoll.CreateListener("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n.addr = ln.Addr().String()
	loop, err := netpoll.NewEventLoop(
		func(_ context.Context, c netpoll.Connection) error {
			_, err := c.Reader().Next(c.Reader().Len())
			_ = c.Reader().Release()
			return err
		},
		netpoll.WithOnPrepare(func(c netpoll.Connection) context.Context {
			o := &owner{Context: context.Background()}
			o.Init(c.(outbox.Conn), &n.limits)
			require.NoError(t, c.AddCloseCallback(func(netpoll.Connection) error {
				o.Gone()
				if n.closed != nil {
					n.closed <- &o.Session
				}
				return nil
			}))
			return o
		}),
		// Not before: netpoll registers a connection after it was prepared, and must not find it closed then.
		netpoll.WithOnConnect(func(ctx context.Context, _ netpoll.Connection) context.Context {
			n.opened <- &ctx.(*owner).Session
			return ctx
		}),
	)
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = loop.Serve(ln) // ends with Shutdown
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = loop.Shutdown(ctx)
		<-served
		n.wg.Wait()
	})
	return n
}

// dial connects a client and returns both ends.
func (n *node) dial() (*Session, net.Conn) {
	n.t.Helper()
	c, err := net.Dial("tcp", n.addr)
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = c.Close() })
	return <-n.opened, c
}

// login connects a native client.
func (n *node) login(uid int32) (*Session, net.Conn) {
	n.t.Helper()
	s, c := n.dial()
	require.True(n.t, s.Identify(Identity{UID: uid, Device: "d", SID: SID(uid), Native: true}))
	require.True(n.t, s.advance(Pending, Live))
	return s, c
}

type frame struct {
	id   wire.MsgID
	body []byte
}

func read(r io.Reader) (f frame, err error) {
	var h [wire.HeaderLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return f, err
	}
	id, n := wire.ParseHeader(h[:])
	f = frame{id, make([]byte, n)}
	if _, err := io.ReadFull(r, f.body); err != nil {
		return f, io.ErrUnexpectedEOF
	}
	return f, nil
}

func mustRead(t testing.TB, c net.Conn) frame {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	f, err := read(c)
	require.NoError(t, err)
	return f
}

// text returns a push of n bytes that begins with who and seq.
func text(who, seq, n int) *Push {
	body := make([]byte, max(n, 8))
	binary.BigEndian.PutUint32(body, uint32(who))
	binary.BigEndian.PutUint32(body[4:], uint32(seq))
	return &Push{ID: wire.MsgTextPush, Thread: 1, Seq: int64(seq), Body: body}
}

func (f frame) text() (who, seq int) {
	return int(binary.BigEndian.Uint32(f.body)), int(binary.BigEndian.Uint32(f.body[4:]))
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, time.Millisecond, what)
}
