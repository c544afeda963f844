package presence

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

const (
	// maxKicks is how many kicks wait in the mailbox of one node: what a second's report can read without holding Redis up.
	maxKicks = 8192
	// kicksFull is the entry that follows them when there were more.
	kicksFull = "*"
)

// Kicks is what a node found in its mailbox. The zero value is an empty one.
type Kicks struct {
	Sessions []Kick
	// Full says that there were more kicks than the mailbox holds: any session of the node may have been replaced.
	Full bool

	n     int // entries read
	first string
}

// A Kick names a session that is to end.
type Kick struct {
	UID int32
	SID string
}

func parseKicks(entries []string) Kicks {
	k := Kicks{n: len(entries)}
	for i, entry := range entries {
		if i == 0 {
			k.first = entry
		}
		if entry == kicksFull {
			k.Full = true
			continue
		}
		uid, sid, _ := strings.Cut(entry, "|")
		if n, err := strconv.ParseInt(uid, 10, 32); err == nil { // what we did not write is passed over
			k.Sessions = append(k.Sessions, Kick{UID: int32(n), SID: sid})
		}
	}
	return k
}

// An Ending is what became of a session that was to end.
type Ending uint8

const (
	// EndingTold means that the session's node was asked and has answered.
	EndingTold Ending = iota
	// EndingLeft means that the node did not answer, and finds the kick in its mailbox with its next report.
	EndingLeft
	// EndingNoNode means that no node has a lease with the session's boot id. A process that still runs, paused or cut
	// off, may hold the session all the same.
	EndingNoNode
)

// EndSession ends a session that lives in another process. ask tells the session's node; when that fails, the kick is
// left in the node's mailbox, so that RPC that does not get through delays the end by a second and does not prevent it.
// After an error nobody was told.
func (p *Presence) EndSession(ctx context.Context, at Location, ask func(context.Context, Node) error) (Ending, error) {
	node, ok, err := p.holder(ctx, at)
	if err != nil {
		return 0, err
	}
	if !ok {
		return EndingNoNode, nil
	}
	asked := ask(ctx, node)
	if asked == nil {
		return EndingTold, nil
	}
	// The view may be a second old, and asking took another one.
	if _, err := p.Nodes(ctx); err != nil {
		return 0, errors.Join(asked, err)
	}
	if !p.View().Alive(at.Node, at.Boot) {
		return EndingNoNode, nil
	}
	if err := p.LeaveKick(ctx, at); err != nil {
		return 0, errors.Join(asked, err)
	}
	return EndingLeft, nil
}

// Alive reports whether a node's lease carries a boot id. The view may be a second old, which is too old to call a node
// dead: then the leases are read again.
func (p *Presence) Alive(ctx context.Context, node, boot string) (bool, error) {
	_, ok, err := p.holder(ctx, Location{Node: node, Boot: boot})
	return ok, err
}

// holder returns the node that holds a session, false if it has no lease.
func (p *Presence) holder(ctx context.Context, at Location) (Node, bool, error) {
	if v := p.View(); v.Alive(at.Node, at.Boot) {
		n, _ := v.Node(at.Node)
		return n, true, nil
	}
	if _, err := p.Nodes(ctx); err != nil {
		return Node{}, false, fmt.Errorf("is node %s alive: %w", at.Node, err)
	}
	v := p.View()
	n, _ := v.Node(at.Node)
	return n, v.Alive(at.Node, at.Boot), nil
}

// LeaveKick leaves a kick in the mailbox of the session's node, whether that node lives or not. It waits there for as long
// as the session would be known without its owner. Concurrent calls share round trips.
func (p *Presence) LeaveKick(ctx context.Context, at Location) error {
	if err := at.check(); err != nil {
		return err
	}
	j := &kickJob{key: p.keys.kicks(at.Node), at: at}
	if err := p.commands.do(ctx, j, true); err != nil {
		return failed("leave kick", err)
	}
	if !j.fits {
		p.metrics.kicksFull.Inc()
	}
	return nil
}

type kickJob struct {
	batch.Part
	key  string
	at   Location
	cmd  *redis.Cmd
	fits bool
}

func (j *kickJob) weight() int { return 1 }

func (j *kickJob) add(ctx context.Context, pipe redis.Pipeliner) {
	j.cmd = pipe.EvalSha(ctx, kickScript.Hash(), []string{j.key},
		strconv.FormatInt(int64(j.at.UID), 10)+"|"+j.at.SID, maxKicks, kicksFull, seconds(SessionTTL))
}

func (j *kickJob) finish() error {
	left, err := j.cmd.Int()
	j.fits = left == 1
	return err
}
