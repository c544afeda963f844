package hogs

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"parley/client"
)

// Herd is a group of running hogs of one kind.
type Herd struct {
	kind  Kind
	peers []*peer
	none  []Outcome // of hogs that could not start
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu  sync.Mutex // guards the following
	err error      // first failure of a friend, who is a well-behaved client
}

// Start logs in one hog per seat; then all misbehave at once. Stop ends them. It returns an error if none could
// start.
func Start(ctx context.Context, k Kind, seats []Seat) (*Herd, error) {
	run, stop := context.WithCancel(ctx)
	h := &Herd{kind: k, stop: stop}
	var mu sync.Mutex // guards h.peers and h.none
	var sitting sync.WaitGroup
	turn := make(chan struct{}, 8) // bounds the concurrent logins
	for _, s := range seats {
		sitting.Go(func() {
			turn <- struct{}{}
			p, err := dial(run, k, s)
			<-turn
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				h.none = append(h.none, Outcome{Refused: err})
				return
			}
			h.peers = append(h.peers, p)
		})
	}
	sitting.Wait()
	if len(h.peers) == 0 {
		stop()
		return nil, fmt.Errorf("hogs: %s: %w", k.Name, h.none[0].Refused)
	}
	for _, p := range h.peers {
		p.began = time.Now()
		h.wg.Go(func() { p.misbehave(run) })
		if k.fed {
			h.wg.Go(func() { h.noteFriend(run, feed(run, p.seat, p.thread)) })
		}
	}
	h.wg.Go(func() { h.watch(run) })
	return h, nil
}

// Peers returns the hogs' ends of their connections.
func (h *Herd) Peers() map[netip.AddrPort]bool {
	at := map[netip.AddrPort]bool{}
	for _, p := range h.peers {
		at[p.local()] = true
	}
	return at
}

// Stop ends the hogs and returns the outcome of each. The error is a friend's: friends only send texts and must be
// served.
func (h *Herd) Stop() ([]Outcome, error) {
	h.stop()
	h.wg.Wait()
	out := make([]Outcome, len(h.peers))
	var leaving sync.WaitGroup
	for i, p := range h.peers {
		leaving.Go(func() { out[i] = p.farewell() })
	}
	leaving.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(out, h.none...), h.err
}

// watch detects connections ended by the node, without reading from them.
func (h *Herd) watch(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range h.peers {
			if p.ended.Load() == 0 && hungUp(p.conn) {
				p.noteEnd()
			}
		}
	}
}

func (h *Herd) noteFriend(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = fmt.Errorf("hogs: a friend who sends texts: %w", err)
	}
}

// A friend sends feedTexts texts per request, as many as fit into a frame, every feedEvery. That fills the queue a
// node keeps for the hog within two seconds, at a fifth of the rate that a node permits per connection.
const (
	feedEvery = 100 * time.Millisecond
	feedTexts = 3
)

// feed is the friend: a well-behaved client that sends texts to the hog.
func feed(ctx context.Context, s Seat, thread int64) error {
	friend, err := client.Dial(ctx, client.Ticket{UID: s.Friend, Token: s.FriendsToken, Addr: s.Addr}, client.Options{
		Device: "friend", OnEvent: func(client.Event) {},
	})
	if err != nil {
		return err
	}
	defer friend.Close()
	text := strings.Repeat("x", textBytes)
	tick := time.NewTicker(feedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		drafts := make([]client.Draft, feedTexts)
		for i := range drafts {
			drafts[i] = client.NewDraft(text)
		}
		if _, err := friend.SendTexts(ctx, client.InThread(thread), drafts...); err != nil {
			return err
		}
	}
}
