//go:build linux

package engine

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// recorder is a handler that forwards all events.
type recorder struct {
	opened chan *Conn
	frames chan string
	closed chan error
	tick   func(now int64) int64
}

func (r *recorder) Opened(c *Conn) { r.opened <- c }
func (r *recorder) Frame(_ *Conn, id wire.MsgID, body []byte) {
	r.frames <- fmt.Sprintf("%v %s", id, body)
}
func (r *recorder) Closed(_ *Conn, err error) { r.closed <- err }
func (r *recorder) Tick(now int64) int64 {
	if r.tick != nil {
		return r.tick(now)
	}
	return now + int64(time.Hour)
}

func start(t *testing.T, r *recorder) *Loop {
	t.Helper()
	return startWith(t, r, Options{Sources: 8})
}

func startWith(t *testing.T, r *recorder, o Options) *Loop {
	t.Helper()
	r.opened, r.frames, r.closed = make(chan *Conn, 5000), make(chan string, 1000), make(chan error, 5000)
	l, err := New(r, o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done); require.False(t, l.Do(func() {})) })
	return l
}

func listen(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

func TestFramesInPiecesAndLargeWrites(t *testing.T) {
	const size = 3 << 20 // more than the socket buffers hold
	got := make(chan int, 1)
	to := listen(t, func(c net.Conn) {
		defer c.Close()
		n, _ := io.CopyN(io.Discard, c, size)
		got <- int(n)
		frame, _ := wire.AppendFrame(nil, 1024, []byte("hello"))
		frame, _ = wire.AppendFrame(frame, 1019, nil)
		for _, b := range frame {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
		}
	})
	r := &recorder{}
	l := start(t, r)
	l.Do(func() { l.Dial(Target{Addr: to}, 7) })
	c := <-r.opened
	require.Equal(t, 7, c.Tag)
	l.Do(func() { c.Send(make([]byte, size)) })
	require.Equal(t, size, <-got)
	require.Equal(t, "1024 hello", <-r.frames)
	require.Equal(t, "1019 ", <-r.frames)
	require.ErrorIs(t, <-r.closed, errHungUp)
}

func TestRefusedAndClosed(t *testing.T) {
	r := &recorder{}
	l := start(t, r)
	l.Do(func() { l.Dial(Target{Addr: netip.MustParseAddrPort("127.0.0.1:1")}, 0) })
	require.ErrorContains(t, <-r.closed, "refused")
	l.Do(func() { l.Dial(Target{Addr: netip.MustParseAddrPort("[::1]:1")}, 0) })
	require.ErrorContains(t, <-r.closed, "IPv4")
	to := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	l.Do(func() { l.Dial(Target{Addr: to}, 0) })
	c := <-r.opened
	l.Do(func() { c.Close(true); c.Close(true); c.Send([]byte("x")) })
	require.ErrorIs(t, <-r.closed, ErrClosed)
	open := make(chan int)
	l.Do(func() { open <- l.Open() })
	require.Zero(t, <-open)
}

func TestTicksComeWhenAsked(t *testing.T) {
	const step = int64(3 * time.Millisecond)
	late := make(chan int64, 100)
	next := int64(0)
	r := &recorder{tick: func(now int64) int64 {
		if next == 0 {
			next = now + step
		}
		for next <= now && len(late) < cap(late) {
			late <- now - next
			next += step
		}
		return next
	}}
	start(t, r)
	for range 50 {
		require.GreaterOrEqual(t, <-late, int64(0))
	}
}

// TestIdleConnectionsAreSmall holds thousands of connections and measures the heap. The promise is 1.5 KiB each.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const n = 2000
	held := make(chan net.Conn, n)
	to := listen(t, func(c net.Conn) { held <- c })
	r := &recorder{}
	l := start(t, r)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	// The other side is in this process too. Measure it first, with connections made without the engine.
	base := heap()
	var plain []net.Conn
	for range n {
		c, err := net.Dial("tcp4", to.String())
		require.NoError(t, err)
		plain = append(plain, c)
		plain = append(plain, <-held)
	}
	both := (heap() - base) / n
	for _, c := range plain {
		c.Close()
	}
	plain = nil
	base = heap()
	var servers []net.Conn
	l.Do(func() {
		for range n {
			l.Dial(Target{Addr: to}, 0)
		}
	})
	for range n {
		<-r.opened
		servers = append(servers, <-held)
	}
	each := (int64(heap()) - int64(base)) / n
	t.Logf("%d bytes with the other end, which costs about %d", each, both/2)
	require.Less(t, each-int64(both/2), int64(1536))
	for _, c := range servers {
		c.Close()
	}
}
