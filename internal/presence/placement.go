package presence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

// A Placement tells a user where to log in.
type Placement struct {
	Node       string
	ClientAddr string // host:port; "" if the node takes no clients by TCP
	Web        Web    // how else clients reach it
	Token      string // valid once, on any node, for TokenTTL
}

// Place chooses a chat node and mints a login token for each user. It chooses the least loaded live node that is not
// draining. Load is the reported number of sessions plus the placements within Options.Reserve whose users have not
// logged in yet. Several processes may place at the same time. Place returns ErrNoNode if there is no such node.
// After any error the caller must not use tokens of the call; the reservations expire. Concurrent calls share round
// trips; a call with more than 1,000 users takes several.
func (ns *Nodes) Place(ctx context.Context, uids []int32) ([]Placement, error) {
	out := make([]Placement, 0, len(uids))
	for part := range slices.Chunk(uids, maxPlace) {
		j := &placeJob{uids: slices.Clone(part)}
		err := ns.placements.do(ctx, j, false)
		switch {
		case err == nil:
			ns.metrics.placed.Add(float64(len(part)))
		case errors.Is(err, ErrNoNode):
			ns.metrics.placeNoNode.Add(float64(len(part)))
		default:
			ns.metrics.placeFailed.Add(float64(len(part)))
		}
		if err != nil {
			return nil, failed("place", err)
		}
		out = append(out, j.out...)
	}
	return out, nil
}

type placeJob struct {
	batch.Part
	uids []int32
	out  []Placement
}

func (j *placeJob) weight() int { return len(j.uids) }

// runPlacements serves a batch with one script and one pipeline that writes the tokens.
func (ns *Nodes) runPlacements(ctx context.Context, jobs []*placeJob) {
	err := ns.place(ctx, jobs)
	for _, j := range jobs {
		j.Settle(err)
	}
}

// place reserves and then stores the tokens of a batch. The reservations come first: if the second step fails, they
// expire, and no token without a reservation exists.
func (ns *Nodes) place(ctx context.Context, jobs []*placeJob) error {
	v, err := ns.refresh(ctx, viewMaxAge)
	if err != nil {
		return err
	}
	open := v.open()
	if len(open) == 0 {
		// Read again early, because the cluster may have just started.
		if v, err = ns.refresh(ctx, emptyViewMaxAge); err != nil {
			return err
		}
		if open = v.open(); len(open) == 0 {
			return ErrNoNode
		}
	}
	var uids []int32
	for _, j := range jobs {
		uids = append(uids, j.uids...)
	}
	tokens, digests := make([]string, len(uids)), make([]string, len(uids))
	args := make([]any, 0, 2+len(open)+len(uids))
	args = append(args, ns.opt.Reserve.Milliseconds(), len(open))
	for _, n := range open {
		args = append(args, n.Name)
	}
	for i := range uids {
		tokens[i] = NewToken()
		digests[i] = digest(tokens[i])
		args = append(args, digests[i])
	}
	reply, err := placeScript.Run(ctx, ns.rdb, placeKeys(ns.keys, open), args...).Int64Slice()
	if err != nil {
		return err
	}
	if len(reply) != 1+len(uids) {
		return fmt.Errorf("reply of %d elements for %d users", len(reply), len(uids))
	}
	issued, picks := strconv.FormatInt(reply[0], 10), reply[1:]
	_, err = ns.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, uid := range uids {
			pipe.Set(ctx, ns.keys.token(uid, digests[i]), issued, TokenTTL)
		}
	})
	if err != nil {
		return err
	}
	next := 0
	for _, j := range jobs {
		j.out = make([]Placement, len(j.uids))
		for i := range j.uids {
			n := &open[picks[next]-1]
			j.out[i] = Placement{Node: n.Name, ClientAddr: n.ClientAddr, Web: n.Web, Token: tokens[next]}
			next++
		}
	}
	return nil
}

func placeKeys(k keys, open []Node) []string {
	out := make([]string, 0, 2+len(open))
	out = append(out, keyLoginCount, keyLastPick)
	for _, n := range open {
		out = append(out, k.reserve(n.Name))
	}
	return out
}
