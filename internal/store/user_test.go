package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["users are found whatever the case"] = testUsers
	bodies["users with one name registered at once"] = testUsersConcurrently
	bodies["passwords are swapped and reset"] = testPasswords
	bodies["seeded users and friends"] = testSeed
}

func testUsers(t *testing.T, d *database) {
	s := d.migrated(t)
	uid, err := s.Users.Create(t.Context(), store.NewUser{
		Name: "Ünal 😀", Email: "Ünal@Example.COM", PasswordHash: "$argon2id$x", Nick: "nick", Icon: "head.png", Sex: 1,
	})
	require.NoError(t, err)
	require.Equal(t, int32(1001), uid)

	for name, u := range map[string]store.NewUser{
		"name":    {Name: "üNAL 😀", Email: "other@example.com", PasswordHash: "h"},
		"address": {Name: "other", Email: "üNAL@example.com", PasswordHash: "h"},
	} {
		_, err = s.Users.Create(t.Context(), u)
		require.ErrorIs(t, err, store.ErrExists, name)
	}
	for name, u := range map[string]store.NewUser{
		"no name":         {Email: "e", PasswordHash: "h"},
		"no address":      {Name: "n", PasswordHash: "h"},
		"no password":     {Name: "n", Email: "e"},
		"long name":       {Name: strings.Repeat("ü", 256), Email: "e", PasswordHash: "h"},
		"bad text":        {Name: "n\xff", Email: "e", PasswordHash: "h"},
		"long password":   {Name: "n", Email: "e", PasswordHash: strings.Repeat("x", 1021)},
		"bad address":     {Name: "n", Email: "\xff", PasswordHash: "h"},
		"long, as a nick": {Name: "n", Email: "e", PasswordHash: "h", Nick: strings.Repeat("x", 256)},
	} {
		_, err = s.Users.Create(t.Context(), u)
		require.ErrorIs(t, err, store.ErrInvalid, name)
	}
	// As long as can be. What does not show, as a trailing space, makes no other name.
	long := store.NewUser{Name: strings.Repeat("😀", 255), Email: strings.Repeat("é", 255), PasswordHash: strings.Repeat("x", 1020)}
	longUID, err := s.Users.Create(t.Context(), long)
	require.NoError(t, err)
	require.Greater(t, longUID, uid)
	_, err = s.Users.Create(t.Context(), store.NewUser{Name: "Ünal 😀 ", Email: "space", PasswordHash: "h"})
	require.ErrorIs(t, err, store.ErrExists)
	_, err = s.Users.Create(t.Context(), store.NewUser{Name: "unal 😀", Email: "no umlaut", PasswordHash: "h"})
	require.NoError(t, err)

	c, err := s.Users.Credentials(t.Context(), "üNAL@example.com")
	require.NoError(t, err)
	require.Equal(t, store.Credentials{UID: uid, Name: "Ünal 😀", Email: "Ünal@Example.COM", Password: "$argon2id$x"}, c)
	_, err = s.Users.Credentials(t.Context(), "nobody@example.com")
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Users.Credentials(t.Context(), "' OR 1=1 -- ")
	require.ErrorIs(t, err, store.ErrNotFound)

	want := store.Profile{UID: uid, Name: "Ünal 😀", Nick: "nick", Icon: "head.png", Sex: 1}
	p, err := s.Users.Profile(t.Context(), uid)
	require.NoError(t, err)
	require.Equal(t, want, p)
	p, err = s.Users.ProfileByName(t.Context(), "ÜNAL 😀")
	require.NoError(t, err)
	require.Equal(t, want, p)
	_, err = s.Users.ProfileByName(t.Context(), "nal")
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Users.Profile(t.Context(), 1)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func testUsersConcurrently(t *testing.T, d *database) {
	stores := []*store.Store{d.migrated(t), d.open(t)}
	const rounds, callers = 8, 8
	for round := range rounds {
		var mu sync.Mutex
		var uids []int32
		var failed error
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				// The same name in other cases; every second has an address of its own.
				name := []byte(fmt.Sprintf("name%d", round))
				name[i%4] -= 'a' - 'A'
				email := fmt.Sprintf("mail%d@example.com", round)
				if i%2 == 0 {
					email = fmt.Sprintf("%d-%s", i, email)
				}
				uid, err := stores[i%2].Users.Create(t.Context(), store.NewUser{
					Name: string(name), Email: email, PasswordHash: fmt.Sprint("hash", i),
				})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					uids = append(uids, uid)
				case !errors.Is(err, store.ErrExists):
					failed = err
				}
			})
		}
		wg.Wait()
		require.NoError(t, failed)
		require.Len(t, uids, 1, "one of them gets the name")
		p, err := stores[0].Users.ProfileByName(t.Context(), fmt.Sprintf("NAME%d", round))
		require.NoError(t, err)
		require.Equal(t, uids[0], p.UID)
	}
}

func testPasswords(t *testing.T, d *database) {
	s := d.migrated(t)
	uid := user(t, s, "Alice")
	// What llfcchat stores: every character XORed with the length.
	xor := "\x01\x7f €ü'\\ "
	_, err := s.Users.ResetPassword(t.Context(), "alice", "ALICE@example.com", xor)
	require.NoError(t, err)
	c, err := s.Users.Credentials(t.Context(), "alice@example.com")
	require.NoError(t, err)
	require.Equal(t, xor, c.Password)

	require.ErrorIs(t, s.Users.UpgradePassword(t.Context(), uid, strings.TrimSpace(xor), "phc"), store.ErrNotFound)
	require.ErrorIs(t, s.Users.UpgradePassword(t.Context(), uid, strings.ToUpper(xor), "phc"), store.ErrNotFound)
	require.ErrorIs(t, s.Users.UpgradePassword(t.Context(), uid+1, xor, "phc"), store.ErrNotFound)
	require.ErrorIs(t, s.Users.UpgradePassword(t.Context(), uid, xor, ""), store.ErrInvalid)
	require.NoError(t, s.Users.UpgradePassword(t.Context(), uid, xor, "phc"))
	require.ErrorIs(t, s.Users.UpgradePassword(t.Context(), uid, xor, "phc"), store.ErrNotFound, "somebody was faster")
	require.NoError(t, s.Users.UpgradePassword(t.Context(), uid, "phc", "phc"))
	c, err = s.Users.Credentials(t.Context(), "alice@example.com")
	require.NoError(t, err)
	require.Equal(t, "phc", c.Password)

	user(t, s, "Bob")
	for _, wrong := range [][2]string{{"alice", "bob@example.com"}, {"bob", "alice@example.com"}, {"nobody", "alice@example.com"}, {"", ""}} {
		_, err = s.Users.ResetPassword(t.Context(), wrong[0], wrong[1], "new")
		require.ErrorIs(t, err, store.ErrNotFound, wrong)
	}
	_, err = s.Users.ResetPassword(t.Context(), "alice", "alice@example.com", "")
	require.ErrorIs(t, err, store.ErrInvalid)
	got, err := s.Users.ResetPassword(t.Context(), "ALICE", "alice@EXAMPLE.com", "new")
	require.NoError(t, err)
	require.Equal(t, uid, got)
	got, err = s.Users.ResetPassword(t.Context(), "ALICE", "alice@EXAMPLE.com", "new")
	require.NoError(t, err, "the same password again")
	require.Equal(t, uid, got)
}

func testSeed(t *testing.T, d *database) {
	s := d.migrated(t)
	uid := user(t, s, "seeded5")
	users := make([]store.NewUser, 300)
	for i := range users {
		users[i] = store.NewUser{Name: fmt.Sprint("seeded", i), Email: fmt.Sprint("seeded", i, "@example.com"), PasswordHash: "h", Nick: "n"}
	}
	require.NoError(t, s.Seed.Users(t.Context(), 50000, users))
	require.NoError(t, s.Seed.Users(t.Context(), 50000, users), "again")
	p, err := s.Users.ProfileByName(t.Context(), "seeded299")
	require.NoError(t, err)
	require.Equal(t, int32(50299), p.UID)
	p, err = s.Users.ProfileByName(t.Context(), "seeded5")
	require.NoError(t, err)
	require.Equal(t, uid, p.UID)
	require.Greater(t, user(t, s, "later"), int32(50299))
	require.ErrorIs(t, s.Seed.Users(t.Context(), 1, []store.NewUser{{}}), store.ErrInvalid)

	var pairs [][2]int32
	for i := range int32(100) {
		pairs = append(pairs, [2]int32{50101 + i, 50100 + i})
	}
	ids, err := s.Seed.Friends(t.Context(), pairs)
	require.NoError(t, err)
	again, err := s.Seed.Friends(t.Context(), pairs)
	require.NoError(t, err)
	require.Equal(t, ids, again)
	friends, err := friendsOf(t, s, 50150)
	require.NoError(t, err)
	require.Len(t, friends, 2)
	access, err := s.Rights.Access(t.Context(), ids)
	require.NoError(t, err)
	require.Equal(t, store.Access{User1: 50150, User2: 50151, Friends: true}, access[ids[50]])
	circle := []int32{50000, 50002, 50150, 50290}
	for range 2 { // friends stay friends
		require.NoError(t, s.Seed.Circle(t.Context(), circle))
		for i, uid := range circle {
			seen, err := s.Visibility.VisibleTo(t.Context(), uid, circle)
			require.NoError(t, err)
			require.ElementsMatch(t, slices.Concat(circle[:i], circle[i+1:]), seen)
		}
	}
	_, err = s.Seed.Friends(t.Context(), [][2]int32{{1, 1}})
	require.ErrorIs(t, err, store.ErrSelf)
}
