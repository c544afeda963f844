// Package programs tests the command lines of all programs as a user meets them: flags, versions, exit codes and errors.
package programs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/cluster"
	"parley/internal/config"
)

var programs = []string{"gatenode", "statusnode", "chatnode", "standalone", "parleyctl", "bench"}

// bin is where the programs are.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "parley-programs-")
		if err == nil {
			defer os.RemoveAll(dir)
			bin, err = dir, cluster.Build(context.Background(), dir, false, programs...)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// patience bounds a program that should end by itself.
const patience = time.Minute

type result struct {
	code           int
	stdout, stderr string
}

// command returns a program in an empty directory.
func command(t *testing.T, program string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, program), args...)
	cmd.Dir = t.TempDir()
	return cmd
}

func run(t *testing.T, program string, args ...string) result {
	cmd := command(t, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return result{exitCode(t, cmd.Run()), stdout.String(), stderr.String()}
}

func exitCode(t *testing.T, err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

func TestEveryProgramTellsItsVersion(t *testing.T) {
	for _, p := range programs {
		r := run(t, p, "--version")
		require.Zero(t, r.code, p)
		require.Contains(t, r.stdout, "(", p)
		require.Contains(t, r.stdout, "go1.", p)
		require.Empty(t, r.stderr, p)
	}
}

func TestEveryProgramHelps(t *testing.T) {
	for _, p := range programs {
		r := run(t, p, "--help")
		require.Zero(t, r.code, p)
		require.NotEmpty(t, r.stdout, p)
		require.Empty(t, r.stderr, p)
	}
}

// The exit codes of the README.
func TestAWrongCommandLineIsRefused(t *testing.T) {
	for _, p := range programs {
		want := config.ExitUsage
		if p == "bench" {
			want = 4 // of bench, 2 is "incorrect"
		}
		r := run(t, p, "--no-such-flag")
		require.Equal(t, want, r.code, p)
		require.Contains(t, r.stderr, "no-such-flag", p)
		require.Equal(t, 1, strings.Count(r.stderr, p+":"), "%s: %s", p, r.stderr)
	}
	for _, args := range [][]string{{"--log", "verbose"}, {"stray"}, {"--nodes", "0"}, {"--nodes", "17"}} {
		r := run(t, "standalone", args...)
		require.Equal(t, config.ExitUsage, r.code, args)
		require.Equal(t, 1, strings.Count(r.stderr, "standalone:"), "%v: %s", args, r.stderr)
	}
}

func TestATakenPortIsNamedOnceWithTheWayOut(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:9090") // of the operations listener; taken by another program is as good
	if err == nil {
		defer ln.Close()
	}
	r := run(t, "standalone", "--data", "")
	require.Equal(t, config.ExitDependency, r.code)
	require.Contains(t, r.stderr, "address already in use")
	require.Contains(t, r.stderr, "--free-ports")
	require.Equal(t, 1, strings.Count(r.stderr, "standalone:"), r.stderr)
}

func TestAnInterruptedStartIsNoFailure(t *testing.T) {
	cmd := command(t, "standalone", "--free-ports", "--crowd", "1000000")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	db := filepath.Join(cmd.Dir, "data", "parley.db")
	require.Eventually(t, func() bool { info, err := os.Stat(db); return err == nil && info.Size() > 0 }, patience, 10*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Zero(t, exitCode(t, cmd.Wait()), stderr.String())
	require.Contains(t, stderr.String(), "standalone: stopped while it was starting\n")
	require.Equal(t, 1, strings.Count(stderr.String(), "standalone:"))
}
