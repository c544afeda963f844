package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["append stores in order and answers resends"] = testAppend
	bodies["append from two nodes is dense and has no doubles"] = testAppendConcurrently
	bodies["append is refused behind the fence"] = testAppendFenced
	bodies["append fails a bad row alone"] = testAppendPoison
	bodies["append gives up on a broken table"] = testAppendBroken
	bodies["append survives an unclear commit"] = testAppendUnclearCommit
	bodies["append tells what is stored when it fails half-way"] = testAppendHalfWay
	bodies["append takes no thread ids"] = testAppendTakesNoThreadIDs
	bodies["append takes more than a transaction holds"] = testAppendLarge
	bodies["a panic locks nobody out"] = testAppendPanic
	bodies["append refuses a full thread"] = testAppendFull
	bodies["append honours the context"] = testAppendContext
}

func testAppend(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	t1, a, b := thread(t, s, "x")
	t2, c, _ := thread(t, s, "y")

	msgs := []store.NewMessage{
		{ThreadID: t2, Sender: c, UniqueID: "c1", Content: "first of the second"},
		{ThreadID: t1, Sender: a, UniqueID: "a1", Content: "hello"},
		{ThreadID: t1, Sender: b, UniqueID: "a1", Content: "same id, another sender"},
		{ThreadID: t1, Sender: a, UniqueID: "a1", Content: "again in the batch"},
		{ThreadID: 999, Sender: a, UniqueID: "a2", Content: "no such thread"},
		{ThreadID: t2, Sender: a, UniqueID: "a1", Content: "id taken in the other thread"},
		{ThreadID: t1, Sender: a, UniqueID: "", Content: "no id"},
		{ThreadID: t1, Sender: a, UniqueID: strings.Repeat("x", 65), Content: "long id"},
		{ThreadID: t1, Sender: a, UniqueID: "a3", Content: "bad \xff text"},
		{ThreadID: t1, Sender: a, UniqueID: "a4", Content: strings.Repeat("x", store.MaxContent+1)},
		{ThreadID: t1, Sender: a, UniqueID: strings.Repeat("ü", 32), Content: "zero \x00, 😀 and ' \\ \" %"},
		{ThreadID: t1, Sender: a, UniqueID: "A1", Content: ""},
	}
	out := make([]store.Appended, len(msgs))
	out[0] = store.Appended{Seq: 7, Err: io.EOF} // old contents do not matter
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, out))
	wantErr := []error{
		nil, nil, nil, nil, store.ErrNotFound, store.ErrUniqueIDTaken, store.ErrInvalid, store.ErrInvalid,
		store.ErrInvalid, store.ErrInvalid, nil, nil,
	}
	wantSeq := []int64{1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 3, 4}
	for i := range out {
		require.ErrorIs(t, out[i].Err, wantErr[i], "message %d", i)
		require.Equal(t, wantSeq[i], out[i].Seq, "message %d", i)
		require.Equal(t, i == 3, out[i].Resent, "message %d", i)
		require.Equal(t, out[i].Err == nil, out[i].CreatedMS > 0, "message %d", i)
	}

	got := history(t, s, t1)
	require.Len(t, got, 4)
	require.Equal(t, store.Message{ThreadID: t1, Seq: 1, Sender: a, UniqueID: "a1", Content: "hello", CreatedMS: out[1].CreatedMS}, got[0])
	require.Equal(t, msgs[10].Content, got[2].Content)
	require.Equal(t, msgs[10].UniqueID, got[2].UniqueID)

	// The same again, among new ones: the first ids, and the new ones follow.
	again := append(msgs[:4:4], store.NewMessage{ThreadID: t1, Sender: b, UniqueID: "b2", Content: "new"}, msgs[5])
	out2 := make([]store.Appended, len(again))
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, again, out2))
	for i := range 4 {
		require.Equal(t, store.Appended{Seq: out[i].Seq, CreatedMS: out[i].CreatedMS, Resent: true}, out2[i], "message %d", i)
	}
	require.Equal(t, int64(5), out2[4].Seq)
	require.False(t, out2[4].Resent)
	require.ErrorIs(t, out2[5].Err, store.ErrUniqueIDTaken)
	require.Len(t, history(t, s, t1), 5)
	require.Len(t, history(t, s, t2), 1)

	threads, err := s.Threads.List(t.Context(), a, 0, 10)
	require.NoError(t, err)
	require.Equal(t, []store.Thread{{ID: t1, Type: store.ThreadPrivate, User1: a, User2: b, LastSeq: 5}}, threads)

	require.NoError(t, s.Messages.Append(t.Context(), name, boot, nil, nil))
	require.Error(t, s.Messages.Append(t.Context(), name, boot, msgs, out[:1]))
}

// Two nodes with four writers each append to the same threads. Resends come in the same batch, in a later batch and at
// the same time from the other node.
func testAppendConcurrently(t *testing.T, d *database) {
	const threads, writers, batches = 12, 4, 30
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // on a busy machine SQLite's two stores wait for each other
	defer cancel()
	nodes := []*store.Store{d.migrated(t), d.open(t)}
	var ids []int64
	var senders []int32
	for i := range threads {
		id, a, _ := thread(t, nodes[0], fmt.Sprintf("u%d-", i))
		ids, senders = append(ids, id), append(senders, a)
	}

	type place struct {
		thread int64
		seq    int64
	}
	var mu sync.Mutex
	places := map[string]place{} // by unique id
	fresh := map[string]int{}    // how often a message was told to be new
	note := func(m store.NewMessage, a store.Appended) error {
		mu.Lock()
		defer mu.Unlock()
		if a.Err != nil {
			return a.Err
		}
		key := fmt.Sprint(m.Sender, m.UniqueID)
		got := place{m.ThreadID, a.Seq}
		if was, ok := places[key]; ok && was != got {
			return fmt.Errorf("%s is %v and %v", key, was, got)
		}
		places[key] = got
		if !a.Resent {
			fresh[key]++
		}
		return nil
	}

	var wg sync.WaitGroup
	failed := make(chan error, len(nodes)*writers)
	for n, s := range nodes {
		name, boot := node(t, s, fmt.Sprintf("node%d", n))
		for w := range writers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(n), uint64(w)))
				for batch := range batches {
					var msgs []store.NewMessage
					for i := range 1 + rnd.IntN(64) {
						// The unique id names no node, so the writer of the same number on the other node sends the same
						// at about the same time.
						th := rnd.IntN(threads)
						id := fmt.Sprintf("w%d-b%d-%d-%d", w, batch, th, i)
						msgs = append(msgs, store.NewMessage{ThreadID: ids[th], Sender: senders[th], UniqueID: id, Content: id})
						switch rnd.IntN(8) {
						case 0: // in this batch
							msgs = append(msgs, msgs[rnd.IntN(len(msgs))])
						case 1: // of an earlier batch, if the other node has used that id
							if batch > 0 {
								id := fmt.Sprintf("w%d-b%d-%d-%d", w, batch-1, th, i)
								msgs = append(msgs, store.NewMessage{ThreadID: ids[th], Sender: senders[th], UniqueID: id, Content: id})
							}
						}
					}
					out := make([]store.Appended, len(msgs))
					if err := s.Messages.Append(ctx, name, boot, msgs, out); err != nil {
						failed <- err
						return
					}
					for i := range msgs {
						if err := note(msgs[i], out[i]); err != nil {
							failed <- err
							return
						}
					}
				}
			})
		}
	}
	wg.Wait()
	close(failed)
	require.NoError(t, <-failed)

	total := 0
	for i, id := range ids {
		msgs := history(t, nodes[1], id)
		seen := map[string]bool{}
		for j, m := range msgs {
			require.Equal(t, int64(j+1), m.Seq, "thread %d has a hole", id)
			key := fmt.Sprint(m.Sender, m.UniqueID)
			require.False(t, seen[key], "%s is stored twice", key)
			seen[key] = true
			require.Equal(t, place{id, m.Seq}, places[key], "%s was acknowledged elsewhere", key)
			require.Equal(t, 1, fresh[key], "%s was told to be new more than once or never", key)
		}
		total += len(msgs)
		th, err := nodes[0].Threads.List(t.Context(), senders[i], 0, 1)
		require.NoError(t, err)
		require.Equal(t, int64(len(msgs)), th[0].LastSeq)
	}
	require.Equal(t, len(places), total, "everything acknowledged is stored")
}

func testAppendFenced(t *testing.T, d *database) {
	s := d.migrated(t)
	id, a, _ := thread(t, s, "x")
	msgs := []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}, {ThreadID: id, Sender: a, UniqueID: ""}}
	out := make([]store.Appended, 2)
	refused := func(node, boot string) {
		t.Helper()
		require.ErrorIs(t, s.Messages.Append(t.Context(), node, boot, msgs, out), store.ErrFenced)
		require.ErrorIs(t, out[0].Err, store.ErrFenced)
		require.Zero(t, out[0].Seq)
		require.ErrorIs(t, out[1].Err, store.ErrInvalid)
	}
	refused("n1", "b1")
	refused("n1", "")

	require.NoError(t, s.Fence.Take(t.Context(), "n1", "b1"))
	require.NoError(t, s.Messages.Append(t.Context(), "n1", "b1", msgs, out))
	require.NoError(t, out[0].Err)
	refused("n1", "b2")
	refused("n2", "b1")

	require.NoError(t, s.Fence.Forbid(t.Context(), "n1", "another"))
	boot, err := s.Fence.Boot(t.Context(), "n1")
	require.NoError(t, err)
	require.Equal(t, "b1", boot)
	require.NoError(t, s.Fence.Forbid(t.Context(), "n1", "b1"))
	require.NoError(t, s.Fence.Forbid(t.Context(), "n1", "b1"), "fencing is idempotent")
	boot, err = s.Fence.Boot(t.Context(), "n1")
	require.NoError(t, err)
	require.Empty(t, boot)
	refused("n1", "b1")
	refused("n1", "")

	require.NoError(t, s.Fence.Take(t.Context(), "n1", "b2"))
	refused("n1", "b1")
	require.NoError(t, s.Messages.Append(t.Context(), "n1", "b2", msgs, out))
	require.True(t, out[0].Resent)

	boot, err = s.Fence.Boot(t.Context(), "never")
	require.NoError(t, err)
	require.Empty(t, boot)
	require.ErrorIs(t, s.Fence.Take(t.Context(), "n1", ""), store.ErrInvalid)
	require.ErrorIs(t, s.Fence.Take(t.Context(), "n1", strings.Repeat("x", 65)), store.ErrInvalid)
}

func testAppendPoison(t *testing.T, d *database) {
	s := d.migrated(t)
	_, err := d.sql(t).ExecContext(t.Context(), d.on(
		`CREATE TRIGGER poison BEFORE INSERT ON chat_message FOR EACH ROW
		 IF NEW.content='poison' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='poison'; END IF`,
		`CREATE TRIGGER poison BEFORE INSERT ON chat_message WHEN NEW.content='poison'
		 BEGIN SELECT RAISE(ABORT, 'poison'); END`))
	require.NoError(t, err)
	name, boot := node(t, s, "n1")
	t1, a, _ := thread(t, s, "x")
	t2, b, _ := thread(t, s, "y")

	for _, bad := range []map[int]bool{{0: true}, {99: true}, {17: true, 18: true, 63: true}} {
		var msgs []store.NewMessage
		for i := range 100 {
			m := store.NewMessage{ThreadID: t1, Sender: a, UniqueID: fmt.Sprintf("%d of %d", i, len(bad)), Content: fmt.Sprint(i)}
			if i%2 == 1 {
				m.ThreadID, m.Sender = t2, b
			}
			if bad[i] {
				m.Content = "poison"
				m.UniqueID += "bad"
			}
			msgs = append(msgs, m)
		}
		msgs = append(msgs, msgs[0], msgs[99])
		out := make([]store.Appended, len(msgs))
		require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, out))
		for i := range msgs {
			if msgs[i].Content == "poison" {
				require.ErrorContains(t, out[i].Err, "poison")
				require.Zero(t, out[i].Seq)
			} else {
				require.NoError(t, out[i].Err)
				require.NotZero(t, out[i].Seq)
			}
		}
	}
	for _, id := range []int64{t1, t2} {
		msgs := history(t, s, id)
		require.NotEmpty(t, msgs)
		last := -1
		for i, m := range msgs {
			require.Equal(t, int64(i+1), m.Seq)
			var n int
			_, err := fmt.Sscan(m.Content, &n)
			require.NoError(t, err)
			if n < 2 {
				last = -1 // the next round
			}
			require.Greater(t, n, last, "order")
			last = n
		}
	}
}

func testAppendBroken(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	var msgs []store.NewMessage
	for i := range 100 {
		msgs = append(msgs, store.NewMessage{ThreadID: id, Sender: a, UniqueID: fmt.Sprint(i)})
	}
	out := make([]store.Appended, len(msgs))
	check := func() {
		t.Helper()
		require.Error(t, s.Messages.Append(t.Context(), name, boot, msgs, out))
		for i := range out {
			require.Error(t, out[i].Err)
			require.Zero(t, out[i].Seq)
		}
	}
	db := d.sql(t)
	_, err := db.ExecContext(t.Context(), d.on(
		`CREATE TRIGGER broken BEFORE INSERT ON chat_message FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='broken'`,
		`CREATE TRIGGER broken BEFORE INSERT ON chat_message BEGIN SELECT RAISE(ABORT, 'broken'); END`))
	require.NoError(t, err)
	check()
	_, err = db.ExecContext(t.Context(), "DROP TRIGGER broken")
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "ALTER TABLE chat_message RENAME TO gone")
	require.NoError(t, err)
	check()
	_, err = db.ExecContext(t.Context(), "ALTER TABLE gone RENAME TO chat_message")
	require.NoError(t, err)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, out))
	require.Len(t, history(t, s, id), 100)
}

// The COMMIT's answer is lost, once after it was done and once before.
func testAppendUnclearCommit(t *testing.T, d *database) {
	for _, done := range []bool{true, false} {
		t.Run(fmt.Sprintf("done=%v", done), func(t *testing.T) {
			plain := d.migrated(t)
			f := &faults{}
			s := d.withFaults(t, f)
			name, boot := node(t, s, "n1")
			id, a, b := thread(t, s, fmt.Sprint(done))
			lose := 0
			f.commit = func(ctx context.Context, commit func(context.Context) error) error {
				if lose == 0 {
					return commit(ctx)
				}
				lose--
				if done {
					require.NoError(t, commit(ctx))
				}
				return io.ErrUnexpectedEOF
			}

			msgs := []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}, {ThreadID: id, Sender: b, UniqueID: "2"}}
			out := make([]store.Appended, 2)
			lose = 2
			require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, out))
			for i := range out {
				require.NoError(t, out[i].Err)
				require.Equal(t, int64(i+1), out[i].Seq)
				require.False(t, out[i].Resent, "it was this call that stored it")
			}
			require.Len(t, history(t, plain, id), 2)

			lose = 1
			require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, out))
			require.Equal(t, int64(1), out[0].Seq)
			require.True(t, out[0].Resent && out[1].Resent)

			// Approvals and new users likewise.
			lose = 1
			u, err := s.Users.Create(t.Context(), store.NewUser{Name: fmt.Sprint("new", done), Email: fmt.Sprint("new", done), PasswordHash: "salted"})
			require.NoError(t, err)
			require.NoError(t, apply(t.Context(), s, u, a, "hi", ""))
			lose = 1
			ap, err := s.Friends.Approve(t.Context(), name, boot, a, u, "")
			require.NoError(t, err)
			require.Equal(t, history(t, plain, ap.ThreadID), ap.Messages)
			lose = 1
			_, err = s.Users.ResetPassword(t.Context(), fmt.Sprint("new", done), fmt.Sprint("new", done), "other")
			require.NoError(t, err)
			lose = 1
			require.NoError(t, s.Users.UpgradePassword(t.Context(), u, "other", "third"))

			// All attempts lost: an error, and appending again settles it.
			lose = 100
			more := []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "3"}}
			require.Error(t, s.Messages.Append(t.Context(), name, boot, more, out[:1]))
			require.Error(t, out[0].Err)
			lose = 0
			require.NoError(t, s.Messages.Append(t.Context(), name, boot, more, out[:1]))
			require.Equal(t, int64(3), out[0].Seq)
			require.Equal(t, done, out[0].Resent)
			require.Len(t, history(t, plain, id), 3)
		})
	}
}

// A call of several transactions, of which only the first gets through.
func testAppendHalfWay(t *testing.T, d *database) {
	plain := d.migrated(t)
	f := &faults{}
	s := d.withFaults(t, f)
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	commits := 0
	f.commit = func(ctx context.Context, commit func(context.Context) error) error {
		if commits++; commits > 1 {
			return io.ErrUnexpectedEOF
		}
		return commit(ctx)
	}
	msgs := make([]store.NewMessage, 300)
	for i := range msgs {
		msgs[i] = store.NewMessage{ThreadID: id, Sender: a, UniqueID: fmt.Sprint(i)}
	}
	out := make([]store.Appended, len(msgs))
	require.ErrorIs(t, s.Messages.Append(t.Context(), name, boot, msgs, out), io.ErrUnexpectedEOF)
	for i := range out {
		if i < 256 {
			require.Equal(t, int64(i+1), out[i].Seq)
			require.NoError(t, out[i].Err)
		} else {
			require.Zero(t, out[i].Seq)
			require.ErrorIs(t, out[i].Err, io.ErrUnexpectedEOF)
		}
	}
	require.Len(t, history(t, plain, id), 256)
}

// The upsert of last_seq must not use up auto-increment values, or thread ids would be gone in half a day.
func testAppendTakesNoThreadIDs(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	first, a, b := thread(t, s, "x")
	for i := range 50 {
		out := make([]store.Appended, 2)
		require.NoError(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{
			{ThreadID: first, Sender: a, UniqueID: fmt.Sprint(i)}, {ThreadID: first, Sender: b, UniqueID: fmt.Sprint(i)},
		}, out))
	}
	next, _, _ := thread(t, s, "y")
	require.Equal(t, first+1, next)
}

func testAppendLarge(t *testing.T, d *database) {
	s := d.migrated(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a busy machine may take longer than DefaultTimeout
	defer cancel()
	name, boot := node(t, s, "n1")
	var ids []int64
	_, a, _ := thread(t, s, "x")
	for i := range 300 {
		id, err := s.Threads.EnsureOfPair(t.Context(), a, int32(5000+i))
		require.NoError(t, err)
		ids = append(ids, id)
	}
	// Many threads and rows, each count a shape of its own.
	for _, n := range []int{1, 2, 3, 16, 17, 31, 33, 255, 256, 257, 700} {
		msgs := make([]store.NewMessage, n)
		for i := range msgs {
			msgs[i] = store.NewMessage{ThreadID: ids[(i*7)%len(ids)], Sender: a, UniqueID: fmt.Sprint(n, " ", i), Content: "x"}
		}
		out := make([]store.Appended, n)
		for _, resent := range []bool{false, true} {
			require.NoError(t, s.Messages.Append(ctx, name, boot, msgs, out))
			for i := range out {
				require.NoError(t, out[i].Err)
				require.NotZero(t, out[i].Seq)
				require.Equal(t, resent, out[i].Resent)
			}
		}
	}
	// More bytes than a packet may have: 20 MiB.
	big := strings.Repeat("x", store.MaxContent)
	msgs := make([]store.NewMessage, 320)
	for i := range msgs {
		msgs[i] = store.NewMessage{ThreadID: ids[0], Sender: a, UniqueID: fmt.Sprint("big ", i), Content: big}
	}
	out := make([]store.Appended, len(msgs))
	require.NoError(t, s.Messages.Append(ctx, name, boot, msgs, out))
	for i := 1; i < len(out); i++ {
		require.NoError(t, out[i].Err)
		require.Equal(t, out[i-1].Seq+1, out[i].Seq)
	}
}

func testAppendFull(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	_, err := d.sql(t).ExecContext(t.Context(), "UPDATE chat_thread SET last_seq=2147483646 WHERE id=?", id)
	require.NoError(t, err)
	out := make([]store.Appended, 2)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{
		{ThreadID: id, Sender: a, UniqueID: "1"}, {ThreadID: id, Sender: a, UniqueID: "2"},
	}, out))
	require.Equal(t, int64(2147483647), out[0].Seq)
	require.ErrorIs(t, out[1].Err, store.ErrThreadFull)
}

func testAppendContext(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	msgs := []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}}
	out := make([]store.Appended, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Messages.Append(ctx, name, boot, msgs, out), context.Canceled)
	require.ErrorIs(t, out[0].Err, context.Canceled)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, out))
	require.False(t, out[0].Resent)

	require.NoError(t, s.Close())
	err := s.Messages.Append(t.Context(), name, boot, msgs, out)
	require.True(t, errors.Is(err, store.ErrClosed), err)
}

// Committers recover: what panicked must not keep a writer, or the locks of its transaction.
func testAppendPanic(t *testing.T, d *database) {
	s := d.migrated(t)
	id, a, _ := thread(t, s, "x")
	name, boot := node(t, s, "n1")
	first := true
	faulty := d.withFaults(t, &faults{commit: func(ctx context.Context, commit func(context.Context) error) error {
		if first {
			first = false
			panic("in commit")
		}
		return commit(ctx)
	}})
	msgs, out := []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}}, make([]store.Appended, 1)
	require.PanicsWithValue(t, "in commit", func() { _ = faulty.Messages.Append(t.Context(), name, boot, msgs, out) })
	for range 2 * store.DefaultWriters {
		require.NoError(t, faulty.Messages.Append(t.Context(), name, boot, msgs, out))
	}
	require.Len(t, history(t, s, id), 1)
}
