package presence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

// A GroupEntry says that a life of a node holds sessions of members of a group. It counts only while Node's lease carries
// Boot. Each life has its own field, so that a late write of an earlier one changes nothing.
type GroupEntry struct {
	Thread     int64
	Node, Boot string
	// Number tells the entries of one life apart that were written after the last one had been dropped.
	Number uint64
}

func (e *GroupEntry) field() string { return e.Node + "|" + e.Boot }

func (e *GroupEntry) check() error {
	if e.Boot == "" || !validNode(e.Node) || strings.ContainsAny(e.Boot, "| \n") {
		return fmt.Errorf("presence: malformed group entry of node %q", e.Node)
	}
	return nil
}

// HoldGroups writes entries and extends those that are there, for SessionTTL. added tells which were not. It may be
// repeated; after an error some may have been written. Concurrent calls share round trips.
func (p *Presence) HoldGroups(ctx context.Context, entries []GroupEntry) (added []bool, err error) {
	added = make([]bool, 0, len(entries))
	for part := range slices.Chunk(entries, p.opt.MaxBatch) {
		for i := range part {
			if err := part[i].check(); err != nil {
				return nil, err
			}
		}
		j := &holdJob{keys: p.keys, entries: slices.Clone(part)}
		if err := p.commands.do(ctx, j, false); err != nil {
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

func (j *holdJob) finish() error {
	for _, cmd := range j.cmds {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}

// DropGroups removes entries that are still as given. It may be repeated. Concurrent calls share round trips.
func (p *Presence) DropGroups(ctx context.Context, entries []GroupEntry) error {
	for part := range slices.Chunk(entries, p.opt.MaxBatch) {
		if err := p.commands.do(ctx, &dropJob{keys: p.keys, entries: slices.Clone(part)}, false); err != nil {
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

func (j *dropJob) finish() error {
	for _, cmd := range j.cmds {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}

// GroupEntries returns the entries of each group, in the order of threads, and in which body of data Redis looked, as
// LocateIn does. Entries are not checked against leases: ask View.Alive. Concurrent calls share round trips.
func (p *Presence) GroupEntries(ctx context.Context, threads []int64) (out [][]GroupEntry, generation string, err error) {
	out = make([][]GroupEntry, 0, len(threads))
	for part := range slices.Chunk(threads, p.opt.MaxBatch) {
		j := &groupsJob{keys: p.keys, threads: slices.Clone(part)}
		if err := p.commands.do(ctx, j, false); err != nil {
			return nil, "", failed("group entries", err)
		}
		if len(out) > 0 && generation != j.generation {
			j.generation = ""
		}
		generation = j.generation
		out = append(out, j.out...)
	}
	return out, generation, nil
}

type groupsJob struct {
	batch.Part
	keys    keys
	threads []int64
	cmds    []*redis.MapStringStringCmd
	gen     *redis.StringCmd
	out     [][]GroupEntry

	generation string
}

func (j *groupsJob) weight() int { return len(j.threads) }

func (j *groupsJob) add(ctx context.Context, pipe redis.Pipeliner) {
	j.cmds = make([]*redis.MapStringStringCmd, len(j.threads))
	for i, thread := range j.threads {
		j.cmds[i] = pipe.HGetAll(ctx, j.keys.group(thread))
	}
	j.gen = pipe.Get(ctx, keyGeneration) // last: if Redis loses its data in between, that shows
}

func (j *groupsJob) finish() error {
	j.out = make([][]GroupEntry, len(j.threads))
	for i, cmd := range j.cmds {
		fields, err := cmd.Result()
		if err != nil {
			return err
		}
		for field, value := range fields {
			node, boot, ok := strings.Cut(field, "|")
			number, err := strconv.ParseUint(value, 10, 64)
			if ok && err == nil {
				j.out[i] = append(j.out[i], GroupEntry{Thread: j.threads[i], Node: node, Boot: boot, Number: number})
			}
		}
		slices.SortFunc(j.out[i], func(a, b GroupEntry) int { return cmp.Compare(a.field(), b.field()) })
	}
	switch err := j.gen.Err(); {
	case err == nil:
		j.generation, _, _ = strings.Cut(j.gen.Val(), " ")
	case !errors.Is(err, redis.Nil):
		return err
	}
	return nil
}
