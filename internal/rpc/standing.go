package rpc

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// standingAge is how long an answer counts. It is longer than a round of Ask over all peers.
	standingAge = time.Minute
	// maxStanding bounds the remembered addresses.
	maxStanding = 1024
)

// A Standing records whether peers accept this node's signature, from the answers to the node's own calls. Calls from
// others do not count, because anyone can send them. Its methods are safe for concurrent use; those of a nil
// *Standing do nothing.
type Standing struct {
	log   *slog.Logger
	now   func() time.Time
	every time.Duration // interval of Ask

	mu    sync.Mutex // guards the following
	peers map[string]answer
}

// answer is a peer's reaction to the latest call.
type answer struct {
	at      time.Time
	refused *Refusal // nil: accepted
}

// NewStanding returns a Standing that logs changes.
func NewStanding(log *slog.Logger) *Standing {
	return &Standing{log: log, now: time.Now, every: askEvery, peers: make(map[string]answer)}
}

// note records the outcome of a call to addr, if it tells anything about the secret or the clock.
func (s *Standing) note(addr string, err error) {
	if s == nil || addr == "" {
		return
	}
	refused, is := AsRefusal(err)
	switch {
	case err == nil:
	case is && (refused.Reason == ReasonSignature || refused.Reason == ReasonClock || refused.Reason == ReasonUnsigned):
	default:
		return
	}
	s.mu.Lock()
	before, known := s.peers[addr]
	if !known && len(s.peers) >= maxStanding {
		clear(s.peers)
	}
	s.peers[addr] = answer{s.now(), refused}
	s.mu.Unlock()
	switch {
	case refused != nil && (!known || before.refused == nil || before.refused.Reason != refused.Reason):
		s.log.Warn("a peer refuses this node's signature", "addr", addr, "reason", refused.said())
	case refused == nil && known && before.refused != nil:
		s.log.Info("a peer accepts this node's signature again", "addr", addr)
	}
}

// Refused is the error that Standing.Err returns.
type Refused struct {
	By, Of int // peers
	Reason string
}

func (r *Refused) Error() string { return "rpc: " + r.Public() }

// Public returns the error without confidential details.
func (r *Refused) Public() string {
	return fmt.Sprintf("%d of %d peers refuse this node's signature: %s", r.By, r.Of, r.Reason)
}

// Err returns a *Refused if more than half of the peers that answered within the last minute refuse this node's
// signature. It takes a majority; otherwise one node with a wrong secret would make all others unready.
func (s *Standing) Err() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Refused{}
	now := s.now()
	for addr, a := range s.peers {
		if now.Sub(a.at) > standingAge {
			delete(s.peers, addr)
			continue
		}
		r.Of++
		if a.refused != nil {
			r.By++
			r.Reason = a.refused.said()
		}
	}
	if 2*r.By > r.Of {
		return &r
	}
	return nil
}
