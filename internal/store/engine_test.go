package store_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/store/mysql"
	"parley/internal/store/sqlite"
	"parley/lab/launch"
	"parley/lab/launchtest"
)

// database is an empty database of one engine, for one test.
type database struct {
	engine store.Dialect
	dsn    string          // a file's path, or a DSN
	server *launch.MariaDB // nil on SQLite
	// statements: no stored procedure takes the place of statements.
	statements bool
}

// open returns another store on the database.
func (d *database) open(t testing.TB) *store.Store {
	t.Helper()
	var s *store.Store
	var err error
	if d.engine == store.SQLite {
		s, err = sqlite.Open(t.Context(), d.dsn)
	} else {
		s, err = mysql.Open(t.Context(), d.dsn, mysql.Options{})
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// another is open on a server. A file has one process, whose goroutines share s: SQLite lets several wait for each other
// without any order, for seconds on a slow disk.
func (d *database) another(t testing.TB, s *store.Store) *store.Store {
	t.Helper()
	if d.engine == store.SQLite {
		return s
	}
	return d.open(t)
}

// migrated is open with the schema in place, prepared as a node does it unless the database is for statements alone.
func (d *database) migrated(t testing.TB) *store.Store {
	t.Helper()
	s := d.open(t)
	if d.statements {
		require.NoError(t, s.Migrate(t.Context()))
	} else {
		require.NoError(t, s.Prepare(t.Context(), slog.New(slog.DiscardHandler), store.Demands{}))
	}
	return s
}

// sql returns a pool of the test's own.
func (d *database) sql(t testing.TB) *sql.DB {
	t.Helper()
	name, dsn := "mysql", d.dsn
	if d.engine == store.SQLite {
		name, dsn = "sqlite", "file:"+d.dsn+"?_busy_timeout=5000&_txlock=immediate"
	}
	db, err := sql.Open(name, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// on is one of two texts, by engine.
func (d *database) on(mysql, sqlite string) string {
	if d.engine == store.SQLite {
		return sqlite
	}
	return mysql
}

// bodies is what every engine must do, by name.
var bodies = map[string]func(*testing.T, *database){}

// TestEngines runs every body on SQLite and on a mariadbd of the test's own, each on an empty database.
func TestEngines(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel() // disks make them wait
		for name, body := range bodies {
			t.Run(name, func(t *testing.T) {
				body(t, newSQLite(t))
			})
		}
	})
	t.Run("mariadb", func(t *testing.T) {
		t.Parallel()
		server := launchtest.MariaDB(t)
		for name, body := range bodies {
			t.Run(name, func(t *testing.T) {
				body(t, newMariaDB(t, server))
			})
			if strings.HasPrefix(name, "append") {
				t.Run(name+", by statements alone", func(t *testing.T) {
					d := newMariaDB(t, server)
					d.statements = true
					body(t, d)
				})
			}
		}
	})
}

func newSQLite(t testing.TB) *database {
	return &database{engine: store.SQLite, dsn: filepath.Join(t.TempDir(), "parley.db")}
}

func newMariaDB(t testing.TB, server *launch.MariaDB) *database {
	t.Helper()
	db, err := sql.Open("mysql", server.DSNOf(""))
	require.NoError(t, err)
	defer db.Close()
	var n int
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM information_schema.schemata").Scan(&n))
	schema := fmt.Sprintf("test%d", n)
	_, err = db.Exec("CREATE DATABASE " + schema)
	require.NoError(t, err)
	return &database{engine: store.MySQL, dsn: server.DSNOf(schema), server: server}
}

// scan reads one value.
func scan[T any](t testing.TB, db *sql.DB, query string, args ...any) T {
	t.Helper()
	var v T
	require.NoError(t, db.QueryRowContext(t.Context(), query, args...).Scan(&v))
	return v
}

// errorCode is what the packages below give to store.New.
func errorCode(err error) (int, bool) {
	if e, ok := errors.AsType[*mysqldriver.MySQLError](err); ok {
		return int(e.Number), true
	}
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code(), true
	}
	return 0, false
}

// user creates a user who is called name.
func user(t testing.TB, s *store.Store, name string) int32 {
	t.Helper()
	uid, err := s.Users.Create(t.Context(), store.NewUser{
		Name: name, Email: name + "@example.com", PasswordHash: "hash of " + name, Nick: name, Icon: "icon.png",
	})
	require.NoError(t, err)
	return uid
}

// thread creates a pair of users and their thread.
func thread(t testing.TB, s *store.Store, name string) (id int64, a, b int32) {
	t.Helper()
	a, b = user(t, s, name+"1"), user(t, s, name+"2")
	id, err := s.Threads.EnsureOfPair(t.Context(), a, b)
	require.NoError(t, err)
	return id, a, b
}

// node takes the fence of a node.
func node(t testing.TB, s *store.Store, name string) (node, boot string) {
	t.Helper()
	require.NoError(t, s.Fence.Take(t.Context(), name, "boot of "+name))
	return name, "boot of " + name
}

// history reads a whole thread.
func history(t testing.TB, s *store.Store, thread int64) []store.Message {
	t.Helper()
	var all []store.Message
	for after := int64(0); ; {
		msgs, more, err := s.Messages.History(t.Context(), thread, after, 500, 1<<20)
		require.NoError(t, err)
		all = append(all, msgs...)
		if !more {
			return all
		}
		after = msgs[len(msgs)-1].Seq
	}
}

// faults makes the connections of a pool fail on purpose.
type faults struct {
	// commit is called with the real COMMIT; what it returns is what the store gets.
	commit func(ctx context.Context, real func(context.Context) error) error
	// call is the same for the call of a stored procedure.
	call func(real func() error) error
}

// withFaults returns a store on the migrated database whose transactions run over f.
func (d *database) withFaults(t testing.TB, f *faults) *store.Store {
	t.Helper()
	read := d.sql(t)
	write := sql.OpenDB(faultyConnector{read.Driver(), d.on(d.dsn, "file:"+d.dsn+"?_busy_timeout=5000"), f})
	if d.engine == store.SQLite {
		write.SetMaxOpenConns(1)
	}
	s, err := store.New(d.engine, write, read, store.Options{ErrorCode: errorCode})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

type faultyConnector struct {
	drv driver.Driver
	dsn string
	f   *faults
}

func (c faultyConnector) Driver() driver.Driver { return c.drv }

func (c faultyConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.drv.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return &faultyConn{conn, c.f}, nil
}

type faultyConn struct {
	driver.Conn
	f *faults
}

func (c *faultyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	st, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err == nil && strings.HasPrefix(query, "CALL ") {
		st = &faultyCall{st, c.f}
	}
	return st, err
}

// faultyCall is a prepared call of a stored procedure.
type faultyCall struct {
	driver.Stmt
	f *faults
}

func (c *faultyCall) CheckNamedValue(v *driver.NamedValue) error {
	return c.Stmt.(driver.NamedValueChecker).CheckNamedValue(v)
}

func (c *faultyCall) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	query := c.Stmt.(driver.StmtQueryContext).QueryContext
	if c.f.call == nil {
		return query(ctx, args)
	}
	return nil, c.f.call(func() error {
		rows, err := query(ctx, args)
		if err != nil {
			return err
		}
		return rows.Close()
	})
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	var res driver.Result
	run := func(ctx context.Context) (err error) {
		res, err = c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
		return err
	}
	if query == "COMMIT" && c.f.commit != nil {
		return res, c.f.commit(ctx, run)
	}
	return res, run(ctx)
}
