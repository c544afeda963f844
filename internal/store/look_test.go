package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["names that look alike are one name to newcomers"] = testLooks
	bodies["users from before keep their names"] = testOldNames
}

// D5: nobody registers a name that looks like an existing one, on whatever engine.
func testLooks(t *testing.T, d *database) {
	s := d.migrated(t)
	create := func(name, email string) (int32, error) {
		return s.Users.Create(t.Context(), store.NewUser{Name: name, Email: email, PasswordHash: "p"})
	}
	alice, err := create("Alice", "a@x")
	require.NoError(t, err)
	for _, name := range []string{"alice", "AIice", "A1ice", "Ａlice", "Alice\u3164", "Ali\u200bce"} {
		_, err := create(name, "b@x")
		require.ErrorIs(t, err, store.ErrExists, "%+q", name)
	}
	jose, err := create("José", "b@x")
	require.NoError(t, err, "a refused registration leaves nothing")
	_, err = create("JOSE\u0301", "c@x")
	require.ErrorIs(t, err, store.ErrExists)
	for _, name := range []string{"José", "Jose\u0301", "jOSE\u0301"} {
		p, err := s.Users.ProfileByName(t.Context(), name)
		require.NoError(t, err, "%+q", name)
		require.Equal(t, jose, p.UID)
		uid, err := s.Users.ResetPassword(t.Context(), name, "B@x", "q")
		require.NoError(t, err)
		require.Equal(t, jose, uid)
	}

	// A user whose name was changed by other means holds the look no more.
	_, err = d.sql(t).ExecContext(t.Context(), "UPDATE user SET name='gone',name_key='gone' WHERE uid=?", alice)
	require.NoError(t, err)
	_, err = create("AIice", "c@x")
	require.NoError(t, err)
	_, err = create("Alice", "d@x")
	require.ErrorIs(t, err, store.ErrExists)
}

// D5: rows from before the rules keep working, and are protected.
func testOldNames(t *testing.T, d *database) {
	s := d.open(t)
	require.NoError(t, s.MigrateTo(t.Context(), 2))
	db := d.sql(t)
	for _, q := range []string{
		"INSERT INTO user(uid,name,name_key,email,email_key,pwd) VALUES(1001,'Ｗide','ｗide','a@x','a@x','p')",
		"INSERT INTO user(uid,name,name_key,email,email_key,pwd) VALUES(1002,'12345','12345','b@x','b@x','p')",
		"INSERT INTO user(uid,name,name_key,email,email_key,pwd) VALUES(1003,'AIice','aiice','c@x','c@x','p')",
		"INSERT INTO user(uid,name,name_key,email,email_key,pwd) VALUES(1004,'Alice','alice','d@x','d@x','p')",
	} {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err, q)
	}
	require.NoError(t, s.Migrate(t.Context()))
	require.Equal(t, 3, scan[int](t, db, "SELECT COUNT(*) FROM user_look"), "of two that look alike the first holds it")
	for name, uid := range map[string]int32{"Ｗide": 1001, "ｗIDE": 1001, "12345": 1002, "AIice": 1003, "ALICE": 1004} {
		p, err := s.Users.ProfileByName(t.Context(), name)
		require.NoError(t, err, name)
		require.Equal(t, uid, p.UID, name)
	}
	_, err := s.Users.ProfileByName(t.Context(), "wide")
	require.ErrorIs(t, err, store.ErrNotFound)
	for _, name := range []string{"wide", "A1ice", "I2345"} {
		_, err := s.Users.Create(t.Context(), store.NewUser{Name: name, Email: "e@x", PasswordHash: "p"})
		require.ErrorIs(t, err, store.ErrExists, name)
	}
}
