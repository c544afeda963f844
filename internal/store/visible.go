package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// Visibility says who may see whether a user is online: friends, unless the user has opted out.
type Visibility struct{ db *database }

var (
	qVisibleSet = same("UPDATE user SET visible=? WHERE uid=? AND deleted_ms=0")
	qVisible    = same("SELECT visible FROM user WHERE uid=? AND deleted_ms=0")

	qVisibleTo = sameList(`SELECT u.uid FROM user u
		JOIN friend f ON f.self_id=u.uid JOIN friend g ON g.self_id=f.friend_id AND g.friend_id=f.self_id
		WHERE u.uid IN (@) AND u.visible=1 AND u.deleted_ms=0 AND f.friend_id=?`, "?", ",")
	qWatchersOf = sameList(`SELECT g.self_id FROM user u
		JOIN friend f ON f.self_id=u.uid JOIN friend g ON g.self_id=f.friend_id AND g.friend_id=f.self_id
		WHERE f.friend_id IN (@) AND u.uid=? AND u.visible=1 AND u.deleted_ms=0`, "?", ",")

	// Both parts are as strict as an append.
	qTypingTo = same(`SELECT CASE WHEN p.user1_id=u.uid THEN p.user2_id ELSE p.user1_id END
		FROM private_chat p JOIN user u ON u.uid=? AND u.visible=1
		JOIN friend f ON f.self_id=p.user1_id AND f.friend_id=p.user2_id
		JOIN friend g ON g.self_id=p.user2_id AND g.friend_id=p.user1_id
		WHERE p.thread_id=? AND (p.user1_id=u.uid OR p.user2_id=u.uid)
		UNION ALL SELECT o.user_id
		FROM group_chat_member m JOIN user u ON u.uid=m.user_id AND u.visible=1
		JOIN group_chat c ON c.thread_id=m.thread_id AND c.dissolved_ms=0 AND c.members<=?
		JOIN group_chat_member o ON o.thread_id=m.thread_id AND o.left_seq=0 AND o.user_id<>m.user_id
		WHERE m.thread_id=? AND m.user_id=? AND m.left_seq=0 AND (m.role>0 OR (c.muted=0 AND m.muted_until_ms<=?))`)
)

// Set says whether friends may see the presence of uid, or returns ErrNotFound.
func (s *Visibility) Set(ctx context.Context, uid int32, visible bool) error {
	err := s.db.transact(ctx, retryAll, func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, qVisibleSet, 1, visible, uid); err != nil {
			return err
		}
		var is bool
		found, err := t.one(ctx, qVisible, []any{uid}, &is)
		if err == nil && !found {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("store: visibility of user %d: %w", uid, err)
	}
	return nil
}

// Of reports whether friends may see the presence of uid, or returns ErrNotFound.
func (s *Visibility) Of(ctx context.Context, uid int32) (visible bool, err error) {
	if err := s.db.one(ctx, qVisible, []any{uid}, &visible); err != nil {
		return false, fmt.Errorf("store: visibility of user %d: %w", uid, err)
	}
	return visible, nil
}

// VisibleTo returns those of some users whose presence watcher may see, 256 in one statement. It sees what was committed
// before the call.
func (s *Visibility) VisibleTo(ctx context.Context, watcher int32, of []int32) ([]int32, error) {
	list, err := s.uidsOf(ctx, qVisibleTo, of, watcher)
	if err != nil {
		return nil, fmt.Errorf("store: users visible to %d: %w", watcher, err)
	}
	return list, nil
}

// WatchersOf returns those of some users who may see the presence of uid, as VisibleTo does.
func (s *Visibility) WatchersOf(ctx context.Context, watchers []int32, uid int32) ([]int32, error) {
	list, err := s.uidsOf(ctx, qWatchersOf, watchers, uid)
	if err != nil {
		return nil, fmt.Errorf("store: watchers of user %d: %w", uid, err)
	}
	return list, nil
}

// uidsOf runs q, whose last argument is uid, over a list of users.
func (s *Visibility) uidsOf(ctx context.Context, q *query, list []int32, uid int32) (found []int32, err error) {
	for part := range slices.Chunk(list, maxList) {
		args := append(appendPadded(nil, part), uid)
		if err := s.db.each(ctx, q, len(args)-1, args, func(rows *sql.Rows) error { return appendUID(&found, rows) }); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// TypingTo returns who is told that uid is typing in a thread: the friend, or the other members of a group of at most
// members. It returns nobody if uid may not write to the thread, or is not visible.
func (s *Visibility) TypingTo(ctx context.Context, thread int64, uid int32, members int) (to []int32, err error) {
	args := []any{uid, thread, members, thread, uid, s.db.ms()}
	if err := s.db.each(ctx, qTypingTo, 1, args, func(rows *sql.Rows) error { return appendUID(&to, rows) }); err != nil {
		return nil, fmt.Errorf("store: typing of user %d in thread %d: %w", uid, thread, err)
	}
	return to, nil
}

func appendUID(list *[]int32, rows *sql.Rows) error {
	var uid int32
	if err := rows.Scan(&uid); err != nil {
		return err
	}
	*list = append(*list, uid)
	return nil
}
