package store

import (
	"context"
	"database/sql"
	"fmt"
)

// How two users stand to each other: friends, strangers, blocked. Every change of it runs in one transaction that has
// locked both users, and raises the version of their thread, if they have one, with the thread locked. An append that
// locks the thread later sees another version than the one it was decided under, and decides again; one that has locked
// it before is waited for. So from the commit of a change on nothing is stored that it forbids, on no node.

var (
	qFriendDrop       = same("DELETE FROM friend WHERE self_id=? AND friend_id=?")
	qApplicationsDrop = same("DELETE FROM friend_apply WHERE from_uid=? AND to_uid=?")
	qBlockDrop        = same("DELETE FROM user_block WHERE uid=? AND blocked_uid=?")
	qBlockCount       = same("SELECT COUNT(*) FROM user_block WHERE uid=?")
	qBlockOf          = same("SELECT uid FROM user_block WHERE (uid=? AND blocked_uid=?) OR (uid=? AND blocked_uid=?)")
	qBlocks           = same(`SELECT u.uid,u.name,u.nick,u.desc,u.icon,u.sex,b.created_ms
		FROM user_block b JOIN user u ON u.uid=b.blocked_uid AND u.deleted_ms=0
		WHERE b.uid=? AND b.blocked_uid>? ORDER BY b.blocked_uid LIMIT ?`)
)

// MaxBlocks is how many users one user may block.
const MaxBlocks = 10000

// Unfriend ends the friendship of uid and other, and whatever applications there are between them, under node's fence.
// Their thread stays readable for both; neither can write to it from the commit on. It reports whether they were friends.
// It returns ErrSelf, ErrNotFound if one of the users does not exist, and ErrFenced.
func (s *Friends) Unfriend(ctx context.Context, node, boot string, uid, other int32) (were bool, err error) {
	err = s.relate(ctx, node, boot, uid, other, func(ctx context.Context, t *tx) error {
		ended, err := unfriend(ctx, t, uid, other)
		were = ended || were && t.unclear
		return err
	})
	if err != nil {
		return false, fmt.Errorf("store: user %d ends the friendship with %d: %w", uid, other, err)
	}
	return were, nil
}

// Block has uid block other: it ends their friendship as Unfriend does, and other's applications are refused from now on.
// It reports whether they were friends. It returns ErrSelf, ErrNotFound if one of the users does not exist, ErrTooMany, and
// ErrFenced.
func (s *Friends) Block(ctx context.Context, node, boot string, uid, other int32) (were bool, err error) {
	err = s.relate(ctx, node, boot, uid, other, func(ctx context.Context, t *tx) error {
		ended, err := unfriend(ctx, t, uid, other)
		if err != nil {
			return err
		}
		were = ended || were && t.unclear
		var n int
		if _, err := t.one(ctx, qBlockCount, []any{uid}, &n); err != nil {
			return err
		}
		if n >= MaxBlocks {
			return ErrTooMany
		}
		_, err = t.exec(ctx, qBlockPut, 1, uid, other, t.db.ms())
		return err
	})
	if err != nil {
		return false, fmt.Errorf("store: user %d blocks %d: %w", uid, other, err)
	}
	return were, nil
}

// Unblock undoes a Block, but not what it ended. It does nothing if there is none.
func (s *Friends) Unblock(ctx context.Context, node, boot string, uid, other int32) error {
	err := s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
		if err := t.checkFence(ctx, node, boot); err != nil {
			return err
		}
		_, err := t.exec(ctx, qBlockDrop, 1, uid, other)
		return err
	})
	if err != nil {
		return fmt.Errorf("store: user %d unblocks %d: %w", uid, other, err)
	}
	return nil
}

// Blocked is a user that another user has blocked.
type Blocked struct {
	Profile
	CreatedMS int64
}

// Blocks returns up to limit users whom uid has blocked, by ascending uid, whose uid is greater than after.
func (s *Friends) Blocks(ctx context.Context, uid, after int32, limit int) ([]Blocked, error) {
	var list []Blocked
	err := s.db.each(ctx, qBlocks, 1, []any{uid, after, max(limit, 0)}, func(rows *sql.Rows) error {
		var b Blocked
		if err := rows.Scan(append(b.dest(), &b.CreatedMS)...); err != nil {
			return err
		}
		list = append(list, b)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: blocks of user %d: %w", uid, err)
	}
	return list, nil
}

// relate runs change in a transaction that has checked the fence and locked both users.
func (s *Friends) relate(ctx context.Context, node, boot string, a, b int32, change func(context.Context, *tx) error) error {
	if a == b {
		return ErrSelf
	}
	return s.db.transact(ctx, retryAll, func(ctx context.Context, t *tx) error {
		if err := t.checkFence(ctx, node, boot); err != nil {
			return err
		}
		if err := lockUsers(ctx, t, a, b); err != nil {
			return err
		}
		return change(ctx, t)
	})
}

// lockUsers locks two users, the smaller uid first, or returns ErrNotFound.
func lockUsers(ctx context.Context, t *tx, a, b int32) error {
	n := 0
	err := t.each(ctx, qUsersLock, 2, []any{a, b}, func(rows *sql.Rows) error {
		n++
		var uid int32
		return rows.Scan(&uid)
	})
	if err == nil && n < 2 {
		return ErrNotFound
	}
	return err
}

// unfriend makes strangers of two users, and reports whether they were friends. The caller has locked both.
func unfriend(ctx context.Context, t *tx, a, b int32) (were bool, err error) {
	rows := int64(0)
	for _, p := range [2][2]int32{{min(a, b), max(a, b)}, {max(a, b), min(a, b)}} {
		// Not only the pending ones: of two who applied to each other one application can outlive the friendship.
		if _, err := t.exec(ctx, qApplicationsDrop, 1, p[0], p[1]); err != nil {
			return false, err
		}
	}
	for _, p := range [2][2]int32{{min(a, b), max(a, b)}, {max(a, b), min(a, b)}} {
		res, err := t.exec(ctx, qFriendDrop, 1, p[0], p[1])
		if err != nil {
			return false, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return false, fmt.Errorf("rows affected: %w", err)
		}
		rows += n
	}
	if rows == 0 {
		return false, nil // no rights have changed
	}
	var thread int64
	found, err := t.one(ctx, qPair, []any{min(a, b), max(a, b)}, &thread)
	if err == nil && found {
		err = t.raise(ctx, []int64{thread})
	}
	return rows == 2, err
}

// raise raises the version of threads, given by ascending id, and locks those that are not locked yet.
func (t *tx) raise(ctx context.Context, threads []int64) error {
	for len(threads) > 0 {
		part := threads[:min(len(threads), maxList)]
		threads = threads[len(part):]
		args := appendPadded(nil, part)
		if _, err := t.exec(ctx, qMemberVersUp, len(args), args...); err != nil {
			return err
		}
	}
	return nil
}

// checkBlocks returns ErrBlocked if to has blocked from, and ErrBlocking if from has blocked to. The caller has locked both.
func checkBlocks(ctx context.Context, t *tx, from, to int32) error {
	byFrom, byTo := false, false
	err := t.each(ctx, qBlockOf, 1, []any{from, to, to, from}, func(rows *sql.Rows) error {
		var by int32
		if err := rows.Scan(&by); err != nil {
			return err
		}
		byFrom, byTo = byFrom || by == from, byTo || by == to
		return nil
	})
	switch {
	case err != nil:
		return err
	case byFrom:
		return ErrBlocking
	case byTo:
		return ErrBlocked
	}
	return nil
}
