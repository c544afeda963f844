package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// Marks say how far users have read their threads.
type Marks struct {
	db     *database
	rights *Rights
}

const (
	// MaxUnread is where unread texts are no longer counted.
	MaxUnread = 100
	// MaxMarks is how many marks one call of Marks.Raise takes.
	MaxMarks = maxList

	// unreadRows is how many of a thread's newest rows are looked at to count its unread texts. Only events can push texts
	// out of them.
	unreadRows = 2000
	// markThreads is how many threads one statement reads texts of.
	markThreads = 64
)

var (
	// The marks of both users come along.
	qMarkPrivate = sameList(`SELECT p.thread_id,t.last_seq,p.user1_id,p.user2_id,
			CASE WHEN f1.self_id IS NOT NULL AND f2.self_id IS NOT NULL THEN 1 ELSE 0 END,
			COALESCE(r1.read_seq,0),COALESCE(r1.recv_seq,0),COALESCE(r2.read_seq,0),COALESCE(r2.recv_seq,0)
		FROM private_chat p JOIN chat_thread t ON t.id=p.thread_id
		LEFT JOIN friend f1 ON f1.self_id=p.user1_id AND f1.friend_id=p.user2_id
		LEFT JOIN friend f2 ON f2.self_id=p.user2_id AND f2.friend_id=p.user1_id
		LEFT JOIN read_mark r1 ON r1.thread_id=p.thread_id AND r1.user_id=p.user1_id
		LEFT JOIN read_mark r2 ON r2.thread_id=p.thread_id AND r2.user_id=p.user2_id
		WHERE p.thread_id IN (@)`, "?", ",")

	qMarksOfPair = same(`SELECT user_id,read_seq,recv_seq FROM read_mark
		WHERE thread_id=? AND user_id>? AND user_id IN (?,?) ORDER BY user_id LIMIT ?`)
	qMarksOfGroup = same(`SELECT r.user_id,r.read_seq,r.recv_seq FROM read_mark r
		JOIN group_chat_member m ON m.thread_id=r.thread_id AND m.user_id=r.user_id AND m.left_seq=0
		WHERE r.thread_id=? AND r.user_id>? ORDER BY r.user_id LIMIT ?`)

	qAuthors = sameList("@", `SELECT w.thread_id,w.seq,w.sender_id FROM (SELECT thread_id,seq,sender_id FROM chat_message
			WHERE thread_id=? AND seq>? AND seq<=? AND kind=0 ORDER BY seq DESC LIMIT 100) w
		JOIN group_chat_member m ON m.thread_id=w.thread_id AND m.user_id=w.sender_id AND m.left_seq=0`, " UNION ALL ")

	// How many of the newest texts there are above a number, and which is the user's newest among them.
	qUnread = sameList("@", `SELECT ? AS id,COUNT(*),COALESCE(MAX(CASE WHEN sender_id=? THEN seq END),0) FROM (
			SELECT seq,sender_id FROM chat_message WHERE thread_id=? AND seq>? AND seq<=? AND kind=0
			ORDER BY seq DESC LIMIT 100) w`, " UNION ALL ")

	qMarksDrop = same("DELETE FROM read_mark WHERE user_id=?")
)

// Mark says how far a user has read a thread, and up to which row a device of the user has it. Recv is never below Read.
type Mark struct {
	Thread     int64
	UID        int32
	Read, Recv int64
}

// Marked is what became of a mark.
type Marked struct {
	Mark                   // as stored now
	WasRead, WasRecv int64 // as stored before
	// Peer is the other member of a private thread, 0 if the two are not friends. Members is how many a group has, 0 for a
	// former member.
	Peer    int32
	Members int
	Err     error // ErrNotMember, or nil
}

// Moved reports whether the mark was raised.
func (m *Marked) Moved() bool { return m.Read > m.WasRead || m.Recv > m.WasRecv }

// Raise raises marks, at most MaxMarks of different users and threads, to those given. It lowers none, whatever the
// order in which marks come from several devices and nodes. A mark ends with the last row that the user may read, and Read
// raises Recv. The result has an element for each of marks; if it is returned without an error, it is committed.
//
// A mark that is stored while the user is being deleted may stay.
func (s *Marks) Raise(ctx context.Context, marks []Mark) ([]Marked, error) {
	if len(marks) == 0 || len(marks) > MaxMarks {
		return nil, fmt.Errorf("store: %d marks: %w", len(marks), ErrInvalid)
	}
	out := make([]Marked, len(marks))
	index := make(map[GroupKey]int, len(marks))
	for i, m := range marks {
		key := GroupKey{m.Thread, m.UID}
		if _, twice := index[key]; twice {
			return nil, fmt.Errorf("store: two marks of user %d in thread %d: %w", m.UID, m.Thread, ErrInvalid)
		}
		index[key] = i
		out[i] = Marked{Mark: Mark{Thread: m.Thread, UID: m.UID}, Err: ErrNotMember}
	}
	err := s.read(ctx, marks, out, index)
	if err == nil {
		err = s.write(ctx, out, index)
	}
	if err != nil {
		return nil, fmt.Errorf("store: raise %d marks: %w", len(marks), err)
	}
	return out, nil
}

// read fills out with the marks as they are stored and as they are to be, for those who may read.
func (s *Marks) read(ctx context.Context, marks []Mark, out []Marked, index map[GroupKey]int) error {
	threads := make([]int64, len(marks))
	for i, m := range marks {
		threads[i] = m.Thread
	}
	slices.Sort(threads)
	threads = slices.Compact(threads)
	found := func(key GroupKey, last, read, recv int64, peer int32, members int) {
		i, asked := index[key]
		if !asked {
			return
		}
		m := &out[i]
		m.Err, m.Peer, m.Members, m.WasRead, m.WasRecv = nil, peer, members, read, recv
		m.Read = max(read, min(marks[i].Read, last))
		m.Recv = max(recv, m.Read, min(marks[i].Recv, last))
	}
	err := eachOf(ctx, s.db, qMarkPrivate, threads, func(rows *sql.Rows) error {
		var id, last, read1, recv1, read2, recv2 int64
		var a Access
		if err := rows.Scan(&id, &last, &a.User1, &a.User2, &a.Friends, &read1, &recv1, &read2, &recv2); err != nil {
			return err
		}
		peer1, peer2 := a.User2, a.User1
		if !a.Friends {
			peer1, peer2 = 0, 0
		}
		found(GroupKey{id, a.User1}, last, read1, recv1, peer1, 0)
		found(GroupKey{id, a.User2}, last, read2, recv2, peer2, 0)
		return nil
	})
	var rest []GroupKey
	for i := range out {
		if out[i].Err != nil {
			rest = append(rest, GroupKey{out[i].Thread, out[i].UID})
		}
	}
	if err != nil || len(rest) == 0 {
		return err
	}
	args := groupArgs(nil, rest)
	return s.db.each(ctx, qMarkGroups, len(args)/2, args, func(rows *sql.Rows) error {
		var key GroupKey
		var last, read, recv int64
		var members int
		var m Membership
		if err := rows.Scan(&key.Thread, &key.UID, &last, &m.FromSeq, &m.LeftSeq, &members, &read, &recv); err != nil {
			return err
		}
		if m.LeftSeq > 0 {
			members = 0
		}
		found(key, m.LastReadable(last), read, recv, 0, members)
		return nil
	})
}

// write writes those that moved, by ascending key, and reads them again: another node may have raised them more.
func (s *Marks) write(ctx context.Context, out []Marked, index map[GroupKey]int) error {
	var moved []int
	for i := range out {
		if out[i].Err == nil && out[i].Moved() {
			moved = append(moved, i)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	keys, threads := make([]GroupKey, len(moved)), make([]int64, len(moved))
	slices.SortFunc(moved, func(a, b int) int {
		return cmp.Or(cmp.Compare(out[a].Thread, out[b].Thread), cmp.Compare(out[a].UID, out[b].UID))
	})
	for n, i := range moved {
		keys[n], threads[n] = GroupKey{out[i].Thread, out[i].UID}, out[i].Thread
	}
	threads = slices.Compact(threads)
	return s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
		if err := t.touchQuiet(ctx, threads); err != nil {
			return err
		}
		for rest := moved; len(rest) > 0; {
			n := insertShape(len(rest))
			args := make([]any, 0, 4*n)
			for _, i := range rest[:n] {
				args = append(args, out[i].Thread, out[i].UID, out[i].Read, out[i].Recv)
			}
			if _, err := t.exec(ctx, qMarksPut, n, args...); err != nil {
				return err
			}
			rest = rest[n:]
		}
		args := groupArgs(nil, keys)
		return t.each(ctx, qMarksStored, len(args)/2, args, func(rows *sql.Rows) error {
			var m Mark
			if err := rows.Scan(&m.Thread, &m.UID, &m.Read, &m.Recv); err != nil {
				return err
			}
			if i, ok := index[GroupKey{m.Thread, m.UID}]; ok {
				out[i].Read, out[i].Recv = max(out[i].Read, m.Read), max(out[i].Recv, m.Recv)
			}
			return nil
		})
	})
}

// Author is the sender of a text.
type Author struct {
	Thread, Seq int64
	UID         int32
}

// Authors returns who wrote the newest 100 texts of each span, which is of a group. It leaves out those who are no members
// any more.
func (s *Marks) Authors(ctx context.Context, spans []Span) ([]Author, error) {
	var list []Author
	for part := range slices.Chunk(spans, markThreads) {
		var args []any
		for i := range padded(len(part)) {
			var sp Span // the padding is of no thread
			if i < len(part) {
				sp = part[i]
			}
			args = append(args, sp.Thread, sp.After, sp.Upto)
		}
		err := s.db.each(ctx, qAuthors, len(args)/3, args, func(rows *sql.Rows) error {
			var a Author
			err := rows.Scan(&a.Thread, &a.Seq, &a.UID)
			list = append(list, a)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("store: authors in %d threads: %w", len(spans), err)
		}
	}
	return list, nil
}

// ThreadMarks is how far the user and, in a private thread, the other member have come, as stored. The other's marks are 0
// unless the two are friends.
//
// Unread is how many texts of others there are above Read and above the user's own newest text, MaxUnread at most, among
// the thread's newest 2,000 rows.
type ThreadMarks struct {
	Read, Recv         int64
	PeerRead, PeerRecv int64
	Unread             int
}

// OfThreads returns the marks of threads that Threads.List returned for uid, in the same order.
func (s *Marks) OfThreads(ctx context.Context, uid int32, threads []Thread) ([]ThreadMarks, error) {
	out := make([]ThreadMarks, len(threads))
	if len(threads) == 0 {
		return out, nil
	}
	index := make(map[int64]int, len(threads))
	var keys []GroupKey
	for i := range threads {
		t := &threads[i]
		index[t.ID] = i
		keys = append(keys, GroupKey{t.ID, uid})
		if t.Type == ThreadPrivate {
			keys = append(keys, GroupKey{t.ID, t.User1 + t.User2 - uid})
		}
	}
	for part := range slices.Chunk(keys, maxList) {
		args := groupArgs([]any{uid, uid}, part)
		err := s.db.each(ctx, qMarksShown, len(args)/2-1, args, func(rows *sql.Rows) error {
			var m Mark
			var friend bool
			if err := rows.Scan(&m.Thread, &m.UID, &m.Read, &m.Recv, &friend); err != nil {
				return err
			}
			switch of := &out[index[m.Thread]]; {
			case m.UID == uid:
				of.Read, of.Recv = m.Read, m.Recv
			case friend:
				of.PeerRead, of.PeerRecv = m.Read, m.Recv
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("store: marks of user %d in %d threads: %w", uid, len(threads), err)
		}
	}
	var spans []Span
	for i := range threads {
		t := &threads[i]
		if after := max(out[i].Read, t.FromSeq-1, t.LastSeq-unreadRows); t.LastSeq > after {
			spans = append(spans, Span{t.ID, after, t.LastSeq})
		}
	}
	err := s.countUnread(ctx, uid, spans, func(thread int64, n int) { out[index[thread]].Unread = n })
	if err != nil {
		return nil, fmt.Errorf("store: unread texts of user %d in %d threads: %w", uid, len(threads), err)
	}
	return out, nil
}

// countUnread calls found for each span that holds texts of others above the user's own newest, with their number.
func (s *Marks) countUnread(ctx context.Context, uid int32, spans []Span, found func(thread int64, n int)) error {
	for len(spans) > 0 {
		var again []Span // the user has written in them: what counts is above that
		for part := range slices.Chunk(spans, markThreads) {
			args := make([]any, 0, 5*padded(len(part)))
			for i := range padded(len(part)) {
				var sp Span // the padding is of no thread
				if i < len(part) {
					sp = part[i]
				}
				args = append(args, i, uid, sp.Thread, sp.After, sp.Upto)
			}
			err := s.db.each(ctx, qUnread, len(args)/5, args, func(rows *sql.Rows) error {
				var i, n int
				var own int64
				if err := rows.Scan(&i, &n, &own); err != nil {
					return err
				}
				switch {
				case n == 0:
				case own == 0:
					found(part[i].Thread, n)
				case own < part[i].Upto:
					again = append(again, Span{part[i].Thread, own, part[i].Upto})
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		spans = again
	}
	return nil
}

// List returns up to limit marks of a thread as uid may see them, by ascending uid, whose uid is greater than after: those
// of present members of a group; in a private thread the user's own, and the other's if they are friends. It returns
// ErrNotMember unless uid is a member.
func (s *Marks) List(ctx context.Context, thread int64, uid, after int32, limit int) ([]Mark, error) {
	list, err := s.list(ctx, thread, uid, after, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("store: marks of thread %d: %w", thread, err)
	}
	return list, nil
}

func (s *Marks) list(ctx context.Context, thread int64, uid, after int32, limit int) ([]Mark, error) {
	access, err := s.rights.Access(ctx, []int64{thread})
	if err != nil {
		return nil, err
	}
	q, args := qMarksOfGroup, []any{thread, after, limit}
	if a, private := access[thread]; private {
		peer, err := a.Peer(uid)
		if err != nil {
			return nil, err
		}
		if !a.Friends {
			peer = uid
		}
		q, args = qMarksOfPair, []any{thread, after, uid, peer, limit}
	} else {
		key := GroupKey{thread, uid}
		rights, err := s.rights.InGroups(ctx, []GroupKey{key})
		if err != nil {
			return nil, err
		}
		if !May(VerbMembers, rights[key].Standing(s.db.ms())) {
			return nil, ErrNotMember
		}
	}
	var list []Mark
	err = s.db.each(ctx, q, 1, args, func(rows *sql.Rows) error {
		m := Mark{Thread: thread}
		err := rows.Scan(&m.UID, &m.Read, &m.Recv)
		list = append(list, m)
		return err
	})
	return list, err
}
