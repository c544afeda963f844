package launch

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// MariaDBOptions says how to start a mariadbd. The zero value is a fresh server in a directory of its own.
type MariaDBOptions struct {
	// Dir holds mariadb.log and the data; it must exist; empty: a new temporary directory, removed by Close. Data that
	// an earlier server left there is used again.
	Dir        string
	BufferPool string   // innodb_buffer_pool_size; empty: 64M, enough for tests
	Args       []string // more command line, such as "--max-connections=2000"
}

// MariaDB is a running mariadbd of our own, durable as in production: innodb_flush_log_at_trx_commit is 1.
type MariaDB struct {
	*Proc
	// User may do everything, from 127.0.0.1 only; Schema exists and is empty at first.
	User, Password, Schema string

	port   port
	tmpDir string // removed by Close
}

// StartMariaDB makes a data directory, starts mariadbd on a free loopback port and returns when it takes connections,
// after about a second. ErrMissing without the programs.
func StartMariaDB(ctx context.Context, o MariaDBOptions) (_ *MariaDB, err error) {
	path, err := findProgram("mariadbd", "mariadb-server")
	if err != nil {
		return nil, err
	}
	m := &MariaDB{User: "parley", Password: rand.Text(), Schema: "parley"}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if o.Dir, m.tmpDir, err = ownDir(o.Dir, "parley-mariadb-"); err != nil {
		return nil, err
	}
	if m.port, err = takePort(); err != nil {
		return nil, err
	}
	data := filepath.Join(o.Dir, "mariadb")
	tmp := filepath.Join(o.Dir, "mariadb-tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return nil, err
	}
	logPath := filepath.Join(o.Dir, "mariadb.log")
	if err := fillMariaDB(ctx, data, tmp, logPath); err != nil {
		return nil, err
	}
	initFile := filepath.Join(o.Dir, "mariadb-init.sql")
	if err := os.WriteFile(initFile, []byte(m.initSQL()), 0o600); err != nil {
		return nil, err
	}
	if o.BufferPool == "" {
		o.BufferPool = "64M"
	}
	args := append(baseArgs(data, tmp),
		"--bind-address=127.0.0.1", "--port="+m.port.String(),
		// Relative to the data directory: the path of a socket is limited to 107 bytes, that of a test's directory is not.
		"--socket=mariadb.sock", "--pid-file="+filepath.Join(o.Dir, "mariadb.pid"),
		"--init-file="+initFile, "--skip-name-resolve", "--skip-log-bin", "--skip-slave-start",
		"--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size="+o.BufferPool,
		"--performance-schema=OFF", "--max-connections=500",
	)
	m.Proc = newProc("mariadb", path, logPath, m.greets, append(args, o.Args...)...)
	if err := m.Start(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// baseArgs are common to the installation and the server; --no-defaults comes first or is not accepted. The directory
// for temporary files must be the server's own: each mariadbd that starts removes all temporary tables it finds there,
// and with a shared /tmp the installation of another one fails now and then ("Unknown table 'mysql.tmp_user_sys'").
func baseArgs(data, tmp string) []string {
	args := []string{"--no-defaults", "--datadir=" + data, "--tmpdir=" + tmp, "--innodb-log-file-size=32M"}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root") // mariadbd refuses to run as root unless told so
	}
	return args
}

// fillMariaDB fills an empty data directory and leaves a filled one alone. Within the module it copies what one
// installation has left under bin/lab: that is a tenth of the work.
func fillMariaDB(ctx context.Context, data, tmp, logPath string) error {
	if _, err := os.Stat(filepath.Join(data, "mysql")); err == nil {
		return nil
	}
	installed := ""
	root, err := moduleRoot(ctx)
	if err == nil {
		installed, err = installedMariaDB(ctx, filepath.Join(root, "bin", "lab", "mariadb"), tmp, logPath)
		if err != nil && !errors.Is(err, errReadOnly) {
			return err
		}
	}
	return inOneStep(data, func(part string) error {
		if installed == "" {
			return installMariaDB(ctx, part, tmp, logPath)
		}
		return errors.Join(os.CopyFS(part, os.DirFS(installed)), os.Chmod(part, 0o700))
	})
}

// installedMariaDB returns a data directory below shared that no server has used, made by the first call for this version
// of the programs. It is never written to again.
func installedMariaDB(ctx context.Context, shared, tmp, logPath string) (string, error) {
	key := sha256.New()
	for _, name := range []string{"mariadbd", "mariadb-install-db"} {
		path, err := findProgram(name, "mariadb-server")
		if err != nil {
			return "", err
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(key, path, info.Size(), info.ModTime(), installArgs("", ""))
	}
	unlock, err := lockDir(ctx, shared)
	if err != nil {
		return "", err
	}
	defer unlock()
	dir := filepath.Join(shared, hex.EncodeToString(key.Sum(nil)[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, inOneStep(dir, func(part string) error { return installMariaDB(ctx, part, tmp, logPath) })
}

// inOneStep has make fill a directory and gives it its name only then: a half filled one would be taken for a whole one.
func inOneStep(dir string, make func(part string) error) error {
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	err := make(part)
	if err == nil {
		err = os.Rename(part, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return nil
}

// installArgs are those of mariadb-install-db.
func installArgs(data, tmp string) []string {
	return append(baseArgs(data, tmp), "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
}

// installMariaDB makes a data directory; it leaves a half filled one behind when it fails.
func installMariaDB(ctx context.Context, data, tmp, logPath string) error {
	path, err := findProgram("mariadb-install-db", "mariadb-server")
	if err != nil {
		return err
	}
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(path, installArgs(data, tmp)...)
	cmd.Stdout, cmd.Stderr = out, out
	l, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("launch: mariadb-install-db: %w", err)
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		// The script has a mariadbd of its own below it, in the same group where there is one.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ESRCH: it has just ended
		_ = cmd.Process.Kill()                              // os.ErrProcessDone: the same
		<-l.done
		return fmt.Errorf("launch: mariadb-install-db: %w", ctx.Err())
	}
	if l.err != nil {
		return fmt.Errorf("launch: mariadb-install-db: %w; end of %s:\n%s", l.err, logPath, logTail(logPath))
	}
	return nil
}

// initSQL is run by every start of the server, before it takes connections. A server without --skip-grant-tables
// needs a user that may come in over TCP; the password is new for each one. (ALTER: a used directory has the old one.)
func (m *MariaDB) initSQL() string {
	return fmt.Sprintf("CREATE DATABASE IF NOT EXISTS `%s` CHARACTER SET utf8mb4;\n"+
		"CREATE USER IF NOT EXISTS '%s'@'127.0.0.1' IDENTIFIED BY '%s';\n"+
		"ALTER USER '%s'@'127.0.0.1' IDENTIFIED BY '%s';\n"+
		"GRANT ALL ON *.* TO '%s'@'127.0.0.1' WITH GRANT OPTION;\n",
		m.Schema, m.User, m.Password, m.User, m.Password, m.User)
}

// Addr is host:port of the server; it stays the same over restarts.
func (m *MariaDB) Addr() string { return m.port.Addr() }

// Port is the number in Addr.
func (m *MariaDB) Port() int { return m.port.number }

// DSN is the data source name of the schema for go-sql-driver/mysql.
func (m *MariaDB) DSN() string { return m.DSNOf(m.Schema) }

// DSNOf is DSN for another schema, which must exist before it is used. Empty: no schema chosen.
func (m *MariaDB) DSNOf(schema string) string {
	return m.User + ":" + m.Password + "@tcp(" + m.Addr() + ")/" + schema
}

// Close stops the server and waits for it. The log and the data stay when the caller gave the directory.
func (m *MariaDB) Close() error { return closeServer(m.Proc, m.port, m.tmpDir) }

// greets reads the first packet of a connection: the server sends it once it has recovered and run its init file.
func (m *MariaDB) greets(ctx context.Context) error {
	conn, err := dial(ctx, m.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	var head [5]byte // length (3), sequence, protocol version
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if head[4] != 10 {
		return fmt.Errorf("mariadb greets with protocol %s", strconv.Itoa(int(head[4])))
	}
	return nil
}
