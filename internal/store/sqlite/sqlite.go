// Package sqlite opens a store.Store on a SQLite file, with the pure Go driver. It is for standalone and tests: one
// process writes, at the speed of one transaction after the other.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	driver "modernc.org/sqlite"

	"parley/internal/store"
)

// Readers is the size of the pool for reads.
const Readers = 4

// busyMS is how long a statement waits for another process that has the file, in milliseconds; as long as MySQL waits
// for a lock. Inside this process nothing waits for the file's lock.
const busyMS = "2000"

// writerPragmas save the writer a third of its time: a batch's statement journal would else be a file, the inner pages
// of the trees would be read again and again, and the log would be copied back every 4 MiB instead of every 16.
var writerPragmas = []string{"temp_store(MEMORY)", "cache_size(-16384)", "wal_autocheckpoint(4000)"}

// Open opens the file at path, creating it, readable by its owner only, if there is none. It does not migrate. The
// caller closes the store.
func Open(ctx context.Context, path string) (*store.Store, error) {
	return OpenWithMetrics(ctx, path, nil)
}

// OpenWithMetrics is Open with a place for the store's metrics; nil is none.
func OpenWithMetrics(ctx context.Context, path string, reg prometheus.Registerer) (*store.Store, error) {
	s, err := open(ctx, path, reg)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string, reg prometheus.Registerer) (*store.Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// SQLite would create it readable by all; its -wal and -shm files inherit the mode.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	write, err := sql.Open("sqlite", dsn(path, url.Values{
		"_txlock":       {"immediate"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_pragma":       writerPragmas,
	}))
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	write.SetMaxIdleConns(1)
	// First, because it is this connection that makes the file a WAL file.
	if err := write.PingContext(ctx); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read, err := sql.Open("sqlite", dsn(path, url.Values{"_query_only": {"1"}}))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(Readers)
	read.SetMaxIdleConns(Readers)
	s, err := store.New(store.SQLite, write, read, store.Options{ErrorCode: errorCode, Metrics: reg})
	if err != nil {
		return nil, errors.Join(err, read.Close(), write.Close())
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func dsn(path string, q url.Values) string {
	q.Set("_busy_timeout", busyMS)
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}
	return u.String()
}

func errorCode(err error) (int, bool) {
	e, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return 0, false
	}
	return e.Code(), true
}
