package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be the program: the tests start real processes, for signals and exit codes are theirs.
func TestMain(m *testing.M) {
	if os.Getenv("STATUSNODE_TEST_MAIN") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// process is a running statusnode.
type process struct {
	cmd    *exec.Cmd
	stdout bytes.Buffer

	mu     sync.Mutex
	stderr bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	p := &process{cmd: exec.Command(exe, args...)}
	p.cmd.Env = append(os.Environ(), "STATUSNODE_TEST_MAIN=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, p
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Log(p.log())
		}
	})
	return p
}

// exit waits for the end and returns the exit code.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("statusnode does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// field returns the value of a key in the first log record with the message.
func (p *process) field(msg, key string) string {
	for line := range strings.Lines(p.log()) {
		var record map[string]any
		if json.Unmarshal([]byte(line), &record) == nil && record["msg"] == msg {
			return fmt.Sprint(record[key])
		}
	}
	return ""
}

// ready waits until the node serves and returns the address of its operations listener.
func (p *process) ready(t *testing.T) (ops string) {
	t.Helper()
	require.Eventually(t, func() bool { return p.field("status node ready", "addr") != "" }, time.Minute, 5*time.Millisecond)
	return p.field("operations listener", "addr")
}

func TestExitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "statusnode.ini")
	require.NoError(t, os.WriteFile(file, []byte("[Redis]\nAdr = x\n"), 0o600))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	mini := miniredis.RunT(t)
	port := "--redis.port=" + mini.Port()
	for _, c := range []struct {
		name string
		args []string
		code int
		want string // in what it prints
	}{
		{"help", []string{"--help"}, 0, "--statusserver.port"},
		{"version", []string{"--version"}, 0, "(go1."},
		{"check", []string{"--check"}, 0, "statusnode: configuration ok"},
		{"print", []string{"--print-config", "--redis.passwd=hunter2"}, 0, "Passwd = ***"},
		{"unknown flag", []string{"--statusserver.prt=1"}, 2, "statusnode: unknown flag --statusserver.prt, did you mean --statusserver.port?"},
		{"bad file", []string{"--config", file}, 78, `statusnode: statusnode.ini:2: [Redis] unknown key "Adr", did you mean "Addr"?`},
		{"bad file checked", []string{"--config", file, "--check"}, 78, `unknown key "Adr"`},
		{"bad value", []string{"--redis.port=0"}, 78, "at least 1"},
		{"port taken", []string{port, fmt.Sprintf("--statusserver.port=%d", taken.Addr().(*net.TCPAddr).Port)}, 69, "address already in use"},
		{"operations port taken", []string{port, "--statusserver.port=0", "--ops.addr=" + taken.Addr().String()}, 69, "address already in use"},
		{"no redis", []string{fmt.Sprintf("--redis.port=%d", nobody), "--statusserver.port=0", "--statusserver.starttimeout=300ms"}, 69, "redis"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, c.args...)
			require.Equal(t, c.code, p.exit(t))
			require.Contains(t, p.stdout.String()+p.log(), c.want)
			require.NotContains(t, p.stdout.String()+p.log(), "hunter2")
		})
	}
}

func TestServesUntilSignal(t *testing.T) {
	mini := miniredis.RunT(t)
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p := start(t, "--redis.port", mini.Port(), "--statusserver.port=0")
		ops := p.ready(t)
		require.NotEmpty(t, p.field("no configuration file, using defaults; --help lists the keys", "ts"), "it says that it runs on defaults")
		rsp, err := http.Get("http://" + ops + "/metrics")
		require.NoError(t, err)
		body, err := io.ReadAll(rsp.Body)
		require.NoError(t, err)
		require.NoError(t, rsp.Body.Close())
		for _, metric := range []string{"parley_build_info", "parley_status_nodes", "parley_presence_"} {
			require.Contains(t, string(body), metric)
		}
		require.NoError(t, p.cmd.Process.Signal(sig))
		require.Equal(t, 0, p.exit(t), sig)
		require.Contains(t, p.log(), `"msg":"stopped"`)
	}
}
