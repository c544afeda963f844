package day

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/launchtest"
	"parley/lab/stockmodel"
)

const (
	firstUID = 700_001
	people   = 50
	natives  = 10
	firstGen = 2 // users of the first-generation client
	shared   = 8 // computers shared by two users

	// patience bounds the wait for a window of a client. It only bounds hangs.
	patience = 45 * time.Second
)

// day is a cluster with fifty simulated users in front of their clients.
type day struct {
	ctx       context.Context // of the whole day
	w         *world
	ledger    *ledger
	stalls    *stockmodel.Stalls
	computers []*computer
	natives   []*native
	posts     sync.WaitGroup // texts of native clients waiting for their answer

	mu        sync.Mutex // guards the following
	processes []*stockmodel.Process
	friends   map[pair]struct{} // pairs that are friends or may have become friends
	asked     map[pair]struct{} // friend requests that may be in progress
	neighbour map[int32]int32   // the other user of a shared computer
}

func TestDayInTheLifeOfStockClients(t *testing.T) {
	launchtest.Turn(t)
	t.Run("one process, SQLite", func(t *testing.T) { liveADay(t, local(t), amount(t, "PARLEY_ACTIONS", 1000)) })
	t.Run("three nodes, MariaDB", func(t *testing.T) {
		if testing.Short() {
			t.Skip("starts processes")
		}
		liveADay(t, real(t), amount(t, "PARLEY_ACTIONS", 1000))
	})
}

func liveADay(t *testing.T, w *world, actions int) {
	rnd, seed := random(t)
	d := &day{
		w: w, ledger: newLedger(), friends: map[pair]struct{}{}, asked: map[pair]struct{}{}, neighbour: map[int32]int32{},
	}
	var err error
	d.stalls, err = stockmodel.WatchStalls()
	require.NoError(t, err)
	defer d.stalls.Stop()
	d.populate(t, rnd, seed)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(actions)*100*time.Millisecond)
	defer cancel()
	d.ctx = ctx
	var left atomic.Int64
	left.Store(int64(actions))
	var wg sync.WaitGroup
	for _, n := range d.natives {
		require.NoError(t, n.open(ctx))
		wg.Go(func() { d.live(ctx, &left, n.rnd, n.act) })
	}
	for _, c := range d.computers {
		wg.Go(func() { d.live(ctx, &left, c.rnd, c.act) })
	}
	wg.Wait()
	require.NoError(t, ctx.Err())
	d.evening(ctx, t)
}

// populate creates the users and makes some of them friends.
func (d *day) populate(t *testing.T, rnd *rand.Rand, seed uint64) {
	d.w.users(t, firstUID, people)
	source := func(i int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(i)+1)) }
	uid := int32(firstUID)
	for range natives {
		d.natives = append(d.natives, &native{d: d, rnd: source(int(uid)), uid: uid})
		uid++
	}
	for i := 0; uid < firstUID+people; i++ {
		c := &computer{d: d, rnd: source(int(uid)), users: []int32{uid}}
		uid++
		switch {
		case i < firstGen:
			c.gen = stockmodel.S1
		case i < firstGen+shared:
			c.users = append(c.users, uid)
			d.neighbour[uid], d.neighbour[uid-1] = uid-1, uid
			uid++
		}
		c.proc = c.newProcess()
		d.computers = append(d.computers, c)
	}
	var pairs [][2]int32
	for a := int32(firstUID); a < firstUID+people; a++ {
		for range 4 {
			b := d.anybody(rnd)
			if d.mayBefriend(a, b) {
				d.noteFriends(a, b)
				pairs = append(pairs, pairOf(a, b))
			}
		}
	}
	d.asked = map[pair]struct{}{}
	_, err := d.w.store.Seed.Friends(t.Context(), pairs)
	require.NoError(t, err)
}

// live calls act until no actions are left.
func (d *day) live(ctx context.Context, left *atomic.Int64, rnd *rand.Rand, act func(context.Context)) {
	for left.Add(-1) >= 0 && ctx.Err() == nil {
		act(ctx)
		time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond) // the user's thinking time
	}
}

// storm has the native friends of a user send texts and approvals while the user logs in.
func (d *day) storm(uid int32, rnd *rand.Rand) {
	count, delay := 1+rnd.IntN(4), time.Duration(rnd.IntN(80))*time.Millisecond
	for _, n := range d.natives {
		friend := slices.Contains(n.friends(), uid)
		d.posts.Go(func() {
			time.Sleep(delay)
			if friend {
				n.post(d.ctx, uid, count)
			}
			n.approve(d.ctx)
		})
	}
}

func (d *day) addProcess(p *stockmodel.Process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.processes = append(d.processes, p)
}

func (d *day) anybody(rnd *rand.Rand) int32 { return firstUID + rnd.Int32N(people) }

// mayBefriend reports whether a may send b a friend request now, and records it. See computer.befriend for the
// restriction on shared computers.
func (d *day) mayBefriend(a, b int32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := pairOf(a, b)
	if _, friends := d.friends[p]; a == b || friends {
		return false
	}
	for _, x := range [2][2]int32{{a, b}, {b, a}} {
		other := d.neighbour[x[0]]
		if other == x[1] {
			return false
		}
		_, theirs := d.friends[pairOf(other, x[1])]
		_, asked := d.asked[pairOf(other, x[1])]
		if other != 0 && (theirs || asked) {
			return false
		}
	}
	d.asked[p] = struct{}{}
	return true
}

// noteFriends records that two users are, or are about to become, friends.
func (d *day) noteFriends(a, b int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.friends[pairOf(a, b)] = struct{}{}
}

// friendsOf returns the users to whom a stock client may write: those whom its process knows as friends, which is not before
// the server has made them so, but for the friends of another user of its computer.
func (d *day) friendsOf(st stockmodel.State) []int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(st.Friends), func(uid int32) bool {
		_, friends := d.friends[pairOf(st.UID, uid)]
		return !friends
	})
}

// settle bounds the delivery of pushes: hundreds of frames, 20 ms apart, on a busy machine.
const settle = 15 * time.Second

func eventually(f func() bool) bool {
	for end := time.Now().Add(settle); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return f()
}

// truth is the contents of the store, by thread.
type truth map[int64][]client.Message

// evening checks the result of the day: in the open windows, in windows opened again, and in the store.
func (d *day) evening(ctx context.Context, t *testing.T) {
	for _, c := range d.computers {
		if c.online {
			c.try(c.proc.Quiet(ctx))
		}
	}
	d.posts.Wait()
	for _, n := range d.natives {
		require.NoError(t, n.sess.Flush(ctx))
	}
	all := d.readTruth(ctx, t)
	members := d.checkStore(t, all)

	var wg sync.WaitGroup
	for _, c := range d.computers {
		if c.online && c.gen == stockmodel.M {
			wg.Go(func() { d.checkPages(c.proc, all, members, "after the day") })
		}
	}
	wg.Wait()
	for _, c := range d.computers {
		if c.gen != stockmodel.M {
			continue
		}
		wg.Go(func() { // in sequence at each computer, in the process that ran during the day
			for _, uid := range c.users {
				c.proc.Logout()
				c.online = false
				c.login(ctx, c.proc, uid, false)
			}
		})
	}
	wg.Wait()
	d.posts.Wait()
	all = d.readTruth(ctx, t)
	members = d.checkStore(t, all)
	for _, c := range d.computers {
		if c.online && c.gen == stockmodel.M {
			wg.Go(func() { d.checkPages(c.proc, all, members, "after a last login") })
		}
	}
	for _, n := range d.natives {
		wg.Go(func() {
			d.checkSession(n, all, members)
			n.sess.Close()
			<-n.done
		})
	}
	wg.Wait()

	var faults []string
	var read, late int
	for _, p := range d.processes {
		for _, f := range p.Faults() {
			faults = append(faults, fmt.Sprintf("%d: %s", p.State().UID, f))
		}
		r, l := p.Frames()
		read, late = read+r, late+l
		p.Logout()
	}
	d.ledger.mu.Lock()
	defer d.ledger.mu.Unlock()
	t.Logf("%d processes read %d frames, %d of them late by this machine's doing; %d texts sent, %d stored in %d threads, %d refused; %d logins, %d of no avail",
		len(d.processes), read, late, len(d.ledger.sent), len(d.ledger.stored), len(all), len(d.ledger.failed), d.ledger.logins, d.ledger.again)
	if late > read/6 {
		// Servers that ignore the frame spacing would cause every burst to be read together, whatever the machine.
		faults = append(faults, fmt.Sprintf("%d of %d frames were read together with another", late, read))
	}
	if refused, sent := len(d.ledger.failed), len(d.ledger.sent); refused > sent/6 {
		faults = append(faults, fmt.Sprintf("%d of %d texts were refused", refused, sent))
	}
	// A login has seconds. A machine that has work for many more processors than it has takes them.
	if l := d.ledger; l.blamed > l.logins/6 || l.again > l.logins/2 {
		faults = append(faults, fmt.Sprintf("%d logins, and the server was too busy for %d, %d times without a stall", l.logins, l.again, l.blamed))
	}
	faults = append(faults, d.ledger.faults...)
	if len(faults) > 0 {
		t.Fatalf("%d faults:\n%s", len(faults), strings.Join(faults[:min(len(faults), 100)], "\n"))
	}
}

// readTruth reads every thread through a native connection of one of its members.
func (d *day) readTruth(ctx context.Context, t *testing.T) truth {
	all := truth{}
	for uid := int32(firstUID); uid < firstUID+people; uid++ {
		token, err := d.w.token(ctx, uid)
		require.NoError(t, err)
		conn, err := client.Dial(ctx, client.Ticket{Addr: d.w.addrs[0], UID: uid, Token: token}, client.Options{Device: "auditor"})
		require.NoError(t, err)
		threads, err := conn.Threads(ctx)
		require.NoError(t, err)
		for _, th := range threads {
			if _, done := all[th.ID]; done {
				continue
			}
			all[th.ID] = nil
			for m, err := range conn.Messages(ctx, th.ID, 0) {
				require.NoError(t, err)
				all[th.ID] = append(all[th.ID], m)
			}
		}
		conn.Close()
	}
	return all
}

// checkStore compares the store with what was sent and answered, and returns the members of each thread.
func (d *day) checkStore(t *testing.T, all truth) map[int64]pair {
	d.ledger.mu.Lock()
	defer d.ledger.mu.Unlock()
	members := map[int64]pair{}
	threadOf := map[pair]int64{}
	for p := range d.friends {
		id, err := d.w.store.Threads.OfPair(t.Context(), p[0], p[1])
		if err == nil {
			members[id], threadOf[p] = p, id
		}
	}
	seen := map[string]int64{}
	for id, texts := range all {
		for i, m := range texts {
			if m.ID != int64(i+1) {
				d.ledger.faults = append(d.ledger.faults, fmt.Sprintf("thread %d: message %d at place %d", id, m.ID, i+1))
			}
			p, ours := d.ledger.sent[m.Text]
			if !ours {
				continue // from an approval
			}
			if _, twice := seen[m.Text]; twice {
				d.ledger.faults = append(d.ledger.faults, "stored twice: "+m.Text)
			}
			if seen[m.Text] = id; members[id] != p {
				d.ledger.faults = append(d.ledger.faults, "stored in another thread: "+m.Text)
			}
		}
	}
	for text := range d.ledger.stored {
		if _, ok := seen[text]; !ok {
			d.ledger.faults = append(d.ledger.faults, "acknowledged and not stored: "+text)
		}
	}
	for text, code := range d.ledger.failed {
		if _, ok := seen[text]; ok && code == wire.CodeBusy {
			d.ledger.faults = append(d.ledger.faults, "refused and stored: "+text)
		}
	}
	return members
}

// checkPages waits until the pages of a client show exactly the contents of its user's threads.
func (d *day) checkPages(p *stockmodel.Process, all truth, members map[int64]pair, when string) {
	var wrong string
	ok := eventually(func() bool {
		st := p.State()
		wrong = ""
		for id, who := range members {
			if who[0] != st.UID && who[1] != st.UID {
				continue
			}
			var want, got []string
			for _, m := range st.Pages[id] {
				if m.Status != wire.StatusFailed { // the user's own text, marked as failed
					got = append(got, m.Content)
				}
			}
			for _, m := range all[id] {
				// A text in flight when its connection broke may have been stored after the next login had read the
				// history. The stock client is not pushed its user's own texts.
				unpushed := d.ledger.mayBeStored(m.Text) || m.Sender == st.UID && !d.ledger.isStored(m.Text)
				if unpushed && !slices.Contains(got, m.Text) {
					continue
				}
				want = append(want, m.Text)
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(want, got) {
				wrong = fmt.Sprintf("thread %d of %v: %d texts stored, %d shown; missing %q, too many %q",
					id, who, len(want), len(got), minus(want, got), minus(got, want))
			}
		}
		return wrong == "" || !st.Online || len(p.Faults()) > 0
	})
	if !ok || !p.State().Online {
		d.ledger.fault("%d %s: %s (online: %v)", p.State().UID, when, wrong, p.State().Online)
	}
}

// checkSession does the same for a native session, where order matters too.
func (d *day) checkSession(n *native, all truth, members map[int64]pair) {
	var wrong string
	if !eventually(func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		wrong = ""
		for id, who := range members {
			if (who[0] == n.uid || who[1] == n.uid) && len(n.texts[id]) != len(all[id]) {
				wrong = fmt.Sprintf("thread %d: %d texts stored, %d brought", id, len(all[id]), len(n.texts[id]))
			}
		}
		return wrong == ""
	}) {
		d.ledger.fault("session of %d: %s", n.uid, wrong)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, texts := range n.texts {
		for i, text := range texts {
			if i < len(all[id]) && all[id][i].Text != text {
				d.ledger.fault("session of %d: thread %d differs at %d", n.uid, id, i+1)
				break
			}
		}
	}
}

func minus(a, b []string) []string {
	count := map[string]int{}
	for _, s := range b {
		count[s]++
	}
	left := map[string]struct{}{}
	for _, s := range a {
		if count[s]--; count[s] < 0 {
			left[s] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(left))
}
