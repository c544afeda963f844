package store_test

import (
	"database/sql"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/store/mysql"
)

// B10: a database that answers but cannot be written to is named.
func init() {
	bodies["a write probe sees what ping does not"] = func(t *testing.T, d *database) {
		migrated := d.migrated(t)
		if d.engine == store.SQLite {
			probeThatRecovers(t, migrated, d.sql(t), func(db *sql.DB, on bool) error {
				statement := "DROP TRIGGER full"
				if on {
					statement = "CREATE TRIGGER full BEFORE INSERT ON node_fence BEGIN SELECT RAISE(ABORT, 'no'); END"
				}
				_, err := db.ExecContext(t.Context(), statement)
				return err
			}, "refuses writes")
			return
		}
		root := d.sql(t)
		for _, statement := range []string{
			"CREATE OR REPLACE USER probe@'%' IDENTIFIED BY 'p'", // root may write to a server that is read-only
			"GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO probe@'%'",
		} {
			_, err := root.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		dsn, err := mysqldriver.ParseDSN(d.dsn)
		require.NoError(t, err)
		dsn.User, dsn.Passwd = "probe", "p"
		s, err := mysql.Open(t.Context(), dsn.FormatDSN(), mysql.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		probeThatRecovers(t, s, root, func(db *sql.DB, on bool) error {
			_, err := db.ExecContext(t.Context(), "SET GLOBAL read_only = ?", on)
			return err
		}, "read-only")
	}
}

func probeThatRecovers(t *testing.T, s *store.Store, db *sql.DB, refuse func(*sql.DB, bool) error, reason string) {
	p := s.NewWriteProbe()
	require.NoError(t, refuse(db, true))
	require.NoError(t, s.Ping(t.Context()))
	for range 2 {
		var u *store.Unwritable
		require.ErrorAs(t, p.Check(t.Context()), &u)
		require.Equal(t, reason, u.Public())
	}
	require.NoError(t, refuse(db, false))
	require.NoError(t, p.Check(t.Context()))
	require.NoError(t, refuse(db, true))
	require.NoError(t, p.Check(t.Context()), "a write counts for some seconds")
	require.Error(t, s.NewWriteProbe().Check(t.Context()))
	require.NoError(t, refuse(db, false))
}
