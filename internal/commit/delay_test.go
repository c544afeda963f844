package commit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// slowStore stores a batch of texts in the duration of a transaction.
type slowStore struct {
	mu      sync.Mutex // guards the following
	takes   time.Duration
	stalled chan struct{} // if not nil, transactions wait until it is closed
	next    map[int64]int64
}

func (s *slowStore) Access(_ context.Context, threads []int64) (map[int64]store.Access, error) {
	found := make(map[int64]store.Access, len(threads))
	for _, id := range threads {
		found[id] = store.Access{User1: 1, User2: 2, Friends: true}
	}
	return found, nil
}

func (s *slowStore) InGroups(context.Context, []store.GroupKey) (map[store.GroupKey]store.GroupRight, error) {
	return nil, nil
}

func (s *slowStore) Append(ctx context.Context, _, _ string, msgs []store.NewMessage, out []store.Appended) error {
	s.mu.Lock()
	takes, stalled := s.takes, s.stalled
	s.mu.Unlock()
	time.Sleep(takes)
	if stalled != nil {
		select {
		case <-stalled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range msgs {
		s.next[msgs[i].ThreadID]++
		out[i] = store.Appended{Seq: s.next[msgs[i].ThreadID], CreatedMS: 1}
	}
	return nil
}

// load offers texts to a committer with one shard and records the outcomes.
type load struct {
	c       *Committer
	n       int
	waits   []time.Duration // of accepted texts, by answer
	failed  int
	refused int
	early   int             // refused without a retry time
	order   map[int64]int64 // last number of each thread
	wrong   int             // answers out of order
}

type loadSender struct{ l *load }

func (s loadSender) UID() int32     { return 1 }
func (loadSender) SID() session.SID { return 1 }
func (loadSender) Groups() bool     { return false }
func (loadSender) Alone() bool      { return true }

func (s loadSender) Answer(_ []byte, req *Request, _ *session.Cork) {
	// Only the goroutine of the single shard calls this.
	t := &req.sent[0]
	if t.Code != wire.CodeOK {
		s.l.failed++
		return
	}
	s.l.waits = append(s.l.waits, time.Since(req.queued))
	if t.Seq != s.l.order[req.Thread]+1 || t.Content != fmt.Sprint(req.Thread, ":", t.Seq) {
		s.l.wrong++
	}
	s.l.order[req.Thread] = t.Seq
}

const loadThreads = 64

// offer sends perSecond texts, evenly, for a time. The number of a refused text is used for the next one of its
// thread.
func (l *load) offer(perSecond int, d time.Duration, sent map[int64]int64) {
	const step = time.Millisecond
	due := 0.0
	for range int(d / step) {
		for due += float64(perSecond) * step.Seconds(); due >= 1; due-- {
			l.n++
			thread := int64(l.n%loadThreads + 1)
			text := fmt.Sprint(thread, ":", sent[thread]+1)
			err := l.c.Append(&Request{
				From: loadSender{l}, Boot: "boot", To: 2, Thread: thread, Bytes: 100, Texts: []wire.Text{{Content: text, UniqueID: text}},
			})
			if err == nil {
				sent[thread]++
				continue
			}
			l.refused++
			if busy, ok := errors.AsType[*BusyError](err); !ok || busy.RetryAfter <= 0 {
				l.early++
			}
		}
		time.Sleep(step)
	}
}

func (l *load) percentile(p float64) time.Duration {
	slices.Sort(l.waits)
	return l.waits[min(int(float64(len(l.waits))*p), len(l.waits)-1)]
}

// loaded runs body with a committer whose store takes the given time for a batch of 256.
func loaded(t *testing.T, takes time.Duration, body func(*load, *slowStore, map[int64]int64)) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowStore{takes: takes, next: make(map[int64]int64)}
		l := &load{order: make(map[int64]int64)}
		cfg := DefaultConfig()
		cfg.Shards = 1
		l.c = New(cfg, Deps{
			Log: slog.New(slog.DiscardHandler), Store: s, Rights: s, Node: "chat1", Boot: func() string { return "boot" },
			Deliver: func([]session.Push, *session.Cork) {},
		})
		body(l, s, make(map[int64]int64))
		l.c.Close()
		require.Zero(t, l.wrong, "a thread's texts keep their order")
		require.Zero(t, l.early, "a refusal says when to try again")
	})
}

// B8
func TestThreeTimesTheCapacityIsRefusedEarly(t *testing.T) {
	for _, takes := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(takes.String(), func(t *testing.T) {
			loaded(t, takes, func(l *load, _ *slowStore, sent map[int64]int64) {
				const seconds = 5
				capacity := int(256 / takes.Seconds())
				l.offer(3*capacity, seconds*time.Second, sent)
				l.c.Close()
				t.Logf("goodput %.2f, p50 %v, p99 %v", float64(len(l.waits))/float64(capacity*seconds), l.percentile(0.5), l.percentile(0.99))
				require.GreaterOrEqual(t, len(l.waits), capacity*seconds*8/10, "goodput")
				require.LessOrEqual(t, l.percentile(0.99), time.Second)
				require.LessOrEqual(t, l.percentile(0.5), 700*time.Millisecond)
				require.Zero(t, l.failed, "what is accepted is stored")
			})
		})
	}
}

// B8: SQL stalls for two seconds, as in a failover, while the load is half of its capacity.
func TestAShortStallRefusesNobody(t *testing.T) {
	loaded(t, 20*time.Millisecond, func(l *load, s *slowStore, sent map[int64]int64) {
		half := 256 * 50 / 2
		l.offer(half, 2*time.Second, sent)
		end := make(chan struct{})
		s.mu.Lock()
		s.stalled = end
		s.mu.Unlock()
		time.AfterFunc(2*time.Second, func() { close(end) })
		l.offer(half, 6*time.Second, sent)
		l.c.Close()
		require.Zero(t, l.refused)
		require.Zero(t, l.failed)
		require.Len(t, l.waits, l.n)
	})
}

// B8: a store that is slow for all texts is no reason to refuse a few.
func TestASlowStoreTakesWhatItCan(t *testing.T) {
	loaded(t, 1500*time.Millisecond, func(l *load, _ *slowStore, sent map[int64]int64) {
		l.offer(100, 20*time.Second, sent)
		l.c.Close()
		require.Zero(t, l.refused)
		require.Zero(t, l.failed)
	})
}

// B8: after an overload, the first text is accepted again.
func TestRefusalsEndWithTheOverload(t *testing.T) {
	loaded(t, 20*time.Millisecond, func(l *load, _ *slowStore, sent map[int64]int64) {
		l.offer(40_000, 3*time.Second, sent)
		require.NotZero(t, l.refused)
		time.Sleep(500 * time.Millisecond)
		before := l.refused
		l.offer(5_000, 3*time.Second, sent)
		require.Equal(t, before, l.refused)
	})
}
