package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/lab/launchtest"
)

func init() {
	bodies["every row makes its thread active"] = testRowsMakeActive
	bodies["threads that have changed are found"] = testThreadsSince
	bodies["the newest row before a time"] = testLastBefore
	bodies["rows of many threads at once"] = testHistories
}

func testRowsMakeActive(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b, x := user(t, c.s, "a"), user(t, c.s, "b"), user(t, c.s, "x")
	db := d.sql(t)
	exec := func(q string) {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err, q)
	}
	change := func(what string, f func()) {
		exec("UPDATE chat_thread SET active=0")
		exec("UPDATE private_chat SET active=0")
		exec("DROP TABLE IF EXISTS was")
		exec("CREATE TABLE was AS SELECT id,last_seq FROM chat_thread")
		f()
		changed := "FROM chat_thread t LEFT JOIN was w ON w.id=t.id WHERE (w.id IS NULL OR w.last_seq<>t.last_seq)"
		require.NotZero(t, scan[int](t, db, "SELECT COUNT(*) "+changed), what)
		require.Zero(t, scan[int](t, db, "SELECT COUNT(*) "+changed+" AND t.active=0"), what)
		require.Zero(t, scan[int](t, db, "SELECT COUNT(*) FROM private_chat p JOIN chat_thread t ON t.id=p.thread_id WHERE p.active<t.active"), what)
	}
	var pair, group int64
	change("approval", func() { pair = c.befriend(a, b) })
	change("text", func() { c.say(pair, a, "hello") })
	seq := c.say(pair, a, "to be changed")
	change("edit", func() {
		_, err := c.s.Messages.Edit(t.Context(), c.node, c.boot, a, pair, seq, "changed", time.Hour)
		require.NoError(t, err)
	})
	change("recall", func() {
		_, err := c.s.Messages.Recall(t.Context(), c.node, c.boot, a, pair, seq, time.Hour)
		require.NoError(t, err)
	})
	change("group", func() { group = c.group(a, b, x) })
	change("text in a group", func() { c.say(group, a, "hello") })
	change("event of a group", func() {
		_, err := c.s.Groups.Rename(t.Context(), c.node, c.boot, a, group, "other")
		require.NoError(t, err)
	})
	change("deleted account", func() {
		_, err := c.s.Users.Delete(t.Context(), x, "hash of x")
		require.NoError(t, err)
	})
}

func testThreadsSince(t *testing.T, d *database) {
	c := newCircle(t, d)
	me := user(t, c.s, "me")
	var ids []int64
	for i := range 6 { // some have smaller uids
		ids = append(ids, c.befriend(me, user(t, c.s, fmt.Sprint("friend", i))))
	}
	ids = append(ids, c.group(me))
	other, _, _ := thread(t, c.s, "other")
	db := d.sql(t)
	now, err := c.s.Clock(t.Context())
	require.NoError(t, err)
	require.InDelta(t, time.Now().Unix(), now, 60)
	for _, q := range []string{"UPDATE chat_thread SET active=?", "UPDATE private_chat SET active=?"} {
		_, err := db.ExecContext(t.Context(), q, now/store.ActiveUnit-3)
		require.NoError(t, err)
	}
	since := func(at, after int64, limit int) (out []int64) {
		list, err := c.s.Threads.Since(t.Context(), me, at, after, limit)
		require.NoError(t, err)
		all, err := c.s.Threads.List(t.Context(), me, 0, 100)
		require.NoError(t, err)
		for _, th := range list {
			require.Contains(t, all, th)
			out = append(out, th.ID)
		}
		return out
	}
	require.Empty(t, since(now, 0, 100))
	c.say(ids[1], me, "a")
	c.say(ids[6], me, "b")
	c.text(other, 1, store.UnknownVer)
	require.Equal(t, []int64{ids[1], ids[6]}, since(now, 0, 100))
	require.Equal(t, []int64{ids[1]}, since(now, 0, 1))
	require.Equal(t, []int64{ids[6]}, since(now, ids[1], 100))
	require.Equal(t, []int64{ids[1], ids[6]}, since(now+store.ActiveUnit, 0, 100), "a late commit is found")
	require.Equal(t, ids, since(now-2*store.ActiveUnit, 0, 100))
	c.mark(ids[2], me, 1, 1)
	require.Equal(t, []int64{ids[1], ids[2], ids[6]}, since(now, 0, 100), "marks change a thread too")
}

func testLastBefore(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	thread := c.befriend(a, b)
	for range 20 {
		c.say(thread, a, "text")
	}
	_, err := d.sql(t).ExecContext(t.Context(), "UPDATE chat_message SET created_ms=1000*seq")
	require.NoError(t, err)
	last := int64(len(history(t, c.s, thread)))
	before := func(ms, depth int64, places ...store.Before) []int64 {
		got, err := c.s.Threads.LastBefore(t.Context(), places, ms, depth)
		require.NoError(t, err)
		return got
	}
	require.Empty(t, before(5000, 100))
	require.Equal(t, []int64{4, 3, 0}, before(5000, 100, store.Before{thread, last}, store.Before{thread, 3}, store.Before{thread + 99, last}))
	require.Equal(t, []int64{last}, before(1000*last+1, 100, store.Before{thread, last}))
	require.Equal(t, []int64{0}, before(500, 100, store.Before{thread, last}))
	require.Equal(t, []int64{last - 7}, before(500, 7, store.Before{thread, last}), "all that is looked at is newer")
}

func testHistories(t *testing.T, d *database) {
	c := newCircle(t, d)
	me := user(t, c.s, "me")
	const threads = 70 // more than one statement reads
	var parts []store.Part
	for i := range threads {
		id := c.befriend(me, user(t, c.s, fmt.Sprint("friend", i)))
		for n := range i % 4 {
			c.say(id, me, fmt.Sprintf("text %d of %d", n, i))
		}
		require.NoError(t, c.s.Messages.Hide(t.Context(), c.node, c.boot, me, id, []int64{1}))
		parts = append(parts, store.Part{Span: store.Span{Thread: id, After: int64(i % 3)}, Limit: 1 + i%2})
		if i%5 == 0 {
			parts[i].Upto = 2
		}
	}
	parts = append(parts, store.Part{Span: store.Span{Thread: 1 << 30}})
	for _, n := range []int{0, 1, 3, len(parts)} {
		got, err := c.s.Messages.Histories(t.Context(), parts[:n])
		require.NoError(t, err)
		require.Len(t, got, n)
		for i, p := range parts[:n] {
			var want store.Rows
			want.Messages, want.More, err = c.s.Messages.HistoryTo(t.Context(), p.Thread, p.After, p.Upto, p.Limit, 1<<20)
			require.NoError(t, err)
			require.Equal(t, want, got[i], "part %d of %d", i, n)
		}
	}
	var spans []store.Span
	for i := range threads {
		spans = append(spans, store.Span{Thread: parts[i].Thread, After: int64(i % 2), Upto: 10})
	}
	hidden, err := c.s.Messages.Hidden(t.Context(), me, spans)
	require.NoError(t, err)
	require.Len(t, hidden, threads/2)
	for i, sp := range spans {
		if i%2 == 0 {
			require.Equal(t, []int64{1}, hidden[sp.Thread])
		}
	}
}

// BenchmarkSync is all that a sync since an earlier one reads for a user with 1,000 threads of which 50 have changed, and with
// 10,000, with the texts of which those rows announce edits; and, for comparison, the read of all threads. Rows are those that MariaDB read.
func BenchmarkSync(b *testing.B) {
	for _, threads := range []int{1000, 10000} {
		d := newMariaDB(b, launchtest.MariaDB(b))
		s := d.migrated(b)
		db := d.sql(b)
		users := make([]store.NewUser, threads+1)
		pairs := make([][2]int32, threads)
		for i := range users {
			users[i] = store.NewUser{Name: fmt.Sprint("u", i), Email: fmt.Sprint("u", i), PasswordHash: "h"}
			if i > 0 {
				pairs[i-1] = [2]int32{2000, 2000 + int32(i)}
			}
		}
		require.NoError(b, s.Seed.Users(b.Context(), 2000, users))
		ids, err := s.Seed.Friends(b.Context(), pairs)
		require.NoError(b, err)
		name, boot := node(b, s, "n1")
		say := func(ids []int64, round string) {
			for part := range slices.Chunk(ids, 256) {
				msgs, out := make([]store.NewMessage, len(part)), make([]store.Appended, len(part))
				for i, id := range part {
					msgs[i] = store.NewMessage{ThreadID: id, Sender: 2000, MemberVer: 0, UniqueID: fmt.Sprint(round, id), Content: "hello"}
				}
				require.NoError(b, s.Messages.Append(b.Context(), name, boot, msgs, out))
			}
		}
		for i := range 20 {
			say(ids, fmt.Sprint("old", i))
		}
		for _, q := range []string{
			"UPDATE chat_thread SET active=5", "UPDATE private_chat SET active=5", "UPDATE chat_message SET created_ms=3000000",
		} {
			_, err := db.ExecContext(b.Context(), q)
			require.NoError(b, err)
		}
		now, err := s.Clock(b.Context())
		require.NoError(b, err)
		say(ids[:50], "new")

		const count = "SELECT CAST(SUM(VARIABLE_VALUE) AS INT) FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME IN ('HANDLER_READ_KEY','HANDLER_READ_NEXT','HANDLER_READ_PREV')"
		run := func(name string, f func(b *testing.B)) {
			b.Run(fmt.Sprintf("%d/%s", threads, name), func(b *testing.B) {
				before := scan[int](b, db, count)
				for b.Loop() {
					f(b)
				}
				b.ReportMetric(float64(scan[int](b, db, count)-before)/float64(b.N), "rows/op")
			})
		}
		run("since", func(b *testing.B) {
			_, err := s.Clock(b.Context())
			require.NoError(b, err)
			list, err := s.Threads.Since(b.Context(), 2000, now, 0, 256)
			require.NoError(b, err)
			require.Len(b, list, 50)
			places := make([]store.Before, len(list))
			for i := range list {
				places[i] = store.Before{Thread: list[i].ID, Seq: list[i].LastSeq}
			}
			start, err := s.Threads.LastBefore(b.Context(), places, 1000*now-60000, 1000)
			require.NoError(b, err)
			parts := make([]store.Part, len(list))
			for i := range list {
				parts[i] = store.Part{Span: store.Span{Thread: list[i].ID, After: start[i]}, Limit: 1}
			}
			rows, err := s.Messages.Histories(b.Context(), parts)
			require.NoError(b, err)
			for i := range rows {
				require.Len(b, rows[i].Messages, 1)
			}
			_, err = s.Messages.HidesAny(b.Context(), 2000)
			require.NoError(b, err)
			_, err = s.Marks.OfThreads(b.Context(), 2000, list)
			require.NoError(b, err)
		})
		edited := make([]store.TextID, 50)
		for i := range edited {
			edited[i] = store.TextID{Thread: ids[i], Seq: 20}
		}
		for name, chunk := range map[string]int{"edited texts": len(edited), "edited texts one by one": 1} {
			run(name, func(b *testing.B) {
				for part := range slices.Chunk(edited, chunk) {
					texts, err := s.Messages.Contents(b.Context(), 2000, part)
					require.NoError(b, err)
					require.Len(b, texts, len(part))
				}
			})
		}
		run("all threads", func(b *testing.B) {
			for after := int64(0); ; {
				list, err := s.Threads.List(b.Context(), 2000, after, 500)
				require.NoError(b, err)
				if len(list) < 500 {
					break
				}
				after = list[len(list)-1].ID
			}
		})
	}
}
