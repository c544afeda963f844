package store_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["four stores migrate an empty database at once"] = testMigrate
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
