package standalone

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/config"
	"parley/internal/store/sqlite"
)

// D10
func TestASecondProcessOnTheSameDataIsRefused(t *testing.T) {
	o := LocalOptions()
	o.Data, o.Demo = t.TempDir(), false
	first, err := Start(t.Context(), o)
	require.NoError(t, err)
	defer first.Close()
	_, err = Start(t.Context(), o)
	require.ErrorContains(t, err, o.Data)
	require.ErrorContains(t, err, "--data")
	require.Equal(t, config.ExitDependency, config.ExitCode(err))
	require.NoError(t, first.Err(), "the first goes on")

	require.NoError(t, first.Close())
	again, err := Start(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

// F4
func TestACleanStopLeavesACompleteFile(t *testing.T) {
	o := LocalOptions()
	o.Data, o.Demo = t.TempDir(), true
	c, err := Start(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, c.Close())

	data, err := os.ReadFile(filepath.Join(o.Data, "parley.db"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "copy.db")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	s, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Users.Credentials(t.Context(), Demo[0].Email)
	require.NoError(t, err)
}
