package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/presence"
)

// fakePeers is the other nodes, as reached by RPC.
type fakePeers struct {
	mu     sync.Mutex // guards the following
	answer error
	asked  []string // node/uid/sid
	static map[string]bool
	known  map[string]bool
	block  chan struct{}
	// open is the number of calls waiting for an answer, most its maximum.
	open, most int
}

func (p *fakePeers) Kick(ctx context.Context, node string, uid int32, sid string, _ bool) (*int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, fmt.Sprintf("%s/%d/%s", node, uid, sid))
	p.open++
	p.most = max(p.most, p.open)
	defer func() { p.open-- }()
	if block := p.block; block != nil {
		p.mu.Unlock()
		defer p.mu.Lock()
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, p.answer
}

func (p *fakePeers) Knows(node string) bool  { p.mu.Lock(); defer p.mu.Unlock(); return p.known[node] }
func (p *fakePeers) Static(node string) bool { return p.static[node] }

func (p *fakePeers) calls() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.asked) }

func (p *fakePeers) set(f func()) { p.mu.Lock(); defer p.mu.Unlock(); f() }

type kickBed struct {
	*bed
	kicker *Kicker
	peers  *fakePeers
	mu     sync.Mutex // guards the following
	fenced []string
	fence  func(ctx context.Context) error
}

func newKickBed(t *testing.T) *kickBed {
	b := &kickBed{bed: newBed(t), peers: &fakePeers{static: map[string]bool{}, known: map[string]bool{}}}
	b.kicker = NewKicker(KickerDeps{
		Log: quiet, Nodes: b.presence.Nodes, Sessions: b.presence.Sessions, Peers: b.peers,
		Link: func() { b.peers.set(func() { b.peers.known["n1"] = true }) },
		Fence: func(ctx context.Context, node, boot string) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.fenced = append(b.fenced, node+"|"+boot)
			if b.fence != nil {
				return b.fence(ctx)
			}
			return nil
		},
	})
	return b
}

// node gives n1 a lease and returns the location of a session there.
func (b *kickBed) node(boot string) presence.Location {
	b.t.Helper()
	b.mini.Del("node_n1")
	require.NoError(b.t, b.presence.Leases.Take(b.t.Context(), presence.Lease{Name: "n1", Boot: boot, RPCAddr: "127.0.0.1:1"}, ""))
	require.NoError(b.t, b.presence.Leases.ReportLoad(b.t.Context(), "n1", 1, nil))
	_, err := b.presence.Nodes.Read(b.t.Context())
	require.NoError(b.t, err)
	return presence.Location{UID: 7, SID: sid(7), Node: "n1", Boot: boot}
}

func (b *kickBed) mailbox(node string) []presence.Kick {
	b.t.Helper()
	kicks, err := b.presence.Leases.Report(b.t.Context(), node, 1, nil, presence.Kicks{})
	require.NoError(b.t, err)
	return kicks.Sessions
}

func (b *kickBed) end(at presence.Location) {
	b.t.Helper()
	require.NoError(b.t, b.kicker.End(b.t.Context(), at))
}

// A2
func TestAKickThatIsNotAnsweredGoesToTheMailbox(t *testing.T) {
	b := newKickBed(t)
	at := b.node("b1")
	b.end(at)
	require.Equal(t, 1, b.peers.calls())
	require.True(t, b.peers.Knows("n1"), "a node that has just joined is linked")
	require.Empty(t, b.mailbox("n1"))

	b.peers.set(func() { b.peers.answer = errors.New("refused") })
	for range 5 {
		b.end(at)
	}
	require.Equal(t, 2, b.peers.calls(), "a node that does not answer is left alone")
	require.Len(t, b.mailbox("n1"), 5)
	require.Equal(t, 5.0, value(b.kicker.metrics.left))
	require.Equal(t, 1.0, value(b.kicker.metrics.unanswered))

	// When the silence is over, one caller tries, and its success counts for all.
	b.kicker.silent.Put("n1", time.Now())
	b.end(at)
	b.end(at)
	require.Equal(t, 3, b.peers.calls())
	b.peers.set(func() { b.peers.answer = nil })
	b.kicker.silent.Put("n1", time.Now())
	b.end(at)
	b.end(at)
	require.Equal(t, 5, b.peers.calls())
	require.Len(t, b.mailbox("n1"), 7)
	require.Empty(t, b.fenced)
}

// A2: many logins have old sessions on a node that accepts calls but does not answer.
func TestKicksThatWaitForAnAnswerAreBounded(t *testing.T) {
	b := newKickBed(t)
	at := b.node("b1")
	b.peers.block = make(chan struct{})
	var wg sync.WaitGroup
	const logins = 2 * maxCalls
	var failed atomic.Int64
	for range logins {
		wg.Go(func() {
			if b.kicker.End(t.Context(), at) != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	require.Zero(t, failed.Load())
	require.LessOrEqual(t, b.peers.most, maxCalls)
	require.Len(t, b.mailbox("n1"), logins)
	require.Zero(t, b.kicker.calls.Load())
}

func TestASessionOfADeadLifeIsFenced(t *testing.T) {
	b := newKickBed(t)
	at := b.node("b1")
	b.node("b2")
	b.end(at)
	b.end(at)
	require.Equal(t, []string{"n1|b1"}, b.fenced, "once")
	require.Zero(t, b.peers.calls())
	b.end(presence.Location{UID: 7, SID: sid(7), Node: "n2", Boot: "b1"})
	require.Equal(t, []string{"n1|b1", "n2|b1"}, b.fenced, "a life is a node and a boot id")
}

// A2: a kick in the mailbox is useless if the node cannot read it and then dies.
func TestALifeThatWasLeftAKickIsFencedWhenItsLeaseLapses(t *testing.T) {
	b := newKickBed(t)
	at := b.node("b1")
	b.peers.answer = errors.New("refused")
	b.end(at)
	look := func() {
		_, err := b.presence.Nodes.Read(t.Context())
		require.NoError(t, err)
		b.kicker.watch(t.Context())
	}
	look()
	require.Empty(t, b.fenced)
	require.Len(t, b.kicker.watched, 1)
	b.mini.Del("node_n1")
	b.fence = func(context.Context) error { return errors.New("SQL is away") }
	look()
	require.Len(t, b.kicker.watched, 1, "tried again")
	b.fence = nil
	look()
	require.Equal(t, []string{"n1|b1", "n1|b1"}, b.fenced)
	require.Empty(t, b.kicker.watched)

	// A life that has extended its lease since then has read its mailbox.
	b.kicker.silent.Delete("n1")
	b.end(b.node("b3"))
	look()
	require.Len(t, b.kicker.watched, 1)
	b.kicker.watched[life{"n1", "b3"}] = time.Now().Add(-2 * watchFor)
	look()
	require.Empty(t, b.kicker.watched)
	require.Len(t, b.fenced, 2)
}

func TestManyLoginsFenceADeadLifeOnce(t *testing.T) {
	b := newKickBed(t)
	var runs atomic.Int64
	release := make(chan struct{})
	f := newFences(func(ctx context.Context, node, boot string) error {
		runs.Add(1)
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, quiet)
	// The first caller leaves early: another one makes the next attempt, and the others wait for that.
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- f.fence(ctx, life{"n1", "b1"}) }()
	require.Eventually(t, func() bool { return runs.Load() == 1 }, time.Minute, time.Millisecond)
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 64 {
		wg.Go(func() {
			if f.fence(t.Context(), life{"n1", "b1"}) != nil {
				failed.Add(1)
			}
		})
	}
	leave()
	require.ErrorIs(t, <-first, context.Canceled)
	require.Eventually(t, func() bool { return runs.Load() == 2 }, time.Minute, time.Millisecond)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.fence(gone, life{"n1", "b1"}), context.Canceled, "waiting ends with the context")
	close(release)
	wg.Wait()
	require.Zero(t, failed.Load())
	require.EqualValues(t, 2, runs.Load())
	require.NoError(t, f.fence(gone, life{"n1", "b1"}))

	failing := errors.New("SQL is away")
	f.run = func(context.Context, string, string) error { return failing }
	require.ErrorIs(t, f.fence(t.Context(), life{"n1", "b2"}), failing)
	f.run = func(context.Context, string, string) error { panic("a bug") }
	require.Panics(t, func() { _ = f.fence(b.t.Context(), life{"n1", "b2"}) })
	f.run = func(context.Context, string, string) error { return nil }
	require.NoError(t, f.fence(t.Context(), life{"n1", "b2"}), "nothing is left behind")
}

// A5
func TestAStaticPeerWithoutALeaseIsAskedUntilItAnswers(t *testing.T) {
	b := newKickBed(t)
	b.peers.static["foreign"] = true
	at := presence.Location{UID: 7, SID: sid(7), Node: "foreign", Boot: "none"}
	b.end(at)
	require.Equal(t, []string{"foreign/7/" + sid(7)}, b.peers.asked)
	require.Equal(t, []string{"foreign|none"}, b.fenced, "it may be one of ours that died")
	b.kicker.retryStatic(t.Context())
	require.Equal(t, 1, b.peers.calls())

	b.peers.set(func() { b.peers.answer = errors.New("refused") })
	b.end(at)
	b.end(at)
	b.kicker.retryStatic(t.Context())
	require.Equal(t, 4, b.peers.calls(), "once a round, however many wait")
	b.peers.set(func() { b.peers.answer = nil })
	b.kicker.retryStatic(t.Context())
	require.Equal(t, 6, b.peers.calls())
	b.kicker.retryStatic(t.Context())
	require.Equal(t, 6, b.peers.calls())

	// A late kick must not end the user's next session on that node.
	b.peers.set(func() { b.peers.answer = errors.New("refused") })
	b.end(at)
	b.mini.HSet("usession_7", "", "newer|foreign|none")
	b.peers.set(func() { b.peers.answer = nil })
	b.kicker.retryStatic(t.Context())
	require.Equal(t, 7, b.peers.calls())
	require.Empty(t, b.kicker.static.waiting)

	b.kicker.keepStatic(staticKick{at, time.Now().Add(-time.Second)})
	b.kicker.retryStatic(t.Context())
	require.Equal(t, 1.0, value(b.kicker.metrics.lost), "given up")
	for range maxStatic + 1 {
		b.kicker.keepStatic(staticKick{at, time.Now().Add(time.Hour)})
	}
	require.Len(t, b.kicker.static.waiting, maxStatic)
	require.Equal(t, 2.0, value(b.kicker.metrics.lost))
}

func TestALoginIsRefusedWhenItsOldSessionCannotBeEnded(t *testing.T) {
	b := newKickBed(t)
	at := b.node("b1")
	b.peers.answer = errors.New("refused")
	b.mini.SetError("LOADING")
	require.ErrorContains(t, b.kicker.End(t.Context(), at), "LOADING")
}
