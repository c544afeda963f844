package presence

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// SeenTTL is how long the time of a user's last session is kept.
const SeenTTL = 30 * 24 * time.Hour

// Whereabouts holds the sessions of a user, not checked against leases, and the end of the last session before them:
// in minutes since 1970 by Redis' clock; 0 if unknown.
type Whereabouts struct {
	Locations []Location
	SeenMin   int32
}

// Whereabouts returns the whereabouts of users, in the order of uids, and the generation id of the data; see
// LocateIn. It does not share round trips, so that logins do not wait for it.
func (ss *Sessions) Whereabouts(ctx context.Context, uids []int32) (out []Whereabouts, generation string, err error) {
	out = make([]Whereabouts, 0, len(uids))
	for part := range slices.Chunk(uids, ss.opt.MaxBatch) {
		var gen string
		if out, gen, err = ss.whereabouts(ctx, out, part); err != nil {
			return nil, "", failed("whereabouts", err)
		}
		if len(out) > len(part) && gen != generation {
			gen = ""
		}
		generation = gen
	}
	return out, generation, nil
}

// whereabouts appends the whereabouts of up to MaxBatch users to out.
func (ss *Sessions) whereabouts(ctx context.Context, out []Whereabouts, uids []int32) (_ []Whereabouts, generation string, err error) {
	ctx, cancel := ss.bound(ctx)
	defer cancel()
	sessions, seen := make([]*redis.MapStringStringCmd, len(uids)), make([]*redis.StringCmd, len(uids))
	pipe := ss.rdb.Pipeline()
	for i, uid := range uids {
		sessions[i] = pipe.HGetAll(ctx, ss.keys.session(uid))
		seen[i] = pipe.Get(ctx, ss.keys.seen(uid))
	}
	gen := pipe.Get(ctx, keyGeneration) // read last, so that a loss of the data in between shows
	_, _ = pipe.Exec(ctx)               // each command carries its own error
	for i, uid := range uids {
		var w Whereabouts
		fields, err := sessions[i].Result()
		if err != nil && !isWrongType(err) {
			return nil, "", err
		}
		w.Locations = locationsOf(uid, fields)
		minute, err := seen[i].Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, "", err
		}
		n, _ := strconv.ParseInt(minute, 10, 32) // 0 if missing or malformed
		w.SeenMin = int32(max(n, 0))
		out = append(out, w)
	}
	if generation, err = generationOf(gen); err != nil {
		return nil, "", err
	}
	return out, generation, nil
}

// NoteSeen writes the time of the last session for users whose sessions were not released because their node died.
func (ss *Sessions) NoteSeen(ctx context.Context, uids []int32, minute int32) error {
	for part := range slices.Chunk(uids, ss.opt.MaxBatch) {
		if _, err := ss.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
			for _, uid := range part {
				pipe.Set(ctx, ss.keys.seen(uid), minute, SeenTTL)
			}
		}); err != nil {
			return failed("note seen", err)
		}
	}
	return nil
}
