// Package js runs the tests of the JavaScript client, clients/js, by node.
package js

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/lab/launch"
)

// TestJavaScriptClient runs them over standalone clusters, which they kill, stop and start again themselves.
func TestJavaScriptClient(t *testing.T) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	root, err := filepath.Abs(filepath.Join("..", "..", "clients", "js"))
	require.NoError(t, err)
	bin := t.TempDir()
	require.NoError(t, launch.Build(t.Context(), bin, false, "standalone"))

	if !installed(root) {
		run(t, root, nil, "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund")
	}
	run(t, root, []string{"PARLEY_STANDALONE=" + filepath.Join(bin, "standalone")}, "node", "--test")
}

// installed reports whether npm has installed what the lock file says.
func installed(root string) bool {
	want, err := os.Stat(filepath.Join(root, "package-lock.json"))
	if err != nil {
		return false
	}
	got, err := os.Stat(filepath.Join(root, "node_modules", ".package-lock.json"))
	return err == nil && !got.ModTime().Before(want.ModTime())
}

// timeout bounds a program that run runs. On a quiet machine the tests take half a minute.
const timeout = 5 * time.Minute

// run runs a program to its end, and ends what it has started if there is no time left.
func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
