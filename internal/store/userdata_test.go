package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() { bodies["the data of many users is what each has alone"] = testUserData }

func testUserData(t *testing.T, d *database) {
	s := d.migrated(t)
	var uids []int32
	for i := range 6 {
		uids = append(uids, user(t, s, fmt.Sprint("u", i)))
	}
	_, err := s.Seed.Friends(t.Context(), [][2]int32{{uids[0], uids[1]}, {uids[0], uids[2]}, {uids[2], uids[3]}})
	require.NoError(t, err)
	for _, from := range []int32{uids[3], uids[4], uids[5]} {
		require.NoError(t, apply(t.Context(), s, from, uids[1], "greeting", ""))
	}
	require.NoError(t, apply(t.Context(), s, uids[5], uids[4], "hello", ""))

	const nobody = 1 << 30
	got, err := s.Users.Data(t.Context(), append([]int32{nobody, uids[1]}, uids...), 2)
	require.NoError(t, err)
	require.Len(t, got, len(uids), "nobody is missing, who was asked for twice is there once")
	for _, uid := range uids {
		profile, err := s.Users.Profile(t.Context(), uid)
		require.NoError(t, err)
		require.Equal(t, profile, got[uid].Profile)
		friends, err := friendsOf(t, s, uid)
		require.NoError(t, err)
		require.Equal(t, friends, got[uid].Friends)
		applications, err := s.Friends.Applications(t.Context(), uid, 2)
		require.NoError(t, err)
		require.Equal(t, applications, got[uid].Applications)
	}
	require.Len(t, got[uids[0]].Friends, 2)
	require.Less(t, got[uids[0]].Friends[0].UID, got[uids[0]].Friends[1].UID)
	require.Len(t, got[uids[1]].Applications, 2, "of three")
	require.Equal(t, []store.Application(nil), got[uids[0]].Applications)

	// More than one statement takes.
	many := make([]store.NewUser, 600)
	for i := range many {
		many[i] = store.NewUser{Name: fmt.Sprint("m", i), Email: fmt.Sprint("m", i, "@example.com"), PasswordHash: "!", Nick: "m"}
	}
	require.NoError(t, s.Seed.Users(t.Context(), 70000, many))
	var all []int32
	for i := range many {
		all = append(all, 70000+int32(i))
	}
	all = append(append([]int32{uids[0]}, all...), uids[0])
	got, err = s.Users.Data(t.Context(), all, 2)
	require.NoError(t, err)
	require.Len(t, got, len(all)-1)
	require.Len(t, got[uids[0]].Friends, 2, "asked for in two statements")
	got, err = s.Users.Data(t.Context(), nil, 2)
	require.NoError(t, err)
	require.Empty(t, got)
}
