package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Threads are the conversations of users: the private one of each pair, and groups.
type Threads struct{ db *database }

var (
	qLastSeqs = same(`SELECT p.thread_id,p.user2_id,t.last_seq FROM private_chat p JOIN chat_thread t ON t.id=p.thread_id WHERE p.user1_id=?
		UNION ALL SELECT p.thread_id,p.user1_id,t.last_seq FROM private_chat p JOIN chat_thread t ON t.id=p.thread_id WHERE p.user2_id=?`)

	qPair = same("SELECT thread_id FROM private_chat WHERE user1_id=? AND user2_id=?")

	qFriendsWithoutThread = same(`SELECT f.friend_id FROM friend f WHERE f.self_id=?
		AND NOT EXISTS (SELECT 1 FROM private_chat p WHERE p.user1_id=f.self_id AND p.user2_id=f.friend_id)
		AND NOT EXISTS (SELECT 1 FROM private_chat p WHERE p.user1_id=f.friend_id AND p.user2_id=f.self_id)
		ORDER BY f.friend_id`)

	qThreadPut = same("INSERT INTO chat_thread(type,created_ms) VALUES('private',?)")
	qPairPut   = same("INSERT INTO private_chat(thread_id,user1_id,user2_id,created_ms) VALUES(?,?,?,?)")
)

// threadsOf returns the statement for a page of a user's threads. pairs is a further condition on private_chat p, groups one on
// chat_thread t of a group; index, if not empty, names the index to read private_chat by, with %d for which member the user is.
// Each part is cut before the parts are put together: a user may have very many threads.
func threadsOf(pairs, groups, index string) string {
	part := func(member int) string {
		use := ""
		if index != "" {
			use = fmt.Sprintf(index, member)
		}
		return fmt.Sprintf(`SELECT t.id AS id,t.type,p.user1_id,p.user2_id,t.last_seq,'' AS name,0 AS role,0 AS from_seq,0 AS left_seq,0 AS members
			FROM private_chat p %s JOIN chat_thread t ON t.id=p.thread_id
			WHERE p.user%d_id=? %s AND p.thread_id>? ORDER BY p.thread_id LIMIT ?`, use, member, pairs)
	}
	return fmt.Sprintf(`SELECT * FROM (%s) a UNION ALL SELECT * FROM (%s) b UNION ALL SELECT * FROM (
			SELECT t.id AS id,t.type,0 AS user1_id,0 AS user2_id,CASE WHEN m.left_seq>0 THEN m.left_seq ELSE t.last_seq END,
				CASE WHEN m.left_seq>0 THEN m.left_name ELSE g.name END AS name,m.role,m.from_seq,m.left_seq,
				CASE WHEN m.left_seq>0 THEN 0 ELSE g.members END AS members
			FROM group_chat_member m JOIN chat_thread t ON t.id=m.thread_id JOIN group_chat g ON g.thread_id=m.thread_id
			WHERE m.user_id=? %s AND m.thread_id>? ORDER BY m.thread_id LIMIT ?) c
		ORDER BY id LIMIT ?`, part(1), part(2), groups)
}

// Types of a thread.
const (
	ThreadPrivate = "private"
	ThreadGroup   = "group"
)

// Thread is a conversation. User1 < User2 are the members of a private one and 0 for a group. LastSeq is the sequence
// number of the newest message, 0 when there is none; of a group that the user has left, the last that the user may read.
//
// Name, Role, FromSeq and LeftSeq are of groups only, as of leaving when LeftSeq is not 0. Members are the present ones; 0
// for a group that the user has left.
type Thread struct {
	ID           int64
	Type         string
	User1, User2 int32
	LastSeq      int64

	Name             string
	Role             Role
	FromSeq, LeftSeq int64 // see Membership
	Members          int
}

// List returns up to limit threads of uid, by ascending id, whose id is greater than after: private ones, with friends
// or not, and groups, those that the user has left among them.
func (s *Threads) List(ctx context.Context, uid int32, after int64, limit int) ([]Thread, error) {
	limit = max(limit, 0)
	threads, err := s.read(ctx, qThreads, []any{uid, after, limit, uid, after, limit, uid, after, limit, limit})
	if err != nil {
		return nil, fmt.Errorf("store: threads of user %d: %w", uid, err)
	}
	return threads, nil
}

// read reads what threadsOf selects.
func (s *Threads) read(ctx context.Context, q *query, args []any) (threads []Thread, err error) {
	err = s.db.each(ctx, q, 1, args, func(rows *sql.Rows) error {
		var t Thread
		if err := rows.Scan(&t.ID, &t.Type, &t.User1, &t.User2, &t.LastSeq, &t.Name, &t.Role, &t.FromSeq, &t.LeftSeq, &t.Members); err != nil {
			return err
		}
		threads = append(threads, t)
		return nil
	})
	return threads, err
}

// LastSeqs returns the sequence number of the newest message, 0 when there is none, of uid's private threads with peers. It sees
// what was committed before the call.
func (s *Threads) LastSeqs(ctx context.Context, uid int32, peers map[int32]struct{}) (map[int64]int64, error) {
	seqs := make(map[int64]int64, len(peers))
	err := s.db.each(ctx, qLastSeqs, 1, []any{uid, uid}, func(rows *sql.Rows) error {
		var thread, last int64
		var peer int32
		if err := rows.Scan(&thread, &peer, &last); err != nil {
			return err
		}
		if _, ok := peers[peer]; ok {
			seqs[thread] = last
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: last messages of user %d: %w", uid, err)
	}
	return seqs, nil
}

// OfPair returns the private thread of a and b, in either order, or ErrNotFound.
func (s *Threads) OfPair(ctx context.Context, a, b int32) (int64, error) {
	var id int64
	if err := s.db.one(ctx, qPair, []any{min(a, b), max(a, b)}, &id); err != nil {
		return 0, fmt.Errorf("store: thread of users %d and %d: %w", a, b, err)
	}
	return id, nil
}

// EnsureOfPair returns the private thread of a and b, in either order, and creates it if they have none. However
// many call it at once, there is one. It returns ErrSelf, and does not check that the users exist.
func (s *Threads) EnsureOfPair(ctx context.Context, a, b int32) (id int64, err error) {
	if a == b {
		return 0, fmt.Errorf("store: private thread of user %d: %w", a, ErrSelf)
	}
	id, err = s.OfPair(ctx, a, b)
	if !errors.Is(err, ErrNotFound) {
		return id, err
	}
	err = s.db.transact(ctx, retryAll, func(ctx context.Context, t *tx) error {
		id, err = t.ensurePair(ctx, a, b)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("store: private thread of users %d and %d: %w", a, b, err)
	}
	return id, nil
}

// ensurePair returns the thread of a pair or creates it. A duplicate key means that another call creates it: repeat.
func (t *tx) ensurePair(ctx context.Context, a, b int32) (id int64, err error) {
	lo, hi := min(a, b), max(a, b)
	found, err := t.one(ctx, qPair, []any{lo, hi}, &id)
	if err != nil || found {
		return id, err
	}
	now := t.db.ms()
	res, err := t.exec(ctx, qThreadPut, 1, now)
	if err != nil {
		return 0, err
	}
	if id, err = res.LastInsertId(); err != nil {
		return 0, fmt.Errorf("new thread id: %w", err)
	}
	_, err = t.exec(ctx, qPairPut, 1, id, lo, hi, now)
	return id, err
}

// EnsureOfFriends creates the private thread of each friend of uid who has none with uid: approvals always make one,
// but friendships of a migrated database may lack it. When there is nothing to do it costs one read.
func (s *Threads) EnsureOfFriends(ctx context.Context, uid int32) error {
	var missing []int32
	err := s.db.each(ctx, qFriendsWithoutThread, 1, []any{uid}, func(rows *sql.Rows) error {
		var friend int32
		if err := rows.Scan(&friend); err != nil {
			return err
		}
		missing = append(missing, friend)
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: friends of user %d without a thread: %w", uid, err)
	}
	for _, friend := range missing {
		if friend == uid {
			continue // llfcchat let users befriend themselves
		}
		if _, err := s.EnsureOfPair(ctx, uid, friend); err != nil {
			return err
		}
	}
	return nil
}
