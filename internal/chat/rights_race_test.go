package chat

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/test/rights"
)

// TestNothingIsStoredAfterABlock is e2e's test of that name on SQLite, with two nodes in this process.
func TestNothingIsStoredAfterABlock(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	db, err := sql.Open("sqlite", "file:"+f.file+"?_busy_timeout=5000")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	require.NoError(t, rights.Watch(t.Context(), db, false))
	a, b := f.start("chat1"), f.start("chat2")
	quiet := client.Options{OnEvent: func(client.Event) {}}
	x, err := client.Dial(t.Context(), f.ticket(a, 1), quiet)
	require.NoError(t, err)
	defer x.Close()
	y, err := client.Dial(t.Context(), f.ticket(b, 2), quiet)
	require.NoError(t, err)
	defer y.Close()
	got, err := rights.Rounds(t.Context(), db, x, y, f.threads[0], rights.Count(60))
	t.Logf("%+v", got)
	require.NoError(t, err)
	require.Zero(t, got.Late, "texts stored after the change")
	require.Zero(t, got.Allowed, "texts sent after its answer")
	require.Positive(t, got.Stored)
	require.Positive(t, got.Denied)
}
