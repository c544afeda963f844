package sqlite_test

import (
	"database/sql"
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
	uid, err := s.Users.Create(t.Context(), store.NewUser{Name: "alice", Email: "alice@example.com", PasswordHash: "hash"})
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
	p, err := s.Users.Profile(t.Context(), uid)
	require.NoError(t, err)
	require.Equal(t, "alice", p.Name)
}

// F4
func TestAClosedFileIsCompleteByItself(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "parley.db")
	s, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	uid, err := s.Users.Create(t.Context(), store.NewUser{Name: "alice", Email: "a@example.com", PasswordHash: "x"})
	require.NoError(t, err)
	_, err = s.Users.Profile(t.Context(), uid) // a reader has the file open
	require.NoError(t, err)

	// A backup of the running one, as docs/OPERATIONS.md says.
	backup := filepath.Join(t.TempDir(), "backup.db")
	db, err := sql.Open("sqlite", "file:"+path)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "VACUUM INTO ?", backup)
	require.NoError(t, err)
	require.NoError(t, s.Close(), "while the backup's connection is open")
	require.NoError(t, db.Close())

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	copied := filepath.Join(t.TempDir(), "copy.db")
	require.NoError(t, os.WriteFile(copied, data, 0o600))
	for _, path := range []string{copied, backup} {
		s, err := sqlite.Open(t.Context(), path)
		require.NoError(t, err)
		p, err := s.Users.Profile(t.Context(), uid)
		require.NoError(t, err, path)
		require.Equal(t, "alice", p.Name)
		require.NoError(t, s.Close())
	}
}

func TestOpenFails(t *testing.T) {
	_, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "no such directory", "db"))
	require.ErrorIs(t, err, os.ErrNotExist)

	path := filepath.Join(t.TempDir(), "db")
	require.NoError(t, os.WriteFile(path, []byte("this is no database, whatever its name says, and long enough to be sure"), 0o600))
	_, err = sqlite.Open(t.Context(), path)
	require.Error(t, err)
}
