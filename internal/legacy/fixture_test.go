package legacy

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/outbox"
	"parley/internal/session"
	"parley/internal/wire"
)

// me is the client's user; friend is in its friend_list and shares talk with it; pal is in it without a thread yet.
const (
	me, friend, pal, stranger int32 = 1, 2, 3, 9
	talk                      int64 = 7
)

// socket is the server's end of a connection to a client in the same process.
type socket struct {
	fd   int
	s    *session.Session
	once sync.Once
}

func (c *socket) Fd() int { return c.fd }
func (c *socket) Close() error {
	c.once.Do(func() { c.s.Gone(); _ = syscall.Close(c.fd) })
	return nil
}

// Write is called by a session when the socket is full.
func (c *socket) Write(b []byte) (n int, err error) {
	for range 5000 {
		k, err := syscall.Write(c.fd, b[n:])
		if n += max(k, 0); n == len(b) {
			return n, nil
		}
		if err != nil && err != syscall.EAGAIN {
			return n, err
		}
		time.Sleep(time.Millisecond)
	}
	return n, context.DeadlineExceeded
}

// stock is a logged-in stock client with the policy of its session.
type stock struct {
	*Policy
	t    testing.TB
	s    *session.Session
	fd   int
	raw  []byte
	last time.Time
	eof  bool

	heartbeats, merged, reannounced, unsafe, overflowed int
}

type got struct {
	id   wire.MsgID
	body string
	at   time.Duration
}

// in runs f in a bubble of fake time with a client that has just received its 1006.
func in(t *testing.T, f func(t *testing.T, c *stock)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newStock(t)
		require.NoError(t, c.s.Reply(frameOf(wire.MsgLoginRsp, `{"error":0}`)))
		require.Equal(t, []wire.MsgID{wire.MsgLoginRsp}, ids(c.wait(Gap+Resolution)))
		f(t, c)
	})
}

func newStock(t testing.TB) *stock {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	for _, fd := range fds {
		require.NoError(t, syscall.SetNonblock(fd, true))
	}
	var wg sync.WaitGroup
	wheel := NewWheel(Spacing{Frame: Gap})
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() { wheel.Run(ctx) })
	c := &stock{t: t, fd: fds[1], s: new(session.Session)}
	conn := &socket{fd: fds[0], s: c.s}
	c.s.Init(conn, &session.Limits{Limits: outbox.Limits{Bytes: 128 << 10, WriteTimeout: 5 * time.Second, Go: wg.Go}, Linger: time.Second})
	inc := func(n *int) func() { return func() { *n++ } }
	c.Policy = New(c.s, wheel, map[int32]struct{}{friend: {}, pal: {}}, map[int64]int64{talk: 0}, &Counters{
		HeartbeatDropped: inc(&c.heartbeats), Merged: inc(&c.merged), Reannounced: inc(&c.reannounced),
		Unsafe: inc(&c.unsafe), Overflowed: inc(&c.overflowed),
	})
	require.True(t, c.s.Identify(session.Identity{UID: me, SID: 1, Stock: c.Policy}))
	r := session.NewRegistry()
	r.Add(c.s)
	require.Equal(t, session.Activated, r.Activate(c.s))
	t.Cleanup(func() {
		c.s.Close()
		cancel()
		wg.Wait()
		_ = syscall.Close(c.fd)
	})
	return c
}

// wait waits for d and returns the frames that arrived. It fails if two frames arrive less than Gap apart, which the
// stock client does not tolerate.
func (c *stock) wait(d time.Duration) (frames []got) {
	c.t.Helper()
	buf := make([]byte, 256<<10)
	for until := time.Now().Add(d); ; time.Sleep(time.Millisecond) {
		synctest.Wait()
		n, err := syscall.Read(c.fd, buf)
		if err == nil && n == 0 {
			c.eof = true
		}
		c.raw = append(c.raw, buf[:max(n, 0)]...)
		for len(c.raw) >= wire.HeaderLen {
			id, n := wire.ParseHeader(c.raw)
			if len(c.raw) < wire.HeaderLen+n {
				break
			}
			now := time.Now()
			if !c.last.IsZero() {
				require.GreaterOrEqual(c.t, now.Sub(c.last), Gap, "%d came too soon", id)
			}
			c.last = now
			frames = append(frames, got{id, string(c.raw[wire.HeaderLen : wire.HeaderLen+n]), now.Sub(c.opened)})
			c.raw = c.raw[wire.HeaderLen+n:]
		}
		if !time.Now().Before(until) {
			return frames
		}
	}
}

// queued returns the number of waiting replies.
func (c *stock) queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.replies.frames)
}

func ids(frames []got) (ids []wire.MsgID) {
	for _, f := range frames {
		ids = append(ids, f.id)
	}
	return ids
}

func (c *stock) texts(f got) wire.TextPush {
	c.t.Helper()
	var b wire.TextPush
	require.Equal(c.t, wire.MsgTextPush, f.id)
	require.NoError(c.t, wire.Decode([]byte(f.body), &b))
	return b
}

func seqs(b wire.TextPush) (s []int64) {
	for _, t := range b.Chats {
		s = append(s, t.Seq)
	}
	return s
}

func frameOf(id wire.MsgID, body string) []byte {
	f, err := wire.AppendFrame(nil, id, []byte(body))
	if err != nil {
		panic(err)
	}
	return f
}

// push returns a push of texts with these numbers.
func push(from int32, thread int64, content string, seqs ...int64) *session.Push {
	var texts []wire.SentText
	for _, s := range seqs {
		texts = append(texts, wire.SentText{Seq: s, CreatedMS: 1767605472000, UniqueID: fmt.Sprint("u", s), Content: content})
	}
	return &session.Push{
		To: me, ID: wire.MsgTextPush, From: from, Thread: thread, Seq: seqs[len(seqs)-1],
		Body: wire.AppendTextBody(nil, from, me, thread, texts),
	}
}

// load performs the client's first load, which lists talk up to a number.
func (c *stock) load(served int64) {
	c.t.Helper()
	after, first := c.ThreadsAsked(0)
	require.True(c.t, first)
	require.Zero(c.t, after)
	require.True(c.t, c.Announce(talk, friend))
	require.NoError(c.t, c.s.Reply(frameOf(wire.MsgThreadsRsp, `{}`)))
	c.ThreadsListed()
	require.NoError(c.t, c.s.Reply(frameOf(wire.MsgHistoryRsp, `{}`)))
	c.HistoryServed(talk, served, false)
}
