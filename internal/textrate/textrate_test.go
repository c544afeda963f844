package textrate

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"parley/internal/presence"
	"parley/internal/session"
)

// textCluster is the limiters of several nodes over a model of the session hash in Redis, for one user.
type textCluster struct {
	nodes []*Limiter

	mu       sync.Mutex // guards the following
	sessions map[string]presence.Location
	mute     bool // kicks stay in mailboxes: no node hands anything over
}

const (
	testRate  = 50
	testBurst = 100
)

func newTextCluster(t *testing.T, nodes int) *textCluster {
	c := &textCluster{sessions: make(map[string]presence.Location)}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range nodes {
		l := New(testRate, testBurst, Deps{
			Log: slog.New(slog.DiscardHandler), Node: fmt.Sprint("chat", i), Boot: func() string { return "1" },
			Locate: c.locate, Alive: func(string, string) bool { return true }, Release: c.release,
			Hurried: prometheus.NewCounter(prometheus.CounterOpts{Name: "hurried"}),
		})
		c.nodes = append(c.nodes, l)
		wg.Go(func() { l.Run(ctx) })
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	return c
}

func (c *textCluster) locate(_ context.Context, uids []int32) ([][]presence.Location, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([][]presence.Location, len(uids))
	for i := range uids {
		for _, l := range c.sessions {
			out[i] = append(out[i], l)
		}
	}
	return out, nil
}

func (c *textCluster) release(l presence.Location) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions[l.Device] == l {
		delete(c.sessions, l.Device)
	}
}

func (c *textCluster) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)
}

// claim models a login in Redis, with the hints that follow it.
func (c *textCluster) claim(l presence.Location) *presence.Claimed {
	c.mu.Lock()
	defer c.mu.Unlock()
	claimed := new(presence.Claimed)
	if old, ok := c.sessions[l.Device]; ok {
		claimed.Old = &old
	}
	for device, other := range c.sessions {
		if device != l.Device {
			claimed.Others = append(claimed.Others, other)
		}
	}
	c.sessions[l.Device] = l
	return claimed
}

// textSession is a session of the user.
type textSession struct {
	on   int
	loc  presence.Location
	user *User
}

func (c *textCluster) login(device string, on int) *textSession {
	l := c.nodes[on]
	sid := session.NewSID(time.Now())
	s := &textSession{on: on, loc: presence.Location{UID: 1, Device: device, SID: sid.String(), Node: l.d.Node, Boot: "1"}}
	claimed := c.claim(s.loc)
	s.user = l.Join(1, sid, claimed, time.Now())
	for _, n := range c.nodes {
		if n != l && claimed.Old != nil && claimed.Old.Node == n.d.Node && !c.mute {
			old, _ := session.ParseSID(claimed.Old.SID)
			if texts := n.HandOver(1, old, time.Now()); texts != nil {
				l.Receive(s.user, claimed, *texts, time.Now())
			}
		}
	}
	names := []string{l.d.Node}
	for _, o := range claimed.Others {
		names = addNode(names, o.Node)
	}
	for _, n := range c.nodes {
		if n != l && slices.Contains(names, n.d.Node) {
			n.Shared(1, len(names), time.Now())
		}
	}
	return s
}

// B5: a user logs in and out with eight devices on four nodes and constantly sends arrays of 64 texts; no more are
// stored than the rate and the burst permit.
func TestNobodyStoresMoreThanRateAndBurst(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			c := newTextCluster(t, 4)
			live := map[string]*textSession{}
			left, at, stored := float64(testBurst), time.Now(), 0
			began := time.Now()
			leave := func(s *textSession) { c.nodes[s.on].Leave(s.user, s.loc, time.Now()) }
			for step := range 4000 {
				device := fmt.Sprint(rng.IntN(8))
				switch s := live[device]; rng.IntN(6) {
				case 0:
					c.mute = rng.IntN(2) == 0
					fresh := c.login(device, rng.IntN(4))
					if s != nil {
						leave(s)
					}
					live[device] = fresh
				case 1:
					if s != nil {
						leave(s)
						delete(live, device)
					}
				case 2:
					time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
					synctest.Wait()
					for _, n := range c.nodes {
						n.Sweep(1, time.Now())
					}
				default:
					if s == nil {
						continue
					}
					granted, retry := c.nodes[s.on].Take(s.user, 64, time.Now())
					require.LessOrEqual(t, retry, 8*2*time.Second*(movePart+1)/movePart)
					left = min(testBurst, left+time.Since(at).Seconds()*testRate) - float64(granted)
					at = time.Now()
					stored += granted
					require.GreaterOrEqual(t, left, -1.0, "seed %d, step %d", seed, step)
				}
			}
			t.Logf("%d stored in %v", stored, time.Since(began))
			require.Greater(t, float64(stored), time.Since(began).Seconds()*testRate/8, "and not much less")
			for _, s := range live {
				leave(s)
			}
			for _, n := range c.nodes {
				n.Close()
			}
		})
	}
}

// B5
func TestReconnectingDoesNotFillTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTextCluster(t, 2)
		stored := 0
		for i := range 200 { // four seconds
			s := c.login("phone", i%2)
			granted, _ := c.nodes[s.on].Take(s.user, 64, time.Now())
			stored += granted
			time.Sleep(20 * time.Millisecond)
			c.nodes[s.on].Leave(s.user, s.loc, time.Now())
		}
		require.LessOrEqual(t, stored, testBurst+4*testRate)
		time.Sleep(3 * time.Second)
		s := c.login("phone", 1)
		granted, _ := c.nodes[1].Take(s.user, 200, time.Now())
		require.Equal(t, testBurst-testBurst/movePart, granted, "who was away for long has it all")
		c.nodes[1].Leave(s.user, s.loc, time.Now())
		synctest.Wait()
		require.Equal(t, 1, c.count(), "found until the bucket is full")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Zero(t, c.count())
	})
}

// A login that returns to its node is not a move, even if the node removes the old session from Redis between the
// login's claim and its join.
func TestAReconnectIsNotTakenForAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTextCluster(t, 2)
		l := c.nodes[0]
		s := c.login("phone", 0)
		granted, _ := l.Take(s.user, 1, time.Now())
		require.Equal(t, 1, granted)
		l.Leave(s.user, s.loc, time.Now())

		sid := session.NewSID(time.Now())
		loc := presence.Location{UID: 1, Device: "phone", SID: sid.String(), Node: l.d.Node, Boot: "1"}
		claimed := c.claim(loc)
		require.NotNil(t, claimed.Old)
		time.Sleep(time.Second)
		for part := range shards {
			l.Sweep(part, time.Now())
		}
		u := l.Join(1, sid, claimed, time.Now())
		granted, _ = l.Take(u, 200, time.Now())
		require.Equal(t, testBurst-testBurst/movePart, granted)
		l.Leave(u, loc, time.Now())
		time.Sleep(time.Minute)
		for part := range shards {
			l.Sweep(part, time.Now())
		}
		require.Empty(t, l.shardOf(1).users, "nothing is kept of users who have left")
	})
}

// The kick of a session that has already ended may arrive after the next session has begun. That one must still be
// able to send.
func TestALateKickTakesNothingFromTheNextSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTextCluster(t, 2)
		l := c.nodes[0]
		first := c.login("phone", 0)
		kicked, ok := session.ParseSID(first.loc.SID)
		require.True(t, ok)
		l.Leave(first.user, first.loc, time.Now())
		next := c.login("phone", 0)
		require.Nil(t, l.HandOver(1, kicked, time.Now()))
		granted, _ := l.Take(next.user, 1, time.Now())
		require.Equal(t, 1, granted)

		last, ok := session.ParseSID(next.loc.SID)
		require.True(t, ok)
		require.NotNil(t, l.HandOver(1, last, time.Now()))
		granted, _ = l.Take(next.user, 1, time.Now())
		require.Zero(t, granted, "what was handed over may be used elsewhere")
		l.Leave(next.user, next.loc, time.Now())
	})
}

// A move costs a user nothing: the old node hands over what is left.
func TestAMoveKeepsTheTextsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTextCluster(t, 3)
		s, stored := c.login("phone", 0), 0
		for i := range testBurst / 2 {
			granted, _ := c.nodes[s.on].Take(s.user, 1, time.Now())
			require.Equal(t, 1, granted, "text %d", i)
			stored++
			fresh := c.login("phone", (i+1)%3)
			c.nodes[s.on].Leave(s.user, s.loc, time.Now())
			s = fresh
		}
		granted, _ := c.nodes[s.on].Take(s.user, 1000, time.Now())
		require.Equal(t, testBurst-testBurst/movePart, stored+granted)
		c.nodes[s.on].Leave(s.user, s.loc, time.Now())
		time.Sleep(time.Minute)
	})
}

// A stock client does not repeat a refused text. So the first texts after a move must be stored, even if the old node
// does not answer.
func TestTheFirstTextsAfterAMoveAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTextCluster(t, 2)
		c.mute = true
		s := c.login("phone", 0)
		stored, began := 0, time.Now()
		for i := range 20 { // moves, as frequent as those of a user whose connections keep breaking
			for range 5 {
				granted, _ := c.nodes[s.on].Take(s.user, 1, time.Now())
				require.Equal(t, 1, granted, "move %d", i)
			}
			granted, _ := c.nodes[s.on].Take(s.user, 1000, time.Now())
			stored += 5 + granted
			time.Sleep(5 * time.Second)
			fresh := c.login("phone", (i+1)%2)
			c.nodes[s.on].Leave(s.user, s.loc, time.Now())
			s = fresh
		}
		require.LessOrEqual(t, float64(stored), testBurst+testRate*time.Since(began).Seconds())
		c.nodes[s.on].Leave(s.user, s.loc, time.Now())
		time.Sleep(time.Minute)
	})
}

func TestAShareComesBackWhenTheOtherDeviceIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTextCluster(t, 2)
		a, b := c.login("a", 0), c.login("b", 1)
		drain := func() (n int) {
			for range 10 * 20 { // ten seconds
				time.Sleep(50 * time.Millisecond)
				granted, _ := c.nodes[0].Take(a.user, 64, time.Now())
				n += granted
			}
			return n
		}
		drain()
		require.InDelta(t, 10*testRate/2, drain(), 2)
		c.nodes[1].Leave(b.user, b.loc, time.Now())
		drain() // detected in the meantime
		require.InDelta(t, 10*testRate, drain(), 2)
		c.nodes[0].Leave(a.user, a.loc, time.Now())
		time.Sleep(time.Minute)
	})
}
