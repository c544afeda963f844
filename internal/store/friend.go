package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// Friends are how users stand to each other: friendships, the applications for them, and blocks.
type Friends struct{ db *database }

var (
	qFriends = sameList(`SELECT f.self_id,u.uid,u.name,u.nick,u.desc,u.icon,u.sex,f.back
		FROM friend f JOIN user u ON u.uid=f.friend_id AND u.deleted_ms=0
		WHERE f.self_id IN (@) ORDER BY f.self_id,f.friend_id`, "?", ",")

	// When two apply to each other at the same moment, one application can outlive their friendship: it is not pending.
	qApplications = same(`SELECT u.uid,u.name,u.nick,u.desc,u.icon,u.sex,a.descs,a.status
		FROM friend_apply a JOIN user u ON u.uid=a.from_uid
		WHERE a.to_uid=? AND a.status=0
		AND NOT EXISTS (SELECT 1 FROM friend f WHERE f.self_id=a.to_uid AND f.friend_id=a.from_uid)
		ORDER BY a.applied_ms DESC, a.from_uid DESC LIMIT ?`)

	qFriendRows        = same("SELECT COUNT(*) FROM friend WHERE (self_id=? AND friend_id=?) OR (self_id=? AND friend_id=?)")
	qApplicationAccept = same("UPDATE friend_apply SET status=1 WHERE from_uid=? AND to_uid=?")
)

// Status of an application, as stored.
const (
	ApplicationPending  int32 = 0
	ApplicationAccepted int32 = 1
)

// Friend is a friend's profile, and the name the user gave that friend ("" for none).
type Friend struct {
	Profile
	Back string
}

// Of returns the friends of many users, 256 in one statement, each user's by ascending uid.
func (s *Friends) Of(ctx context.Context, uids []int32) (map[int32][]Friend, error) {
	uids = slices.Compact(slices.Sorted(slices.Values(uids))) // in two statements, one user's friends would come twice
	friends := make(map[int32][]Friend, len(uids))
	err := eachOf(ctx, s.db, qFriends, uids, func(rows *sql.Rows) error {
		var self int32
		var f Friend
		if err := rows.Scan(append(append([]any{&self}, f.dest()...), &f.Back)...); err != nil {
			return err
		}
		friends[self] = append(friends[self], f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: friends of %d users: %w", len(uids), err)
	}
	return friends, nil
}

// Application is the applicant's profile and greeting. Desc is the greeting, not the profile's Desc.
type Application struct {
	Profile
	Desc   string
	Status int32
}

// Applications returns the newest limit applications to uid that are pending, the oldest of them first. Applying again
// makes an application the newest.
func (s *Friends) Applications(ctx context.Context, uid int32, limit int) ([]Application, error) {
	var apps []Application
	err := s.db.each(ctx, qApplications, 1, []any{uid, max(limit, 0)}, func(rows *sql.Rows) error {
		var a Application
		if err := rows.Scan(append(a.dest(), &a.Desc, &a.Status)...); err != nil {
			return err
		}
		apps = append(apps, a)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: applications to user %d: %w", uid, err)
	}
	slices.Reverse(apps)
	return apps, nil
}

// Apply records that from wants to be to's friend. greeting becomes the first message of their thread, back is the name
// from gives to; both are at most 255 characters, else ErrInvalid. Applying again while the application is pending
// replaces both. It reports whether that is news to to: no application was pending, or one with another greeting. It
// returns ErrSelf, ErrNotFound if to does not exist, ErrAlreadyFriends, ErrBlocked and ErrBlocking.
func (s *Friends) Apply(ctx context.Context, from, to int32, greeting, back string) (news bool, err error) {
	news, err = s.apply(ctx, from, to, greeting, back)
	if err != nil {
		return false, fmt.Errorf("store: application of user %d to %d: %w", from, to, err)
	}
	return news, nil
}

func (s *Friends) apply(ctx context.Context, from, to int32, greeting, back string) (news bool, err error) {
	if from == to {
		return false, ErrSelf
	}
	if !fits(greeting, back) {
		return false, ErrInvalid
	}
	err = s.db.transact(ctx, retryAll, func(ctx context.Context, t *tx) error {
		if err := lockUsers(ctx, t, from, to); err != nil {
			return err
		}
		if err := checkBlocks(ctx, t, from, to); err != nil {
			return err
		}
		friends, err := areFriends(ctx, t, from, to)
		if err != nil {
			return err
		}
		if friends {
			return ErrAlreadyFriends
		}
		old, err := lockApplication(ctx, t, from, to)
		if err != nil {
			return err
		}
		news = !old.pending() || old.greeting != greeting || news && t.unclear
		_, err = t.exec(ctx, qApplicationPut, 1, from, to, greeting, back, s.db.ms())
		return err
	})
	return news, err
}

// application is a locked row of friend_apply.
type application struct {
	found          bool
	status         int32
	greeting, back string
}

func (a *application) pending() bool { return a.found && a.status == ApplicationPending }

func lockApplication(ctx context.Context, t *tx, from, to int32) (a application, err error) {
	a.found, err = t.one(ctx, qApplicationLock, []any{from, to}, &a.status, &a.greeting, &a.back)
	return a, err
}

// areFriends reports whether each is in the other's list.
func areFriends(ctx context.Context, t *tx, a, b int32) (bool, error) {
	var rows int
	_, err := t.one(ctx, qFriendRows, []any{a, b, b, a}, &rows)
	return rows == 2, err
}
