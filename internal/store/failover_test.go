package store_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/store/mysql"
	"parley/lab/faultproxy"
	"parley/lab/launch"
	"parley/lab/launchtest"
)

// plainUser makes a user without the rights of an administrator, which read_only does not bind, and returns its DSN on a
// server that is reached at addr.
func plainUser(t *testing.T, d *database, addr string) string {
	t.Helper()
	cfg, err := mysqldriver.ParseDSN(d.dsn)
	require.NoError(t, err)
	db := d.sql(t)
	for _, q := range []string{
		"CREATE OR REPLACE USER 'plain'@'127.0.0.1' IDENTIFIED BY 'plain'",
		"GRANT ALL ON `" + cfg.DBName + "`.* TO 'plain'@'127.0.0.1'",
	} {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	cfg.User, cfg.Passwd, cfg.Addr = "plain", "plain", addr
	return cfg.FormatDSN()
}

// primary is a server with a thread of two friends and the fence row of a node.
func primary(t *testing.T, server *launch.MariaDB, name string) (d *database, admin *store.Store, pair int64, sender int32) {
	t.Helper()
	_, err := newMariaDB(t, server).sql(t).ExecContext(t.Context(), "CREATE OR REPLACE DATABASE moved")
	require.NoError(t, err)
	d = &database{engine: store.MySQL, dsn: server.DSNOf("moved"), server: server}
	admin = d.migrated(t)
	node(t, admin, name)
	pair, sender, _ = thread(t, admin, "x")
	return d, admin, pair, sender
}

// eventuallyStored repeats what a client does that is told to try again.
func eventuallyStored(t *testing.T, s *store.Store, node string, thread int64, sender int32, unique string) {
	t.Helper()
	require.Eventually(t, func() bool {
		out := make([]store.Appended, 1)
		err := s.Messages.Append(t.Context(), node, "boot of "+node, []store.NewMessage{{ThreadID: thread, Sender: sender, UniqueID: unique, Content: unique}}, out)
		return err == nil && out[0].Err == nil
	}, time.Minute, 20*time.Millisecond)
}

// TestTwoServers is about what takes two servers, or one with more than one kind of user.
// inTurn returns an address whose connections lead to each of addrs in turn.
func inTurn(t *testing.T, addrs ...string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var relays sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close() // ends the loop below
		relays.Wait()
	})
	relays.Go(func() {
		for n := 0; ; n++ {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", addrs[n%len(addrs)])
			if err != nil {
				t.Error(err)
				return
			}
			for _, ends := range [][2]net.Conn{{from, to}, {to, from}} {
				relays.Go(func() {
					_, _ = io.Copy(ends[0], ends[1]) // until either end is closed
					_, _ = ends[0].Close(), ends[1].Close()
				})
			}
		}
	})
	return ln.Addr().String()
}

func TestTwoServers(t *testing.T) {
	t.Parallel()
	a, b := launchtest.MariaDB(t), launchtest.MariaDB(t)
	for name, body := range map[string]func(t *testing.T, a, b *launch.MariaDB){
		"a planned fail-over is followed":    testPlannedFailOver,
		"a privilege that came back is used": testPrivilegeBack,
		"the fence is tried at start":        testFenceIsTried,
	} {
		t.Run(name, func(t *testing.T) { body(t, a, b) })
	}
}

// D11: the old primary turns read-only and stays up, and its name moves to the new one.
func testPlannedFailOver(t *testing.T, a, b *launch.MariaDB) {
	old, _, id, sender := primary(t, a, "n1")
	next, nextAdmin, _, _ := primary(t, b, "n1")
	proxy, err := faultproxy.Listen(old.server.Addr(), faultproxy.Options{})
	require.NoError(t, err)
	defer proxy.Close()
	dsn := plainUser(t, old, proxy.Addr())
	plainUser(t, next, proxy.Addr())
	s, err := mysql.Open(t.Context(), dsn, mysql.Options{})
	require.NoError(t, err)
	defer s.Close()
	eventuallyStored(t, s, "n1", id, sender, "before")
	for range 3 { // readers have connections too
		_, err := s.Users.Profile(t.Context(), sender)
		require.NoError(t, err)
	}

	_, err = old.sql(t).ExecContext(t.Context(), "SET GLOBAL read_only=1")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := old.sql(t).Exec("SET GLOBAL read_only=0")
		require.NoError(t, err)
	})
	accepted := proxy.Accepted()
	began := time.Now()
	out := make([]store.Appended, 1)
	for i := range 200 {
		err := s.Messages.Append(t.Context(), "n1", "boot of n1", []store.NewMessage{{ThreadID: id, Sender: sender, UniqueID: fmt.Sprint("ro", i)}}, out)
		require.Error(t, err)
	}
	most := int64(time.Since(began)/(500*time.Millisecond)+2) * 4
	require.LessOrEqual(t, proxy.Accepted()-accepted, most, "a server that goes on refusing is not stormed")

	proxy.SetTarget(next.server.Addr())
	eventuallyStored(t, s, "n1", id, sender, "after")
	require.Len(t, history(t, nextAdmin, id), 1, "it is on the new one")
	// Readers must not stay with the old one, whose data is of the past.
	msgs, _, err := s.Messages.History(t.Context(), id, 0, 10, 1<<20)
	require.NoError(t, err)
	require.Equal(t, []string{"after"}, []string{msgs[0].UniqueID})
	require.Len(t, msgs, 1)
}

// D11: a privilege that was taken and given again is told to new connections only.
func testPrivilegeBack(t *testing.T, a, _ *launch.MariaDB) {
	d, _, id, sender := primary(t, a, "n1")
	dsn := plainUser(t, d, d.server.Addr())
	admin := d.sql(t)
	exec := func(q string) {
		_, err := admin.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	exec("REVOKE ALL ON moved.* FROM 'plain'@'127.0.0.1'")
	exec("GRANT CREATE TEMPORARY TABLES ON moved.* TO 'plain'@'127.0.0.1'") // it may choose the schema, no more
	s, err := mysql.Open(t.Context(), dsn, mysql.Options{})
	require.NoError(t, err)
	defer s.Close()
	out := make([]store.Appended, 1)
	require.Error(t, s.Messages.Append(t.Context(), "n1", "boot of n1", []store.NewMessage{{ThreadID: id, Sender: sender, UniqueID: "1"}}, out))
	_, err = s.Users.Profile(t.Context(), sender)
	require.Error(t, err)
	exec("GRANT ALL ON moved.* TO 'plain'@'127.0.0.1'")
	require.Eventually(t, func() bool { _, err := s.Users.Profile(t.Context(), sender); return err == nil }, time.Minute, 20*time.Millisecond)
	eventuallyStored(t, s, "n1", id, sender, "1")
}

// serverWith starts a mariadbd with settings of its own.
func serverWith(t *testing.T, args ...string) *database {
	t.Helper()
	launchtest.Need(t)
	m, err := launch.StartMariaDB(t.Context(), launch.MariaDBOptions{Dir: t.TempDir(), Args: args})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return newMariaDB(t, m)
}

// D8: the server's own idea of a character set does not win over ours.
func TestEmojiOnAServerWithThreeByteClients(t *testing.T) {
	t.Parallel()
	d := serverWith(t, "--init-connect=SET NAMES utf8", "--skip-character-set-client-handshake", "--character-set-server=utf8mb3")
	admin := d.migrated(t)
	name, boot := node(t, admin, "n1")
	id, sender, _ := thread(t, admin, "x")
	s, err := mysql.Open(t.Context(), plainUser(t, d, d.server.Addr()), mysql.Options{}) // init_connect spares administrators
	require.NoError(t, err)
	defer s.Close()
	out := make([]store.Appended, 1)
	const text = "\U0001F600 \u4f60\u597d"
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: sender, UniqueID: "1", Content: text}}, out))
	require.NoError(t, out[0].Err)
	require.Equal(t, text, history(t, s, id)[0].Content)
	var log strings.Builder
	require.NoError(t, s.Prepare(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), store.Demands{}))
	require.Empty(t, log.String())
}

// D9
func TestABinaryLogByStatementIsNamedAtStart(t *testing.T) {
	t.Parallel()
	d := serverWith(t, "--log-bin=bin", "--binlog-format=STATEMENT")
	s := d.open(t)
	err := s.Prepare(t.Context(), slog.New(slog.DiscardHandler), store.Demands{})
	require.ErrorIs(t, err, store.ErrSettings)
	require.ErrorContains(t, err, "binlog_format")
	require.ErrorContains(t, err, "ROW")

	_, err = d.sql(t).ExecContext(t.Context(), "SET GLOBAL binlog_format=ROW")
	require.NoError(t, err)
	s = d.open(t)
	require.NoError(t, s.Prepare(t.Context(), slog.New(slog.DiscardHandler), store.Demands{}))
}

// D14, X6
func testFenceIsTried(t *testing.T, a, b *launch.MariaDB) {
	d := newMariaDB(t, a)
	s := d.migrated(t)
	quiet := slog.New(slog.DiscardHandler)
	require.NoError(t, s.Prepare(t.Context(), quiet, store.Demands{Durable: true}))
	require.Zero(t, scan[int](t, d.sql(t), "SELECT COUNT(*) FROM node_fence"), "it leaves nothing behind")

	// Two writers that know nothing of each other's locks, behind one address: connections go to them in turn.
	other := newMariaDB(t, b)
	cfg, err := mysqldriver.ParseDSN(other.dsn)
	require.NoError(t, err)
	for _, on := range []*database{d, other} {
		_, err := on.sql(t).ExecContext(t.Context(), "CREATE DATABASE IF NOT EXISTS two")
		require.NoError(t, err)
		plain := &database{engine: store.MySQL, dsn: on.server.DSNOf("two"), server: on.server}
		plain.migrated(t)
		plainUser(t, plain, cfg.Addr)
	}
	two, err := mysql.Open(t.Context(), "plain:plain@tcp("+inTurn(t, a.Addr(), b.Addr())+")/two", mysql.Options{})
	require.NoError(t, err)
	defer two.Close()
	err = two.Prepare(t.Context(), quiet, store.Demands{})
	require.ErrorIs(t, err, store.ErrSettings)
	require.ErrorContains(t, err, "fence")
	require.NoError(t, two.Prepare(t.Context(), quiet, store.Demands{FenceWarnOnly: true}))

	_, err = d.sql(t).ExecContext(t.Context(), "SET GLOBAL innodb_flush_log_at_trx_commit=0")
	require.NoError(t, err)
	err = s.Prepare(t.Context(), quiet, store.Demands{Durable: true})
	require.ErrorIs(t, err, store.ErrSettings)
	require.ErrorContains(t, err, "innodb_flush_log_at_trx_commit is 0")
	_, err = d.sql(t).ExecContext(t.Context(), "SET GLOBAL innodb_flush_log_at_trx_commit=1")
	require.NoError(t, err)
	require.NoError(t, s.Prepare(t.Context(), quiet, store.Demands{}))
}
