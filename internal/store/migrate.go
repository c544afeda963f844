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
	if s.d.Dialect == MySQL {
		return s.migrateMySQL(ctx)
	}
	// The writer holds the pool's only connection, which goose needs.
	w, err := s.writers.take(ctx)
	if err != nil {
		return err
	}
	defer func() { <-s.writers.slots }()
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
	if err := s.write.QueryRowContext(ctx, qForeign).Scan(&foreign); err != nil {
		return err
	}
	if foreign > 0 {
		return ErrForeignSchema
	}
	provider, err := s.provider(goose.WithSessionLocker(namedLock{}))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

func (s *Store) provider(options ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(schemas, "schema/"+s.d.String())
	if err != nil {
		return nil, err
	}
	dialect := goose.DialectMySQL
	if s.d.Dialect == SQLite {
		dialect = goose.DialectSQLite3
	}
	options = append(options, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	return goose.NewProvider(dialect, s.write, files, options...)
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

// namedLock is the server's own lock, which goes when its session does. goose's table lock would keep the nodes out for
// half a minute after a crash, and needs a driver that parses times.
type namedLock struct{}

// SessionLock waits until it has the lock or ctx ends. Each statement waits one second at most, so that a server which
// drops idle sessions, or a reader's time-out, does not cut it short.
func (namedLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
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

// SessionUnlock releases the lock.
func (namedLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var released sql.NullInt64
	if err := conn.QueryRowContext(ctx, qUnlock).Scan(&released); err != nil {
		return fmt.Errorf("migration lock: %w", err)
	}
	return nil
}
