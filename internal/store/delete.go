package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// DeletedName is the name of a deleted user.
const DeletedName = "deleted"

var (
	qRelated = same(`SELECT friend_id FROM friend WHERE self_id=?
		UNION SELECT from_uid FROM friend_apply WHERE to_uid=?
		UNION SELECT to_uid FROM friend_apply WHERE from_uid=?`)

	qPrivateThreadsOf = same(`SELECT thread_id FROM private_chat WHERE user1_id=?
		UNION SELECT thread_id FROM private_chat WHERE user2_id=? ORDER BY thread_id`)

	qFriendsDropOf  = same("DELETE FROM friend WHERE self_id=?")
	qFriendsDropTo  = sameList("DELETE FROM friend WHERE friend_id=? AND self_id IN (@)", "?", ",")
	qAppliedDrop    = same("DELETE FROM friend_apply WHERE from_uid=?")
	qAppliedToDrop  = same("DELETE FROM friend_apply WHERE to_uid=?")
	qBlocksDropOf   = same("DELETE FROM user_block WHERE uid=?")
	qBlocksDropOn   = same("DELETE FROM user_block WHERE blocked_uid=?")
	qMembershipDrop = same("DELETE FROM group_chat_member WHERE user_id=?")
)

// Deletion is the result of DeleteUser.
type Deletion struct {
	Name string // the user was called
	// Related are those in whose lists of friends or applications the user was.
	Related []int32
}

// DeleteUser erases a user: name and e-mail address are free again, friendships, applications, blocks and memberships in
// groups are gone, and nothing can be written to the user's private threads. The texts stay, and so does the uid, under
// DeletedName: no other user gets it. password is the user's as stored; with another, or without such a user, it returns
// ErrNotFound.
func (s *Store) DeleteUser(ctx context.Context, uid int32, password string) (Deletion, error) {
	var done Deletion
	err := s.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
		var name, stored string
		var deleted int64
		found, err := t.one(ctx, qUserLock, []any{uid}, &name, &stored, &deleted)
		if err != nil {
			return err
		}
		if found && deleted != 0 && t.unclear {
			return nil // by an attempt whose COMMIT was unclear; done is of that attempt
		}
		if !found || deleted != 0 || stored != password || password == "" {
			return ErrNotFound
		}
		done = Deletion{Name: name}
		if err := t.each(ctx, qRelated, 1, []any{uid, uid, uid}, func(rows *sql.Rows) error {
			var other int32
			err := rows.Scan(&other)
			done.Related = append(done.Related, other)
			return err
		}); err != nil {
			return err
		}
		return t.erase(ctx, uid, done.Related)
	})
	if err != nil {
		return Deletion{}, fmt.Errorf("store: delete user %d: %w", uid, err)
	}
	return done, nil
}

// erase does what DeleteUser says. The user is locked; related are all users who may have the user in a list.
func (t *tx) erase(ctx context.Context, uid int32, related []int32) error {
	for _, q := range []*query{qAppliedDrop, qAppliedToDrop, qFriendsDropOf} {
		if _, err := t.exec(ctx, q, 1, uid); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(related, maxList) {
		args := make([]any, 1+padded(len(part)))
		args[0] = uid
		for i := range args[1:] {
			args[1+i] = part[min(i, len(part)-1)]
		}
		if _, err := t.exec(ctx, qFriendsDropTo, len(args)-1, args...); err != nil {
			return err
		}
	}
	for _, q := range []*query{qBlocksDropOf, qBlocksDropOn, qMembershipDrop} {
		if _, err := t.exec(ctx, q, 1, uid); err != nil {
			return err
		}
	}
	if _, err := t.exec(ctx, qUserErase, 1, DeletedName, DeletedName, t.s.ms(), uid); err != nil {
		return err
	}
	var threads []int64
	if err := t.each(ctx, qPrivateThreadsOf, 1, []any{uid, uid}, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		threads = append(threads, id)
		return err
	}); err != nil {
		return err
	}
	return t.raise(ctx, threads)
}
