package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/lab/certstest"
	"parley/lab/launch"
	"parley/lab/launchtest"
)

// programs are the binaries under test; watched are the same with the race detector, if the tests have it. A watched
// node takes several times as long to start and to answer, so it is used where much happens concurrently.
var (
	programs = sync.OnceValues(func() (dir string, err error) {
		return build("bin", false, "chatnode", "statusnode", "gatenode", "standalone", "parleyctl")
	})
	watched = sync.OnceValues(func() (dir string, err error) {
		return build("bin-race", raceEnabled, "chatnode", "statusnode", "gatenode")
	})
)

func build(dir string, race bool, names ...string) (string, error) {
	dir = filepath.Join(suite.dir, dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, launch.Build(context.Background(), dir, race, names...)
}

// suite is the state shared by tests.
var suite struct {
	dir  string
	turn sync.Mutex // held by the test that uses the shared cluster

	mu     sync.Mutex // guards the following
	shared *world
	mail   *mailServer // receives the mails of the shared cluster's second gate
	trust  *tls.Config // for clients that reach the shared cluster by https and wss
	err    error       // why there is no shared cluster
}

// slots bounds the tests that run processes of their own at the same time: up to nine each, which mostly wait.
var slots = make(chan struct{}, 3)

// ownProcesses makes a test parallel and waits until it may start processes.
func ownProcesses(t *testing.T) {
	t.Helper()
	t.Parallel()
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}

func TestMain(m *testing.M) { os.Exit(launchtest.Main(run{m})) }

type run struct{ m *testing.M }

// Run runs the tests and stops the shared cluster. A node that does not drain, or exits with another code than 0,
// fails the run.
func (r run) Run() (code int) {
	var err error
	if suite.dir, err = os.MkdirTemp("", "parley-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// All tests are parallel. slots and suite.turn limit how many run, because -parallel does not know about
	// clusters.
	flag.Parse()
	if err = flag.Set("test.parallel", "1000"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = r.m.Run()
	if w := suite.shared; w != nil {
		if err := errors.Join(w.Close(), suite.mail.close()); err != nil {
			fmt.Fprintln(os.Stderr, "shared cluster:", err)
			code = max(code, 1)
		}
		for _, n := range w.Nodes() {
			if log, err := os.ReadFile(n.LogPath()); err == nil && strings.Contains(string(log), "WARNING: DATA RACE") {
				fmt.Fprintf(os.Stderr, "%s has a data race:\n%s\n", n.Name(), tail(string(log), 200))
				code = max(code, 1)
			}
		}
	}
	if code != 0 && os.Getenv("PARLEY_KEEP") != "" {
		fmt.Fprintln(os.Stderr, "kept", suite.dir)
		return code
	}
	_ = os.RemoveAll(suite.dir) // failing to remove it is not a failure of the tests
	return code
}

// sharedCluster returns the cluster for all tests that leave it as they found it: two status nodes, two gates, the
// second of which mails its codes, and three chat nodes, reachable by wss too. It makes the test parallel and waits for its turn.
func sharedCluster(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	launchtest.Need(t)
	bin, err := watched()
	require.NoError(t, err)
	suite.turn.Lock()
	t.Cleanup(suite.turn.Unlock)
	suite.mu.Lock()
	defer suite.mu.Unlock()
	if suite.shared == nil && suite.err == nil {
		suite.shared, suite.err = startShared(bin)
	}
	require.NoError(t, suite.err)
	w := suite.shared
	t.Cleanup(func() {
		if t.Failed() {
			for _, p := range w.Procs() {
				t.Logf("end of %s:\n%s", p.LogPath(), tail(p.Log(), 40))
			}
		}
	})
	return w
}

func startShared(bin string) (*world, error) {
	dir := filepath.Join(suite.dir, "shared")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if suite.mail, err = newMailServer(); err != nil {
		return nil, err
	}
	cert, key, trust, err := certstest.In(filepath.Join(dir, "certs"))
	if err != nil {
		return nil, err
	}
	suite.trust = trust
	c, err := launch.Start(context.Background(), launch.Options{
		Chat: 3, Status: 2, Gate: 2, Dir: dir, Bin: bin, OnRedis: seedGeneration,
		Configure: func(n *launch.Node, i int, f *launch.INI) error {
			if n.Role() != launch.Status {
				f.Set("TLS", "Cert", cert)
				f.Set("TLS", "Key", key)
			}
			switch n.Role() {
			case launch.Chat:
				f.Set("SelfServer", "WSSPort", "0")
			case launch.Gate:
				f.Set("GateServer", "TLSPort", "0")
			}
			if n.Role() == launch.Gate && i == 1 {
				suite.mail.configure(f)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return newWorld(context.Background(), c)
}

// ownCluster starts a cluster for one test, which may do anything to it. The nodes have the race detector if the
// options say so and the tests have it. It makes the test parallel.
func ownCluster(t *testing.T, o launch.Options) *world {
	t.Helper()
	ownProcesses(t)
	launchtest.Need(t)
	bin := programs
	if o.Race {
		bin = watched
	}
	var err error
	o.Bin, err = bin()
	require.NoError(t, err)
	if o.OnRedis == nil {
		o.OnRedis = seedGeneration
	}
	c := launchtest.Start(t, o)
	w, err := newWorld(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(w.closeStores)
	return w
}

// tail returns the last n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
