package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

func TestSecondLoginEndsTheFirst(t *testing.T) {
	w := sharedCluster(t)
	for name, second := range map[string]int{"on the same node": 0, "on another node": 1} {
		t.Run(name, func(t *testing.T) {
			ann, bob, _ := w.pair(t)
			b := w.login(t, bob, 2)
			a := w.login(t, ann, 0)
			exchange(t, a, b)
			again := w.login(t, ann, second)
			require.ErrorIs(t, awaitEnd(t, a, patience), client.ErrReplaced)
			exchange(t, again, b)
			at := w.online(t, ann)
			require.Len(t, at, 1)
			require.Equal(t, again.SID(), at[0].SID)
		})
		t.Run("stock client "+name, func(t *testing.T) {
			uid := w.users(t, 1)
			r := w.loginRaw(t, uid, 0, nil, 0)
			w.loginRaw(t, uid, second, nil, 0)
			kick := r.expect(wire.MsgReplaced)
			require.Equal(t, wire.CodeOK, kick.Error, "the stock client reads nothing else")
			require.Equal(t, uid, kick.UID)
			frames, _ := r.drain(patience)
			require.Empty(t, frames, "1021 is the last frame")
		})
	}
	t.Run("but not on another device", func(t *testing.T) {
		ann, bob, _ := w.pair(t)
		b := w.login(t, bob, 2)
		one := w.login(t, ann, 0, client.Options{Device: "one"})
		two := w.login(t, ann, 1, client.Options{Device: "two"})
		_, err := say(t.Context(), b, client.User(ann), client.NewDraft("to both"))
		require.NoError(t, err)
		awaitText(t, one, "to both")
		awaitText(t, two, "to both")
	})
}

// Two logins of one user race on two nodes, each with a valid token: one session survives and works, and the other
// client is told.
func TestOfRacingLoginsExactlyOneSurvives(t *testing.T) {
	w := sharedCluster(t)
	const pairs, atOnce, friends = 200, 8, 10 // few enough texts per friend to stay below the limit of a connection
	first := w.users(t, pairs+friends)
	var hubs [friends]*hub
	for i := range hubs {
		hubs[i] = newHub(w.login(t, first+pairs+int32(i), 2))
		defer hubs[i].stop()
	}

	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range int32(pairs) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			h := hubs[i%friends]
			w.friends(t, first+i, h.Profile().UID)
			if err := w.race(t, first+i, h); err != nil {
				t.Errorf("user %d: %v", first+i, err)
			}
		})
	}
	wg.Wait()
}

// race logs a user in on two nodes at once and returns what went wrong.
func (w *world) race(t testing.TB, uid int32, friend *hub) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var conns [2]*client.Conn
	var errs [2]error
	tickets := [2]client.Ticket{w.ticket(t, uid, int(uid)%2), w.ticket(t, uid, (int(uid)+1)%2)}
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			<-start
			conns[i], errs[i] = client.Dial(ctx, tickets[i], client.Options{})
		})
	}
	close(start)
	wg.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
				<-c.Done()
			}
		}
	}()

	// The loser is either refused in its 1006 or replaced later.
	var winner *client.Conn
	switch {
	case errs[0] != nil && errs[1] != nil:
		return fmt.Errorf("both were refused: %w", errors.Join(errs[:]...))
	case errs[0] != nil, errs[1] != nil:
		err := errors.Join(errs[:]...)
		if client.CodeOf(err) == client.CodeOK {
			return fmt.Errorf("the loser was not told: %w", err)
		}
		winner = conns[0]
		if winner == nil {
			winner = conns[1]
		}
	default:
		select {
		case <-conns[0].Done():
			winner = conns[1]
		case <-conns[1].Done():
			winner = conns[0]
		case <-ctx.Done():
			return errors.New("both live")
		}
		for _, c := range conns {
			if c != winner && !errors.Is(c.Err(), client.ErrReplaced) {
				return fmt.Errorf("the loser was told: %w", c.Err())
			}
		}
	}

	// The survivor can send and receive, and is the session in Redis.
	if err := live(ctx, winner); err != nil {
		return fmt.Errorf("ask as the survivor: %w", err)
	}
	text := fmt.Sprintf("to %d", uid)
	if _, err := say(ctx, friend.Conn, client.User(uid), client.NewDraft(text)); err != nil {
		return fmt.Errorf("send to the survivor: %w", err)
	}
	for got := false; !got; {
		ev, err := winner.Next(ctx)
		if err != nil {
			return fmt.Errorf("the survivor waits for a push: %w", err)
		}
		texts, ok := ev.(client.Texts)
		got = ok && texts.Messages[len(texts.Messages)-1].Text == text
	}
	if _, err := say(ctx, winner, client.User(friend.Profile().UID), client.NewDraft(fmt.Sprintf("from %d", uid))); err != nil {
		return fmt.Errorf("the survivor sends: %w", err)
	}
	if err := friend.await(ctx, fmt.Sprintf("from %d", uid)); err != nil {
		return err
	}
	found, err := w.presence.Sessions.Locate(ctx, []int32{uid})
	if err != nil {
		return err
	}
	if len(found[0]) != 1 || found[0][0].SID != winner.SID() {
		return fmt.Errorf("presence names %v, and %s survived", found[0], winner.SID())
	}
	return winner.Err()
}

// hub is a user to whom many others write: it receives all texts, and notifies those waiting for one.
type hub struct {
	*client.Conn
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex // guards the following
	seen map[string]int
}

func newHub(c *client.Conn) *hub {
	ctx, cancel := context.WithCancel(context.Background())
	h := &hub{Conn: c, cancel: cancel, seen: make(map[string]int)}
	h.wg.Go(func() {
		for {
			ev, err := c.Next(ctx)
			if err != nil {
				return
			}
			if texts, ok := ev.(client.Texts); ok {
				h.mu.Lock()
				for _, m := range texts.Messages {
					h.seen[m.Text]++
				}
				h.mu.Unlock()
			}
		}
	})
	return h
}

func (h *hub) stop() {
	h.cancel()
	h.wg.Wait()
}

func (h *hub) has(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen[text] > 0
}

func (h *hub) await(ctx context.Context, text string) error {
	for !h.has(text) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the text %q: %w", text, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}
