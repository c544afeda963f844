package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/launch"
)

// A node that was paused for longer than its lease is fenced off by the first login elsewhere of one of its users.
// When it wakes, it stores nothing more for its old sessions, closes them, and continues under a new boot id.
func TestPausedNodeStoresNothingWhenItWakes(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 2})
	ann, bob, thread := w.pair(t)
	idle := w.users(t, 1)
	old := w.loginRaw(t, ann, 0, native, 0)
	b := w.login(t, bob, 1)
	other := w.login(t, idle, 0)
	text := func(content string) string {
		return fmt.Sprintf(`{"touid":%d,"thread_id":%d,"text_array":[{"content":%q,"unique_id":%q}]}`, bob, thread, content, content)
	}
	old.send(wire.MsgText, text("before"))
	require.Contains(t, old.expect(wire.MsgTextRsp).raw, `"status":2`)
	awaitText(t, b, "before")
	boot := w.boot(t, 0)
	require.NotEmpty(t, boot)

	require.NoError(t, w.Chat[0].Pause())
	eventually(t, slack*lease, "the lease of the paused node to lapse", func() (bool, string) {
		ttl := w.rdb.PTTL(t.Context(), "node_chat1").Val()
		return ttl < 0, ttl.String()
	})
	a := w.login(t, ann, 1)
	var fence string
	require.NoError(t, w.db.QueryRowContext(t.Context(), "SELECT boot FROM node_fence WHERE node = 'chat1'").Scan(&fence))
	require.Empty(t, fence, "fenced before the user's new session begins")
	exchange(t, a, b)
	// What the old client sends meanwhile waits in the paused node's socket, and is the first thing it reads when it
	// wakes.
	for i := range 20 {
		old.send(wire.MsgText, text(fmt.Sprintf("stale %d", i)))
	}

	require.NoError(t, w.Chat[0].Resume())
	frames, last := old.drain(slack * 5 * time.Second)
	require.NotEmpty(t, frames)
	require.NotContains(t, last.raw, `"status":2`)
	require.Error(t, awaitEnd(t, other, slack*5*time.Second), "those who did not log in elsewhere are closed too: their node is another one now")
	exchange(t, a, b)
	for _, content := range w.stored(t, thread) {
		require.NotContains(t, content, "stale")
	}
	at := w.online(t, ann)
	require.Len(t, at, 1)
	require.Equal(t, a.SID(), at[0].SID)
	require.NoError(t, a.Err())

	eventually(t, slack*lease, "the node to be back under a new boot id", func() (bool, string) {
		now := w.boot(t, 0)
		return now != "" && now != boot, now
	})
	eventually(t, patience, "a login there", func() (bool, string) {
		c, err := w.tryLogin(t, idle, 0)
		if err != nil {
			require.Equal(t, client.CodeUnavailable, client.CodeOf(err), "%v", err)
			return false, err.Error()
		}
		_, err = c.Threads(t.Context())
		return err == nil, fmt.Sprint(err)
	})
	require.NoError(t, w.db.QueryRowContext(t.Context(), "SELECT boot FROM node_fence WHERE node = 'chat1'").Scan(&fence))
	require.Equal(t, w.boot(t, 0), fence)
}

// A node that was paused for longer than its lease continues without any change if no other node fenced it off.
func TestPausedNodeThatNobodyMissedGoesOn(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 1})
	ann, bob, _ := w.pair(t)
	a, b := w.login(t, ann, 0, client.Options{Heartbeat: time.Minute}), w.login(t, bob, 0, client.Options{Heartbeat: time.Minute})
	boot := w.boot(t, 0)
	require.NoError(t, w.Chat[0].Pause())
	eventually(t, slack*lease, "the lease to lapse", func() (bool, string) {
		ttl := w.rdb.PTTL(t.Context(), "node_chat1").Val()
		return ttl < 0, ttl.String()
	})
	require.Empty(t, w.online(t, ann))
	require.NoError(t, w.Chat[0].Resume())
	eventually(t, patience, "the lease to be back", func() (bool, string) { return w.boot(t, 0) == boot, w.boot(t, 0) })
	exchange(t, a, b)
	require.Len(t, w.online(t, ann), 1)
}
