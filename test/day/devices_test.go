package day

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/stockmodel"
)

// person is one user with two native devices and a stock client, who write, mark, edit, recall and hide at once.
type person struct {
	c       *club
	uid     int32
	devices []*guest
	stock   *stockmodel.Process
	rnd     *rand.Rand // of the stock client
	stalls  *stockmodel.Stalls

	mu      sync.Mutex // guards the following
	written []client.Sent
	marks   map[int64]*marked
}

// marked is what was asked for and what was answered about the mark of a thread.
type marked struct{ asked, answered int64 }

// talk sends a text from one of the devices to a friend or into the group.
func (p *person) talk(g *guest) {
	to := client.User(p.friend(g.rnd))
	if g.rnd.IntN(3) == 0 {
		to = client.InThread(p.c.thread)
	}
	sent, err := g.sess.SendText(p.c.ctx, to, p.text())
	if err == nil {
		p.mu.Lock()
		p.written = append(p.written, sent)
		p.mu.Unlock()
	}
	g.may("text", err)
}

func (p *person) text() string {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.c.n++
	return fmt.Sprintf("%d: %d privately", p.c.n, p.uid)
}

func (p *person) friend(rnd *rand.Rand) int32 {
	return p.c.guests[rnd.IntN(len(p.c.guests))].uid
}

func (p *person) act(g *guest) {
	ctx := p.c.ctx
	switch n := g.rnd.IntN(100); {
	case n < 40:
		p.talk(g)
	case n < 65:
		p.mark(g)
	case n < 82: // a late text, of whichever device
		p.mu.Lock()
		var sent client.Sent
		if k := len(p.written); k > 0 {
			sent = p.written[max(0, k-1-g.rnd.IntN(3))]
		}
		p.mu.Unlock()
		switch {
		case sent.ThreadID == 0:
		case n < 72:
			g.may("recall", g.sess.Recall(ctx, sent.ThreadID, sent.MessageID))
		default:
			g.may("edit", g.sess.Edit(ctx, sent.ThreadID, sent.MessageID, p.text()))
		}
	case n < 88:
		if m, ok := p.any(g); ok && m.Kind == client.KindText {
			g.may("hide", g.sess.Hide(ctx, m.ThreadID, m.ID))
		}
	case n < 96:
		g.wire.cut()
	default:
		g.move()
	}
}

// any returns one of the messages that a device has.
func (p *person) any(g *guest) (client.Message, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.got) == 0 {
		return client.Message{}, false
	}
	return g.got[g.rnd.IntN(len(g.got))], true
}

// mark marks a message as read, which may be an old one. The answer is never behind an earlier one.
func (p *person) mark(g *guest) {
	m, ok := p.any(g)
	if !ok {
		return
	}
	p.mu.Lock()
	of := p.marks[m.ThreadID]
	if of == nil {
		of = new(marked)
		p.marks[m.ThreadID] = of
	}
	of.asked = max(of.asked, m.ID)
	before := of.answered
	p.mu.Unlock()
	got, err := g.sess.Mark(p.c.ctx, m.ThreadID, m.ID)
	if g.may("mark", err); err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	of.answered = max(of.answered, got.Read)
	if got.Read < max(before, m.ID) || got.Read > of.asked {
		p.c.t.Errorf("%d marked %d of thread %d as read; %d was answered before, %d now", p.uid, m.ID, m.ThreadID, before, got.Read)
	}
}

// actAsStock is what the person in front of the stock client does.
func (p *person) actAsStock() {
	switch n := p.rnd.IntN(100); {
	case !p.stock.State().Online:
		p.login(p.stock)
	case n < 75:
		_, _ = p.stock.Text(p.friend(p.rnd), p.text()) // if the connection is gone, the next act finds out
	case n < 90:
		_ = p.stock.Quiet(p.c.ctx)
		p.stock.Logout()
	default:
		p.stock.Cut()
	}
}

// login logs a stock client in, and again while the server is too busy.
func (p *person) login(stock *stockmodel.Process) bool {
	for range attempts {
		token, err := p.c.w.token(p.c.ctx, p.uid)
		if !assert.NoError(p.c.t, err) {
			return false
		}
		code, err := stock.Login(p.c.ctx, p.c.w.addrs[p.rnd.IntN(len(p.c.w.addrs))], p.uid, token)
		if err == nil && code == 0 && stock.Loaded(p.c.ctx) == nil {
			return true
		}
		if len(stock.Faults()) > 0 {
			return false
		}
	}
	return false
}

func (p *person) newStock() *stockmodel.Process {
	return stockmodel.New(stockmodel.Options{Patience: patience, Heartbeat: 2 * time.Second, Stalls: p.stalls})
}

// check compares what the three clients have at the end.
func (p *person) check(t *testing.T) {
	_ = p.stock.Quiet(p.c.ctx)
	p.stock.Logout()
	require.Empty(t, p.stock.Faults())
	first, second := p.devices[0], p.devices[1]
	for _, g := range p.devices {
		require.NoError(t, g.sess.Flush(p.c.ctx))
	}
	for _, g := range p.c.guests {
		require.NoError(t, g.sess.Flush(p.c.ctx))
	}

	// The marks: the devices mark by themselves what they have received, at most once per second. What a session had not marked
	// when it was closed is marked with the next text, so that each friend has sent one since.
	threads, err := first.sess.Threads(p.c.ctx)
	require.NoError(t, err)
	newest := map[int64]int64{} // of others, by thread
	for _, th := range threads {
		for _, m := range p.history(t, first, th.ID) {
			if m.Kind == client.KindText && m.Sender != p.uid && !m.Hidden {
				newest[th.ID] = m.ID
			}
		}
	}
	var same []client.Thread
	if !eventually(func() bool {
		threads, err = first.sess.Threads(p.c.ctx)
		require.NoError(t, err)
		same, err = second.sess.Threads(p.c.ctx)
		require.NoError(t, err)
		return slices.Equal(threads, same) &&
			!slices.ContainsFunc(threads, func(th client.Thread) bool { return th.Recv < newest[th.ID] })
	}) {
		t.Fatalf("the marks differ, or lag behind:\n%+v\n%+v", threads, same)
	}
	marks := 0
	for _, th := range threads {
		if of := p.marks[th.ID]; of != nil {
			require.GreaterOrEqual(t, th.Read, of.answered, "thread %d", th.ID)
			require.LessOrEqual(t, th.Read, of.asked, "thread %d", th.ID)
			marks++
		} else {
			require.Zero(t, th.Read, "thread %d", th.ID)
		}
	}

	// The history: as the server tells each device, and as each device was told.
	pages := map[int64][]string{} // what a stock client is to show
	total := 0
	for _, th := range threads {
		truth := p.history(t, first, th.ID)
		require.Equal(t, truth, p.history(t, second, th.ID), "thread %d", th.ID)
		total += len(truth)
		for _, g := range p.devices {
			g.hasAll(t, th.ID, truth)
		}
		if !th.Private {
			continue
		}
		pages[th.ID] = []string{}
		for _, m := range truth {
			switch {
			case m.Hidden, m.Kind != client.KindText:
			case m.Recalled:
				pages[th.ID] = append(pages[th.ID], wire.RecalledContent)
			default:
				pages[th.ID] = append(pages[th.ID], m.Text)
			}
		}
	}
	last := p.newStock() // what an older process has shown, it does not read again
	defer last.Logout()
	require.True(t, p.login(last), "login at last: %v", last.Faults())
	shown := map[int64][]string{}
	for id, texts := range last.State().Pages {
		shown[id] = []string{}
		for _, text := range texts {
			shown[id] = append(shown[id], text.Content)
		}
	}
	require.Empty(t, last.Faults())
	require.Equal(t, pages, shown)
	after, err := first.sess.Threads(p.c.ctx)
	require.NoError(t, err)
	for _, list := range [][]client.Thread{threads, after} { // the others may still be telling what they have received
		for i := range list {
			list[i].PeerRead, list[i].PeerRecv = 0, 0
		}
	}
	require.Equal(t, threads, after, "a stock client moves no mark")
	for _, g := range p.devices {
		g.sess.Close()
		<-g.done
	}
	t.Logf("%d: %d messages in %d threads on three clients, %d marks", p.uid, total, len(threads), marks)
}

func (p *person) history(t *testing.T, g *guest, thread int64) (list []client.Message) {
	for m, err := range g.sess.Messages(p.c.ctx, thread, 0) {
		require.NoError(t, err)
		list = append(list, m)
	}
	return list
}

// hasAll waits until a device was told of all messages of a thread, and compares what it makes of them with the history.
func (g *guest) hasAll(t *testing.T, thread int64, truth []client.Message) {
	var got []client.Message
	eventually(func() bool {
		got = g.of(thread)
		return len(got) >= len(truth)
	})
	require.Equal(t, numbers(truth), numbers(got), "device %s: thread %d", g.device, thread)
	at := make(map[int64]*client.Message)
	for i := range got {
		m := &got[i]
		at[m.ID] = m
		switch to := at[m.Target]; {
		case to == nil:
		case m.Kind == client.KindRecall:
			to.Recalled, to.Text, to.Edited = true, "", time.Time{}
		case m.Kind == client.KindEdit && !m.Edited.IsZero():
			to.Text, to.Edited = m.Text, m.Edited
		}
	}
	for i, want := range truth {
		if have := got[i]; want.Kind == client.KindText && !want.Hidden {
			require.Equal(t, want.Text, have.Text, "device %s: message %d of thread %d", g.device, want.ID, thread)
			require.Equal(t, want.Recalled, have.Recalled, "device %s: message %d of thread %d", g.device, want.ID, thread)
			require.True(t, want.Edited.Equal(have.Edited), "device %s: message %d of thread %d", g.device, want.ID, thread)
		}
	}
}
