package store_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["four stores migrate an empty database at once"] = testMigrate
	bodies["a migration that died between two statements is completed"] = testMigrateAfterCrash
	bodies["durability settings are checked"] = testDurability
}

func testMigrate(t *testing.T, d *database) {
	stores := make([]*store.Store, 4)
	for i := range stores {
		stores[i] = d.open(t)
	}
	failed := make(chan error, len(stores))
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() { failed <- s.Migrate(t.Context()) })
	}
	wg.Wait()
	for range stores {
		require.NoError(t, <-failed)
	}
	versions := scan[int](t, d.sql(t), "SELECT COUNT(*) FROM goose_db_version WHERE version_id>0")
	require.Equal(t, 1, versions, "each migration ran once")
	for _, s := range stores {
		require.NoError(t, s.Migrate(t.Context()), "nothing to do")
		user(t, s, string(rune('a'+versions)))
		versions++
	}
}

// goose makes its table of versions and then the first row of it. On MySQL the table is there for good before the row is.
func testMigrateAfterCrash(t *testing.T, d *database) {
	s := d.open(t)
	if d.engine == store.SQLite {
		return // both are one transaction there
	}
	require.NoError(t, s.Migrate(t.Context()))
	_, err := d.sql(t).ExecContext(t.Context(), "DELETE FROM goose_db_version")
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, s.Migrate(t.Context()))
		require.Equal(t, 2, scan[int](t, d.sql(t), "SELECT COUNT(*) FROM goose_db_version"))
	}
	user(t, s, "a")
}

func testDurability(t *testing.T, d *database) {
	s := d.migrated(t)
	warnings, err := s.DurabilityWarnings(t.Context())
	require.NoError(t, err)
	require.Empty(t, warnings)
	if d.engine == store.SQLite {
		return // the DSN is ours, and nobody else can change a connection's settings
	}
	_, err = d.sql(t).ExecContext(t.Context(), "SET GLOBAL innodb_flush_log_at_trx_commit=2")
	require.NoError(t, err)
	warnings, err = s.DurabilityWarnings(t.Context())
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "innodb_flush_log_at_trx_commit is 2")
	_, err = d.sql(t).ExecContext(t.Context(), "SET GLOBAL innodb_flush_log_at_trx_commit=1")
	require.NoError(t, err)
}
