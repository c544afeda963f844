package launch

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// needServers skips where a person has not installed the servers, and fails in CI, which must have them.
func needServers(t *testing.T) {
	t.Helper()
	if err := Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// redisDo sends one command and returns the first line of the reply.
func redisDo(t *testing.T, addr string, words ...string) string {
	t.Helper()
	conn, err := dial(t.Context(), addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "%s\r\n", strings.Join(words, " "))
	require.NoError(t, err)
	rd := bufio.NewReader(conn)
	line, err := rd.ReadString('\n')
	require.NoError(t, err)
	if strings.HasPrefix(line, "$") && line != "$-1\r\n" {
		line, err = rd.ReadString('\n')
		require.NoError(t, err)
	}
	return strings.TrimSpace(line)
}

func TestRedis(t *testing.T) {
	needServers(t)
	tests := []struct {
		name  string
		keeps bool
		after string
	}{
		{"forgets", false, "$-1"},
		{"append only", true, "stays"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r, err := StartRedis(t.Context(), RedisOptions{Dir: t.TempDir(), AppendOnly: tc.keeps})
			require.NoError(t, err)
			defer func() { require.NoError(t, r.Close()) }()
			addr := r.Addr()
			require.Equal(t, "+OK", redisDo(t, addr, "SET", "k", "stays"))
			require.NoError(t, r.Kill())
			require.Error(t, r.answers(t.Context()))
			require.NoError(t, r.Restart(t.Context()))
			require.Equal(t, addr, r.Addr())
			require.Equal(t, tc.after, redisDo(t, addr, "GET", "k"))
		})
	}
}

func TestRedisPausedAnswersLate(t *testing.T) {
	needServers(t)
	r, err := StartRedis(t.Context(), RedisOptions{})
	require.NoError(t, err)
	dir := r.tmpDir
	require.DirExists(t, dir)

	require.NoError(t, r.Pause())
	conn, err := dial(t.Context(), r.Addr()) // the kernel accepts for it
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("PING\r\n"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)

	require.NoError(t, r.Resume())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err = conn.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoDirExists(t, dir)
}

func TestRedisClusterMember(t *testing.T) {
	needServers(t)
	r, err := StartRedis(t.Context(), RedisOptions{Cluster: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	require.NotZero(t, r.BusPort())
	require.NotEqual(t, r.Addr(), r.bus.Addr())
	require.Contains(t, redisDo(t, r.Addr(), "CLUSTER", "NODES"), fmt.Sprintf("@%d ", r.BusPort()))
	require.Equal(t, "+OK", redisDo(t, r.Addr(), "CLUSTER", "ADDSLOTSRANGE", "0", "16383"))
}

func TestRedisFailsToStart(t *testing.T) {
	needServers(t)
	_, err := StartRedis(t.Context(), RedisOptions{Args: []string{"--no-such-setting", "1"}})
	require.ErrorContains(t, err, "ended before it was ready")
	require.ErrorContains(t, err, "no-such-setting", "the log tells why")
}

func TestMariaDBKeepsDataOverKill(t *testing.T) {
	needServers(t)
	dir := t.TempDir()
	m, err := StartMariaDB(t.Context(), MariaDBOptions{Dir: dir})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	db, err := sql.Open("mysql", m.DSN())
	require.NoError(t, err)
	defer db.Close()

	var flush, binlog int
	require.NoError(t, db.QueryRow("SELECT @@innodb_flush_log_at_trx_commit, @@log_bin").Scan(&flush, &binlog))
	require.Equal(t, 1, flush)
	require.Zero(t, binlog)
	_, err = db.Exec("CREATE TABLE t (n INT PRIMARY KEY)")
	require.NoError(t, err)
	_, err = db.Exec("INSERT INTO t VALUES (7)")
	require.NoError(t, err)
	_, err = db.Exec("CREATE DATABASE another") // its user may do everything
	require.NoError(t, err)
	another, err := sql.Open("mysql", m.DSNOf("another"))
	require.NoError(t, err)
	defer another.Close()
	require.NoError(t, another.Ping())

	require.NoError(t, m.Kill())
	require.Error(t, db.Ping())
	require.NoError(t, m.Restart(t.Context()))
	var n int
	require.NoError(t, db.QueryRow("SELECT n FROM t").Scan(&n))
	require.Equal(t, 7, n)

	code, err := m.Terminate(t.Context())
	require.NoError(t, err)
	require.Zero(t, code, "a clean shutdown: %s", m.Log())
	require.FileExists(t, filepath.Join(dir, "mariadb.log"))
}

func TestMariaDBGivesUpWithItsContext(t *testing.T) {
	needServers(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := StartMariaDB(ctx, MariaDBOptions{Dir: t.TempDir()})
	require.ErrorIs(t, err, context.DeadlineExceeded)

	dir := t.TempDir()
	data := filepath.Join(dir, "mariadb")
	err = inOneStep(data, func(part string) error { return installMariaDB(ctx, part, dir, filepath.Join(dir, "log")) })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	for _, half := range []string{data, data + ".part"} {
		require.NoDirExists(t, half, "a half made one would be taken for a whole one")
	}
}

func TestMariaDBIsInstalledOnce(t *testing.T) {
	needServers(t)
	dir := t.TempDir()
	shared, log := filepath.Join(dir, "shared"), filepath.Join(dir, "log")
	first, err := installedMariaDB(t.Context(), shared, dir, log)
	require.NoError(t, err)
	require.DirExists(t, filepath.Join(first, "mysql"))
	before, err := os.ReadFile(log)
	require.NoError(t, err)
	second, err := installedMariaDB(t.Context(), shared, dir, log)
	require.NoError(t, err)
	require.Equal(t, first, second)
	after, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), "nothing ran")
}

func TestMissingProgramSaysHowToGetIt(t *testing.T) {
	_, err := findProgram("parley-no-such-server", "no-such-package")
	require.True(t, errors.Is(err, ErrMissing))
	require.ErrorContains(t, err, "apt-get install no-such-package")
}
