package chat

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
)

// nextTexts returns the next pushed texts of a connection.
func nextTexts(t *testing.T, c *client.Conn) client.Texts {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		ev, err := c.Next(ctx)
		require.NoError(t, err)
		if texts, ok := ev.(client.Texts); ok {
			return texts
		}
	}
}

func TestATextArrivesOnTheSameNodeAndOnAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	a, b := f.start("chat1"), f.start("chat2")
	one, two, three := f.login(a, 1), f.login(a, 2), f.login(b, 3)

	sent, err := one.SendText(t.Context(), client.To{UID: firstUID + 1}, "same node")
	require.NoError(t, err)
	got := nextTexts(t, two)
	require.Equal(t, "same node", got.Messages[0].Text)
	require.Equal(t, sent.MessageID, got.Messages[0].ID)

	sent, err = two.SendText(t.Context(), client.To{ThreadID: f.threads[1]}, "other node")
	require.NoError(t, err)
	got = nextTexts(t, three)
	require.Equal(t, "other node", got.Messages[0].Text)
	require.Equal(t, f.threads[1], got.Messages[0].ThreadID)
	require.EqualValues(t, 1, sent.MessageID)

	page, err := three.History(t.Context(), f.threads[1], 0, 10)
	require.NoError(t, err)
	require.Len(t, page.Messages, 1)
	require.Equal(t, "other node", page.Messages[0].Text)
}
