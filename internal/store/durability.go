package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// A check reads one setting.
type check struct {
	name, query string
	good        func(value string) bool
	risk        string
}

var (
	durabilityMySQL = []check{
		{
			"innodb_flush_log_at_trx_commit", "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit",
			func(v string) bool { return v == "1" }, "a crash may lose the last second of acknowledged messages",
		},
		{
			"sync_binlog", "SELECT @@GLOBAL.sync_binlog FROM DUAL WHERE @@GLOBAL.log_bin=1",
			func(v string) bool { return v == "1" }, "after a power loss replicas may miss acknowledged messages",
		},
	}
	durabilitySQLite = []check{
		{
			"synchronous", "PRAGMA synchronous",
			func(v string) bool { return v == "2" || v == "3" }, "a power loss may lose acknowledged messages",
		},
		{
			"journal_mode", "PRAGMA journal_mode",
			func(v string) bool { return v != "off" && v != "memory" }, "a crash may damage the file",
		},
	}
)

// unknownVariable is MySQL's number for a setting that an engine of its protocol does not have.
const unknownVariable = 1193

// DurabilityWarnings returns a sentence for each setting of the database under which a stored message may be lost when
// the machine loses power; none if there is no such setting.
func (s *Store) DurabilityWarnings(ctx context.Context) ([]string, error) {
	checks := durabilityMySQL
	if s.db.d.Dialect == SQLite {
		checks = durabilitySQLite
	}
	var warnings []string
	ctx, cancel := bounded(ctx)
	defer cancel()
	err := s.inspect(ctx, func(conn *sql.Conn) error {
		for _, c := range checks {
			var value string
			err := conn.QueryRowContext(ctx, c.query).Scan(&value)
			if code, ok := s.db.code(err); errors.Is(err, sql.ErrNoRows) || ok && code == unknownVariable {
				continue // it does not apply, or the engine has no such setting
			}
			if err != nil {
				return err
			}
			if !c.good(value) {
				warnings = append(warnings, c.name+" is "+value+": "+c.risk)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: durability settings: %w", err)
	}
	return warnings, nil
}

// inspect lends fn the connection that transactions run on.
func (s *Store) inspect(ctx context.Context, fn func(*sql.Conn) error) error {
	w, err := s.db.writers.take(ctx)
	if err != nil {
		return err
	}
	defer s.db.writers.put(w)
	return fn(w.conn)
}
