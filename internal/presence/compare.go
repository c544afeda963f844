package presence

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Session is a live session of this process, to be compared with Redis.
type Session struct {
	Location
	Since time.Time // when its login began: after its token was issued, before its claim
}

// A Standing is the state of a session according to Redis.
type Standing uint8

const (
	StandingHeld     Standing = iota // the session has its entry
	StandingMissing                  // the device has no entry; see Restore
	StandingReplaced                 // another session has the device's entry
	StandingRevoked                  // the user's tokens were revoked after the session's login
)

// Compare returns the standing of each session, in order. If extend is set, it also keeps the entries from expiring,
// which their owners do well within SessionTTL. It changes nothing else. It reads two keys per session and does not
// share round trips, so that logins do not wait for it.
func (ss *Sessions) Compare(ctx context.Context, sessions []Session, extend bool) ([]Standing, error) {
	out := make([]Standing, 0, len(sessions))
	for part := range slices.Chunk(sessions, ss.opt.MaxBatch) {
		var err error
		if out, err = ss.compare(ctx, out, part, extend); err != nil {
			return nil, failed("compare", err)
		}
	}
	return out, nil
}

// compare appends the standings of up to MaxBatch sessions to out. A revocation overrides the other standings,
// because it must end the session even if its entry is intact.
func (ss *Sessions) compare(ctx context.Context, out []Standing, part []Session, extend bool) ([]Standing, error) {
	ctx, cancel := ss.bound(ctx)
	defer cancel()
	entries, revoked := make([]*redis.StringCmd, len(part)), make([]*redis.StringCmd, len(part))
	pipe := ss.rdb.Pipeline()
	for i := range part {
		s := &part[i]
		entries[i] = pipe.HGet(ctx, ss.keys.session(s.UID), s.Device)
		revoked[i] = pipe.Get(ctx, ss.keys.tokenMin(s.UID))
		if extend {
			pipe.Expire(ctx, ss.keys.session(s.UID), SessionTTL)
			pipe.Expire(ctx, ss.keys.nodeOf(s.UID), SessionTTL)
		}
	}
	_, _ = pipe.Exec(ctx) // each command carries its own error
	var clock redisClock
	for i := range part {
		s := &part[i]
		entry, err := entries[i].Result()
		if err != nil && !errors.Is(err, redis.Nil) && !isWrongType(err) {
			return nil, err
		}
		least, revokeErr := revoked[i].Result()
		if revokeErr != nil && !errors.Is(revokeErr, redis.Nil) {
			return nil, revokeErr
		}
		standing := StandingHeld
		switch {
		case err != nil:
			standing = StandingMissing
		case entry != s.value():
			standing = StandingReplaced
		}
		if least != "" {
			before, err := clock.before(ctx, ss.rdb, s.Since, least)
			if err != nil {
				return nil, err
			}
			if before {
				standing = StandingRevoked
			}
		}
		out = append(out, standing)
	}
	return out, nil
}

// redisClock converts times of this node to Redis' clock, which it reads once, when first needed.
type redisClock struct {
	at    time.Time // by this node's clock
	redis time.Time // Redis' time at that moment; zero: not read yet
}

// before reports whether a moment of this node came before a time of Redis' clock. It compares elapsed times rather
// than clocks, so the clocks may differ. If the moment has a monotonic reading, the longer of monotonic and wall time
// counts, because the monotonic clock stops while a machine sleeps.
func (c *redisClock) before(ctx context.Context, rdb redis.UniversalClient, moment time.Time, ms string) (bool, error) {
	limit, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return false, nil // not written by Parley
	}
	if c.redis.IsZero() {
		c.at = time.Now()
		if c.redis, err = rdb.Time(ctx).Result(); err != nil {
			return false, err
		}
	}
	passed := max(c.at.Sub(moment), c.at.Round(0).Sub(moment.Round(0)))
	return c.redis.Add(-passed).UnixMilli() <= limit, nil
}

// isWrongType recognises a key written by another program: llfcchat keeps a string under the key of Parley's
// sessions.
func isWrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }

// Restore writes back sessions of this process that Redis has lost, unless another session has been written in their
// place, and extends those that exist. It returns the locations whose place another session holds. It may be
// repeated; after an error, lost is incomplete. If a session ends at the same time, Restore may bring its entry back:
// the owner must check and release it again.
func (ss *Sessions) Restore(ctx context.Context, locs []Location) (lost []Location, err error) {
	for part := range slices.Chunk(locs, ss.opt.MaxBatch) {
		for _, l := range part {
			if err := l.check(); err != nil {
				return lost, err
			}
		}
		taken, err := ss.restore(ctx, part)
		if isWrongType(err) {
			if err = ss.dropForeign(ctx, part); err == nil {
				taken, err = ss.restore(ctx, part)
			}
		}
		if err != nil {
			return lost, failed("restore", err)
		}
		lost = append(lost, taken...)
	}
	return lost, nil
}

// restore writes back up to MaxBatch sessions. HSETNX never overwrites an entry of a newer login, and the HGET after
// it tells whose entry it is.
func (ss *Sessions) restore(ctx context.Context, part []Location) (lost []Location, err error) {
	held := make([]*redis.StringCmd, len(part))
	_, err = ss.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, l := range part {
			pipe.HSetNX(ctx, ss.keys.session(l.UID), l.Device, l.value())
			held[i] = pipe.HGet(ctx, ss.keys.session(l.UID), l.Device)
			pipe.Expire(ctx, ss.keys.session(l.UID), SessionTTL)
			pipe.SetNX(ctx, ss.keys.nodeOf(l.UID), l.Node, SessionTTL)
			pipe.Expire(ctx, ss.keys.nodeOf(l.UID), SessionTTL)
		}
	})
	if err != nil {
		return nil, err
	}
	for i, l := range part {
		// Nil means that another session's entry existed at HSETNX and was released before HGET.
		if held[i].Val() != l.value() {
			lost = append(lost, l)
		}
	}
	return lost, nil
}

// dropForeign removes session keys that are not hashes, as a claim does.
func (ss *Sessions) dropForeign(ctx context.Context, locs []Location) error {
	kinds := make([]*redis.StatusCmd, len(locs))
	_, err := ss.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, l := range locs {
			kinds[i] = pipe.Type(ctx, ss.keys.session(l.UID))
		}
	})
	if err != nil {
		return err
	}
	_, err = ss.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, l := range locs {
			if kind := kinds[i].Val(); kind != "hash" && kind != "none" {
				pipe.Del(ctx, ss.keys.session(l.UID))
			}
		}
	})
	return err
}
