package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeNode is this test binary under a node's name: it reads the file it is given, serves /readyz, and ends with the
// code its file asks for at SIGTERM.
func fakeNode() int {
	text, err := os.ReadFile(os.Args[2]) // --config FILE
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 78
	}
	f, section := &INI{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]")
		} else if key, value, ok := strings.Cut(line, " = "); ok {
			f.Set(section, key, value)
		}
	}
	if f.Get("Test", "Refuse") != "" {
		fmt.Fprintln(os.Stderr, "refused as configured")
		return 69
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	ln, err := net.Listen("tcp", f.Get("Ops", "Addr"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 69
	}
	var asked atomic.Int32
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	<-term
	if f.Get("Test", "Code") != "" {
		return 66
	}
	return 0
}

// fakeBin makes a directory of binaries that are this test binary.
func fakeBin(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	for _, role := range []Role{Chat, Status, Gate} {
		require.NoError(t, os.Symlink(self, filepath.Join(dir, string(role))))
	}
	return dir
}

func TestClusterOfFakeNodes(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	c, err := Start(t.Context(), Options{
		Chat: 2, Status: 2, Gate: 3, Dir: dir, Bin: fakeBin(t), NoRedis: true, NoMariaDB: true, Log: &log,
		Configure: func(n *Node, i int, f *INI) error {
			if n.Role() == Chat && i == 1 {
				f.Set("SelfServer", "AdvertiseRPC", "127.0.0.1:1")
			}
			return nil
		},
	})
	require.NoError(t, err)
	defer c.Close()
	require.Len(t, c.Nodes(), 7)
	require.Len(t, c.Procs(), 7)
	require.Equal(t, "http://"+c.Gate[0].Addr(), c.GateURL())
	require.Equal(t, c.Status[1].Addr(), c.StatusAddr(1))
	require.Equal(t, c.Status[1].Addr(), c.Status[1].RPCAddr())

	ports := map[string]bool{}
	for _, n := range c.Nodes() {
		for _, addr := range []string{n.Addr(), n.OpsAddr()} {
			require.False(t, ports[addr], "%s twice", addr)
			ports[addr] = true
		}
		require.NoError(t, n.AwaitReady(t.Context()))
		require.Contains(t, log.String(), n.Name()+": pid "+port{number: n.Pid()}.String())
	}
	// Gates after the nodes they ask, and each begins with another status node.
	require.Greater(t, strings.Index(log.String(), "gate1"), strings.Index(log.String(), "chat2"))
	for i, first := range []int{0, 1, 0} {
		text, err := os.ReadFile(c.Gate[i].ConfigPath())
		require.NoError(t, err)
		require.Contains(t, string(text), "Addrs = "+c.StatusAddr(first)+","+c.StatusAddr(1-first)+"\n")
		require.Contains(t, string(text), "VarifyAddr = "+c.Gate[i].RPCAddr()+"\n")
	}
	text, err := os.ReadFile(c.Chat[1].ConfigPath())
	require.NoError(t, err)
	require.Contains(t, string(text), "Name = chat2\n")
	require.Contains(t, string(text), "AdvertiseRPC = 127.0.0.1:1\n")
	require.Contains(t, string(text), "Secret = "+c.Secret()+"\n")

	require.NoError(t, c.Chat[0].Kill())
	require.Error(t, c.Chat[0].answersReady(t.Context()))
	addr := c.Chat[0].OpsAddr()
	require.NoError(t, c.Chat[0].Restart(t.Context()))
	require.Equal(t, addr, c.Chat[0].OpsAddr())
	require.NoError(t, c.Chat[1].Kill(), "what was killed on purpose does not fail Close")

	require.NoError(t, c.Close())
	for _, n := range c.Nodes() {
		require.False(t, n.Running())
	}
	require.NoError(t, c.Close())
	require.FileExists(t, filepath.Join(dir, "chat1.log"), "logs in the caller's directory stay")
}

func TestClusterStartFails(t *testing.T) {
	bin := fakeBin(t)
	tests := []struct {
		name, want string
		configure  func(*Node, int, *INI) error
	}{
		{"node refuses", "refused as configured", func(n *Node, _ int, f *INI) error {
			if n.Role() == Gate {
				f.Set("Test", "Refuse", "yes")
			}
			return nil
		}},
		{"configure fails", "configure chat1: no", func(n *Node, _ int, _ *INI) error {
			if n.Role() == Chat {
				return errors.New("no")
			}
			return nil
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Start(t.Context(), Options{
				Chat: 1, Status: 1, Gate: 1, Dir: dir, Bin: bin, NoRedis: true, NoMariaDB: true, Configure: tc.configure,
			})
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestClusterCloseReportsBadEnd(t *testing.T) {
	c, err := Start(t.Context(), Options{
		Chat: 1, Bin: fakeBin(t), NoRedis: true, NoMariaDB: true,
		Configure: func(_ *Node, _ int, f *INI) error { f.Set("Test", "Code", "66"); return nil },
	})
	require.NoError(t, err)
	dir := c.Dir()
	require.ErrorContains(t, c.Close(), "chat1 ended with code 66")
	require.NoDirExists(t, dir)
}

func TestClusterOnRedisRunsBeforeNodes(t *testing.T) {
	needServers(t)
	_, err := Start(t.Context(), Options{
		Chat: 1, Bin: fakeBin(t), NoMariaDB: true, ReadyTimeout: 20 * time.Second,
		OnRedis: func(ctx context.Context, addr string) error {
			require.Equal(t, "+OK", redisDo(t, addr, "SET", "parley", "1"))
			return errors.New("seen")
		},
	})
	require.ErrorContains(t, err, "seen")
}

func TestINI(t *testing.T) {
	var f INI
	require.Empty(t, f.String())
	f.Set("Redis", "Host", "a")
	f.Set("Log", "Level", "info")
	f.Set("Redis", "Port", "1")
	f.Set("Redis", "Host", "b\n[Evil]")
	require.Equal(t, "[Redis]\nHost = b [Evil]\nPort = 1\n\n[Log]\nLevel = info\n", f.String())
	require.Equal(t, "1", f.Get("Redis", "Port"))
	require.Empty(t, f.Get("Redis", "Passwd"))
	require.Empty(t, f.Get("None", "Port"))
	f.Drop("Redis", "Host")
	f.Drop("Redis", "Host")
	f.Drop("Log", "")
	f.Drop("None", "")
	require.Equal(t, "[Redis]\nPort = 1\n", f.String())
}

func TestBuild(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Build(t.Context(), dir, false, "lab/launch/testdata/hello"))
	require.FileExists(t, filepath.Join(dir, "hello"))
	require.ErrorContains(t, Build(t.Context(), dir, false, "no-such-node"), "no-such-node")
}

func TestBuildsOfOneKindAreLinkedOnce(t *testing.T) {
	const name = "lab/launch/testdata/hello"
	var files []os.FileInfo
	for range 2 {
		dir := t.TempDir()
		require.NoError(t, Build(t.Context(), dir, false, name))
		info, err := os.Stat(filepath.Join(dir, "hello"))
		require.NoError(t, err)
		files = append(files, info)
	}
	root, err := moduleRoot(t.Context())
	require.NoError(t, err)
	shared, err := os.Stat(filepath.Join(root, "bin", "lab", "plain", "hello"))
	require.NoError(t, err)
	if !os.SameFile(files[0], shared) {
		t.Skip("temporary directories are on a file system of their own: binaries are copied")
	}
	require.True(t, os.SameFile(files[0], files[1]), "the second build links again")
}

func TestABuildWaitsForAnotherAsLongAsItMay(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockDir(t.Context(), dir)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = lockDir(ctx, dir)
	require.ErrorIs(t, err, context.Canceled)
	unlock()
	unlock, err = lockDir(t.Context(), dir)
	require.NoError(t, err)
	unlock()
}

func TestLinkOrCopyReplacesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	require.NoError(t, os.WriteFile(from, []byte("new"), 0o755))
	require.NoError(t, os.WriteFile(to, []byte("old"), 0o755))
	require.NoError(t, linkOrCopy(from, to))
	b, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Equal(t, "new", string(b))
}
