// Package seed creates users for a load test in the stores of a cluster: accounts, friendships and threads in SQL,
// profiles and lists in the caches of Redis. It is the only package of bench that opens the stores.
package seed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/internal/config"
	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/store/mysql"
	"parley/internal/wire"
)

// FirstUID is the uid of the first user; the others follow, and 2i and 2i+1 from it are friends. standalone --crowd
// creates the same users.
const FirstUID int32 = 1_000_001

// Options say where to create users and how many.
type Options struct {
	DSN      string
	Redis    config.Redis
	FirstUID int32 // 0: FirstUID
	Users    int
	Cold     bool // leave the caches empty
	// Progress is called with the progress, from one goroutine at a time; may be nil.
	Progress func(step string, done, of int)
}

// Config is the part of a node's configuration about the stores and the cluster.
type Config struct {
	Redis   config.Redis
	Mysql   config.MySQL
	Cluster config.Cluster
}

// FromConfig reads these sections of a node's configuration file and ignores the others. As in the node, variables in
// environ ("KEY=value") take precedence.
func FromConfig(path string, environ []string) (Config, error) {
	c := Config{Redis: config.DefaultRedis(), Mysql: config.DefaultMySQL()}
	text, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("seed: %w", err)
	}
	var kept strings.Builder
	keep := false
	for line := range strings.Lines(string(text)) {
		if t := strings.TrimSpace(line); strings.HasPrefix(t, "[") {
			keep = slices.ContainsFunc([]string{"[redis]", "[mysql]", "[cluster]"}, func(s string) bool { return strings.EqualFold(s, t) })
		}
		if !keep {
			line = "\n" // keeps the line numbers in errors correct
		}
		kept.WriteString(line)
	}
	f, err := os.CreateTemp("", "parley-seed-*.ini") // readable only by its owner, because it may contain passwords
	if err != nil {
		return c, fmt.Errorf("seed: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(kept.String())
	if err := errors.Join(err, f.Close()); err != nil {
		return c, fmt.Errorf("seed: %w", err)
	}
	if _, err := config.Load(config.Process{Name: "bench", Args: []string{"--config", f.Name()}, Environ: ours(environ)}, &c); err != nil {
		return c, fmt.Errorf("seed: %s: %w", path, err)
	}
	return c, nil
}

// ours returns the variables of an environment that set keys of Config.
func ours(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		return !slices.ContainsFunc([]string{"PARLEY_REDIS_", "PARLEY_MYSQL_", "PARLEY_CLUSTER_"}, func(prefix string) bool { return strings.HasPrefix(entry, prefix) })
	})
}

// RedisAt returns the configuration of a single Redis without a password.
func RedisAt(addr string) (config.Redis, error) {
	c := config.DefaultRedis()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return c, fmt.Errorf("seed: redis: %w", err)
	}
	if c.Port, err = strconv.Atoi(port); err != nil {
		return c, fmt.Errorf("seed: redis: port %q is not a number", port)
	}
	c.Host = host
	return c, nil
}

// Generation makes an empty Redis look as if its cluster had been running for a while, so that nodes accept logins at
// once.
func Generation(ctx context.Context, addr string) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true})
	defer rdb.Close()
	return presence.SeedGeneration(ctx, rdb)
}

// Run creates the missing users and fills the caches of all. The tables must exist or be creatable. Run may be
// repeated.
func Run(ctx context.Context, o Options) error {
	if o.FirstUID == 0 {
		o.FirstUID = FirstUID
	}
	if o.Users < 2 || o.Users%2 != 0 || int64(o.FirstUID)+int64(o.Users) > wire.MaxInt {
		return errors.New("seed: the number of users must be even, at least 2, and their uids below 2^31")
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	st, err := mysql.Open(ctx, o.DSN, mysql.Options{MaxOpen: 8})
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	defer st.Close()
	if err := st.Migrate(ctx); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	if err := fillSQL(ctx, st, &o); err != nil {
		return err
	}
	if o.Cold {
		return nil
	}
	return Warm(ctx, o)
}

const batch = 1024

func name(uid int32) string { return fmt.Sprintf("bench%d", uid) }

func fillSQL(ctx context.Context, st *store.Store, o *Options) error {
	err := parallel(ctx, o, "users", o.Users, batch, func(ctx context.Context, from, to int) error {
		users := make([]store.NewUser, 0, to-from)
		for i := from; i < to; i++ {
			n := name(o.FirstUID + int32(i))
			// This is not a valid hash, so nobody can log in with a password.
			users = append(users, store.NewUser{Name: n, Email: n + "@example.com", PasswordHash: "!", Nick: n})
		}
		return st.Seed.Users(ctx, o.FirstUID+int32(from), users)
	})
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	err = parallel(ctx, o, "friends", o.Users, batch, func(ctx context.Context, from, to int) error {
		pairs := make([][2]int32, 0, (to-from)/2)
		for i := from; i+1 < to; i += 2 {
			pairs = append(pairs, [2]int32{o.FirstUID + int32(i), o.FirstUID + int32(i) + 1})
		}
		_, err := st.Seed.Friends(ctx, pairs)
		return err
	})
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	return nil
}

// Warm puts all users' profiles and lists into the caches, where they stay for half an hour.
func Warm(ctx context.Context, o Options) error {
	if o.FirstUID == 0 {
		o.FirstUID = FirstUID
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	rdb := o.Redis.NewClient()
	defer rdb.Close()
	pr := presence.New(rdb, presence.Options{Cluster: o.Redis.Cluster, Timeout: 10 * time.Second})
	defer pr.Close()
	if err := pr.Ping(ctx); err != nil {
		return fmt.Errorf("seed: redis: %w", err)
	}
	err := parallel(ctx, &o, "caches", o.Users, batch, func(ctx context.Context, from, to int) error {
		for i := from; i < to; i++ {
			if err := warm(ctx, pr, o.FirstUID+int32(i), o.FirstUID+int32(i^1)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	return nil
}

// warm writes what a chat node would write after loading a user from SQL.
func warm(ctx context.Context, pr *presence.Presence, uid int32, friends ...int32) error {
	profile := wire.Profile{UID: uid, Name: name(uid), Nick: name(uid)}
	data, err := wire.Encode(profile)
	if err != nil {
		return err
	}
	if err := pr.Cache.PutProfile(ctx, uid, profile.Name, data); err != nil {
		return err
	}
	list := []byte(`"apply_list":[],"friend_list":[`)
	for i, friend := range friends {
		other, err := wire.Encode(wire.Friend{Profile: wire.Profile{UID: friend, Name: name(friend), Nick: name(friend)}})
		if err != nil {
			return err
		}
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, other...)
	}
	version, err := pr.Cache.ListsVersion(ctx, uid)
	if err != nil {
		return err
	}
	return pr.Cache.PutLists(ctx, uid, version, append(list, ']'))
}

// parallel processes a range in batches on several goroutines.
func parallel(ctx context.Context, o *Options, step string, n, batch int, do func(ctx context.Context, from, to int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next int
		done int
	)
	workers := 4
	if step == "caches" {
		workers = 16
	}
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				from := next
				next += batch
				mu.Unlock()
				if from >= n {
					return
				}
				to := min(from+batch, n)
				if err := do(ctx, from, to); err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				done += to - from
				o.Progress(step, done, n)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
