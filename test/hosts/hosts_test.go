//go:build linux

package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/lab/launch"
)

// host is a network namespace.
type host struct{ name, addr string }

// twoHosts creates two connected hosts, and removes both at the end of the test.
func twoHosts(t *testing.T) (a, b host) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("the program ip is not installed; .ci/servers does that")
		}
		t.Skip("the program ip (iproute2) is not installed")
	}
	pid := os.Getpid()
	a = host{fmt.Sprintf("parley-a-%d", pid), "10.203.7.1"}
	b = host{fmt.Sprintf("parley-b-%d", pid), "10.203.7.2"}
	for _, h := range []host{a, b} {
		if out, err := exec.Command("ip", "netns", "add", h.name).CombinedOutput(); err != nil {
			t.Skipf("this root may not make network namespaces, as in an unprivileged container: %s", out)
		}
		t.Cleanup(func() { ip(t, "netns", "del", h.name) }) // the cable is removed together with its end
	}
	// Both ends are created inside the namespaces, so the host's own network is not affected.
	ip(t, "-n", a.name, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", b.name)
	for _, h := range []host{a, b} {
		ip(t, "-n", h.name, "addr", "add", h.addr+"/24", "dev", "cable")
		ip(t, "-n", h.name, "link", "set", "lo", "up")
		ip(t, "-n", h.name, "link", "set", "cable", "up")
	}
	return a, b
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(t, err, "ip %s: %s", strings.Join(args, " "), out)
}

// command is a program on a host.
func (h host) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.name}, args...)...) // it calls exec, so the pid is the program's
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output is what a program has printed so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start starts a program on a host, which is stopped at the end of the test, and returns its output as soon as that
// matches.
func (h host) start(t *testing.T, until string, env []string, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := h.command(ctx, args...)
	out := &output{}
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, append(os.Environ(), env...)
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // its exit code is not tested
	t.Cleanup(func() { stop(); <-ended })
	want := regexp.MustCompile(until)
	for deadline := time.Now().Add(2 * time.Minute); !want.MatchString(out.String()); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			t.Fatalf("%v ended: %s", args, out)
		default:
		}
		require.True(t, time.Now().Before(deadline), "%v never printed %q: %s", args, until, out)
	}
	return out.String()
}

const key = "a key that both sides know"

// TestAnAgentOnAnotherHostIsAGenerator has a cluster and a coordinator on one host and an agent on the other, and
// runs what docs/BENCHMARKS.md shows for several hosts.
func TestAnAgentOnAnotherHostIsAGenerator(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts programs")
	}
	a, b := twoHosts(t)
	dir := t.TempDir()
	require.NoError(t, launch.Build(t.Context(), dir, false, "standalone", "bench"))
	bench := filepath.Join(dir, "bench")
	greeting := a.start(t, `Ctrl-C`, nil, filepath.Join(dir, "standalone"),
		"--host", a.addr, "--free-ports", "--data", "", "--demo=false", "--crowd", "40")
	gate := regexp.MustCompile(`gate\s+(http://\S+)`).FindStringSubmatch(greeting)
	status := regexp.MustCompile(`status\s+(\S+:\d+)`).FindStringSubmatch(greeting)
	require.NotNil(t, gate, greeting)
	require.NotNil(t, status, greeting)
	b.start(t, `listening on `, []string{"PARLEY_BENCH_KEY=" + key}, bench, "agent", "--listen", b.addr+":7070")

	run := func(key, name string, args ...string) (code int, out string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		cmd := a.command(ctx, append([]string{bench}, append(args, "--gate", gate[1], "--status", status[1],
			"--agents", b.addr+":7070", "-u", "40", "--quiet", "--out", dir, "--name", name)...)...)
		cmd.Env = append(os.Environ(), "PARLEY_BENCH_KEY="+key)
		text, err := cmd.CombinedOutput()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(text)
	}

	code, out := run(key, "chat", "chat", "--rate", "100", "--shape", "constant", "-d", "3s", "--warmup", "0s", "--assert", "lost==0,acked==300,online==40", "--max-lag", "5s")
	require.Zero(t, code, out)
	var r struct {
		Ledger struct {
			Acked, Delivered, HistoryRead int64
			HistoryChecked                bool
		}
		Hists []struct {
			Name    string
			Summary struct{ Count int64 }
		}
		Self struct{ CPU float64 }
		Env  struct{ Nodes []string }
	}
	text, err := os.ReadFile(filepath.Join(dir, "chat.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &r))
	require.EqualValues(t, r.Ledger.Acked, r.Ledger.Delivered)
	require.EqualValues(t, r.Ledger.Acked, r.Ledger.HistoryRead)
	require.True(t, r.Ledger.HistoryChecked)
	counted := map[string]int64{}
	for _, h := range r.Hists {
		counted[h.Name] += h.Summary.Count
	}
	require.EqualValues(t, 300, counted["ack"], "what the agent measured came over: %v", counted)
	require.Positive(t, counted["lag"])
	require.Positive(t, r.Self.CPU, "and how the agent fared")

	// The rate exceeds what any loop can generate: the run must be invalid although the coordinator is idle.
	code, out = run(key, "ping", "ping", "--rate", "20000000", "-d", "300ms", "--warmup", "0s", "--max-lag", "1ms")
	require.Equal(t, 3, code, out)

	code, out = run("another key", "stranger", "ping", "--rate", "10", "-d", "1s")
	require.Equal(t, 4, code, out)
	require.Contains(t, out, "PARLEY_BENCH_KEY", out)
}

// TestHostsAreApart verifies that the two hosts of the other test are connected only by the cable.
func TestHostsAreApart(t *testing.T) {
	a, b := twoHosts(t)
	require.NotEqual(t, netip.MustParseAddr(a.addr), netip.MustParseAddr(b.addr))
	listing := func(h host) string {
		cmd := h.command(t.Context(), "ip", "-o", "addr")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		text, err := io.ReadAll(out)
		require.NoError(t, err)
		require.NoError(t, cmd.Wait())
		return string(text)
	}
	require.Contains(t, listing(a), a.addr)
	require.NotContains(t, listing(a), b.addr)
	require.Contains(t, listing(b), b.addr)
}
