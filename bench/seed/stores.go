package seed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/internal/config"
	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/store/mysql"
)

// Place is the location of the stores of a cluster.
type Place struct {
	DSN   string
	Redis config.Redis
}

// Stores are the stores of a cluster, opened for inspection: what a run left there is evidence independent of the
// nodes.
type Stores struct {
	sql      *store.Store
	rdb      redis.UniversalClient
	presence *presence.Presence
}

// maxReaders is the number of concurrent statements of Stores.
const maxReaders = 8

// Open opens both stores and verifies that they answer.
func Open(ctx context.Context, at Place) (*Stores, error) {
	st, err := mysql.Open(ctx, at.DSN, mysql.Options{MaxOpen: maxReaders})
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	s := &Stores{sql: st, rdb: at.Redis.NewClient()}
	s.presence = presence.New(s.rdb, presence.Options{Cluster: at.Redis.Cluster, Timeout: 10 * time.Second})
	if err := s.presence.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("seed: redis: %w", err), s.Close())
	}
	return s, nil
}

// Close closes both stores.
func (s *Stores) Close() error {
	s.presence.Close()
	return errors.Join(s.rdb.Close(), s.sql.Close())
}

// Groups makes groups as SeedGroups does.
func (s *Stores) Groups(ctx context.Context, first int32, n, members int) ([]int64, error) {
	return SeedGroups(ctx, s.sql, first, n, members)
}

// SeedGroups makes n groups of so many members each and returns their threads in order: the users of a group follow one
// another, from first on, and the first of them is its owner.
func SeedGroups(ctx context.Context, st *store.Store, first int32, n, members int) ([]int64, error) {
	threads := make([]int64, n)
	err := parallel(ctx, &Options{Progress: func(string, int, int) {}}, "groups", n, max(batch/members, 1), func(ctx context.Context, from, to int) error {
		for k := from; k < to; k++ {
			owner := first + int32(k*members)
			others := make([]int32, members-1)
			for i := range others {
				others[i] = owner + 1 + int32(i)
			}
			var err error
			if threads[k], err = st.Seed.Group(ctx, fmt.Sprint("bench ", owner), owner, others); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	return threads, nil
}

// Circles makes n circles of so many users each, who are friends of one another, and puts their lists into the caches.
// The users of a circle follow one another, from first on.
func (s *Stores) Circles(ctx context.Context, first int32, n, members int) error {
	o := Options{Progress: func(string, int, int) {}}
	err := parallel(ctx, &o, "circles", n, 1, func(ctx context.Context, k, _ int) error {
		uids := make([]int32, members)
		for i := range uids {
			uids[i] = first + int32(k*members+i)
		}
		if err := s.sql.Seed.Circle(ctx, uids); err != nil {
			return err
		}
		for i, uid := range uids {
			if err := warm(ctx, s.presence, uid, slices.Delete(slices.Clone(uids), i, i+1)...); err != nil {
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

// Message is a row in the history of a thread.
type Message struct {
	Seq               int64
	Sender            int32
	UniqueID, Content string
}

const (
	pageRows  = 1000
	pageBytes = 1 << 20
)

// History calls each for the messages of a thread with a number greater than after, in ascending order.
func (s *Stores) History(ctx context.Context, thread, after int64, each func(Message)) error {
	for more := true; more; {
		page, next, err := s.sql.Messages.History(ctx, thread, after, pageRows, pageBytes)
		if err != nil {
			return fmt.Errorf("seed: %w", err)
		}
		for _, m := range page {
			each(Message{m.Seq, m.Sender, m.UniqueID, m.Content})
			after = m.Seq
		}
		more = next
	}
	return nil
}

// Left is what Redis still holds of users. After they have all left, and the nodes have had a moment, it is zero.
type Left struct {
	Sessions int   // entries of usession_<uid>, except Dead
	Names    int   // uip_<uid> of users without a Dead entry
	Dead     int   // entries of a node's earlier boot ids: without effect until the next login or their expiry
	Counted  int64 // logincount of all live nodes, for all users
	UIDs     []int32
	Example  string
}

// Left reads what is left of users.
func (s *Stores) Left(ctx context.Context, uids []int32) (l Left, err error) {
	nodes, err := s.presence.Nodes.Read(ctx)
	if err != nil {
		return l, fmt.Errorf("seed: %w", err)
	}
	live := map[[2]string]bool{}
	for _, n := range nodes {
		if n.Live {
			live[[2]string{n.Name, n.Boot}] = true
			l.Counted += n.Count
		}
	}
	places, err := s.presence.Sessions.Locate(ctx, uids)
	if err != nil {
		return l, fmt.Errorf("seed: %w", err)
	}
	names, err := s.presence.Sessions.NodeNames(ctx, uids)
	if err != nil {
		return l, fmt.Errorf("seed: %w", err)
	}
	for i, uid := range uids {
		dead := 0
		for _, at := range places[i] {
			if live[[2]string{at.Node, at.Boot}] {
				l.Sessions++
			} else {
				dead++
			}
			l.Example = fmt.Sprintf("user %d, device %q, session %s on %s", uid, at.Device, at.SID, at.Node)
		}
		if l.Dead += dead; names[i] != "" && dead == 0 {
			l.Names++
		}
		if len(places[i]) > 0 || names[i] != "" {
			l.UIDs = append(l.UIDs, uid)
		}
	}
	return l, nil
}
