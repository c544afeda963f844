package presence

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"

	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

// A Cache keeps profiles and lists, so that a login need not read them from SQL.
type Cache struct {
	*conn
}

// PutProfile caches a user's encoded profile under uid and name for ProfileTTL. If data exceeds MaxCachedBytes, it
// drops the cached profile instead. The data must not contain a password or an e-mail address.
func (c *Cache) PutProfile(ctx context.Context, uid int32, name string, data []byte) error {
	if len(data) > MaxCachedBytes || len(data) == 0 {
		return c.DropProfile(ctx, uid, name)
	}
	err := c.fillCache(ctx, func(ctx context.Context, pipe redis.Pipeliner) []redis.Cmder {
		return []redis.Cmder{
			pipe.Set(ctx, c.keys.profile(uid), data, ProfileTTL), pipe.Set(ctx, c.keys.name(name), data, ProfileTTL),
		}
	})
	if err != nil {
		return failed("put profile", err)
	}
	return nil
}

// fillCache runs native commands that fill a cache. Concurrent calls share round trips, because logins use it.
func (c *Cache) fillCache(ctx context.Context, fill func(context.Context, redis.Pipeliner) []redis.Cmder) error {
	return c.commands.do(ctx, &putJob{fill: fill}, false)
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
func (c *Cache) ProfileByUID(ctx context.Context, uid int32) ([]byte, error) {
	return c.get(ctx, "profile by uid", c.keys.profile(uid))
}

// ProfileByName is like ProfileByUID, but by name without regard to case.
func (c *Cache) ProfileByName(ctx context.Context, name string) ([]byte, error) {
	return c.get(ctx, "profile by name", c.keys.name(name))
}

// get reads a cached value; nil without an error if there is none.
func (c *Cache) get(ctx context.Context, op, key string) ([]byte, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	data, err := c.rdb.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(op, err)
	}
	return data, nil
}

// DropProfile removes a cached profile after the profile has changed.
func (c *Cache) DropProfile(ctx context.Context, uid int32, name string) error {
	_, err := c.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.Del(ctx, c.keys.profile(uid))
		pipe.Del(ctx, c.keys.name(name))
	})
	if err != nil {
		return failed("drop profile", err)
	}
	return nil
}

// PutLists caches a user's encoded friend and application lists for ListsTTL. The caller must have read version
// (from ListsVersion or Logins.Prelogin) before it read the lists: if the lists change in between, the entry has an
// old version and Prelogin ignores it. If data exceeds MaxCachedBytes, the cached lists are dropped instead.
func (c *Cache) PutLists(ctx context.Context, uid int32, version int64, data []byte) error {
	err := c.fillCache(ctx, func(ctx context.Context, pipe redis.Pipeliner) []redis.Cmder {
		if len(data) > MaxCachedBytes {
			return []redis.Cmder{pipe.Del(ctx, c.keys.lists(uid))}
		}
		return []redis.Cmder{
			// The version must outlive every list cached under another version, so its expiry comes first.
			pipe.Expire(ctx, c.keys.listsVersion(uid), listsVersionTTL),
			pipe.Set(ctx, c.keys.lists(uid), append(strconv.AppendInt(nil, version, 10), "\n"+string(data)...), ListsTTL),
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
func (c *Cache) ListsVersion(ctx context.Context, uid int32) (int64, error) {
	j := &versionJob{key: c.keys.listsVersion(uid)}
	if err := c.commands.do(ctx, j, false); err != nil {
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
func (c *Cache) BumpLists(ctx context.Context, uids ...int32) error {
	_, err := c.pipelined(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for _, uid := range uids {
			// The steps are random: after Redis lost its data, a counter that goes up by one would soon reach the
			// version of a list that was being loaded at the time.
			pipe.IncrBy(ctx, c.keys.listsVersion(uid), 1+rand.Int64N(1<<31))
			pipe.Expire(ctx, c.keys.listsVersion(uid), listsVersionTTL)
		}
	})
	if err != nil {
		return failed("bump lists", err)
	}
	return nil
}
