// Package ops is what an operator sees of a chat node and may ask it: its figures, its sessions, to move its clients to other
// nodes. Chat nodes implement [Node]; status nodes call it by RPC.
//
// The JSON of its types is that of /api/v1, and docs/OPERATIONS.md describes it.
package ops

import (
	"context"
	"time"
)

// The states of a chat node. A node says of itself that it is open, draining or drained; the others say that it is silent or
// dead.
const (
	StateOpen     = "open"     // takes logins
	StateDraining = "draining" // takes none, and moves its clients to other nodes
	StateDrained  = "drained"  // has moved them
	StateSilent   = "silent"   // has a lease, and does not answer
	StateDead     = "dead"     // has no lease
)

// Node is a chat node as an operator uses it. Its methods are safe for concurrent use.
type Node interface {
	// Figures returns how the node is now.
	Figures(ctx context.Context) (Figures, error)
	// Sessions returns a page of the sessions, by user.
	Sessions(ctx context.Context, q SessionQuery) (SessionPage, error)
	// Drain keeps logins away and begins to move all clients to other nodes. It does not wait until they are moved.
	Drain(ctx context.Context, p Pace) error
	// Undrain takes logins again, and ends the moving.
	Undrain(ctx context.Context) error
	// Move begins to move some clients to the nodes named. It does not wait until they are moved.
	Move(ctx context.Context, m Move) error
	// Kick ends sessions of a user, whose devices have to log in with a password again. It returns how many.
	Kick(ctx context.Context, k Kick) (int, error)
}

// Figures are a node's, counted since it started unless they say otherwise.
type Figures struct {
	Node        string `json:"node"`
	Boot        string `json:"boot"`
	Version     string `json:"version"`
	State       string `json:"state"`
	StartedMS   int64  `json:"started_ms"`
	AtMS        int64  `json:"at_ms"` // by the node's clock
	Sessions    int    `json:"sessions"`
	Native      int    `json:"native"` // of these
	Connections int    `json:"connections"`
	// Totals have texts, pushes, logins and others; Refusals the reasons why something was refused. See totals.
	Totals   map[string]float64 `json:"totals"`
	Refusals map[string]float64 `json:"refusals"`
	// Queues are how much waits now.
	Queues map[string]float64 `json:"queues"`
	// Latency are the histograms of text and login, in seconds.
	Latency map[string]Histogram `json:"latency"`
	// Limits are the node's [Limits], by key.
	Limits map[string]string `json:"limits,omitempty"`
	// Slow are the sessions for which most bytes wait, if any do.
	Slow []Session `json:"slow,omitempty"`
	// Moving is the latest moving of clients, if there was one.
	Moving *Moving `json:"moving,omitempty"`
}

// Histogram is one of Prometheus: Counts are cumulative, and have one element more than Bounds.
type Histogram struct {
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts"`
}

// Quantile returns about the q-quantile, in the unit of Bounds, of what was added to h since before; 0 if nothing was. Past
// the last bound it returns that.
func (h Histogram) Quantile(q float64, before Histogram) float64 {
	count := func(i int) float64 {
		n := h.Counts[i]
		if len(before.Counts) == len(h.Counts) && before.Counts[i] <= n {
			n -= before.Counts[i]
		}
		return float64(n)
	}
	if len(h.Bounds) == 0 || len(h.Counts) != len(h.Bounds)+1 || count(len(h.Bounds)) == 0 {
		return 0
	}
	rank := q * count(len(h.Bounds))
	lower, below := 0.0, 0.0
	for i, bound := range h.Bounds {
		if n := count(i); n >= rank {
			if n == below {
				return bound
			}
			return lower + (bound-lower)*(rank-below)/(n-below)
		} else {
			lower, below = bound, n
		}
	}
	return lower
}

// Session is one session as an operator sees it.
type Session struct {
	Node    string `json:"node"`
	UID     int32  `json:"uid"`
	Device  string `json:"device"` // "" for a stock client
	SID     string `json:"sid"`
	Native  bool   `json:"native"`
	SinceMS int64  `json:"since_ms"`
	SeenMS  int64  `json:"seen_ms"` // when its last frame arrived
	Queued  int    `json:"queued"`  // bytes that wait for the client
}

// SessionQuery asks for a page of sessions.
type SessionQuery struct {
	UID    int32  `json:"uid,omitempty"`    // 0: of all users
	Limit  int    `json:"limit,omitempty"`  // at most MaxSessions; 0 means that
	Cursor string `json:"cursor,omitempty"` // where the page before ended; "" begins
}

// MaxSessions is the most sessions of one page.
const MaxSessions = 500

// SessionPage is a page of sessions.
type SessionPage struct {
	Sessions []Session `json:"sessions"`
	Cursor   string    `json:"cursor,omitempty"` // of the next page; "": there is none
}

// Pace is how fast clients are moved. The zero value leaves it to the node.
type Pace struct {
	OverMS int64 `json:"over_ms,omitempty"` // spread over this time
	Rate   int   `json:"rate,omitempty"`    // at most so many per second, whatever OverMS says
}

// Bounds of a Pace. A faster one storms the other nodes.
const (
	DefaultRate = 500
	MaxRate     = 10_000
	MaxOver     = time.Hour
)

// Move asks for some clients to be moved to other nodes, to each a number of them.
type Move struct {
	Pace
	To map[string]int `json:"to"`
}

// Kick says which sessions are to end: that with SID, or those of Device if it is not nil, or all of the user.
type Kick struct {
	UID    int32   `json:"uid"`
	SID    string  `json:"sid,omitempty"`
	Device *string `json:"device,omitempty"`
}

// Moving is a report on clients that were told to go to another node.
type Moving struct {
	Reason    string `json:"reason"` // drain, stop, rebalance
	BeganMS   int64  `json:"began_ms"`
	EndedMS   int64  `json:"ended_ms,omitempty"` // 0: it goes on
	Told      int    `json:"told"`               // native clients that were told their next node
	Moved     int    `json:"moved"`              // of these, logged in on another node
	Returned  int    `json:"returned,omitempty"` // of these, logged in here again
	Missing   int    `json:"missing"`            // of these, not seen again so far
	Untracked int    `json:"untracked,omitempty"`
	Ended     int    `json:"ended"` // sessions that could not be told: stock clients, or no other node takes logins
	Left      int    `json:"left"`  // sessions still here
	// The gap of a user is the time from the goodbye to the login elsewhere, by the clocks of the two nodes.
	GapP50MS float64 `json:"gap_p50_ms"`
	GapP99MS float64 `json:"gap_p99_ms"`
	GapMaxMS float64 `json:"gap_max_ms"`
}
