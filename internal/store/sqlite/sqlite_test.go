package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/store/sqlite"
)

func TestOpen(t *testing.T) {
	// Characters that mean something in a URL, and nothing in a file's name.
	path := filepath.Join(t.TempDir(), "a b?c=d#e%41&.db")
	s, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	uid, err := s.CreateUser(t.Context(), store.NewUser{Name: "alice", Email: "alice@example.com", PasswordHash: "hash"})
	require.NoError(t, err)

	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	require.NoError(t, err)
	require.Len(t, files, 3, "the file, its log and the log's index")
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f)
	}
	require.NoError(t, s.Close())

	// What was stored is there after a restart.
	s, err = sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	p, err := s.Profile(t.Context(), uid)
	require.NoError(t, err)
	require.Equal(t, "alice", p.Name)
}

func TestOpenFails(t *testing.T) {
	_, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "no such directory", "db"))
	require.ErrorIs(t, err, os.ErrNotExist)

	path := filepath.Join(t.TempDir(), "db")
	require.NoError(t, os.WriteFile(path, []byte("this is no database, whatever its name says, and long enough to be sure"), 0o600))
	_, err = sqlite.Open(t.Context(), path)
	require.Error(t, err)
}
