package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed schema/mysql/*.sql schema/sqlite/*.sql
var schemas embed.FS

const (
	qLock   = "SELECT GET_LOCK(CONCAT('parley-', MD5(DATABASE())), 1)"
	qUnlock = "SELECT RELEASE_LOCK(CONCAT('parley-', MD5(DATABASE())))"

	qVersionTable = `SELECT COUNT(*) FROM information_schema.tables
		WHERE table_schema=DATABASE() AND table_name='goose_db_version'`
	qVersionZero = `INSERT INTO goose_db_version (version_id, is_applied)
		SELECT 0, TRUE FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM (SELECT id FROM goose_db_version LIMIT 1) AS any_row)`

	// llfcchat's user table has the same name and no name_key.
	qForeign = `SELECT COUNT(*) FROM information_schema.tables t
		WHERE t.table_schema=DATABASE() AND t.table_name='user' AND NOT EXISTS (
			SELECT 1 FROM information_schema.columns c
			WHERE c.table_schema=t.table_schema AND c.table_name=t.table_name AND c.column_name='name_key')`
)

// Migrate brings the schema up to date, creating it in an empty database. Any number of nodes may call it at once on one
// database: on MySQL one works while the others wait, each no longer than its ctx; a node that dies meanwhile lets the
// next one in. It returns ErrForeignSchema, and changes nothing, if the database is llfcchat's.
func (s *Store) Migrate(ctx context.Context) error {
	err := s.migrate(ctx)
	if err != nil {
		return fmt.Errorf("store: migrate: %w", err)
	}
	return nil
}

func (s *Store) migrate(ctx context.Context) error {
	if s.db.d.Dialect == MySQL {
		return s.migrateMySQL(ctx)
	}
	// The writer holds the pool's only connection, which goose needs.
	w, err := s.db.writers.take(ctx)
	if err != nil {
		return err
	}
	defer func() { <-s.db.writers.slots }()
	if err := w.release(); err != nil {
		return err
	}
	provider, err := s.provider()
	if err != nil {
		return err
	}
	// Each migration is a transaction that starts with SQLite's write lock, but goose reads what there is to do before:
	// of two processes on one new file the slower fails, and finds the work done when it looks again.
	for try := 1; ; try++ {
		_, err = provider.Up(ctx)
		if err == nil || try == 5 || ctx.Err() != nil {
			return err
		}
		if err := pause(ctx, try+5); err != nil {
			return err
		}
	}
}

func (s *Store) migrateMySQL(ctx context.Context) error {
	var foreign int
	if err := s.db.write.QueryRowContext(ctx, qForeign).Scan(&foreign); err != nil {
		return err
	}
	if foreign > 0 {
		return ErrForeignSchema
	}
	provider, err := s.provider()
	if err != nil {
		return err
	}
	// goose's own use of such a lock does not cover the making of its table of versions: of several nodes on an empty
	// database one might find that table without its first row, and give up.
	conn, err := s.db.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := lock(ctx, conn); err != nil {
		return err
	}
	err = completeVersions(ctx, conn)
	if err == nil {
		_, err = provider.Up(ctx)
	}
	return errors.Join(err, unlock(ctx, conn))
}

// completeVersions adds the first row to a table of versions whose maker died before it did: MySQL commits the table
// alone, and goose does not mend that. The caller holds the lock.
func completeVersions(ctx context.Context, conn *sql.Conn) error {
	var exists int
	if err := conn.QueryRowContext(ctx, qVersionTable).Scan(&exists); err != nil || exists == 0 {
		return err
	}
	_, err := conn.ExecContext(ctx, qVersionZero)
	return err
}

func (s *Store) provider(options ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(schemas, "schema/"+s.db.d.String())
	if err != nil {
		return nil, err
	}
	dialect := goose.DialectMySQL
	if s.db.d.Dialect == SQLite {
		dialect = goose.DialectSQLite3
	}
	options = append(options, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()),
		goose.WithGoMigrations(lookMigration(s.db.d.Dialect)))
	return goose.NewProvider(dialect, s.db.write, files, options...)
}

// release gives the connection back to its pool; the writer is not used again.
func (w *writer) release() error {
	for _, st := range w.stmts {
		if err := st.Close(); err != nil {
			return err
		}
	}
	return w.conn.Close()
}

// lock takes the server's own lock, which goes when its session does. goose's table lock would keep the nodes out for
// half a minute after a crash, and needs a driver that parses times. It waits until it has the lock or ctx ends. Each
// statement waits one second at most, so that a server which drops idle sessions, or a reader's time-out, does not cut it
// short.
func lock(ctx context.Context, conn *sql.Conn) error {
	for {
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, qLock).Scan(&got); err != nil {
			return fmt.Errorf("migration lock: %w", err)
		}
		if !got.Valid {
			return errors.New("migration lock: refused by the server")
		}
		if got.Int64 == 1 {
			return nil
		}
	}
}

// unlock releases the lock, even when ctx has ended.
func unlock(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var released sql.NullInt64
	if err := conn.QueryRowContext(ctx, qUnlock).Scan(&released); err != nil {
		return fmt.Errorf("migration lock: %w", err)
	}
	return nil
}
