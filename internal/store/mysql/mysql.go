// Package mysql opens a store.Store on MySQL 8, MariaDB 10.6 or later, or an engine that speaks their protocol.
package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/store"
)

// DefaultMaxOpen is the size of the pool unless Options says otherwise.
const DefaultMaxOpen = 16

// minOpen leaves a connection for reads while another holds a transaction.
const minOpen = 2

// dialTimeout bounds a connection's start if the DSN has no timeout.
const dialTimeout = 3 * time.Second

// Options of Open. The zero value is usable.
type Options struct {
	// MaxOpen bounds the connections at once: 0 means DefaultMaxOpen, 1 counts as 2. Each takes about 0.3 MiB of the
	// server and one of its max_connections.
	MaxOpen int
	// Writers bounds the transactions at once; 0 means store.DefaultWriters. Never more than half of MaxOpen.
	Writers int
	// Metrics is where counters are registered; nil registers nowhere.
	Metrics prometheus.Registerer
}

// Open opens a pool on dsn, in the form of go-sql-driver/mysql, checks that the server answers, and returns a store over
// it. It does not migrate. The caller closes the store. DurabilityWarnings of the store tells about unsafe settings of
// the server.
func Open(ctx context.Context, dsn string, o Options) (*store.Store, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err) // never shows the DSN
	}
	cfg.MultiStatements = false   // one statement a call, whatever is injected
	cfg.InterpolateParams = false // values travel apart from the text
	cfg.ClientFoundRows = false   // UpgradePassword counts changed rows
	cfg.Logger = &mysql.NopLogger{}
	cfg.DialFunc = dial
	if cfg.Timeout == 0 {
		cfg.Timeout = dialTimeout
	}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	epoch := new(atomic.Uint64)
	db := sql.OpenDB(connector{c, epoch})
	most := o.MaxOpen
	if most <= 0 {
		most = DefaultMaxOpen
	}
	most = max(most, minOpen)
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(30 * time.Minute)
	s, err := store.New(store.MySQL, db, db, store.Options{
		ErrorCode: errorCode, Writers: o.Writers, Metrics: o.Metrics, Renew: func() { epoch.Add(1) },
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("mysql: open %s: %w", cfg.Addr, err), s.Close())
	}
	return s, nil
}

// session prepares each connection. READ COMMITTED takes no gap locks, and sees what others have committed. A paused
// node's transaction must not hold its row locks: MariaDB ends it after two seconds (MySQL reads /*M! as a comment and
// has no such setting). The mode makes both engines refuse what does not fit, as they do by default, whatever the
// server's own mode is. The character sets are set because the server's init_connect, or a set that it forces on all
// clients, would else win over what the driver asked for.
var session = []string{
	"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
	`SET SESSION autocommit=1, innodb_lock_wait_timeout=2,
		character_set_client=utf8mb4, character_set_connection=utf8mb4, character_set_results=utf8mb4,
		sql_mode='STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION'
		/*M! , idle_transaction_timeout=2 */`,
}

// connector sets each connection's session up. (Parameters of the DSN cannot: MySQL 8 and MariaDB name the isolation
// level's variable differently.)
type connector struct {
	driver.Connector
	epoch *atomic.Uint64 // raised when all connections are to be replaced
}

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	born := c.epoch.Load() // before the dial: a name that moves meanwhile is looked up again
	var dialed net.Conn
	opened, err := c.Connector.Connect(context.WithValue(ctx, dialedKey{}, &dialed))
	if err != nil {
		return nil, err
	}
	driving, ok := opened.(driverConn)
	if !ok || dialed == nil {
		return nil, errors.Join(fmt.Errorf("mysql: %T lacks what database/sql needs", opened), opened.Close())
	}
	for _, text := range session {
		if _, err := driving.ExecContext(ctx, text, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("set the session up: %w", err), driving.Close())
		}
	}
	return &conn{driverConn: driving, net: dialed, born: born, epoch: c.epoch}, nil
}

// dialedKey is the context key for a *net.Conn to set to what dial opens.
type dialedKey struct{}

// dial is the DialFunc of the driver's configuration.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	opened, err := d.DialContext(ctx, network, addr)
	if err == nil {
		*ctx.Value(dialedKey{}).(*net.Conn) = opened
	}
	return opened, err
}

// driverConn is all that database/sql asks of the driver's connection.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// Numbers that MySQL's own client library gives to what our driver has no number for.
const (
	lostConnection = 2013
	packetTooLarge = 1153
)

func errorCode(err error) (int, bool) {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return int(e.Number), true
	}
	switch {
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, mysql.ErrMalformPkt), errors.Is(err, mysql.ErrPktSync),
		errors.Is(err, mysql.ErrPktSyncMul), errors.Is(err, mysql.ErrBusyBuffer):
		return lostConnection, true
	case errors.Is(err, mysql.ErrPktTooLarge):
		return packetTooLarge, true
	}
	return 0, false
}
