package presence

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

// Sessions are the sessions of all users, as their nodes have written them. They count only while the node's lease
// carries their boot id; see Location.
type Sessions struct {
	*conn
	nodes     *Nodes
	mailboxes *Mailboxes
}

// A Location says that a process holds a session of a user. It counts only while Node's lease carries Boot.
type Location struct {
	UID    int32
	Device string // "" for stock clients
	SID    string // session id
	Node   string
	Boot   string // boot id of the node's process
}

// value returns the value of the device's field in the session hash.
func (l Location) value() string { return l.SID + "|" + l.Node + "|" + l.Boot }

// check rejects separators of stored values within their parts.
func (l Location) check() error {
	if l.SID == "" || l.Boot == "" || !validNode(l.Node) || strings.ContainsAny(l.SID+l.Boot, "| \n") {
		return fmt.Errorf("presence: malformed location of user %d on node %q", l.UID, l.Node)
	}
	return nil
}

// parseLocation is the inverse of value. It returns false for values not written by Parley.
func parseLocation(uid int32, device, value string) (Location, bool) {
	sid, rest, ok := strings.Cut(value, "|")
	node, boot, ok2 := strings.Cut(rest, "|")
	return Location{UID: uid, Device: device, SID: sid, Node: node, Boot: boot}, ok && ok2
}

// locationsOf returns a user's sessions, ordered by device, from the fields of the user's hash.
func locationsOf(uid int32, fields map[string]string) (list []Location) {
	for device, value := range fields {
		if l, ok := parseLocation(uid, device, value); ok {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b Location) int { return cmp.Compare(a.Device, b.Device) })
	return list
}

// Locate returns the sessions of each user, in the order of uids, each user's ordered by device; nil for a user
// without sessions. It does not check entries against leases; use View.Alive. Concurrent calls share round trips.
func (ss *Sessions) Locate(ctx context.Context, uids []int32) ([][]Location, error) {
	out, _, err := ss.LocateIn(ctx, uids)
	return out, err
}

// LocateIn is like Locate, and also returns the generation id of the data it read (see Generation), or "" if there is
// none yet or it changed in between.
func (ss *Sessions) LocateIn(ctx context.Context, uids []int32) (out [][]Location, generation string, err error) {
	keys := make([]string, len(uids))
	for i, uid := range uids {
		keys[i] = ss.keys.session(uid)
	}
	found, generation, err := ss.hashes(ctx, keys, isWrongType)
	if err != nil {
		return nil, "", failed("locate", err)
	}
	out = make([][]Location, len(uids))
	for i, fields := range found {
		out[i] = locationsOf(uids[i], fields)
	}
	return out, generation, nil
}

// NodeNames returns the node in uip_<uid> for each of uids, or "". The key is written for operators and llfcchat's
// tools and removed with the user's last session; no decision depends on it.
func (ss *Sessions) NodeNames(ctx context.Context, uids []int32) ([]string, error) {
	names := make([]string, 0, len(uids))
	for part := range slices.Chunk(uids, ss.opt.MaxBatch) {
		got := make([]*redis.StringCmd, len(part))
		_, err := ss.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
			for i, uid := range part {
				got[i] = pipe.Get(ctx, ss.keys.nodeOf(uid))
			}
		})
		if err != nil {
			return nil, failed("node names", err)
		}
		for _, cmd := range got {
			names = append(names, cmd.Val())
		}
	}
	return names, nil
}

// Release removes ended sessions. It removes an entry only if the entry still has this sid, node and boot, so a
// session that replaced this one stays. Release may be repeated. After an error, some sessions may have been removed.
// Concurrent calls share round trips.
func (ss *Sessions) Release(ctx context.Context, locs []Location) error {
	for part := range slices.Chunk(locs, ss.opt.MaxBatch) {
		j := &releaseJob{keys: ss.keys, locs: slices.Clone(part)}
		if err := ss.commands.do(ctx, j, false); err != nil {
			return failed("release", err)
		}
	}
	return nil
}

type releaseJob struct {
	batch.Part
	keys keys
	locs []Location
	cmds []*redis.Cmd
}

func (j *releaseJob) weight() int { return len(j.locs) }

func (j *releaseJob) add(ctx context.Context, pipe redis.Pipeliner) {
	j.cmds = make([]*redis.Cmd, len(j.locs))
	for i, l := range j.locs {
		j.cmds[i] = pipe.EvalSha(ctx, releaseScript.Hash(), releaseKeys(j.keys, l.UID), l.Device, l.value(), seconds(SessionTTL), seconds(SeenTTL))
	}
}

func releaseKeys(k keys, uid int32) []string {
	return []string{k.session(uid), k.nodeOf(uid), k.seen(uid)}
}

func (j *releaseJob) finish() error { return firstError(j.cmds) }
