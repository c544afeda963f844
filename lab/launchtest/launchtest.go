// Package launchtest gives tests real servers and whole clusters of processes, ended when the test ends. The
// directory of a test that failed is kept, and the end of each log in it printed; that of a test that passed is removed.
//
// Where redis-server or mariadbd is missing, a test is skipped with the reason printed; with CI=true in the environment
// it fails.
package launchtest

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/lab/launch"
)

// logLines is how much of each log a failed test prints; the files have the rest.
const logLines = 40

// bins keeps the binaries of the nodes for the whole test process.
var bins struct {
	sync.Mutex
	dir   string          // empty unless Main runs the tests
	built map[string]bool // by role
}

// Main runs the tests of a package and returns their exit code. Between the tests it keeps the binaries of the nodes,
// which would otherwise be linked once for each Start:
//
//	func TestMain(m *testing.M) { os.Exit(launchtest.Main(m)) }
func Main(m interface{ Run() int }) int {
	dir, err := os.MkdirTemp("", "parley-bin-")
	if err != nil {
		println("launchtest:", err.Error())
		return 1
	}
	defer os.RemoveAll(dir)
	bins.dir, bins.built = dir, map[string]bool{}
	return m.Run()
}

// noSync has MariaDB leave its files to the kernel, in which they outlive a kill of the process: no test turns the power
// off, and a schema is made of a hundred statements that would each wait for the disk. Benchmarks measure what is durable.
func noSync(t testing.TB) []string {
	if _, ok := t.(*testing.B); ok {
		return nil
	}
	return []string{"--innodb-flush-method=nosync", "--debug-no-sync"}
}

// Start starts a cluster and stops it when the test ends. Unless o says otherwise the directory is new, and binaries
// are built from the tree, with the race detector if the test has it. A test fails when a node must be killed at the
// end, ends with a code other than 0, or has logged a data race.
func Start(t testing.TB, o launch.Options) *launch.Cluster {
	t.Helper()
	Need(t)
	if o.Dir == "" {
		o.Dir = dir(t)
	}
	o.Race = o.Race || raceEnabled
	o.MariaDB.Args = slices.Concat(noSync(t), o.MariaDB.Args)
	if o.Bin == "" {
		o.Bin = bin(t, o)
	}
	if o.Log == nil {
		o.Log = t.Output()
	}
	c, err := launch.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for _, n := range c.Nodes() {
			if race := findRace(n.LogPath()); race != "" {
				t.Errorf("%s has a data race:\n%s", n.Name(), race)
			}
		}
	})
	return c
}

// Redis starts a redis-server without persistence for the length of the test.
func Redis(t testing.TB) *launch.Redis {
	t.Helper()
	Need(t)
	r, err := launch.StartRedis(t.Context(), launch.RedisOptions{Dir: dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// MariaDB starts a fresh mariadbd for the length of the test. It takes a second or two: share it among subtests, by
// schema if they must not see each other.
func MariaDB(t testing.TB) *launch.MariaDB {
	t.Helper()
	Need(t)
	m, err := launch.StartMariaDB(t.Context(), launch.MariaDBOptions{Dir: dir(t), Args: noSync(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// Need skips the test, or fails it in CI, where a server program is missing.
func Need(t testing.TB) {
	t.Helper()
	err := launch.Missing()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

var notInFileName = regexp.MustCompile(`[^A-Za-z0-9]+`)

// dir makes a directory for the test. Its fate is decided after everything in it has been stopped: cleanups run last
// in, first out, and the processes of this directory are started after it was made.
func dir(t testing.TB) string {
	t.Helper()
	name := notInFileName.ReplaceAllString(t.Name(), "-")
	d, err := os.MkdirTemp("", "parley-"+name[:min(len(name), 40)]+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			printLogs(t, d)
			t.Logf("logs and data kept in %s", d)
			return
		}
		if err := os.RemoveAll(d); err != nil {
			t.Error(err)
		}
	})
	return d
}

// bin returns a directory that has the binaries o needs, empty when Start shall build into its own.
func bin(t testing.TB, o launch.Options) string {
	t.Helper()
	bins.Lock()
	defer bins.Unlock()
	if bins.dir == "" {
		return ""
	}
	d := bins.dir
	if o.Race && !raceEnabled {
		d = filepath.Join(d, "race") // asked for by one test: must not replace what the others use
	}
	if err := os.MkdirAll(d, 0o755); err != nil {
		t.Fatal(err)
	}
	for role, n := range map[launch.Role]int{launch.Chat: o.Chat, launch.Status: o.Status, launch.Gate: o.Gate} {
		path := filepath.Join(d, string(role))
		if n == 0 || bins.built[path] {
			continue
		}
		if err := launch.Build(t.Context(), d, o.Race, string(role)); err != nil {
			t.Fatal(err)
		}
		bins.built[path] = true
	}
	return d
}

func printLogs(t testing.TB, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, path := range logs {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
		if len(lines) > logLines {
			lines = lines[len(lines)-logLines:]
		}
		t.Logf("end of %s:\n%s", filepath.Base(path), strings.Join(lines, "\n"))
	}
}

// findRace returns the first report of the race detector in a log, as far as one wants to read it.
func findRace(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "" // never started
	}
	at := bytes.Index(b, []byte("WARNING: DATA RACE"))
	if at < 0 {
		return ""
	}
	return string(b[at:min(len(b), at+4096)])
}

// turn is held by the test that may keep both processors busy.
var turn sync.Mutex

// Turn makes t a parallel test that waits for its turn: of the tests of one package that call it, one runs at a time. Use it in
// place of t.Parallel in tests that start clusters: two clusters on two processors run into each other's deadlines.
func Turn(t *testing.T) {
	t.Helper()
	t.Parallel()
	turn.Lock()
	t.Cleanup(turn.Unlock)
}
