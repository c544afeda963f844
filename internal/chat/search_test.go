package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/store"
)

// D7: digits find the user with that uid, and else a user whose name they are, from before such names were refused.
func TestDigitsFindAUIDFirstAndThenAName(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	require.NoError(t, f.store.Seed.Users(t.Context(), firstUID+2, []store.NewUser{
		{Name: "1002", Email: "three@example.com", PasswordHash: "x"},
		{Name: "777777", Email: "four@example.com", PasswordHash: "x"},
	}))
	c := f.login(f.start("chat1"), 1)
	p, err := c.Search(t.Context(), "1002")
	require.NoError(t, err)
	require.EqualValues(t, firstUID+1, p.UID, "the uid wins over another user's name")
	p, err = c.Search(t.Context(), "777777")
	require.NoError(t, err)
	require.EqualValues(t, firstUID+3, p.UID)
	_, err = c.Search(t.Context(), "888888")
	require.Equal(t, client.CodeUIDInvalid, client.CodeOf(err))
}
