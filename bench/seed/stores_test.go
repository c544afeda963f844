package seed

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/internal/presence"
)

// TestWhatIsLeftOfUsers has one user on a live node, one under an earlier boot id of a node, and one whose entry
// outlived the session.
func TestWhatIsLeftOfUsers(t *testing.T) {
	mini := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	t.Cleanup(func() { rdb.Close() })
	pr := presence.New(rdb, presence.Options{})
	t.Cleanup(pr.Close)
	s := &Stores{rdb: rdb, presence: pr}
	ctx := t.Context()
	left := func() Left {
		t.Helper()
		l, err := s.Left(ctx, []int32{1, 2, 3, 4})
		require.NoError(t, err)
		return l
	}
	require.Equal(t, Left{}, left())

	require.NoError(t, pr.Leases.Take(ctx, presence.Lease{Name: "chat1", Boot: "now"}, ""))
	require.NoError(t, pr.Leases.ReportLoad(ctx, "chat1", 2, nil))
	lost, err := pr.Sessions.Restore(ctx, []presence.Location{
		{UID: 1, Device: "bench", SID: "a", Node: "chat1", Boot: "now"}, {UID: 2, Device: "bench", SID: "b", Node: "chat1", Boot: "before"},
	})
	require.NoError(t, err)
	require.Empty(t, lost)
	require.NoError(t, mini.Set("uip_3", "chat1"))
	l := left()
	require.Contains(t, l.Example, "device \"bench\"")
	l.Example = ""
	require.Equal(t, Left{Sessions: 1, Names: 2, Dead: 1, Counted: 2, UIDs: []int32{1, 2, 3}}, l)

	require.NoError(t, pr.Sessions.Release(ctx, []presence.Location{{UID: 1, Device: "bench", SID: "a", Node: "chat1", Boot: "now"}}))
	require.NoError(t, pr.Leases.ReportLoad(ctx, "chat1", 0, nil))
	mini.Del("uip_3")
	l = left()
	require.Equal(t, Left{Dead: 1, UIDs: []int32{2}, Example: l.Example}, l)
}
