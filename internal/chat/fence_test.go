package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
)

// D2: a text that an old session left behind is not stored by the node's next life.
func TestWhatAnOldLifeLeftBehindIsNotStored(t *testing.T) {
	f := newFixture(t, 2)
	a := f.start("chat1")
	one := f.login(a, 1)
	_, err := one.SendText(t.Context(), client.InThread(f.threads[0]), "while all was well")
	require.NoError(t, err)
	// The next life begins while the session is still there, as when its texts wait for the committer meanwhile.
	a.lease.mu.Lock()
	a.lease.mine.Boot = "the next life"
	a.lease.mu.Unlock()
	require.NoError(t, f.store.TakeFence(t.Context(), "chat1", "the next life"))
	_, err = one.SendText(t.Context(), client.InThread(f.threads[0]), "from the old life")
	require.Error(t, err)
	msgs, _, err := f.store.History(t.Context(), f.threads[0], 0, 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, msgs, 1)
}
