package presence

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

// Groups are the nodes that hold sessions of a group's members.
type Groups struct {
	*conn
}

// A GroupEntry says that a node, under a boot id, holds sessions of members of a group. It counts only while Node's
// lease carries Boot. Each boot id has its own field, so a late write under an earlier one changes nothing.
type GroupEntry struct {
	Thread     int64
	Node, Boot string
	// Number distinguishes successive entries of one boot id: an entry written after the previous one was dropped has
	// another number, so a late drop does not remove it.
	Number uint64
}

func (e *GroupEntry) field() string { return e.Node + "|" + e.Boot }

func (e *GroupEntry) check() error {
	if e.Boot == "" || !validNode(e.Node) || strings.ContainsAny(e.Boot, "| \n") {
		return fmt.Errorf("presence: malformed group entry of node %q", e.Node)
	}
	return nil
}

// Hold writes entries, or extends existing ones, for SessionTTL. added reports which entries are new.
// Hold may be repeated; after an error, some entries may have been written. Concurrent calls share round trips.
func (gs *Groups) Hold(ctx context.Context, entries []GroupEntry) (added []bool, err error) {
	added = make([]bool, 0, len(entries))
	for part := range slices.Chunk(entries, gs.opt.MaxBatch) {
		for i := range part {
			if err := part[i].check(); err != nil {
				return nil, err
			}
		}
		j := &holdJob{keys: gs.keys, entries: slices.Clone(part)}
		if err := gs.commands.do(ctx, j, false); err != nil {
			return nil, failed("hold groups", err)
		}
		for _, cmd := range j.cmds {
			added = append(added, cmd.Val() > 0)
		}
	}
	return added, nil
}

type holdJob struct {
	batch.Part
	keys    keys
	entries []GroupEntry
	cmds    []*redis.IntCmd
}

func (j *holdJob) weight() int { return len(j.entries) }

func (j *holdJob) add(ctx context.Context, pipe redis.Pipeliner) {
	j.cmds = make([]*redis.IntCmd, len(j.entries))
	for i := range j.entries {
		e := &j.entries[i]
		j.cmds[i] = pipe.HSet(ctx, j.keys.group(e.Thread), e.field(), e.Number)
		pipe.Expire(ctx, j.keys.group(e.Thread), SessionTTL)
	}
}

func (j *holdJob) finish() error { return firstError(j.cmds) }

// Drop removes entries unless they have changed. It may be repeated. Concurrent calls share round trips.
func (gs *Groups) Drop(ctx context.Context, entries []GroupEntry) error {
	for part := range slices.Chunk(entries, gs.opt.MaxBatch) {
		if err := gs.commands.do(ctx, &dropJob{keys: gs.keys, entries: slices.Clone(part)}, false); err != nil {
			return failed("drop groups", err)
		}
	}
	return nil
}

type dropJob struct {
	batch.Part
	keys    keys
	entries []GroupEntry
	cmds    []*redis.Cmd
}

func (j *dropJob) weight() int { return len(j.entries) }

func (j *dropJob) add(ctx context.Context, pipe redis.Pipeliner) {
	j.cmds = make([]*redis.Cmd, len(j.entries))
	for i := range j.entries {
		e := &j.entries[i]
		j.cmds[i] = pipe.EvalSha(ctx, groupDropScript.Hash(), []string{j.keys.group(e.Thread)}, e.field(), e.Number)
	}
}

func (j *dropJob) finish() error { return firstError(j.cmds) }

// Entries returns the entries of each group, in the order of threads, and the generation id of the data; see
// Sessions.LocateIn. It does not check entries against leases; use View.Alive. Concurrent calls share round trips.
func (gs *Groups) Entries(ctx context.Context, threads []int64) (out [][]GroupEntry, generation string, err error) {
	keys := make([]string, len(threads))
	for i, thread := range threads {
		keys[i] = gs.keys.group(thread)
	}
	found, generation, err := gs.hashes(ctx, keys, nil)
	if err != nil {
		return nil, "", failed("group entries", err)
	}
	out = make([][]GroupEntry, len(threads))
	for i, fields := range found {
		for field, value := range fields {
			node, boot, ok := strings.Cut(field, "|")
			number, err := strconv.ParseUint(value, 10, 64)
			if ok && err == nil {
				out[i] = append(out[i], GroupEntry{Thread: threads[i], Node: node, Boot: boot, Number: number})
			}
		}
		slices.SortFunc(out[i], func(a, b GroupEntry) int { return cmp.Compare(a.field(), b.field()) })
	}
	return out, generation, nil
}
