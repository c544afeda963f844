package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/standalone"
)

func TestAnAccountIsDeleted(t *testing.T) {
	gate, _ := startCluster(t)
	bob := standalone.Demo[1]
	args := []string{"delete-account", gate, "--email=" + bob.Email, "--password=" + bob.Password}
	code, _, stderr := execute(t, "", args...)
	require.Equal(t, exitUsage, code, "nobody to ask")
	require.Contains(t, stderr, "--yes")
	code, _, stderr = execute(t, "", "delete-account", gate, "--email="+bob.Email, "--password=wrong1", "--yes")
	require.Equal(t, exitFail, code, stderr)
	code, _, stderr = execute(t, "", append(args, "--yes")...)
	require.Equal(t, exitOK, code, stderr)
	code, _, _ = execute(t, "", login(gate, 1)...)
	require.Equal(t, exitFail, code)
	code, _, stderr = execute(t, "/friends\n/to bob\n", login(gate, 0)...)
	require.Equal(t, exitFail, code)
	require.Contains(t, stderr, "there is no user bob")
}
