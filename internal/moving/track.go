package moving

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"parley/internal/ops"
	"parley/internal/session"
)

const (
	firstLook = 250 * time.Millisecond
	lookRest  = time.Second
	maxLook   = 1024 // users per look-up
)

// track is a client that was told to go.
type track struct {
	uid    int32
	device string
	sid    session.SID
	at     time.Time // when it was told
	look   time.Time // when it is looked for
}

// tracks are the clients of one moving.
type tracks struct {
	mu     sync.Mutex // guards the following
	open   []track    // by look, nearly
	asked  int        // taken by due, and not given back
	gaps   []time.Duration
	sorted bool
	r      ops.Moving
}

func newTracks(reason string) *tracks {
	return &tracks{sorted: true, r: ops.Moving{Reason: reason, BeganMS: time.Now().UnixMilli()}}
}

func (t *tracks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.r.EndedMS = time.Now().UnixMilli()
	t.open = nil
}

// await waits until all clients that were told are back, at most for so long.
func (t *tracks) await(ctx context.Context, patience time.Duration) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(checkRest)
	defer tick.Stop()
	for t.waiting() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		case <-tick.C:
		}
	}
}

func (t *tracks) told(s *session.Session, to string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if to == "" {
		t.r.Ended++
		return
	}
	t.r.Told++
	if len(t.open)+t.asked+len(t.gaps) >= MaxTracked {
		t.r.Untracked++
		return
	}
	t.open = append(t.open, track{s.UID(), s.Device(), s.SID(), now, now.Add(firstLook)})
}

func (t *tracks) ended() {
	t.mu.Lock()
	t.r.Ended++
	t.mu.Unlock()
}

// due takes the clients that are to be looked for now.
func (t *tracks) due(now time.Time) []track {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.open) && n < maxLook && !t.open[n].look.After(now) {
		n++
	}
	due := slices.Clone(t.open[:n])
	t.open = t.open[n:]
	t.asked = n
	return due
}

// again gives back those that were not found; the others are done with.
func (t *tracks) again(missing []track, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range missing {
		m.look = now.Add(min(max(now.Sub(m.at), firstLook), lookRest))
		t.open = append(t.open, m)
	}
	t.asked = 0
}

func (t *tracks) back(gap time.Duration, here bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if here {
		t.r.Returned++
	} else {
		t.r.Moved++
	}
	t.gaps = append(t.gaps, gap)
	t.sorted = false
}

func (t *tracks) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open) + t.asked
}

func (t *tracks) report(left int) *ops.Moving {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.sorted {
		slices.Sort(t.gaps)
		t.sorted = true
	}
	r := t.r
	r.Left = left
	r.Missing = r.Told - r.Moved - r.Returned - r.Untracked
	if n := len(t.gaps); n > 0 {
		ms := func(i int) float64 { return float64(t.gaps[i].Microseconds()) / 1000 }
		r.GapP50MS, r.GapP99MS, r.GapMaxMS = ms(n/2), ms(min(n*99/100, n-1)), ms(n-1)
	}
	return &r
}

// shares are how many clients each of several nodes still gets.
type shares struct {
	names []string
	rest  map[string]int
	at    int
}

func newShares(to map[string]int) *shares {
	return &shares{names: slices.Sorted(maps.Keys(to)), rest: maps.Clone(to)}
}

// left returns how many clients are to be moved.
func (s *shares) left() (n int) {
	for _, name := range s.names {
		n += max(s.rest[name], 0)
	}
	return n
}

// next returns the node of the next client, each node in turn; "" if all have enough.
func (s *shares) next() string {
	for range s.names {
		name := s.names[s.at%len(s.names)]
		s.at++
		if s.rest[name] > 0 {
			s.rest[name]--
			return name
		}
	}
	return ""
}
