package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/store/mysql"
	"parley/lab/launchtest"
)

func TestTextsThatComeAlone(t *testing.T) {
	t.Parallel()
	server := launchtest.MariaDB(t)
	for name, body := range map[string]func(*testing.T, *database){
		"take one round trip":                      testAloneOneTrip,
		"survive an answer that is lost":           testAloneUnclear,
		"keep the fence waiting":                   testAloneFence,
		"are stored when the procedure is dropped": testAloneDropped,
		"are stored without the right to it":       testAloneNoRight,
		"are stored where it is not ours":          testAloneNotOurs,
		"find the procedure of an older node":      testAloneCreatedBefore,
		"are numbered beside batches":              testAloneBesideBatches,
	} {
		t.Run(name, func(t *testing.T) { body(t, newMariaDB(t, server)) })
	}
}

// one appends a text alone.
func one(t *testing.T, s *store.Store, name, boot string, m store.NewMessage) store.Appended {
	t.Helper()
	out := make([]store.Appended, 1)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{m}, out))
	return out[0]
}

// executed counts the prepared statements that the server has executed.
func executed(t *testing.T, db *sql.DB) int {
	t.Helper()
	return scan[int](t, db, "SELECT variable_value FROM information_schema.global_status WHERE variable_name='COM_STMT_EXECUTE'")
}

func testAloneOneTrip(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	db := d.sql(t)
	before := executed(t, db)
	const texts = 20 // the first of them touches the thread
	for i := range texts {
		got := one(t, s, name, boot, store.NewMessage{ThreadID: id, Sender: a, UniqueID: fmt.Sprint(i), Content: "Grüße 👋", Type: "text/x-test"})
		require.NoError(t, got.Err)
		require.Equal(t, int64(i+1), got.Seq)
	}
	require.Equal(t, texts, executed(t, db)-before)
	all := history(t, s, id)
	require.Len(t, all, texts)
	require.Equal(t, "Grüße 👋", all[3].Content)
	require.Equal(t, "text/x-test", all[3].Type)

	// A resend finds its first; what the sender may not write, the long way refuses.
	got := one(t, s, name, boot, store.NewMessage{ThreadID: id, Sender: a, UniqueID: "7"})
	require.True(t, got.Resent)
	require.Equal(t, int64(8), got.Seq)
	got = one(t, s, name, boot, store.NewMessage{ThreadID: id, Sender: user(t, s, "stranger"), UniqueID: "1", MemberVer: store.UnknownVer})
	require.ErrorIs(t, got.Err, store.ErrMayNotWrite)
	got = one(t, s, name, boot, store.NewMessage{ThreadID: 1 << 40, Sender: a, UniqueID: "nowhere"})
	require.ErrorIs(t, got.Err, store.ErrNotFound)
	require.Len(t, history(t, s, id), texts)
}

// The answer of the procedure is lost, once after it was done and once before.
func testAloneUnclear(t *testing.T, d *database) {
	plain := d.migrated(t)
	f := &faults{}
	s := d.withFaults(t, f)
	require.NoError(t, s.Prepare(t.Context(), slog.New(slog.DiscardHandler), store.Demands{}))
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	for i, done := range []bool{true, false} {
		calls := 0
		f.call = func(call func() error) error {
			if calls++; done {
				require.NoError(t, call())
			}
			return io.ErrUnexpectedEOF
		}
		got := one(t, s, name, boot, store.NewMessage{ThreadID: id, Sender: a, UniqueID: fmt.Sprint(i)})
		require.Equal(t, 1, calls)
		require.NoError(t, got.Err)
		require.Equal(t, int64(i+1), got.Seq)
		require.False(t, got.Resent, "it was this call that stored it")
		require.Len(t, history(t, plain, id), i+1)
	}
}

// While the procedure waits for the thread, the node cannot be fenced off; afterwards it stores nothing.
func testAloneFence(t *testing.T, d *database) {
	s := d.migrated(t)
	id, a, _ := thread(t, s, "x")
	name, boot := node(t, s, "n1")
	db := d.sql(t)
	waiting := func(n int) func() bool {
		return func() bool {
			return scan[int](t, db, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state='LOCK WAIT'") >= n
		}
	}
	holder, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), "SELECT id FROM chat_thread WHERE id=? FOR UPDATE", id)
	require.NoError(t, err)
	appended, fenced := make(chan error, 1), make(chan error, 1)
	out := make([]store.Appended, 1)
	go func() {
		appended <- s.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}}, out)
	}()
	require.Eventually(t, waiting(1), time.Minute, 200*time.Millisecond)
	go func() { fenced <- s.Fence.Forbid(t.Context(), name, boot) }()
	require.Eventually(t, waiting(2), time.Minute, 200*time.Millisecond)
	require.NoError(t, holder.Rollback())
	require.NoError(t, <-appended)
	require.NoError(t, <-fenced)
	require.Len(t, history(t, s, id), 1)
	require.ErrorIs(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "2"}}, out), store.ErrFenced)
	require.Len(t, history(t, s, id), 1)
}

// A dump without routines was restored while the node runs.
func testAloneDropped(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	one(t, s, name, boot, store.NewMessage{ThreadID: id, Sender: a, UniqueID: "1"})
	_, err := d.sql(t).ExecContext(t.Context(), "DROP PROCEDURE parley_append_1")
	require.NoError(t, err)
	for i := int64(2); i < 5; i++ {
		got := one(t, s, name, boot, store.NewMessage{ThreadID: id, Sender: a, UniqueID: fmt.Sprint(i)})
		require.NoError(t, got.Err)
		require.Equal(t, i, got.Seq)
	}
	require.Len(t, history(t, s, id), 4)
}

func testAloneNoRight(t *testing.T, d *database) {
	db := d.sql(t)
	schema := scan[string](t, db, "SELECT DATABASE()")
	for _, q := range []string{
		"CREATE OR REPLACE USER plain@'%' IDENTIFIED BY 'x'",
		"GRANT SELECT,INSERT,UPDATE,DELETE,CREATE,ALTER,INDEX,DROP,REFERENCES ON " + schema + ".* TO plain@'%'",
	} {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	_, address, _ := strings.Cut(d.dsn, "@")
	s, err := mysql.Open(t.Context(), "plain:x@"+address, mysql.Options{})
	require.NoError(t, err)
	defer s.Close()
	var log bytes.Buffer
	require.NoError(t, s.Prepare(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), store.Demands{}))
	require.Contains(t, log.String(), "grant CREATE ROUTINE and EXECUTE")
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	require.Equal(t, int64(1), one(t, s, name, boot, store.NewMessage{ThreadID: id, Sender: a, UniqueID: "1"}).Seq)
}

// Another procedure has the name: no right of the node's user would help.
func testAloneNotOurs(t *testing.T, d *database) {
	d.migrated(t)
	db := d.sql(t)
	for _, q := range []string{"DROP PROCEDURE parley_append_1", "CREATE PROCEDURE parley_append_1() SELECT 1"} {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	s := d.open(t)
	var log bytes.Buffer
	require.NoError(t, s.Prepare(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), store.Demands{}))
	require.Contains(t, log.String(), "a text that comes alone takes four round trips")
	require.Contains(t, log.String(), "Error 1318")
	require.NotContains(t, log.String(), "grant")
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	require.Equal(t, int64(1), one(t, s, name, boot, store.NewMessage{ThreadID: id, Sender: a, UniqueID: "1"}).Seq)
}

func testAloneCreatedBefore(t *testing.T, d *database) {
	d.migrated(t)
	testAloneOneTrip(t, d)
}

// Texts alone and batches, of several nodes and of the same threads.
func testAloneBesideBatches(t *testing.T, d *database) {
	const nodes, rounds = 4, 60
	s := d.migrated(t)
	x, a, _ := thread(t, s, "x")
	y, c, _ := thread(t, s, "y")
	stores := make([]*store.Store, nodes)
	for i := range stores {
		stores[i] = d.migrated(t)
		node(t, stores[i], fmt.Sprint("n", i))
	}
	done := make(chan error, nodes)
	for i, s := range stores {
		go func() {
			done <- func() error {
				name := fmt.Sprint("n", i)
				for r := range rounds {
					msgs := []store.NewMessage{{ThreadID: x, Sender: a, UniqueID: fmt.Sprint(i, "-", r)}}
					if r%3 == 0 {
						msgs = append(msgs, store.NewMessage{ThreadID: y, Sender: c, UniqueID: fmt.Sprint(i, "-", r)})
					}
					out := make([]store.Appended, len(msgs))
					if err := s.Messages.Append(context.WithoutCancel(t.Context()), name, "boot of "+name, msgs, out); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range stores {
		require.NoError(t, <-done)
	}
	for thread, want := range map[int64]int{x: nodes * rounds, y: nodes * rounds / 3} {
		all := history(t, s, thread)
		require.Len(t, all, want)
		for i, m := range all {
			require.Equal(t, int64(i+1), m.Seq)
		}
	}
}
