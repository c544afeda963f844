package session

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"parley/internal/outbox"
	"parley/internal/wire"
)

func TestASessionIsSmall(t *testing.T) {
	t.Logf("a session takes %d bytes", unsafe.Sizeof(Session{}))
	require.LessOrEqual(t, unsafe.Sizeof(Session{}), uintptr(256), "a million of them live on one machine")
}

func TestFramesOfOneSenderKeepTheirOrder(t *testing.T) {
	n := startNode(t, func(l *Limits) { l.Bytes = 8 << 20 })
	s, c := n.login(1)
	const senders, each = 8, 500
	var wg sync.WaitGroup
	for who := range senders {
		wg.Go(func() {
			var cork outbox.Cork
			defer cork.Release()
			for seq := range each {
				p := text(who, seq, rand.IntN(300))
				switch seq % 4 {
				case 0:
					require.NoError(t, s.Push(p))
				case 3:
					require.NoError(t, s.PushCorked(p, &cork))
					if seq%20 == 3 {
						cork.Release()
					}
				default:
					raw, err := wire.AppendFrame(nil, p.ID, p.Body)
					require.NoError(t, err)
					if seq%4 == 1 {
						require.NoError(t, s.Reply(raw))
					} else {
						require.NoError(t, s.WriteInline(raw))
					}
					for i := range raw { // the caller may use its buffer again
						raw[i] = 0xee
					}
				}
			}
		})
	}
	var next [senders]int
	for range senders * each {
		who, seq := mustRead(t, c).text()
		require.Equal(t, next[who], seq)
		next[who]++
	}
	wg.Wait()
	eventually(t, "an idle session to hold no buffer", func() bool {
		return s.box.Idle()
	})
}

func TestACorkWritesWhenItIsReleasedAndASlowClientHoldsUpNobody(t *testing.T) {
	n := startNode(t, func(l *Limits) { l.Bytes = 8 << 20 })
	slow, stalled := n.login(1)
	stuff(t, slow, func(i int) *Push { return text(1, i, 1000) })
	var cork outbox.Cork
	const each = 50
	var sessions []*Session
	var clients []net.Conn
	for i := range 2 * outbox.CorkShare {
		s, c := n.login(int32(i + 2))
		sessions, clients = append(sessions, s), append(clients, c)
	}
	for seq := range each {
		require.NoError(t, slow.PushCorked(text(1, 100000+seq, 10), &cork))
		for _, s := range sessions {
			require.NoError(t, s.PushCorked(text(0, seq, 10), &cork))
		}
	}
	for _, s := range sessions {
		require.Greater(t, s.Queued(), each*10, "written before the release")
	}
	require.Equal(t, len(sessions), cork.Len(), "each once, and not one that is being written to")
	cork.Release()
	require.Zero(t, cork.Len())
	for _, c := range clients {
		for seq := range each {
			_, got := mustRead(t, c).text()
			require.Equal(t, seq, got)
		}
	}
	for last := -1; last != 100000+each-1; { // the slow one, once it reads, gets everything in order
		_, seq := mustRead(t, stalled).text()
		require.Greater(t, seq, last)
		last = seq
	}
}

func TestASlowConsumerIsClosedAndHarmsNobody(t *testing.T) {
	var slow atomic.Int32
	n := startNode(t, func(l *Limits) { l.OnSlow = func(*Session) { slow.Add(1) } })
	n.closed = make(chan *Session, 10)
	bad, _ := n.login(1)
	good, c := n.login(2)
	var err error
	sent := 0
	for ; err == nil; sent++ {
		require.Less(t, sent, 100000)
		require.LessOrEqual(t, bad.Queued(), 128<<10)
		err = bad.Push(text(1, sent, 1000))
	}
	require.ErrorIs(t, err, ErrSlow)
	require.Equal(t, Dead, bad.State())
	require.ErrorIs(t, bad.Push(text(1, 0, 0)), ErrClosed)
	require.EqualValues(t, 1, slow.Load())
	for i := range 100 {
		require.NoError(t, good.Push(text(2, i, 1000)))
		_, seq := mustRead(t, c).text()
		require.Equal(t, i, seq)
	}
	require.Same(t, bad, <-n.closed)
}

// stuff sends frames, one at a time, until the client's socket takes no more of them. It returns how many it sent.
func stuff(t *testing.T, s *Session, push func(i int) *Push) int {
	t.Helper()
	for i := 0; ; i++ {
		require.Less(t, i, 100000)
		require.NoError(t, s.Push(push(i)))
		for since := time.Now(); s.Queued() > 0; runtime.Gosched() {
			if !full(t, s.socket.Fd()) {
				since = time.Now() // the flusher has not come yet, or goes on
			} else if time.Since(since) > 200*time.Millisecond {
				return i + 1
			}
		}
	}
}

// full reports whether the kernel takes nothing more for a socket.
func full(t *testing.T, fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	_, err := unix.Poll(p, 0)
	require.True(t, err == nil || err == unix.EINTR, "poll: %v", err)
	return err == nil && p[0].Revents == 0
}

func TestASlowConsumerThatReadsAgainGetsWholeFramesThenTheReason(t *testing.T) {
	goodbye := wire.AppendCode(nil, wire.MsgGoodbye, wire.CodeSlowConsumer, 0)
	n := startNode(t, func(l *Limits) { l.SlowFrame = goodbye })
	s, c := n.login(1)
	big := func(i int) *Push { return text(1, i, 60000) }
	for i := stuff(t, s, big); s.Push(big(i)) == nil; i++ {
		require.Less(t, i, 100000)
	}
	require.ErrorIs(t, s.Push(text(1, 0, 0)), ErrClosed)
	next := 0
	for {
		f := mustRead(t, c)
		if f.id == wire.MsgGoodbye {
			require.Equal(t, goodbye[wire.HeaderLen:], f.body)
			break
		}
		_, seq := f.text()
		require.Equal(t, next, seq, "what was on its way arrives whole and without a hole")
		next++
	}
	require.Positive(t, next)
	_, err := read(c)
	require.ErrorIs(t, err, io.EOF, "nothing after the reason")
}

// TestAnOutboxHoldsNoMoreThanItsBound counts what is allocated at most, not what is used of it.
func TestAnOutboxHoldsNoMoreThanItsBound(t *testing.T) {
	var lost atomic.Bool
	n := startNode(t, func(l *Limits) { l.Bytes, l.OnGap = 128<<10, func() { lost.Store(true) } })
	s, c := n.dial()
	require.True(t, s.Identify(Identity{UID: 1, Device: "d", SID: 1, Native: true, Gap: true}))
	require.True(t, s.advance(Pending, Live))
	require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4096))
	largest := 0
	for i := 0; !lost.Load(); i++ {
		require.Less(t, i, 50_000)
		require.NoError(t, s.Push(text(1, i, 3000)))
		largest = max(largest, s.box.Held())
	}
	require.LessOrEqual(t, largest, 164<<10) // the bound, a quarter, and a frame
	require.Greater(t, largest, 64<<10)
}

// B9: what the buffer under way no longer needs is given back, while as much may wait beside it.
func TestASlowReaderPinsLittleMoreThanItsBound(t *testing.T) {
	const sessions, bound, extra = 16, 128 << 10, 16 << 10
	var wg sync.WaitGroup
	limits := &Limits{Limits: outbox.Limits{Bytes: bound, WriteTimeout: time.Hour, Go: wg.Go}}
	read, taken := make(chan struct{}), make(chan struct{})
	full := func() *Session { // whose socket is
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		require.NoError(t, err)
		require.NoError(t, syscall.SetNonblock(fds[0], true))
		for err == nil {
			_, err = syscall.Write(fds[0], make([]byte, 1<<10))
		}
		t.Cleanup(func() { syscall.Close(fds[0]); syscall.Close(fds[1]) })
		s := new(Session)
		s.Init(&fileConn{fd: fds[0], write: func(b []byte) (int, error) {
			if _, ok := <-read; ok {
				taken <- struct{}{}
			}
			return len(b), nil
		}, close: func() {}}, limits)
		require.True(t, s.Identify(Identity{UID: 1, Device: "d", SID: 1, Native: true, Gap: true}))
		require.True(t, s.advance(Pending, Live))
		return s
	}
	before := heap()
	all := make([]*Session, sessions)
	for i := range all {
		all[i] = full()
	}
	p := text(1, 1, 1000)
	most := 0
	for range 20 { // pieces that each client reads: more than an outbox
		for _, s := range all {
			for s.Queued()+wire.HeaderLen+len(p.Body) <= bound {
				require.NoError(t, s.Push(p))
			}
		}
		most = max(most, (heap()-before)/sessions)
		for range all {
			read <- struct{}{}
			<-taken
		}
	}
	t.Logf("%d bytes for each client", most)
	require.Less(t, most, bound+bound/4+extra)
	require.Greater(t, most, bound, "a client may have as much waiting as before")
	close(read)
	wg.Wait()
}

// heap returns the bytes that are in use.
func heap() int {
	var m runtime.MemStats
	for range 2 { // what a pool gave up lives for one more
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestAnAbortedConnectionLeavesNothingBehind lets the kernel hold bytes for a client that does not read: a plain close
// would leave them, and the socket, there for minutes.
func TestAnAbortedConnectionLeavesNothingBehind(t *testing.T) {
	n := startNode(t, nil)
	s, c := n.login(1)
	require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4096))
	stuff(t, s, func(i int) *Push { return text(1, i, 1000) }) // how much the kernel takes is its own affair
	s.Abort()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := io.Copy(io.Discard, c)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestAGapIsToldInsteadOfClosing(t *testing.T) {
	var gaps atomic.Int32
	n := startNode(t, func(l *Limits) { l.OnGap = func() { gaps.Add(1) } })
	s, c := n.dial()
	require.True(t, s.Identify(Identity{UID: 1, Device: "d", SID: 1, Native: true, Gap: true}))
	require.True(t, s.advance(Pending, Live))
	push := func(thread int64, seq int) *Push {
		body := wire.AppendTextBody(nil, 2, 1, thread, []wire.SentText{
			{Seq: int64(seq), UniqueID: "u", Content: string(make([]byte, 4096))}, {Seq: int64(seq + 1), UniqueID: "v", Content: "x"},
		})
		return &Push{ID: wire.MsgTextPush, Thread: thread, Seq: int64(seq + 1), Body: body}
	}
	first := 2*stuff(t, s, func(i int) *Push { return push(7, 2*i+1) }) + 1
	for ; gaps.Load() == 0; first += 2 {
		require.NoError(t, s.Push(push(7, first)))
	}
	first -= 2 // the first text that found no room
	require.NoError(t, s.Push(push(8, 1)), "another thread has its own gap")
	require.NoError(t, s.Push(push(7, first+2)), "and a thread has one")
	require.EqualValues(t, 2, gaps.Load())
	require.Equal(t, Live, s.State())

	told := map[int64]int64{}
	for next := int64(1); len(told) < 2; {
		f := mustRead(t, c)
		if f.id == wire.MsgGap {
			var g wire.Gap
			require.NoError(t, wire.Decode(f.body, &g))
			told[g.ThreadID] = g.FromSeq
			continue
		}
		var b wire.TextPush
		require.NoError(t, wire.Decode(f.body, &b))
		require.Equal(t, next, b.Chats[0].Seq)
		next += 2
	}
	require.Equal(t, map[int64]int64{7: int64(first), 8: 1}, told)
	require.NoError(t, s.Push(push(7, 9001)))
	var b wire.TextPush
	require.NoError(t, wire.Decode(mustRead(t, c).body, &b))
	require.EqualValues(t, 9001, b.Chats[0].Seq, "after the gap texts come again")
}

func TestWhatCannotBeReadBackIsNoGap(t *testing.T) {
	n := startNode(t, nil)
	s, _ := n.dial()
	require.True(t, s.Identify(Identity{UID: 1, Device: "d", SID: 1, Native: true, Gap: true}))
	var err error
	for i := 0; err == nil; i++ {
		require.Less(t, i, 100000)
		err = s.Push(&Push{ID: wire.MsgApplied, Body: make([]byte, 1000)})
	}
	require.ErrorIs(t, err, ErrSlow)
}

func TestWriteInlineOfMoreThanTheSocketTakes(t *testing.T) {
	n := startNode(t, func(l *Limits) { l.Bytes = 8 << 20 })
	s, c := n.login(1)
	const frames = 200
	for i := range frames {
		raw, err := wire.AppendFrame(nil, wire.MsgTextPush, text(1, i, 60000).Body)
		require.NoError(t, err)
		if s.WriteInline(raw) != nil {
			break
		}
		if s.Queued() > 7<<20 {
			break
		}
		if i == frames-1 {
			t.Log("the socket took all: nothing was partial")
		}
	}
	require.NoError(t, s.Push(text(2, 0, 10)))
	for next := 0; ; next++ {
		who, seq := mustRead(t, c).text()
		if who == 2 {
			require.Positive(t, next)
			break
		}
		require.Equal(t, next, seq)
	}
}

func TestFinishDeliversTheLastFrame(t *testing.T) {
	n := startNode(t, nil)
	n.closed = make(chan *Session, 10)
	s, c := n.login(1)
	for i := range 50 {
		require.NoError(t, s.Push(text(1, i, 1000)))
	}
	last := wire.AppendCode(nil, wire.MsgGoodbye, wire.CodeDraining, 0)
	require.True(t, s.Finish(last))
	require.False(t, s.Finish(last), "the first wins")
	require.ErrorIs(t, s.Reply(last), ErrClosed)
	require.ErrorIs(t, s.Write(last), ErrClosed)
	require.ErrorIs(t, s.Push(text(1, 0, 0)), ErrClosed)
	require.ErrorIs(t, s.WriteInline(last), ErrClosed)
	for i := range 50 {
		_, seq := mustRead(t, c).text()
		require.Equal(t, i, seq)
	}
	require.Equal(t, wire.MsgGoodbye, mustRead(t, c).id)
	_, err := read(c)
	require.ErrorIs(t, err, io.EOF)
	require.Same(t, s, <-n.closed, "a client that does not hang up is closed after Linger")
}

func TestFinishWithoutAFrame(t *testing.T) {
	n := startNode(t, nil)
	s, c := n.login(1)
	require.True(t, s.Finish(nil))
	_, err := read(c)
	require.ErrorIs(t, err, io.EOF)
}

func TestFinishWithUnreadInputIsNoReset(t *testing.T) {
	// Nobody reads the socket here, which is what makes a plain close a reset.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	accepted, err := ln.Accept()
	require.NoError(t, err)
	file, err := accepted.(*net.TCPConn).File()
	require.NoError(t, err)
	require.NoError(t, accepted.Close())
	var wg sync.WaitGroup
	var s Session
	s.Init(&fileConn{fd: int(file.Fd()), close: func() { s.Gone(); _ = file.Close() }}, &Limits{
		Limits: outbox.Limits{Bytes: 1 << 20, WriteTimeout: 5 * time.Second, Go: wg.Go}, Linger: 200 * time.Millisecond,
	})
	_, err = c.Write(make([]byte, 100000))
	require.NoError(t, err)
	last := wire.AppendCode(nil, wire.MsgGoodbye, wire.CodeDraining, 0)
	require.True(t, s.Finish(last))
	require.Equal(t, wire.MsgGoodbye, mustRead(t, c).id)
	_, err = read(c)
	require.ErrorIs(t, err, io.EOF)
	wg.Wait()
	eventually(t, "the close after Linger", func() bool {
		gone := true
		s.box.BeforeGone(func() { gone = false })
		return gone
	})
}

// fileConn is a connection that its test controls.
type fileConn struct {
	fd    int
	write func([]byte) (int, error)
	close func()
	once  sync.Once
}

func (c *fileConn) Fd() int                     { return c.fd }
func (c *fileConn) Write(b []byte) (int, error) { return c.write(b) }
func (c *fileConn) Close() error                { c.once.Do(c.close); return nil }

func TestNothingFollowsACutFrame(t *testing.T) {
	for _, inline := range []bool{false, true} {
		t.Run(fmt.Sprint("inline ", inline), func(t *testing.T) {
			fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			require.NoError(t, err)
			for _, fd := range fds {
				require.NoError(t, syscall.SetNonblock(fd, true))
			}
			defer syscall.Close(fds[1])
			timedOut, mayClose := make(chan struct{}), make(chan struct{})
			var failed error
			var wg sync.WaitGroup
			var s Session
			conn := &fileConn{fd: fds[0], close: func() { <-mayClose; s.Gone(); _ = syscall.Close(fds[0]) }}
			conn.write = func([]byte) (int, error) {
				close(timedOut)
				return 0, errors.New("write time-out")
			}
			s.Init(conn, &Limits{Limits: outbox.Limits{Bytes: 4 << 20, WriteTimeout: 5 * time.Second, Go: wg.Go}, OnWriteFail: func(_ *Session, err error) { failed = err }})
			big, err := wire.AppendFrame(nil, 1, make([]byte, wire.MaxBody))
			require.NoError(t, err)
			for range 20 { // more than the socket takes
				if inline {
					_ = s.WriteInline(big)
				} else {
					_ = s.Write(big)
				}
			}
			<-timedOut
			// The reader makes room while the close is still under way.
			drain := func() (n int) {
				b := make([]byte, 1<<20)
				for {
					k, err := syscall.Read(fds[1], b)
					if err != nil || k == 0 {
						return n
					}
					n += k
				}
			}
			eventually(t, "the session to be dead", func() bool { return s.State() == Dead })
			require.Positive(t, drain())
			require.ErrorIs(t, s.Write(big), ErrClosed)
			require.ErrorIs(t, s.WriteInline(big), ErrClosed)
			s.FinishNow(big)
			require.Zero(t, s.Queued())
			close(mayClose)
			wg.Wait()
			require.Zero(t, drain(), "bytes came after the cut")
			require.EqualError(t, failed, "write time-out")
		})
	}
}

// Descriptors are given out again at once, so that a write after the close would reach somebody else.
func TestNoWriteReachesAnotherConnection(t *testing.T) {
	n := startNode(t, func(l *Limits) {
		l.Linger = time.Millisecond
		l.SlowFrame = wire.AppendCode(nil, wire.MsgGoodbye, 1, 0)
	})
	rounds := 1500
	if testing.Short() {
		rounds = 200
	}
	var clients sync.WaitGroup
	var uid atomic.Int32
	for range 8 {
		clients.Go(func() {
			for range rounds / 8 {
				c, err := net.Dial("tcp", n.addr)
				if err != nil {
					t.Error(err)
					return
				}
				var s *Session
				select {
				case s = <-n.opened: // not always this client's; both know the session by the id in its frames
				case <-time.After(time.Second): // another client has ended this one's connection before it was open
					_ = c.Close()
					continue
				}
				me := uid.Add(1)
				if !s.Identify(Identity{UID: me, SID: SID(me), Native: true}) || !s.advance(Pending, Live) {
					_ = c.Close()
					continue
				}
				var senders sync.WaitGroup
				for k := range 3 {
					senders.Go(func() {
						raw, _ := wire.AppendFrame(nil, wire.MsgTextPush, text(int(me), 0, 20).Body)
						for i := 0; ; i++ {
							var err error
							switch k {
							case 0:
								err = s.Push(text(int(me), 0, 200))
							case 1:
								err = s.WriteInline(raw)
							default:
								err = s.Reply(raw)
							}
							if i == 2000 {
								s.Finish(raw)
							}
							if err != nil {
								return
							}
						}
					})
				}
				who := -1
				for range rand.IntN(40) {
					_ = c.SetReadDeadline(time.Now().Add(time.Second))
					f, err := read(c)
					if err != nil || f.id == wire.MsgGoodbye {
						break
					}
					got, _ := f.text()
					if who >= 0 && who != got {
						t.Errorf("a connection got frames of sessions %d and %d", who, got)
					}
					who = got
				}
				if rand.IntN(2) == 0 {
					s.Close()
				}
				if rand.IntN(2) == 0 {
					_ = c.(*net.TCPConn).SetLinger(0)
				}
				_ = c.Close()
				s.Close() // c may be another session's client
				senders.Wait()
			}
		})
	}
	clients.Wait()
}

func TestIdentifyRacesWithTheClose(t *testing.T) {
	for range 2000 {
		var s Session
		var wg sync.WaitGroup
		var policy countingStock
		s.Init(&fileConn{fd: -1, close: s.Gone}, &Limits{Limits: outbox.Limits{Go: wg.Go}})
		wg.Go(s.Close)
		ok := s.Identify(Identity{UID: 1, SID: 1, Stock: &policy})
		wg.Wait()
		require.Equal(t, Dead, s.State())
		if ok {
			require.EqualValues(t, 1, policy.gone.Load(), "a policy hears of the close")
		}
		require.False(t, s.Identify(Identity{UID: 2}))
	}
}

// countingStock is a policy that writes at once.
type countingStock struct {
	s       *Session
	replies atomic.Int32
	pushes  atomic.Int32
	closes  atomic.Int32
	gone    atomic.Int32
}

func (p *countingStock) Reply(f []byte) error { p.replies.Add(1); return p.s.Write(f) }
func (p *countingStock) Push(*Push) error     { p.pushes.Add(1); return nil }
func (p *countingStock) Close(f []byte)       { p.closes.Add(1); p.s.FinishNow(f) }
func (p *countingStock) Gone()                { p.gone.Add(1) }

func TestAStockSessionGoesThroughItsPolicy(t *testing.T) {
	n := startNode(t, nil)
	n.closed = make(chan *Session, 1)
	s, c := n.dial()
	p := &countingStock{s: s}
	require.True(t, s.Identify(Identity{UID: 1, SID: 1, Stock: p}))
	require.NoError(t, s.Reply(wire.HeartbeatFrame))
	require.NoError(t, s.Push(text(1, 0, 0)))
	require.Equal(t, wire.MsgHeartbeatRsp, mustRead(t, c).id)
	require.True(t, s.Finish(wire.HeartbeatFrame))
	require.Equal(t, wire.MsgHeartbeatRsp, mustRead(t, c).id)
	require.NoError(t, c.Close())
	<-n.closed
	require.Equal(t, [4]int32{1, 1, 1, 1}, [4]int32{p.replies.Load(), p.pushes.Load(), p.closes.Load(), p.gone.Load()})
}

// sink is a session whose socket swallows everything.
func sink(t testing.TB, run func(func())) *Session {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			if n, err := syscall.Read(fds[1], b); n <= 0 || err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = syscall.Shutdown(fds[0], syscall.SHUT_RDWR)
		<-done
		_ = syscall.Close(fds[0])
		_ = syscall.Close(fds[1])
	})
	s := new(Session)
	s.Init(&fileConn{fd: fds[0]}, &Limits{Limits: outbox.Limits{Bytes: 128 << 10, WriteTimeout: 5 * time.Second, Go: run}})
	require.True(t, s.Identify(Identity{UID: 1, SID: 1, Native: true}))
	require.True(t, s.advance(Pending, Live))
	return s
}

func TestPushAllocates(t *testing.T) {
	p := text(1, 1, 300)
	// The flusher runs in place, so that what is counted is ours and not the start of its goroutine.
	s := sink(t, func(f func()) { f() })
	push := testing.AllocsPerRun(1000, func() {
		if s.Push(p) != nil {
			t.Fatal("push failed")
		}
	})
	inline := testing.AllocsPerRun(1000, func() {
		if s.WriteInline(wire.HeartbeatFrame) != nil {
			t.Fatal("write failed")
		}
	})
	t.Logf("allocations: push to an idle session %v, inline write %v", push, inline)
	if !raceEnabled {
		require.LessOrEqual(t, push, 1.0, "the flusher's function value")
		require.Zero(t, inline)
	}
}

// rows returns an encoded push of a group.
func rows(who, seq, n int) []byte {
	p := text(who, seq, n)
	return append(wire.AppendHeader(nil, wire.MsgGroupPush, len(p.Body)), p.Body...)
}

func TestFramesOfGroupsKeepTheirOrderAndBecomeAGapNotice(t *testing.T) {
	var gaps atomic.Int32
	n := startNode(t, func(l *Limits) { l.OnGap = func() { gaps.Add(1) } })
	s, c := n.dial()
	require.True(t, s.Identify(Identity{UID: 1, SID: 1, Native: true, Gap: true, Features: wire.FeatureGroups}))
	require.ErrorIs(t, s.PushFrames(rows(1, 1, 100), 7, 1), ErrClosed, "not before it is Live")
	require.True(t, s.advance(Pending, Live))
	require.NoError(t, s.PushFrames(rows(1, 1, 100), 7, 1))
	_, seq := mustRead(t, c).text()
	require.Equal(t, 1, seq)

	last := 1
	for gaps.Load() == 0 { // the client does not read
		last++
		require.NoError(t, s.PushFrames(rows(1, last, 4000), 7, int64(last)))
	}
	require.NoError(t, s.PushFrames(rows(1, last+1, 100), 7, int64(last+1)), "it is left out too")
	require.NoError(t, s.PushFrames(rows(1, 1, 100), 8, 1), "another group has room")
	require.LessOrEqual(t, s.Queued(), 128<<10)
	require.EqualValues(t, 1, gaps.Load())
	seen := 1
	for {
		f := mustRead(t, c)
		if f.id == wire.MsgGap {
			require.JSONEq(t, fmt.Sprintf(`{"thread_id":7,"from_seq":%d}`, last), string(f.body))
			break
		}
		if _, seq := f.text(); seq != 1 {
			require.Equal(t, seen+1, seq)
			seen = seq
		}
	}
	require.Equal(t, last-1, seen)
	require.NoError(t, s.PushFrames(rows(1, last+2, 100), 7, int64(last+2)))
	_, seq = mustRead(t, c).text()
	require.Equal(t, last+2, seq)
	s.Close()
	require.ErrorIs(t, s.PushFrames(rows(1, 1, 1), 7, 1), ErrClosed)
}

func TestASessionWithoutGapsIsShownNoGroups(t *testing.T) {
	s := new(Session)
	s.Init(&fileConn{}, &Limits{})
	require.True(t, s.Identify(Identity{UID: 1, SID: 1, Native: true, Features: wire.FeatureGroups}))
	require.False(t, s.Groups())
}

// A client is sent no push of a feature that it is not shown, and is not told that it missed it.
func TestAPushOfAFeatureThatIsNotShownIsNotSent(t *testing.T) {
	n := startNode(t, nil)
	s, c := n.dial()
	require.True(t, s.Identify(Identity{UID: 1, SID: 1, Native: true, Gap: true, Features: wire.FeatureMarks}))
	require.True(t, s.advance(Pending, Live))
	for _, id := range []wire.MsgID{wire.MsgRowPush, wire.MsgTypingPush, wire.MsgGroupPush, wire.MsgMarkPush} {
		require.NoError(t, s.Push(&Push{To: 1, ID: id, Body: []byte("{}")}))
	}
	require.Equal(t, wire.MsgMarkPush, mustRead(t, c).id)
}

// A mark is not worth the room that texts and answers need: a client that does not read misses it, and stays.
func TestPassingPushesLeaveRoom(t *testing.T) {
	var passed atomic.Int32
	n := startNode(t, func(l *Limits) { l.Bytes = 4 << 10; l.OnPassed = func() { passed.Add(1) } })
	s, c := n.dial()
	require.True(t, s.Identify(Identity{UID: 1, SID: 1, Native: true, Gap: true, Features: wire.FeatureMarks}))
	require.True(t, s.advance(Pending, Live))
	mark := &Push{To: 1, ID: wire.MsgMarkPush, Body: make([]byte, 512)}
	for passed.Load() == 0 {
		require.NoError(t, s.Push(mark))
	}
	require.LessOrEqual(t, s.Queued(), 2<<10+16)
	require.NoError(t, s.Push(text(1, 1, 1<<10)))
	for {
		if f := mustRead(t, c); f.id == wire.MsgTextPush {
			break
		}
	}
	require.Equal(t, Live, s.State())
}
