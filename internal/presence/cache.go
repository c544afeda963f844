package presence

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"

	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

// pipelined runs native commands in one round trip and returns the first error other than a missing key.
func (p *Presence) pipelined(ctx context.Context, fill func(context.Context, redis.Pipeliner)) ([]redis.Cmder, error) {
	ctx, cancel := p.bound(ctx)
	defer cancel()
	pipe := p.rdb.Pipeline()
	fill(ctx, pipe)
	if pipe.Len() == 0 {
		return nil, nil
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		return cmds, err
	}
	for _, c := range cmds { // Exec reports only the first error, which may be a harmless Nil
		if err := c.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return cmds, err
		}
	}
	return cmds, nil
}

// PutProfile caches a user's encoded profile under uid and name for ProfileTTL. If data exceeds MaxCachedBytes, it
// drops the cached profile instead. The data must not contain a password or an e-mail address.
func (p *Presence) PutProfile(ctx context.Context, uid int32, name string, data []byte) error {
	if len(data) > MaxCachedBytes || len(data) == 0 {
		return p.DropProfile(ctx, uid, name)
	}
	err := p.fillCache(ctx, func(ctx context.Context, pipe redis.Pipeliner) []redis.Cmder {
		return []redis.Cmder{
			pipe.Set(ctx, p.keys.profile(uid), data, ProfileTTL), pipe.Set(ctx, p.keys.name(name), data, ProfileTTL),
		}
	})
	if err != nil {
		return failed("put profile", err)
	}
	return nil
}

// fillCache runs native commands that fill a cache. Concurrent calls share round trips, because logins use it.
func (p *Presence) fillCache(ctx context.Context, fill func(context.Context, redis.Pipeliner) []redis.Cmder) error {
	return p.commands.do(ctx, &putJob{fill: fill}, false)
}

type putJob struct {
	batch.Part
	fill func(context.Context, redis.Pipeliner) []redis.Cmder
	cmds []redis.Cmder
}

func (j *putJob) weight() int { return 1 }

func (j *putJob) add(ctx context.Context, pipe redis.Pipeliner) { j.cmds = j.fill(ctx, pipe) }

func (j *putJob) finish() error { return firstError(j.cmds) }

// ProfileByUID returns a cached profile, or nil and no error if there is none.
func (p *Presence) ProfileByUID(ctx context.Context, uid int32) ([]byte, error) {
	return p.get(ctx, "profile by uid", p.keys.profile(uid))
}

// ProfileByName is like ProfileByUID, but by name without regard to case.
func (p *Presence) ProfileByName(ctx context.Context, name string) ([]byte, error) {
	return p.get(ctx, "profile by name", p.keys.name(name))
}

// get reads a cached value; nil without an error if there is none.
func (p *Presence) get(ctx context.Context, op, key string) ([]byte, error) {
	ctx, cancel := p.bound(ctx)
	defer cancel()
	data, err := p.rdb.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(op, err)
	}
	return data, nil
}

// DropProfile removes a cached profile after the profile has changed.
func (p *Presence) DropProfile(ctx context.Context, uid int32, name string) error {
	_, err := p.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.Del(ctx, p.keys.profile(uid))
		pipe.Del(ctx, p.keys.name(name))
	})
	if err != nil {
		return failed("drop profile", err)
	}
	return nil
}

// PutLists caches a user's encoded friend and application lists for ListsTTL. The caller must have read version (from
// ListsVersion or Prelogin) before it read the lists: if the lists change in between, the entry has an old version
// and Prelogin ignores it. If data exceeds MaxCachedBytes, the cached lists are dropped instead.
func (p *Presence) PutLists(ctx context.Context, uid int32, version int64, data []byte) error {
	err := p.fillCache(ctx, func(ctx context.Context, pipe redis.Pipeliner) []redis.Cmder {
		if len(data) > MaxCachedBytes {
			return []redis.Cmder{pipe.Del(ctx, p.keys.lists(uid))}
		}
		return []redis.Cmder{
			// The version must outlive every list cached under another version, so its expiry comes first.
			pipe.Expire(ctx, p.keys.listsVersion(uid), listsVersionTTL),
			pipe.Set(ctx, p.keys.lists(uid), append(strconv.AppendInt(nil, version, 10), "\n"+string(data)...), ListsTTL),
		}
	})
	if err != nil {
		return failed("put lists", err)
	}
	return nil
}

// ListsVersion returns the version of a user's lists, or 0 if they have not changed for long. Versions can only be
// tested for equality. Concurrent calls share round trips, because each login asks: on its own the call took a fifth
// of a login's processor time.
func (p *Presence) ListsVersion(ctx context.Context, uid int32) (int64, error) {
	j := &versionJob{key: p.keys.listsVersion(uid)}
	if err := p.commands.do(ctx, j, false); err != nil {
		return 0, failed("lists version", err)
	}
	return j.version, nil
}

type versionJob struct {
	batch.Part
	key     string
	cmd     *redis.StringCmd
	version int64
}

func (j *versionJob) weight() int { return 1 }

func (j *versionJob) add(ctx context.Context, pipe redis.Pipeliner) { j.cmd = pipe.Get(ctx, j.key) }

func (j *versionJob) finish() error {
	data, err := j.cmd.Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	j.version, _ = strconv.ParseInt(data, 10, 64) // malformed: 0, and the next bump corrects it
	return nil
}

// BumpLists outdates the cached lists of users. Call it after the commit of a change. If it fails, cached lists may
// be out of date by up to ListsTTL.
func (p *Presence) BumpLists(ctx context.Context, uids ...int32) error {
	_, err := p.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for _, uid := range uids {
			// The steps are random: after Redis lost its data, a counter that goes up by one would soon reach the
			// version of a list that was being loaded at the time.
			pipe.IncrBy(ctx, p.keys.listsVersion(uid), 1+rand.Int64N(1<<31))
			pipe.Expire(ctx, p.keys.listsVersion(uid), listsVersionTTL)
		}
	})
	if err != nil {
		return failed("bump lists", err)
	}
	return nil
}
