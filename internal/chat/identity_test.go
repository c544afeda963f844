package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// C4
func TestALoginSaysWhichDataTheServerWorksOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n := f.start("chat1")
	id, err := f.store.DataID(t.Context())
	require.NoError(t, err)
	require.Equal(t, id, f.login(n, 1).Data())
	s := f.stock(n, 2)
	require.NotContains(t, string(s.expect(wire.MsgLoginRsp).body), id, "a key of ours for a client that did not ask")
}

// C4: a client's cursor beyond the end of a thread tells it that a backup was restored.
func TestASyncTellsOfThreadsThatEndBeforeTheCursor(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n := f.start("chat1")
	c := f.login(n, 1)
	for range 3 {
		_, err := c.SendText(t.Context(), client.User(firstUID+1), "hello")
		require.NoError(t, err)
	}
	page, err := c.Sync(t.Context(), []client.Cursor{{ThreadID: f.threads[0], LastID: 1 << 20}}, true)
	require.NoError(t, err)
	require.Len(t, page.Threads, 1)
	require.Empty(t, page.Threads[0].Messages)
	end := page.Threads[0].Next
	require.Less(t, end, int64(1<<20))
	page, err = c.Sync(t.Context(), []client.Cursor{{ThreadID: f.threads[0], LastID: end}}, true)
	require.NoError(t, err)
	require.Empty(t, page.Threads)
}
