package day

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/lab/launchtest"
)

// TestAStreamSurvivesDisconnects breaks the connections of both users at random during a stream of messages. The
// sessions must resume with their tickets, because they have no password.
func TestAStreamSurvivesDisconnects(t *testing.T) {
	launchtest.Turn(t)
	t.Run("one process, SQLite", func(t *testing.T) { breakAStream(t, local(t), amount(t, "PARLEY_CUTS", 40)) })
	t.Run("three nodes, MariaDB", func(t *testing.T) {
		if testing.Short() {
			t.Skip("starts processes")
		}
		breakAStream(t, real(t), amount(t, "PARLEY_CUTS", 40))
	})
}

// end is one of two users who write to each other.
type end struct {
	sess *client.Session
	wire brittle

	mu      sync.Mutex // guards the following
	texts   []string
	ids     []int64
	resumed int
	passed  int // logins with the initial token
}

func openEnd(ctx context.Context, t *testing.T, w *world, uid int32) *end {
	token, err := w.token(ctx, uid)
	require.NoError(t, err)
	e := new(end)
	e.sess, err = client.Open(ctx, client.SessionOptions{
		Options: client.Options{Dial: e.wire.dial}, Ticket: client.Ticket{Addr: w.addrs[0], UID: uid, Token: token}, Nodes: w.addrs,
		Cursors: []client.Cursor{}, BackoffBase: 5 * time.Millisecond, BackoffLimit: 100 * time.Millisecond,
	})
	require.NoError(t, err)
	t.Cleanup(func() { e.sess.Close() })
	return e
}

// listen handles events until the session ends.
func (e *end) listen() {
	for ev := range e.sess.Events(context.Background()) {
		e.mu.Lock()
		switch ev := ev.(type) {
		case client.Texts:
			for _, m := range ev.Messages {
				e.texts, e.ids = append(e.texts, m.Text), append(e.ids, m.ID)
			}
		case client.Connected:
			if ev.Resumed {
				e.resumed++
			} else {
				e.passed++
			}
		}
		e.mu.Unlock()
	}
}

func breakAStream(t *testing.T, w *world, cuts int) {
	rnd, _ := random(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(cuts)*time.Second)
	defer cancel()
	const a, b = 710_001, 710_002
	w.users(t, a, 2)
	threads, err := w.store.Seed.Friends(ctx, [][2]int32{{a, b}})
	require.NoError(t, err)
	ends := []*end{openEnd(ctx, t, w, a), openEnd(ctx, t, w, b)}
	for _, e := range ends {
		go e.listen()
	}

	var stop atomic.Bool
	var wg sync.WaitGroup
	sent := make([]int, 2)
	for i, e := range ends {
		pace := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		wg.Go(func() {
			for !stop.Load() {
				p, err := e.sess.Post(ctx, client.InThread(threads[0]), client.NewDraft(fmt.Sprintf("%d from %d", sent[i], i)))
				if err != nil {
					t.Errorf("post: %v", err)
					return
				}
				sent[i]++
				wg.Go(func() {
					if _, err := p.Wait(ctx); err != nil {
						t.Errorf("text not stored: %v", err)
					}
				})
				time.Sleep(time.Duration(pace.IntN(3)) * time.Millisecond)
			}
		})
	}
	for done := 0; done < cuts && ctx.Err() == nil; {
		time.Sleep(time.Duration(rnd.IntN(40)) * time.Millisecond)
		if ends[rnd.IntN(2)].wire.cut() {
			done++
		}
	}
	require.NoError(t, ctx.Err())
	stop.Store(true)
	wg.Wait()

	total := sent[0] + sent[1]
	for i, e := range ends {
		arrived := eventually(func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.texts) >= total })
		e.mu.Lock()
		require.True(t, arrived, "end %d: %d of %d texts", i, len(e.texts), total)
		require.Len(t, e.texts, total, "end %d: doubles", i)
		next := []int{0, 0}
		for n, text := range e.texts {
			require.EqualValues(t, n+1, e.ids[n], "end %d: a gap or a double", i)
			var k, from int
			_, err := fmt.Sscanf(text, "%d from %d", &k, &from)
			require.NoError(t, err)
			require.Equal(t, next[from], k, "end %d: order of sender %d", i, from)
			next[from]++
		}
		require.Equal(t, 1, e.passed, "end %d logged in with a token once", i)
		t.Logf("end %d: %d cuts, %d resumed logins, %d texts in order", i, e.wire.cuts, e.resumed, len(e.texts))
		e.mu.Unlock()
	}
	require.Equal(t, ends[0].texts, ends[1].texts, "both ends saw one order")
}
