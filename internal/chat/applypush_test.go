package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// An application that was pushed and came to an end is pushed when it is made again, whatever was said in it.
func TestAnApplicationAfterAnUnfriendIsPushed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	a, b := f.start("chat1"), f.start("chat2")
	one, three := f.login(a, 1), f.login(b, 3)
	for range 3 {
		befriend(t, one, three)
		require.NoError(t, three.Unfriend(t.Context(), firstUID))
	}
	require.NoError(t, three.Block(t.Context(), firstUID))
	require.NoError(t, three.Unblock(t.Context(), firstUID))
	befriend(t, one, three)
}

// B4: the same from outside.
func TestRepeatedApplicationsDoNotFloodTheirTarget(t *testing.T) {
	f := newFixture(t, 6)
	n := f.start("chat1")
	native, stock := f.login(n, 6), f.stock(n, 5)
	stock.expect(wire.MsgLoginRsp)
	stock.load()
	const times = 25
	for user := 1; user <= 3; user++ {
		c := f.login(n, user)
		for range times {
			for _, to := range []int32{firstUID + 5, firstUID + 4} {
				require.NoError(t, c.Apply(t.Context(), to, "let me in", "back"))
			}
		}
	}
	var from []int32
	for range 3 {
		for {
			ev, err := native.Next(t.Context())
			require.NoError(t, err)
			if applied, ok := ev.(client.Applied); ok {
				from = append(from, applied.Application.UID)
				break
			}
		}
		stock.expect(wire.MsgApplied)
	}
	require.ElementsMatch(t, []int32{firstUID, firstUID + 1, firstUID + 2}, from)
	eventually(t, "all others to be counted", func() bool { return counterValue(t, n.metrics.applicationsUntold) == 3*2*times-6 })
	require.Equal(t, 5, n.Sessions(), "nobody was closed")
}
