package presence

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhereaboutsSayWhenTheLastSessionEnded(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{MaxBatch: 2})
		_, _, err := p.Leases.Generation(ctx)
		require.NoError(t, err)
		at := func(uid int32, device string) Location {
			return Location{UID: uid, Device: device, SID: "s" + strconv.Itoa(int(uid)) + device, Node: "n", Boot: "b"}
		}
		phone, desk, other := at(1, "phone"), at(1, "desk"), at(2, "phone")
		_, err = p.Sessions.Restore(ctx, []Location{phone, desk, other})
		require.NoError(t, err)
		require.NoError(t, p.Sessions.Release(ctx, []Location{phone, at(3, "phone")}))
		found, gen, err := p.Sessions.Whereabouts(ctx, []int32{1, 2, 3})
		require.NoError(t, err)
		require.NotEmpty(t, gen)
		require.Equal(t, []Whereabouts{{Locations: []Location{desk}}, {Locations: []Location{other}}, {}}, found, "a device is left")

		require.NoError(t, p.Sessions.Release(ctx, []Location{desk}))
		require.NoError(t, p.Sessions.Logout(ctx, other))
		now, err := p.rdb.Time(ctx).Result()
		require.NoError(t, err)
		found, _, err = p.Sessions.Whereabouts(ctx, []int32{1, 2, 3})
		require.NoError(t, err)
		for _, w := range found[:2] {
			require.Empty(t, w.Locations)
			require.InDelta(t, now.Unix()/60, w.SeenMin, 1)
		}
		require.Zero(t, found[2].SeenMin)
		require.Greater(t, p.rdb.TTL(ctx, p.keys.seen(1)).Val(), SeenTTL-time.Hour)

		require.NoError(t, p.Sessions.NoteSeen(ctx, []int32{1, 2, 3}, 7))
		found, _, err = p.Sessions.Whereabouts(ctx, []int32{3})
		require.NoError(t, err)
		require.Equal(t, []Whereabouts{{SeenMin: 7}}, found)

		require.NoError(t, p.rdb.Del(ctx, keyGeneration).Err())
		_, gen, err = p.Sessions.Whereabouts(ctx, []int32{1, 2})
		require.NoError(t, err)
		require.Empty(t, gen, "this Redis has lost its data")
	})
}
