package presence

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProfileCache(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		both := func() [2][]byte {
			byUID, err := p.Cache.ProfileByUID(ctx, 7)
			require.NoError(t, err)
			byName, err := p.Cache.ProfileByName(ctx, "aDa")
			require.NoError(t, err)
			return [2][]byte{byUID, byName}
		}
		require.Equal(t, [2][]byte{}, both(), "a miss is nil")
		data := []byte("{\"name\":\"Ada\"}\x00\n")
		require.NoError(t, p.Cache.PutProfile(ctx, 7, "Ada", data))
		require.Equal(t, [2][]byte{data, data}, both())
		pre, err := p.Logins.Prelogin(ctx, 7, "")
		require.NoError(t, err)
		require.Equal(t, Prelogin{Profile: data}, pre)
		for _, key := range []string{p.keys.profile(7), p.keys.name("ada")} {
			ttl := p.rdb.TTL(ctx, key).Val()
			require.Positive(t, ttl)
			require.LessOrEqual(t, ttl, ProfileTTL)
		}
		require.NoError(t, p.Cache.DropProfile(ctx, 7, "ADA"))
		require.Equal(t, [2][]byte{}, both())
		require.NoError(t, p.Cache.PutProfile(ctx, 7, "Ada", data))
		require.NoError(t, p.Cache.PutProfile(ctx, 7, "Ada", []byte(strings.Repeat("x", MaxCachedBytes+1))))
		require.Equal(t, [2][]byte{}, both(), "too large to cache, and the earlier one is gone")
	})
}

func TestListsCache(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		pre := func() Prelogin {
			pre, err := p.Logins.Prelogin(ctx, 7, "")
			require.NoError(t, err)
			version, err := p.Cache.ListsVersion(ctx, 7)
			require.NoError(t, err)
			require.Equal(t, version, pre.ListsVersion)
			return pre
		}
		require.Equal(t, Prelogin{}, pre())
		data := []byte("friends\nand applications")
		require.NoError(t, p.Cache.PutLists(ctx, 7, 0, data))
		require.Equal(t, data, pre().Lists, "never changed: version 0 is good")

		require.NoError(t, p.Cache.BumpLists(ctx, 6, 7))
		first := pre()
		require.Nil(t, first.Lists)
		require.Positive(t, first.ListsVersion)
		require.NoError(t, p.Cache.PutLists(ctx, 7, first.ListsVersion, data))
		require.Equal(t, data, pre().Lists)

		require.NoError(t, p.Cache.BumpLists(ctx, 7))
		require.Greater(t, pre().ListsVersion, first.ListsVersion)
		require.NoError(t, p.Cache.PutLists(ctx, 7, first.ListsVersion, data))
		require.Nil(t, pre().Lists, "loaded before the change, put after it")
		require.Greater(t, p.rdb.TTL(ctx, p.keys.listsVersion(7)).Val(), ListsTTL, "versions outlive lists")
		require.LessOrEqual(t, p.rdb.TTL(ctx, p.keys.lists(7)).Val(), ListsTTL)

		require.NoError(t, p.Cache.PutLists(ctx, 7, pre().ListsVersion, []byte{}))
		require.NotNil(t, pre().Lists, "empty is not absent")
		require.NoError(t, p.Cache.PutLists(ctx, 7, pre().ListsVersion, make([]byte, MaxCachedBytes+1)))
		require.Nil(t, pre().Lists)
		require.NoError(t, p.Cache.BumpLists(ctx))
	})
}
