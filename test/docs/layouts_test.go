package docs_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/chat"
	"parley/internal/config"
	"parley/internal/gate"
	"parley/internal/status"
)

const layouts = "../../deploy/configs"

// load reads a file as its program does with --check, and returns the addresses it would listen on.
func load(t *testing.T, file string) (program string, listens []string) {
	t.Helper()
	var out bytes.Buffer
	p := config.Process{Args: []string{"--config", file, "--check"}, Stdout: &out}
	var loaded config.Loaded
	var err error
	switch name := filepath.Base(file); {
	case strings.HasPrefix(name, "chat"):
		p.Name = "chatnode"
		cfg := chat.DefaultConfig()
		loaded, err = config.Load(p, &cfg)
		listens = []string{cfg.SelfServer.ListenAddr(), cfg.SelfServer.RPCListenAddr(), cfg.Ops.Addr}
	case name == "gatenode.ini":
		p.Name = "gatenode"
		cfg := gate.DefaultConfig()
		loaded, err = config.Load(p, &cfg)
		listens = []string{cfg.Gate.Addr(), cfg.Gate.VarifyAddr, cfg.Ops.Addr}
	case name == "statusnode.ini":
		p.Name = "statusnode"
		cfg := status.DefaultConfig()
		loaded, err = config.Load(p, &cfg)
		listens = []string{cfg.Status.Addr(), cfg.Ops.Addr}
	default:
		t.Fatalf("which program reads %s?", file)
	}
	require.True(t, errors.Is(err, config.ErrDone), "%s: %v", file, err)
	require.Contains(t, out.String(), "configuration ok")
	require.Empty(t, loaded.Warnings)
	return p.Name, listens
}

// E6: systemd restarts a unit whose ExecStartPre fails, whatever RestartPreventExitStatus says.
func TestUnitsStopAtAWrongConfiguration(t *testing.T) {
	units, err := filepath.Glob("../../deploy/systemd/*.service")
	require.NoError(t, err)
	require.Len(t, units, 3)
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		require.NoError(t, err)
		require.NotRegexp(t, `(?m)^ExecStartPre`, string(text), unit)
		require.Regexp(t, `(?m)^Restart=on-failure$`, string(text), unit)
		require.Regexp(t, `(?m)^RestartPreventExitStatus=2 78$`, string(text), unit)
	}
}

// E7: a configured Redis timeout bounds the calls of presence too.
func TestRedisTimeoutReachesPresence(t *testing.T) {
	for _, program := range []string{"chatnode", "gatenode", "statusnode"} {
		text, err := os.ReadFile("../../" + program + "/main.go")
		require.NoError(t, err)
		options := regexp.MustCompile(`presence\.Options\{[^}]*\}`).FindAllString(string(text), -1)
		require.Len(t, options, 1, program)
		require.Contains(t, options[0], "Timeout: cfg.Redis.Timeout", program)
	}
}

// TestLayoutsLoad reads every example file, and checks that programs of one machine do not use the same ports.
func TestLayoutsLoad(t *testing.T) {
	want := map[string]map[string]int{
		"one-of-each":   {"gatenode": 1, "statusnode": 1, "chatnode": 1},
		"one-host":      {"gatenode": 1, "statusnode": 1, "chatnode": 3},
		"several-hosts": {"gatenode": 1, "statusnode": 1, "chatnode": 1},
	}
	dirs, err := os.ReadDir(layouts)
	require.NoError(t, err)
	require.Len(t, dirs, len(want))
	for layout, programs := range want {
		t.Run(layout, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(layouts, layout, "*.ini"))
			require.NoError(t, err)
			found, taken := map[string]int{}, map[string]string{}
			for _, file := range files {
				program, listens := load(t, file)
				found[program]++
				for _, addr := range listens {
					_, port, err := net.SplitHostPort(addr)
					require.NoError(t, err)
					require.NotEqual(t, "0", port, "%s: an example names its ports", file)
					require.Empty(t, taken[port], "%s: port %s", file, port)
					n, err := strconv.Atoi(port)
					require.NoError(t, err)
					require.Less(t, n, 32768, "%s: E11: Linux gives higher ports to outgoing connections", file)
					taken[port] = file
				}
			}
			require.Equal(t, programs, found)
		})
	}
}

// TestExamplesHoldNoSecret ensures that files meant for copying contain no passwords.
func TestExamplesHoldNoSecret(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(layouts, "*", "*.ini"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	secret := regexp.MustCompile(`(?mi)^\s*(passwd|secret)\s*=`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.False(t, secret.Match(text), "%s sets a secret", file)
	}
}

// TestUnits compares the systemd units with docs/OPERATIONS.md.
func TestUnits(t *testing.T) {
	units, err := filepath.Glob("../../deploy/systemd/*.service")
	require.NoError(t, err)
	require.Len(t, units, 3)
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		require.NoError(t, err)
		exec := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/(\w+) --config /etc/parley/(\w+)\.ini$`).FindSubmatch(text)
		require.NotNil(t, exec, unit)
		require.Equal(t, exec[1], exec[2], unit)
		require.DirExists(t, "../../"+string(exec[1]), "%s starts a program of ours", unit)
		limit := regexp.MustCompile(`(?m)^LimitNOFILE=(\d+)$`).FindSubmatch(text)
		require.NotNil(t, limit, unit)
		files, err := strconv.Atoi(string(limit[1]))
		require.NoError(t, err)
		require.Greater(t, files, 1024, unit)
	}
}
