package presence

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

const (
	// maxKicks bounds the kicks in one mailbox, so that a report can read them without holding up Redis.
	maxKicks = 8192
	// kicksFull is the entry after them if there were more.
	kicksFull = "*"
)

// Mailboxes hold, for each node, the kicks that it has not been told by RPC. The node reads them with Leases.Report.
type Mailboxes struct {
	*conn
	nodes *Nodes
}

// Kicks holds the contents of a node's mailbox. The zero value is empty.
type Kicks struct {
	Sessions []Kick
	// Full reports that the mailbox overflowed: any session of the node may have been replaced.
	Full bool

	// n and first identify the entries read, so that the next report removes exactly these.
	n     int // entries read
	first string
}

// A Kick names a session to be ended, or with an empty SID a user whose account was deleted.
type Kick struct {
	UID int32
	SID string
}

// parseKicks parses the entries of a mailbox.
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
		if n, err := strconv.ParseInt(uid, 10, 32); err == nil { // skip entries not written by Parley
			k.Sessions = append(k.Sessions, Kick{UID: int32(n), SID: sid})
		}
	}
	return k
}

// An Ending is the outcome of Sessions.End.
type Ending uint8

const (
	// EndingTold means that the session's node has answered.
	EndingTold Ending = iota
	// EndingLeft means that the node did not answer, and will find the kick in its mailbox with its next report.
	EndingLeft
	// EndingNoNode means that no node's lease carries the session's boot id. A paused or cut-off process may still
	// hold the session.
	EndingNoNode
)

// End ends a session of another process. It calls ask to tell the session's node; if that fails, it leaves the
// kick in the node's mailbox, so a failure of RPC delays the end by a second but does not prevent it. After an error,
// the node has not been told.
func (ss *Sessions) End(ctx context.Context, at Location, ask func(context.Context, Node) error) (Ending, error) {
	node, ok, err := ss.nodes.holder(ctx, at)
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
	// Read the leases again: the view may be a second old, and ask has taken time too.
	if _, err := ss.nodes.Read(ctx); err != nil {
		return 0, errors.Join(asked, err)
	}
	if !ss.nodes.View().Alive(at.Node, at.Boot) {
		return EndingNoNode, nil
	}
	if err := ss.mailboxes.LeaveKick(ctx, at); err != nil {
		return 0, errors.Join(asked, err)
	}
	return EndingLeft, nil
}

// LeaveKick leaves a kick in the mailbox of the session's node, whether the node is alive or not. The kick expires
// after SessionTTL, like the session's entry. Concurrent calls share round trips.
func (ms *Mailboxes) LeaveKick(ctx context.Context, at Location) error {
	if err := at.check(); err != nil {
		return err
	}
	return ms.leave(ctx, at.Node, Kick{at.UID, at.SID})
}

// LeaveDeletion leaves in the mailboxes of all nodes that a user's account was deleted. Earlier versions ignore that.
func (ms *Mailboxes) LeaveDeletion(ctx context.Context, uid int32) error {
	nodes, err := ms.nodes.Read(ctx)
	for _, n := range nodes {
		err = errors.Join(err, ms.leave(ctx, n.Name, Kick{UID: uid}))
	}
	return err
}

func (ms *Mailboxes) leave(ctx context.Context, node string, k Kick) error {
	j := &kickJob{key: ms.keys.kicks(node), kick: k}
	if err := ms.commands.do(ctx, j, true); err != nil {
		return failed("leave kick", err)
	}
	if !j.fits {
		ms.metrics.kicksFull.Inc()
	}
	return nil
}

type kickJob struct {
	batch.Part
	key  string
	kick Kick
	cmd  *redis.Cmd
	fits bool
}

func (j *kickJob) weight() int { return 1 }

func (j *kickJob) add(ctx context.Context, pipe redis.Pipeliner) {
	j.cmd = pipe.EvalSha(ctx, kickScript.Hash(), []string{j.key},
		strconv.FormatInt(int64(j.kick.UID), 10)+"|"+j.kick.SID, maxKicks, kicksFull, seconds(SessionTTL))
}

func (j *kickJob) finish() error {
	left, err := j.cmd.Int()
	j.fits = left == 1
	return err
}
