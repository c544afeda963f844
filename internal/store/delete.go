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
	qHiddenDropOf   = same("DELETE FROM hidden_message WHERE user_id=?")
	qMembershipDrop = same("DELETE FROM group_chat_member WHERE user_id=?")

	qGroupsOf = same("SELECT thread_id,role FROM group_chat_member WHERE user_id=? AND left_seq=0 ORDER BY thread_id")
	qHeir     = same(`SELECT user_id FROM group_chat_member WHERE thread_id=? AND left_seq=0 AND user_id<>?
		ORDER BY role DESC,joined_ms,user_id LIMIT 1`)
	qGroupsShrink = sameList("UPDATE group_chat SET members=members-1 WHERE members>0 AND thread_id IN (@)", "?", ",")
)

// Deletion is the result of Users.Delete.
type Deletion struct {
	Name string // the user was called
	// Related are those in whose lists of friends or applications the user was.
	Related []int32
}

// Delete erases a user: name and e-mail address are free again, friendships, applications, blocks, read marks and
// memberships in groups are gone, and nothing can be written to the user's private threads. The groups are told that the user left. Those
// that the user owned get the admin as owner who joined first, or else that member, and are dissolved without any. The
// texts stay, and so does the uid, under DeletedName: no other user gets it. password is the user's as stored; with
// another, or without such a user, it returns ErrNotFound.
func (s *Users) Delete(ctx context.Context, uid int32, password string) (Deletion, error) {
	var done Deletion
	err := s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
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
		return eraseUser(ctx, t, uid, done.Related)
	})
	if err != nil {
		return Deletion{}, fmt.Errorf("store: delete user %d: %w", uid, err)
	}
	return done, nil
}

// eraseUser does what Users.Delete says. The user is locked; related are all users who may have the user in a list.
func eraseUser(ctx context.Context, t *tx, uid int32, related []int32) error {
	for _, q := range []*query{qAppliedDrop, qAppliedToDrop, qFriendsDropOf} {
		if _, err := t.exec(ctx, q, 1, uid); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(related, maxList) {
		args := appendPadded([]any{uid}, part)
		if _, err := t.exec(ctx, qFriendsDropTo, len(args)-1, args...); err != nil {
			return err
		}
	}
	for _, q := range []*query{qBlocksDropOf, qBlocksDropOn, qHiddenDropOf} {
		if _, err := t.exec(ctx, q, 1, uid); err != nil {
			return err
		}
	}
	if _, err := t.exec(ctx, qUserErase, 1, DeletedName, DeletedName, t.db.ms(), uid); err != nil {
		return err
	}
	return leaveThreads(ctx, t, uid)
}

// leaveThreads ends all rights of a user whose row is locked, and makes no friends or members meanwhile.
func leaveThreads(ctx context.Context, t *tx, uid int32) error {
	var threads []int64
	if err := t.each(ctx, qPrivateThreadsOf, 1, []any{uid, uid}, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		threads = append(threads, id)
		return err
	}); err != nil {
		return err
	}
	groups, err := groupsOf(ctx, t, uid)
	if err != nil {
		return err
	}
	for _, m := range groups {
		threads = append(threads, m.Thread)
	}
	slices.Sort(threads)
	last := make(map[int64]int64, len(threads))
	for part := range slices.Chunk(threads, maxList) {
		args := appendPadded(nil, part)
		if err := t.each(ctx, qThreadsLock, len(args), args, func(rows *sql.Rows) error {
			var id, seq int64
			var ver int32
			err := rows.Scan(&id, &seq, &ver)
			last[id] = seq
			return err
		}); err != nil {
			return err
		}
	}
	if err := t.raise(ctx, threads); err != nil {
		return err
	}
	// Again, now that the groups are locked: the user may have left some, or own others.
	if groups, err = groupsOf(ctx, t, uid); err != nil {
		return err
	}
	if err := leaveGroups(ctx, t, uid, groups, last); err != nil {
		return err
	}
	if _, err = t.exec(ctx, qMembershipDrop, 1, uid); err != nil {
		return err
	}
	_, err = t.exec(ctx, qMarksDrop, 1, uid)
	return err
}

// groupsOf returns the groups of a user, by ascending thread.
func groupsOf(ctx context.Context, t *tx, uid int32) (groups []ThreadMembership, err error) {
	err = t.each(ctx, qGroupsOf, 1, []any{uid}, func(rows *sql.Rows) error {
		var m ThreadMembership
		err := rows.Scan(&m.Thread, &m.Role)
		groups = append(groups, m)
		return err
	})
	return groups, err
}

// leaveGroups tells locked groups that a user leaves them. last holds the numbers of their last rows.
func leaveGroups(ctx context.Context, t *tx, uid int32, groups []ThreadMembership, last map[int64]int64) error {
	now := t.db.ms()
	var events []Message
	tell := func(thread int64, e Event) error {
		if last[thread] >= maxSeq {
			return nil // the user goes all the same
		}
		last[thread]++
		e.By = uid
		content, err := e.content()
		events = append(events, Message{
			ThreadID: thread, Seq: last[thread], Sender: uid, UniqueID: newUniqueID(), Content: content, CreatedMS: now, Kind: KindEvent,
		})
		return err
	}
	ids := make([]int64, len(groups))
	for i, m := range groups {
		ids[i] = m.Thread
		dissolved := false
		if m.Role == RoleOwner {
			var heir int32
			found, err := t.one(ctx, qHeir, []any{m.Thread, uid}, &heir)
			switch {
			case err != nil:
				return err
			case found:
				err = t.crown(ctx, m.Thread, heir)
			default:
				dissolved, err = true, t.close(ctx, m.Thread)
			}
			if err == nil && found {
				err = tell(m.Thread, Event{Event: EventOwner, UIDs: []int32{heir}})
			}
			if err != nil {
				return err
			}
		}
		event := Event{Event: EventLeft, UIDs: []int32{uid}}
		if dissolved {
			event = Event{Event: EventDissolved}
		}
		if err := tell(m.Thread, event); err != nil {
			return err
		}
	}
	if err := t.putEvents(ctx, events...); err != nil {
		return err
	}
	for part := range slices.Chunk(ids, maxList) {
		args := appendPadded(nil, part)
		if _, err := t.exec(ctx, qGroupsShrink, len(args), args...); err != nil {
			return err
		}
		bump := make([]any, 0, 2*len(args))
		for i := range args {
			id := part[min(i, len(part)-1)]
			bump = append(bump, id, last[id])
		}
		if _, err := t.exec(ctx, qThreadsBump, len(args), bump...); err != nil {
			return err
		}
		if err := t.touch(ctx, part...); err != nil {
			return err
		}
	}
	return nil
}
