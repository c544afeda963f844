package chat

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// D2: a text that an old session left behind is not stored by the node's next life.
func TestWhatAnOldLifeLeftBehindIsNotStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a := f.start("chat1")
	c, peer := liveConn(t, a.Server)
	send := func(text string) string {
		frame, err := wire.AppendFrame(nil, wire.MsgText, fmt.Appendf(nil, `{"fromuid":%d,"thread_id":%d,"text_array":[{"content":%q,"unique_id":%q}]}`, firstUID, f.threads[0], text, text))
		require.NoError(t, err)
		require.True(t, c.Receive(frame))
		answer := make([]byte, 4096)
		n, err := peer.Read(answer)
		require.NoError(t, err)
		return string(answer[wire.HeaderLen:n])
	}
	require.Contains(t, send("while all was well"), `"status":2`)
	// The session is of an earlier life than the node, as when its texts wait for the committer meanwhile.
	c, peer = liveConnIn(t, a.Server, firstUID, "an earlier life")
	require.NotContains(t, send("from the old life"), `"status":2`)
	msgs, _, err := f.store.Messages.History(t.Context(), f.threads[0], 0, 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, msgs, 1)
}
