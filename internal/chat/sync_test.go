package chat

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
)

// since reads what has changed since a reply, and returns the numbers of the rows by thread and how many pages it took.
func since(t *testing.T, c *client.Conn, from string, newest client.Cursor) (rows map[int64][]int64, next string, pages int) {
	t.Helper()
	rows = make(map[int64][]int64)
	for {
		p, err := c.SyncSince(t.Context(), from, newest)
		require.NoError(t, err)
		pages++
		require.NotEmpty(t, p.Since)
		for _, page := range p.Threads {
			require.NotContains(t, rows, page.ThreadID, "in one page only")
			rows[page.ThreadID] = []int64{}
			for _, m := range page.Messages {
				rows[page.ThreadID] = append(rows[page.ThreadID], m.ID)
			}
			if page.More { // the rest is for 1029
				more, err := c.History(t.Context(), page.ThreadID, page.Next, 500)
				require.NoError(t, err)
				require.NotEmpty(t, more.Messages)
			}
		}
		if from = p.Since; !p.More {
			return rows, from, pages
		}
	}
}

// A sync since an earlier one brings the threads that have changed, however many pages it takes.
func TestASyncSinceBringsWhatHasChanged(t *testing.T) {
	t.Parallel()
	const friends = 12
	f := newFixture(t, 1+friends)
	n := f.start("chat1")
	me := int32(firstUID)
	var threads []int64
	for i := range friends {
		id, err := f.store.Threads.EnsureOfPair(t.Context(), me, firstUID+1+int32(i))
		require.NoError(t, err)
		threads = append(threads, id)
	}
	db, err := sql.Open("sqlite", "file:"+f.file+"?_busy_timeout=5000")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	long := strings.Repeat("x", 3000)
	say := func(thread int64, text string) {
		_, err := db.ExecContext(t.Context(), "UPDATE chat_thread SET last_seq=last_seq+1,active=unixepoch()/600 WHERE id=?", thread)
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "UPDATE private_chat SET active=unixepoch()/600 WHERE thread_id=?", thread)
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), `INSERT INTO chat_message(thread_id,seq,sender_id,unique_id,content,created_ms)
			SELECT id,last_seq,?,'u'||id||'-'||last_seq,?,1000*unixepoch() FROM chat_thread WHERE id=?`, me, text, thread)
		require.NoError(t, err)
	}
	for _, id := range threads {
		say(id, "long ago")
	}
	for _, q := range []string{
		"UPDATE chat_thread SET active=5", "UPDATE private_chat SET active=5", "UPDATE chat_message SET created_ms=3000000",
	} {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	c := f.login(n, 1)
	all, err := c.Sync(t.Context(), nil, true)
	require.NoError(t, err)
	require.Len(t, all.Threads, friends)
	require.NotEmpty(t, all.Since)
	at, err := c.Sync(t.Context(), nil, false)
	require.NoError(t, err)
	require.Empty(t, at.Threads)

	rows, next, pages := since(t, c, at.Since, client.Cursor{ThreadID: threads[0], LastID: 1})
	require.Empty(t, rows)
	require.Equal(t, 1, pages)
	say(threads[3], "a")
	say(threads[3], "b")
	say(threads[7], "c")
	rows, _, _ = since(t, c, next, client.Cursor{})
	require.Equal(t, map[int64][]int64{threads[3]: {2, 3}, threads[7]: {2}}, rows)

	want := make(map[int64]bool)
	for i, id := range threads {
		if i%4 > 0 {
			for range 4 {
				say(id, long)
			}
			want[id] = true
		}
	}
	rows, _, pages = since(t, c, next, client.Cursor{})
	require.Greater(t, pages, 1)
	for id := range want {
		require.Contains(t, rows, id)
	}
	require.Len(t, rows, len(want))

	for name, bad := range map[string]string{
		"of another version": "2-5-0-0", "nonsense": "yesterday", "old": "1-1000-0-0", "of the future": "1-99999999999-0-0",
		"that goes backwards": strings.Replace(next, "-0-0", "-99999999999-0", 1),
	} {
		p, err := c.SyncSince(t.Context(), bad, client.Cursor{})
		require.NoError(t, err, name)
		require.Equal(t, client.SyncPage{Threads: []client.Page{}}, p, name)
	}
	for _, gone := range []client.Cursor{{ThreadID: threads[7], LastID: 50}, {ThreadID: 99999, LastID: 1}} {
		p, err := c.SyncSince(t.Context(), next, gone)
		require.NoError(t, err)
		require.Empty(t, p.Since, "the client has rows that are gone: %v", gone)
	}
}
