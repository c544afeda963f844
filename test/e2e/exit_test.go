package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/lab/launch"
)

// Exit codes that docs/CONFIG.md promises to supervisors of the processes.
const (
	exitFailure    = 1
	exitUsage      = 2
	exitDependency = 69
	exitConfig     = 78
)

// variant writes a node's configuration with some lines replaced. A change has the form "Section.Key=value".
func variant(t testing.TB, n *launch.Node, changes ...string) (path string) {
	t.Helper()
	b, err := os.ReadFile(n.ConfigPath())
	require.NoError(t, err)
	lines := strings.Split(string(b), "\n")
	for _, c := range changes {
		where, value, _ := strings.Cut(c, "=")
		section, key, _ := strings.Cut(where, ".")
		in, done := false, false
		for i := 0; i < len(lines); i++ {
			switch {
			case strings.HasPrefix(lines[i], "["):
				in = lines[i] == "["+section+"]"
			case in && strings.HasPrefix(lines[i], key+" "):
				lines[i], done = key+" = "+value, true
			}
		}
		if !done {
			lines = append(lines, "["+section+"]", key+" = "+value)
		}
	}
	path = filepath.Join(t.TempDir(), "node.ini")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
	return path
}

// freePorts lets a second process run with the configuration of another one.
func freePorts(n *launch.Node) []string {
	own := []string{"Ops.Addr=127.0.0.1:0"}
	switch n.Role() {
	case launch.Chat:
		return append(own, "SelfServer.Port=0", "SelfServer.RPCPort=0")
	case launch.Status:
		return append(own, "StatusServer.Port=0")
	default:
		return append(own, "GateServer.Port=0", "GateServer.VarifyAddr=127.0.0.1:0")
	}
}

func portOf(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return port
}

func TestSecondProcessOfTheSameNameIsRefused(t *testing.T) {
	w := sharedCluster(t)
	uid := w.users(t, 1)
	c := w.login(t, uid, 0)
	boot := w.boot(t, 0)
	p := start(t, "chatnode", "--config", variant(t, w.Chat[0], freePorts(w.Chat[0])...))
	require.Equal(t, exitDependency, p.wait(patience))
	require.Contains(t, p.printed(), "chat1")
	require.Equal(t, boot, w.boot(t, 0), "the first one keeps its lease")
	_, err := c.Threads(t.Context())
	require.NoError(t, err)
	require.Contains(t, w.counts(t), "chat1")
}

func TestTakenPortsEndWithTheirCode(t *testing.T) {
	w := sharedCluster(t)
	chat, gate, status := w.Chat[0], w.Gate[0], w.Status[0]
	for name, c := range map[string]struct {
		node    *launch.Node
		changes []string
	}{
		"clients of a chat node": {chat, []string{"SelfServer.Name=other1", "SelfServer.Port=" + portOf(t, chat.Addr()), "SelfServer.RPCPort=0", "Ops.Addr=127.0.0.1:0"}},
		"peers of a chat node":   {chat, []string{"SelfServer.Name=other2", "SelfServer.Port=0", "SelfServer.RPCPort=" + portOf(t, chat.RPCAddr()), "Ops.Addr=127.0.0.1:0"}},
		"operations":             {chat, []string{"SelfServer.Name=other3", "SelfServer.Port=0", "SelfServer.RPCPort=0"}},
		"gate":                   {gate, []string{"GateServer.VarifyAddr=127.0.0.1:0", "Ops.Addr=127.0.0.1:0"}},
		"VarifyService":          {gate, []string{"GateServer.Port=0", "Ops.Addr=127.0.0.1:0"}},
		"status":                 {status, []string{"Ops.Addr=127.0.0.1:0"}},
		"operations of a gate":   {gate, []string{"GateServer.Port=0", "GateServer.VarifyAddr=127.0.0.1:0"}},
		"operations of a status": {status, []string{"StatusServer.Port=0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, string(c.node.Role()), "--config", variant(t, c.node, c.changes...))
			require.Equal(t, exitDependency, p.wait(patience))
			require.Contains(t, p.printed(), "address already in use")
		})
	}
}

func TestWrongConfigurationAndUsageEndWithTheirCodes(t *testing.T) {
	w := sharedCluster(t)
	for _, n := range []*launch.Node{w.Chat[0], w.Gate[0], w.Status[0]} {
		role := string(n.Role())
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			p := start(t, role, "--config", n.ConfigPath(), "--check")
			require.Zero(t, p.wait(patience), p.printed())
			for _, secret := range []string{w.MariaDB.Password, w.Secret()} {
				require.NotContains(t, p.printed(), secret)
			}
			p = start(t, role, "--version")
			require.Zero(t, p.wait(patience))
			require.NotEmpty(t, p.printed())
			p = start(t, role, "--help")
			require.Zero(t, p.wait(patience))
			require.Contains(t, strings.ToLower(p.printed()), "redis")

			p = start(t, role, "--config", variant(t, n, "Redis.Prot=1"))
			require.Equal(t, exitConfig, p.wait(patience))
			require.Contains(t, p.printed(), `"Prot"`)
			require.Contains(t, p.printed(), `"Port"`, "a suggestion")
			p = start(t, role, "--config", variant(t, n, "Redis.Port=many"))
			require.Equal(t, exitConfig, p.wait(patience))
			p = start(t, role, "--config", filepath.Join(t.TempDir(), "missing.ini"))
			require.Equal(t, exitConfig, p.wait(patience))
			p = start(t, role, "--no-such-flag")
			require.Equal(t, exitUsage, p.wait(patience))
		})
	}
}

func TestUnreachableStoresEndWithTheirCode(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 1, Status: 1, Gate: 1})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := portOf(t, ln.Addr().String())
	require.NoError(t, ln.Close())
	for name, c := range map[string]struct {
		node   *launch.Node
		change string
	}{
		"redis of a chat node":   {w.Chat[0], "Redis.Port=" + nobody},
		"redis of a gate":        {w.Gate[0], "Redis.Port=" + nobody},
		"redis of a status node": {w.Status[0], "Redis.Port=" + nobody},
		"SQL of a chat node":     {w.Chat[0], "Mysql.Port=" + nobody},
		"SQL of a gate":          {w.Gate[0], "Mysql.Port=" + nobody},
		"SQL password":           {w.Chat[0], "Mysql.Passwd=canary-wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, string(c.node.Role()), "--config", variant(t, c.node, append(freePorts(c.node), c.change)...))
			require.Equal(t, exitDependency, p.wait(2*patience))
			require.NotContains(t, p.printed(), "canary-wrong")
			require.NotContains(t, p.printed(), w.MariaDB.Password)
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 1, Status: 1, Configure: func(n *launch.Node, _ int, f *launch.INI) error {
		if n.Role() == launch.Chat {
			f.Set("Limits", "DrainTimeout", "2m")
			f.Set("Limits", "Linger", "2m") // for clients that do not hang up
		}
		return nil
	}})
	uid := w.users(t, 1)
	r := w.loginRaw(t, uid, 0, nil, 0)
	n := w.Chat[0]
	require.NoError(t, n.Signal(syscall.SIGTERM))
	eventually(t, patience, "the node to drain", func() (bool, string) {
		rsp, err := httpClient.Get("http://" + n.OpsAddr() + "/readyz")
		require.NoError(t, err)
		defer rsp.Body.Close()
		return rsp.StatusCode == http.StatusServiceUnavailable, rsp.Status
	})
	_, err := client.Dial(t.Context(), w.ticket(t, uid, 0), client.Options{})
	require.Error(t, err, "a draining node takes nobody")
	frames, _ := r.drain(patience)
	require.Empty(t, frames)
	require.True(t, n.Running(), "it waits for the client to hang up")
	time.Sleep(100 * time.Millisecond) // an immediate signal would count as the first one
	began := time.Now()
	code, err := n.Terminate(t.Context())
	require.NoError(t, err)
	require.Equal(t, exitFailure, code)
	require.Less(t, time.Since(began), patience, "DrainTimeout is two minutes")
	// The process ended without dropping its lease, which must lapse.
	eventually(t, slack*lease, "its lease to lapse", func() (bool, string) { return w.boot(t, 0) == "", fmt.Sprint(w.boot(t, 0)) })
}
