package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func TestStoresAreEmptyAndApart(t *testing.T) {
	a, _ := SQLite(t)
	b, _ := SQLite(t)
	for _, s := range []*store.Store{a, b} { // the same user in both: neither sees the other's
		require.NoError(t, s.Seed.Users(t.Context(), 7, []store.NewUser{{Name: "ann", Email: "ann@example.com", PasswordHash: "x", Nick: "Ann"}}))
	}
	require.NoError(t, a.Migrate(t.Context()), "nothing is left to do")
}
