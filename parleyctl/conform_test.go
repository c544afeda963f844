package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConformListsItsChecks(t *testing.T) {
	code, stdout, _ := execute(t, "", "conform", "--list", "--run", "^history-")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "history-pages")
	require.Contains(t, stdout, "D36")
	require.NotContains(t, stdout, "text-")
}

func TestConformUsage(t *testing.T) {
	code, _, stderr := execute(t, "", "conform", "--run", "(")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--run")
	code, _, _ = execute(t, "", "conform", "--users", "a", "--codes-file", "b")
	require.Equal(t, exitUsage, code)
}

func TestConformSaysWhenItCannotBegin(t *testing.T) {
	code, _, stderr := execute(t, "", "conform", "--gate", "http://127.0.0.1:1")
	require.Equal(t, exitSetUp, code)
	require.Contains(t, stderr, "cannot set up")
	for _, flag := range []string{"--users", "--codes-file"} {
		code, _, _ = execute(t, "", "conform", flag, filepath.Join(t.TempDir(), "none"))
		require.Equal(t, exitSetUp, code)
	}
	bad := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(bad, []byte("# nobody\n\nonly-a-name\n"), 0o600))
	code, _, stderr = execute(t, "", "conform", "--users", bad)
	require.Equal(t, exitSetUp, code)
	require.Contains(t, stderr, "line 3")
}

func TestConformAgainstDemoUsers(t *testing.T) {
	gate, _ := startCluster(t)
	code, stdout, stderr := execute(t, "", "conform", gate, "--run", "^(http-login|text-several|text-refused)$")
	require.Equal(t, exitOK, code, stdout+stderr)
	require.Contains(t, stdout, "ok   http-login\n")
	require.Contains(t, stdout, "skip text-refused: ")
	require.Contains(t, stdout, "2 ok, 0 failed, 1 skipped")

	users := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(users, []byte("alice@example.com alice-demo\nbob@example.com bob-demo\n"), 0o600))
	code, stdout, stderr = execute(t, "", "conform", gate, "--users", users, "--run", "^text-resent$", "--json")
	require.Equal(t, exitOK, code, stdout+stderr)
	var r report
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.True(t, r.OK)
	require.Equal(t, 1, r.Passed)
}
