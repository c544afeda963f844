package store

import (
	"context"
	"fmt"

	"parley/internal/names"
)

// Seed fills a database for demonstrations and load tests. It skips the checks that Users.Create and Friends.Approve make:
// seeded names do not reserve names that look alike.
type Seed struct{ db *database }

// Users inserts users with the uids first, first+1, …; those whose uid, name or e-mail address exists are skipped.
// New users of Users.Create get uids after the highest one seeded. It is one transaction for each 256 users.
func (s *Seed) Users(ctx context.Context, first int32, users []NewUser) error {
	const columns = 10
	for i := range users {
		if !users[i].valid() {
			return fmt.Errorf("store: seed user %d: %w", first+int32(i), ErrInvalid)
		}
	}
	for at := 0; at < len(users); {
		n := insertShape(len(users) - at)
		args := make([]any, 0, n*columns)
		now := s.db.ms()
		for i, u := range users[at : at+n] {
			args = append(args, first+int32(at+i), u.Name, names.Key(u.Name), u.Email, Key(u.Email), u.PasswordHash, u.Nick, u.Icon, u.Sex, now)
		}
		err := s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
			_, err := t.exec(ctx, qUsersPut, n, args...)
			return err
		})
		if err != nil {
			return fmt.Errorf("store: seed users from %d: %w", first, err)
		}
		at += n
	}
	return nil
}

// Group makes a group of an owner and members, who need not be its friends. It has one row, which tells of the group
// and names no members; each member reads from it on.
// It returns the group's thread, or ErrInvalid and ErrGroupFull. It is one transaction.
func (s *Seed) Group(ctx context.Context, name string, owner int32, members []int32) (thread int64, err error) {
	switch {
	case !validGroupName(name):
		err = ErrInvalid
	case 1+len(members) > s.db.groupMembers:
		err = ErrGroupFull
	default:
		err = s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
			thread, err = seedGroup(ctx, t, name, owner, members)
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("store: seed a group of user %d: %w", owner, err)
	}
	return thread, nil
}

func seedGroup(ctx context.Context, t *tx, name string, owner int32, members []int32) (thread int64, err error) {
	now := t.db.ms()
	res, err := t.exec(ctx, qGroupThreadNew, 1, now)
	if err != nil {
		return 0, err
	}
	if thread, err = res.LastInsertId(); err != nil {
		return 0, fmt.Errorf("new thread id: %w", err)
	}
	if _, err := t.exec(ctx, qGroupPut, 1, thread, name, owner, 1+len(members), now); err != nil {
		return 0, err
	}
	rows := []Membership{{UID: owner, Role: RoleOwner, JoinedMS: now, FromSeq: 1}}
	for _, uid := range members {
		rows = append(rows, Membership{UID: uid, JoinedMS: now, FromSeq: 1})
	}
	if err := t.putMembers(ctx, thread, rows); err != nil {
		return 0, err
	}
	m := Message{ThreadID: thread, Seq: 1, Sender: owner, UniqueID: newUniqueID(), CreatedMS: now, Kind: KindEvent}
	event := Event{Event: EventCreated, By: owner, Name: name}
	if m.Content, err = event.content(); err != nil {
		return 0, err
	}
	if err := t.putEvents(ctx, m); err != nil {
		return 0, err
	}
	return thread, t.touch(ctx, thread)
}

// Friends makes each pair friends, with a private thread and without a message. Pairs that are friends, and threads
// that exist, stay as they are. It returns the threads' ids. It is one transaction for each 64 pairs.
func (s *Seed) Friends(ctx context.Context, pairs [][2]int32) ([]int64, error) {
	const most = 64
	threads := make([]int64, 0, len(pairs))
	for at := 0; at < len(pairs); {
		part := pairs[at:min(at+most, len(pairs))]
		args := make([]any, 0, 4*len(part))
		for _, p := range part {
			if p[0] == p[1] {
				return threads, fmt.Errorf("store: seed friends: user %d: %w", p[0], ErrSelf)
			}
			args = append(args, p[0], p[1], p[1], p[0])
		}
		var ids []int64
		err := s.db.transact(ctx, retryAll, func(ctx context.Context, t *tx) error {
			ids = ids[:0]
			if err := putFriends(ctx, t, args); err != nil {
				return err
			}
			for _, p := range part {
				id, err := t.ensurePair(ctx, p[0], p[1])
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			return nil
		})
		if err != nil {
			return threads, fmt.Errorf("store: seed friends: %w", err)
		}
		threads = append(threads, ids...)
		at += len(part)
	}
	return threads, nil
}

// Circle makes each of some users a friend of each other one, without private threads, as in a migrated database.
// Users who are friends stay as they are. It is one transaction.
func (s *Seed) Circle(ctx context.Context, uids []int32) error {
	args := make([]any, 0, 2*len(uids)*len(uids))
	for _, a := range uids {
		for _, b := range uids {
			if a != b {
				args = append(args, a, b)
			}
		}
	}
	err := s.db.transact(ctx, retryAll, func(ctx context.Context, t *tx) error { return putFriends(ctx, t, args) })
	if err != nil {
		return fmt.Errorf("store: seed a circle of friends: %w", err)
	}
	return nil
}

// putFriends writes rows of a user and a friend.
func putFriends(ctx context.Context, t *tx, rows []any) error {
	for len(rows) > 0 {
		n := insertShape(len(rows) / 2)
		if _, err := t.exec(ctx, qFriendsPut, n, rows[:2*n]...); err != nil {
			return err
		}
		rows = rows[2*n:]
	}
	return nil
}
