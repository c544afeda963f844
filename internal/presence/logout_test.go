package presence

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestALogoutTakesTheTicketAlongUnlessTheDeviceWasReplaced(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n1")
		enter := func(device, sid, next string) Location {
			t.Helper()
			_, err := p.Logins.Claim(ctx, Claim{UID: 7, Device: device, Token: mint(t, p, 7), SID: sid, Node: "n1", Boot: "b1", NextResume: next})
			require.NoError(t, err)
			return Location{UID: 7, Device: device, SID: sid, Node: "n1", Boot: "b1"}
		}
		good := func(device, ticket string) bool {
			t.Helper()
			pre, err := p.Logins.PreloginResume(ctx, 7, device, ticket)
			require.NoError(t, err)
			return pre.TokenOK
		}
		old := enter("phone", "s1", "t1")
		desk := enter("desk", "s2", "t2")
		phone := enter("phone", "s3", "t3")
		require.NoError(t, p.Sessions.Logout(ctx, old))
		require.True(t, good("phone", "t3"), "the newer login keeps its ticket")
		require.Equal(t, []Location{desk, phone}, locate(t, p, 7))

		for range 2 { // Logout may be repeated
			require.NoError(t, p.Sessions.Logout(ctx, phone))
			require.False(t, good("phone", "t3"))
			require.True(t, good("desk", "t2"))
			require.Equal(t, []Location{desk}, locate(t, p, 7))
		}
		require.NoError(t, p.Sessions.Logout(ctx, desk))
		require.Empty(t, locate(t, p, 7))
		names, err := p.Sessions.NodeNames(ctx, []int32{7})
		require.NoError(t, err)
		require.Equal(t, []string{""}, names)
	})
}
