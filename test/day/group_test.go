package day

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/lab/launchtest"
	"parley/lab/stockmodel"
)

// TestDayInTheLifeOfAGroup has users on several nodes write, leave, be removed and return, over connections that
// break and while they move between nodes. Stock clients of members must see nothing of the group.
func TestDayInTheLifeOfAGroup(t *testing.T) {
	launchtest.Turn(t)
	t.Run("one process, SQLite", func(t *testing.T) { liveInAGroup(t, local(t), amount(t, "PARLEY_ACTIONS", 600)) })
	t.Run("three nodes, MariaDB", func(t *testing.T) {
		if testing.Short() {
			t.Skip("starts processes")
		}
		liveInAGroup(t, real(t), amount(t, "PARLEY_ACTIONS", 600))
	})
}

const (
	groupOwner  = 720_001
	groupGuests = 6 // uids from groupOwner+1
	groupStock  = 2 // the following uids
)

// club is a group and its members.
type club struct {
	ctx    context.Context
	t      *testing.T
	w      *world
	thread int64
	owner  *guest
	guests []*guest
	person *person // a member with several clients

	mu     sync.Mutex // guards the following
	stored map[string]int64
	n      int
}

// guest is a member of the club, now and then, on a device.
type guest struct {
	c      *club
	uid    int32
	device string
	rnd    *rand.Rand
	sess   *client.Session // replaced by move, which only the guest's own goroutine does
	wire   brittle
	done   chan struct{}

	mu  sync.Mutex // guards the following
	got []client.Message
}

func (g *guest) open(o client.SessionOptions) {
	o.Options = client.Options{Dial: g.wire.dial, Device: g.device}
	o.Nodes = g.c.w.addrs
	o.BackoffBase, o.BackoffLimit = 5*time.Millisecond, 100*time.Millisecond
	o.SyncEvery = settle / 4
	s, err := client.Open(g.c.ctx, o)
	require.NoError(g.c.t, err)
	g.sess, g.done = s, make(chan struct{})
	go func() {
		defer close(g.done)
		for ev := range s.Events(context.Background()) {
			if ev, ok := ev.(client.Texts); ok {
				g.mu.Lock()
				g.got = append(g.got, ev.Messages...)
				g.mu.Unlock()
			}
		}
		if err := s.Err(); !errors.Is(err, client.ErrClosed) {
			g.c.t.Errorf("session of %d ended: %v", g.uid, err)
		}
	}()
}

// of returns what the guest was brought of a thread.
func (g *guest) of(thread int64) (list []client.Message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.got {
		if m.ThreadID == thread {
			list = append(list, m)
		}
	}
	return list
}

// move ends the session and resumes it on another node.
func (g *guest) move() {
	assert.NoError(g.c.t, g.sess.Flush(g.c.ctx))
	g.sess.Close()
	<-g.done
	ticket := g.sess.Ticket()
	ticket.Addr = g.c.w.addrs[g.rnd.IntN(len(g.c.w.addrs))]
	g.open(client.SessionOptions{Ticket: ticket, Cursors: g.sess.Cursors(), Data: g.sess.Data()})
}

// say sends a text to the group.
func (g *guest) say() { g.may("text", g.sayTo(client.InThread(g.c.thread))) }

// sayTo sends a text and waits for the answer, which may be that the user may not.
func (g *guest) sayTo(to client.To) error {
	g.c.mu.Lock()
	g.c.n++
	text := fmt.Sprintf("%d: %d", g.c.n, g.uid)
	g.c.mu.Unlock()
	sent, err := g.sess.SendText(g.c.ctx, to, text)
	if err == nil && sent.ThreadID == g.c.thread {
		g.c.mu.Lock()
		g.c.stored[text] = sent.MessageID
		g.c.mu.Unlock()
	}
	return err
}

// may fails the test for an error other than a refusal.
func (g *guest) may(what string, err error) {
	if err != nil && client.CodeOf(err) != client.CodeNotAllowed && !tooBusy(err) {
		g.c.t.Errorf("%s by %d: %v", what, g.uid, err)
	}
}

// tooBusy reports whether a request was refused because this machine is.
func tooBusy(err error) bool {
	code := client.CodeOf(err)
	return code == client.CodeBusy || code == client.CodeUnavailable || code == client.CodeRateLimited
}

// surely does what must succeed, if not at once.
func surely(t *testing.T, do func() error) {
	t.Helper()
	var err error
	eventually(func() bool {
		err = do()
		return !tooBusy(err)
	})
	require.NoError(t, err)
}

func (g *guest) act() {
	switch n := g.rnd.IntN(100); {
	case n < 60:
		g.say()
	case n < 70:
		g.may("text", g.sayTo(client.User(g.c.person.uid)))
	case n < 84:
		g.wire.cut()
	case n < 89:
		g.may("leave", g.sess.LeaveGroup(g.c.ctx, g.c.thread))
	default:
		g.move()
	}
}

// reign performs the owner's actions.
func (g *guest) reign() {
	ctx, thread := g.c.ctx, g.c.thread
	whom := g.c.guests[g.rnd.IntN(len(g.c.guests))].uid
	switch n := g.rnd.IntN(100); {
	case n < 18:
		g.say()
	case n < 24:
		g.wire.cut()
	case n < 28:
		g.move()
	case n < 76:
		_, err := g.sess.Invite(ctx, thread, whom)
		g.may("invite", err)
	case n < 84:
		g.may("remove", g.sess.RemoveMember(ctx, thread, whom))
	case n < 88:
		g.may("role", g.sess.SetRole(ctx, thread, whom, client.Role(g.rnd.IntN(2))))
	case n < 91:
		g.may("rename", g.sess.RenameGroup(ctx, thread, fmt.Sprint("club ", g.rnd.IntN(9))))
	case n < 96:
		g.may("mute", g.sess.MuteMember(ctx, thread, whom, time.Now().Add(50*time.Millisecond)))
	default:
		g.may("mute all", g.sess.MuteGroup(ctx, thread, true))
		g.may("unmute all", g.sess.MuteGroup(ctx, thread, false))
	}
}

func liveInAGroup(t *testing.T, w *world, actions int) {
	_, seed := random(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(actions)*200*time.Millisecond)
	defer cancel()
	all := groupGuests + groupStock + 1
	w.users(t, groupOwner, 1+all)
	var pairs [][2]int32
	for i := range int32(all) {
		pairs = append(pairs, [2]int32{groupOwner, groupOwner + 1 + i})
	}
	self := int32(groupOwner + all) // of c.person
	for i := range int32(groupGuests) {
		pairs = append(pairs, [2]int32{groupOwner + 1 + i, self})
	}
	_, err := w.store.Seed.Friends(ctx, pairs)
	require.NoError(t, err)

	c := &club{ctx: ctx, t: t, w: w, stored: map[string]int64{}}
	enter := func(i int32, device string) *guest {
		g := &guest{c: c, uid: groupOwner + i, device: device, rnd: rand.New(rand.NewPCG(seed, uint64(i)+uint64(len(device))<<32))}
		token, err := w.token(ctx, g.uid)
		require.NoError(t, err)
		addr := w.addrs[int(i)%len(w.addrs)]
		g.open(client.SessionOptions{Ticket: client.Ticket{Addr: addr, UID: g.uid, Token: token}, Cursors: []client.Cursor{}})
		return g
	}
	c.owner = enter(0, "club")
	uids := []int32{}
	for i := range int32(all) {
		uids = append(uids, groupOwner+1+i)
	}
	made, err := c.owner.sess.CreateGroup(ctx, client.GroupDraft{Name: "club", Members: uids})
	require.NoError(t, err)
	require.Empty(t, made.Refused)
	c.thread = made.ThreadID
	for i := range int32(groupGuests) {
		c.guests = append(c.guests, enter(1+i, "club"))
	}
	var stock []*stockmodel.Process
	stalls, err := stockmodel.WatchStalls()
	require.NoError(t, err)
	defer stalls.Stop()
	c.person = &person{c: c, uid: self, stalls: stalls, rnd: rand.New(rand.NewPCG(seed, uint64(self))), marks: map[int64]*marked{}}
	c.person.devices = []*guest{enter(self-groupOwner, "phone"), enter(self-groupOwner, "laptop")}
	c.person.stock = c.person.newStock()
	for i := range groupStock {
		uid := uids[groupGuests+i]
		p := stockmodel.New(stockmodel.Options{Patience: patience, Heartbeat: 2 * time.Second, Stalls: stalls})
		defer p.Logout()
		token, err := w.token(ctx, uid)
		require.NoError(t, err)
		code, err := p.Login(ctx, w.addrs[i%len(w.addrs)], uid, token)
		require.NoError(t, err)
		require.Zero(t, code)
		require.NoError(t, p.Loaded(ctx))
		stock = append(stock, p)
	}

	var left atomic.Int64
	left.Store(int64(actions))
	var wg sync.WaitGroup
	live := func(rnd *rand.Rand, act func()) {
		wg.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil {
				act()
				time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
			}
		})
	}
	live(c.owner.rnd, c.owner.reign)
	for _, g := range c.guests {
		live(g.rnd, g.act)
	}
	for _, g := range c.person.devices {
		live(g.rnd, func() { c.person.act(g) })
	}
	live(c.person.rnd, c.person.actAsStock)
	wg.Wait()
	require.NoError(t, ctx.Err())

	// At the end all users are members and send a last text.
	surely(t, func() error { return c.owner.sess.MuteGroup(ctx, c.thread, false) })
	for _, g := range c.guests {
		surely(t, func() error {
			refused, err := c.owner.sess.Invite(ctx, c.thread, g.uid)
			require.Empty(t, refused)
			return err
		})
		surely(t, func() error { return c.owner.sess.MuteMember(ctx, c.thread, g.uid, time.Time{}) })
		for _, to := range []client.To{client.InThread(c.thread), client.User(c.person.uid)} {
			_, err = g.sess.SendText(ctx, to, fmt.Sprint("good-bye from ", g.uid))
			require.NoError(t, err)
		}
	}
	truth := c.check(t)
	c.person.check(t)
	for _, g := range append([]*guest{c.owner}, c.guests...) {
		g.check(t, truth)
		g.sess.Close()
		<-g.done
	}
	for _, p := range stock {
		require.Empty(t, p.Faults())
		_, listed := p.State().Pages[c.thread]
		require.False(t, listed, "a stock client sees the group")
	}
	t.Logf("%d messages, %d texts stored, %d sent", len(truth), len(c.stored), c.n)
}

// check reads the group's history and compares it with the answers. No message may be from a user who was not a
// member at that point.
func (c *club) check(t *testing.T) (truth []client.Message) {
	seen := map[string]int64{}
	in := map[int32]bool{}
	for m, err := range c.owner.sess.Messages(c.ctx, c.thread, 0) {
		require.NoError(t, err)
		require.EqualValues(t, len(truth)+1, m.ID)
		truth = append(truth, m)
		for uid, change := range membership(m) {
			in[uid] = change
		}
		if m.Kind == client.KindText {
			if !m.Recalled {
				require.NotContains(t, seen, m.Text, "stored twice")
			}
			seen[m.Text] = m.ID
			require.True(t, in[m.Sender], "message %d is by %d, who was no member", m.ID, m.Sender)
		}
	}
	for text, id := range c.stored {
		require.Equal(t, id, seen[text], "text %q", text)
	}
	return truth
}

// membership returns the users whose membership an event changes, and whether they are members after it.
func membership(m client.Message) map[int32]bool {
	change := map[int32]bool{}
	if m.Event == nil {
		return change
	}
	switch m.Event.What {
	case client.GroupCreated, client.GroupInvited, client.GroupJoined:
		change[m.Event.By] = true
		for _, uid := range m.Event.UIDs {
			change[uid] = true
		}
	case client.GroupLeft:
		change[m.Event.By] = false
	case client.GroupRemoved:
		for _, uid := range m.Event.UIDs {
			change[uid] = false
		}
	}
	return change
}

func numbers(list []client.Message) (ids []int64) {
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	return ids
}

// check waits until the guest has everything, and checks what it received: of each membership a prefix without holes,
// of the last membership everything, and nothing else.
func (g *guest) check(t *testing.T, truth []client.Message) {
	last := truth[len(truth)-1].ID
	var got []client.Message
	eventually(func() bool {
		got = g.of(g.c.thread)
		return len(got) > 0 && got[len(got)-1].ID >= last
	})
	i, total := 0, 0
	in, whole := false, true
	for _, m := range truth {
		if change, ok := membership(m)[g.uid]; ok && change != in {
			in, whole = change, true
			if !in { // the event itself is the last one that the user may read
				if i < len(got) && got[i].ID == m.ID {
					i++
				}
				continue
			}
			total = 0
		}
		if !in {
			continue
		}
		total++
		if i < len(got) && got[i].ID == m.ID {
			require.True(t, whole, "%d: message %d came after a hole; the last ones were %v", g.uid, m.ID, numbers(got[max(0, i-10):i+1]))
			if m.Sender != g.c.person.uid { // who recalls and edits
				require.Equal(t, m, got[i])
			}
			i++
		} else {
			whole = false
		}
	}
	require.Equal(t, len(got), i, "%d: message %v is not for this user, or came twice or too late", g.uid, got[min(i, len(got)-1)].ID)
	require.True(t, in && whole, "%d: messages of the last time in the group are missing", g.uid)
	require.True(t, slices.IsSortedFunc(got, func(a, b client.Message) int { return int(a.ID - b.ID) }))
	t.Logf("%d: %d messages, %d since it joined last, %d cuts", g.uid, len(got), total, g.wire.cuts)
}
