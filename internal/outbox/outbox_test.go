package outbox

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// pipe is a socket in memory: a transport of another kind than a descriptor.
type pipe struct {
	mu     sync.Mutex // guards the following
	got    bytes.Buffer
	full   bool
	err    error
	shut   bool
	reset  bool
	lasts  []string
	opened chan struct{} // closed when a Write may go on
}

func (p *pipe) TryWrite(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full || p.err != nil {
		return 0, p.err
	}
	return p.got.Write(b)
}

func (p *pipe) Write(b []byte) (int, error) {
	<-p.opened
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full = false
	return p.got.Write(b)
}

func (p *pipe) Last(b []byte) { p.mu.Lock(); defer p.mu.Unlock(); p.lasts = append(p.lasts, string(b)) }
func (p *pipe) CloseWrite()   { p.mu.Lock(); defer p.mu.Unlock(); p.shut = true }
func (p *pipe) Reset()        { p.mu.Lock(); defer p.mu.Unlock(); p.reset = true }

func (p *pipe) set(f func()) { p.mu.Lock(); defer p.mu.Unlock(); f() }

func (p *pipe) text() string { p.mu.Lock(); defer p.mu.Unlock(); return p.got.String() }

// ear hears what becomes of an outbox.
type ear struct {
	slow, late, shut atomic.Int32
	mu               sync.Mutex
	broken           error
}

func (e *ear) Slow()            { e.slow.Add(1) }
func (e *ear) Late()            { e.late.Add(1) }
func (e *ear) Shut()            { e.shut.Add(1) }
func (e *ear) Broken(err error) { e.mu.Lock(); defer e.mu.Unlock(); e.broken = err }

type lossy struct{ thread, first int64 }

func (l lossy) In() int64            { return l.thread }
func (l lossy) Lost() (int64, int64) { return l.thread, l.first }

func newBox(t *testing.T) (*Outbox, *pipe, *ear, *sync.WaitGroup) {
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	p, e, o := &pipe{opened: make(chan struct{})}, new(ear), new(Outbox)
	o.Init(p, &Limits{Bytes: 100, ReplyBytes: 50, WriteTimeout: time.Hour, Go: wg.Go}, e)
	return o, p, e, &wg
}

func TestAnySocketServesAnOutbox(t *testing.T) {
	o, p, e, wg := newBox(t)
	require.NoError(t, o.WriteInline([]byte("now ")))
	require.Equal(t, "now ", p.text())
	require.NoError(t, o.Write([]byte("then "), nil))
	wg.Wait()
	require.True(t, o.Idle())
	require.NoError(t, o.PushFrames([]byte("shared "), 7, 1))
	o.Last([]byte("bye"), false)
	wg.Wait()
	require.Equal(t, "now then shared bye", p.text())
	require.True(t, p.shut)
	require.Equal(t, []string{"bye"}, p.lasts)
	require.EqualValues(t, 1, e.shut.Load())
	require.ErrorIs(t, o.Write([]byte("more"), nil), ErrClosed)
	require.False(t, o.Gap(1, 1))
}

func TestAGapNoticeStandsForWhatThereIsNoRoomFor(t *testing.T) {
	o, p, e, wg := newBox(t)
	p.set(func() { p.full = true })
	body := make([]byte, 40)
	require.NoError(t, o.Push(wire.MsgTextPush, body, lossy{7, 1}, nil))
	require.NoError(t, o.Push(wire.MsgTextPush, body, lossy{7, 2}, nil))
	require.NoError(t, o.Push(wire.MsgTextPush, body, lossy{7, 3}, nil), "dropped, and told")
	require.NoError(t, o.Push(wire.MsgTextPush, nil, lossy{7, 4}, nil), "what follows in the thread is dropped too")
	require.NoError(t, o.PushFrames(body, 7, 5))
	require.Zero(t, e.slow.Load())
	require.ErrorIs(t, o.Push(wire.MsgApplied, body, nil, nil), ErrSlow, "no notice can stand for it")
	require.EqualValues(t, 1, e.slow.Load())
	require.NoError(t, o.Write(make([]byte, 40), nil), "a reply has more room")
	close(p.opened)
	wg.Wait()
	require.True(t, bytes.HasSuffix([]byte(p.text()), wire.AppendGap(nil, 7, 3)), "the notice names the first that was dropped")
	require.True(t, o.Idle())
	require.Zero(t, o.Held())
}

func TestNothingFollowsABrokenWrite(t *testing.T) {
	o, p, e, wg := newBox(t)
	broken := errors.New("broken")
	p.set(func() { p.err = broken })
	require.NoError(t, o.Write([]byte("a"), nil))
	wg.Wait()
	require.ErrorIs(t, e.broken, broken)
	require.ErrorIs(t, o.Write([]byte("b"), nil), ErrClosed)
	require.Zero(t, o.Queued())
	o.Gone()
	o.BeforeGone(func() { require.Fail(t, "it is gone") })
	o.Reset()
	require.False(t, p.reset, "the descriptor may be somebody else's")
}
