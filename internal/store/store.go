// Package store keeps users, friends, groups, threads and messages in SQL. It knows tables and transactions; its callers
// handle permissions, caches and the wire protocol. It runs on MySQL 8, MariaDB and SQLite through database/sql and imports
// no driver: internal/store/mysql and internal/store/sqlite open pools for it.
//
// Every call blocks until the database has answered, the context has ended or, without a deadline, DefaultTimeout has
// passed. All methods of Store and of its parts are safe for concurrent use. The durability of stored data depends on the settings of
// the database; see DurabilityWarnings.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultTimeout bounds a call whose context has no deadline. Migrate is not bounded.
const DefaultTimeout = 10 * time.Second

// DefaultWriters is how many transactions run at once on MySQL unless Options says otherwise: four committers, and room
// for accounts and friendships beside them. It never takes more than half of the pool.
const DefaultWriters = 8

// Options are what New cannot find out by itself.
type Options struct {
	// ErrorCode returns the number by which the engine calls err: MySQL's error number, SQLite's extended result code.
	// ok is false if err is not the engine's. Required.
	ErrorCode func(err error) (code int, ok bool)
	// Writers bounds the transactions at once, each of which holds a connection. 0 means DefaultWriters. SQLite has one.
	Writers int
	// Renew makes the pools replace each connection before they use it again; nil if they cannot.
	Renew func()
	// Metrics is where counters are registered; nil registers nowhere.
	Metrics prometheus.Registerer
}

// Store is the database. Its parts keep what their names say; what concerns the whole are its own methods. Make it with New.
type Store struct {
	Users      *Users      // accounts, passwords, profiles
	Friends    *Friends    // applications and blocks too
	Visibility *Visibility // who may see who is online
	Threads    *Threads    // of a user or a pair, and which have changed
	Messages   *Messages   // append, history, recall, edit, hide
	Marks      *Marks      // how far users have read
	Groups     *Groups     // and their members
	Links      *Links      // by which users join groups
	Rights     *Rights     // who may read and write where
	Fence      *Fence      // which process of a node may store
	Seed       *Seed       // for demonstrations and load tests

	db *database
}

// New returns a Store over two pools, which Close closes. On MySQL both may be the same pool of at least two
// connections. On SQLite write must have exactly one connection, which the store keeps, and read is another pool on the
// same file. Nothing is read or written yet.
func New(d Dialect, write, read *sql.DB, o Options) (*Store, error) {
	if o.ErrorCode == nil {
		return nil, errors.New("store: Options.ErrorCode is required")
	}
	n := o.Writers
	if n <= 0 {
		n = DefaultWriters
	}
	most := write.Stats().MaxOpenConnections
	switch {
	case d == SQLite:
		if most != 1 || write == read {
			return nil, errors.New("store: SQLite needs a write pool of one connection and a read pool of its own")
		}
		n = 1
	case write == read && most == 1:
		return nil, errors.New("store: the pool needs at least two connections")
	case write == read && most > 0:
		n = min(n, most/2)
	case most > 0:
		n = min(n, most)
	}
	spoken := dialectOf(d)
	db := &database{
		d:       spoken,
		write:   write,
		read:    read,
		writers: newWriters(write, spoken, n),
		reads:   &statements{on: read, d: d, open: make(map[shape]*sql.Stmt)},
		code:    o.ErrorCode,
		now:     time.Now,

		groupMembers: DefaultGroupMembers,
		m:            newMetrics(o.Metrics),
		renewal:      renewal{renew: o.Renew},
	}
	friends, groups, rights := &Friends{db}, &Groups{db}, &Rights{db}
	return &Store{
		Users:      &Users{db, friends},
		Friends:    friends,
		Visibility: &Visibility{db},
		Threads:    &Threads{db},
		Messages:   &Messages{db},
		Marks:      &Marks{db, rights},
		Groups:     groups,
		Links:      &Links{db, groups, rights},
		Rights:     rights,
		Fence:      &Fence{db},
		Seed:       &Seed{db},
		db:         db,
	}, nil
}

// Dialect returns the SQL the store speaks.
func (s *Store) Dialect() Dialect { return s.db.d.Dialect }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := s.db.read.PingContext(ctx); err != nil {
		return fmt.Errorf("store: ping: %w", err)
	}
	return nil
}

// Close closes statements and pools. It waits for running statements; calls that come later return an error.
func (s *Store) Close() error {
	s.db.reads.close()
	var err error
	if s.db.read != s.db.write {
		err = s.db.read.Close() // first: the last connection to leave an SQLite file puts its log into it
	}
	if s.db.d.Dialect == SQLite {
		s.checkpoint()
	}
	s.db.writers.close()
	if err = errors.Join(err, s.db.write.Close()); err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

// checkpoint writes SQLite's log into the file and empties it, so that the file is complete by itself even if another
// process, such as a backup, has it open and would keep the last connection from doing so.
func (s *Store) checkpoint() {
	ctx, cancel := context.WithTimeout(context.Background(), DefaultTimeout)
	defer cancel()
	_ = s.inspect(ctx, func(conn *sql.Conn) error { // a log that stays is read at the next start: nothing is lost
		_, err := conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
		return err
	})
}

// Key returns what two e-mail addresses have in common when they count as the same: the lower-cased text. It is made here
// and not by the database, because collations differ between engines and versions. Names have names.Key.
func Key(name string) string { return strings.ToLower(name) }

// fits reports whether a text may be stored in a column of 255 characters.
func fits(texts ...string) bool {
	for _, t := range texts {
		if len(t) > 4*maxText || !utf8.ValidString(t) || utf8.RuneCountInString(t) > maxText {
			return false
		}
	}
	return true
}

// maxText is the length of the short texts' columns, in characters.
const maxText = 255
