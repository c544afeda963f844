// Package programs tests the command lines of all programs: flags, versions, exit codes and errors.
package programs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/config"
	"parley/lab/launch"
)

var programs = []string{"gatenode", "statusnode", "chatnode", "standalone", "parleyctl", "bench"}

// bin is the directory of the programs.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "parley-programs-")
		if err == nil {
			defer os.RemoveAll(dir)
			bin, err = dir, launch.Build(context.Background(), dir, false, programs...)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// patience bounds a program that should exit by itself.
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

func TestBenchRunsOutsideTheSources(t *testing.T) {
	r := run(t, "bench", "chat", "--users", "20", "--rate", "20", "--for", "1s", "--warmup", "0s", "--no-budgets", "--quiet")
	require.NotEqual(t, 4, r.code, r.stderr) // set up; what it measures here does not matter
	require.NotContains(t, r.stderr, "building")
	require.Contains(t, r.stdout, "report: bench-reports/")
	r = run(t, "bench", "chat", "--bin", t.TempDir())
	require.Equal(t, 4, r.code)
	require.Contains(t, r.stdout+r.stderr, "there is no standalone in")
}

func TestBenchChecksItsFlagsBeforeItStartsAnything(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, flags := range []string{
		"-d 0s", "--shape nonsense", "--cross 2", "--size 1", "--local 200", "--nodes 17", "--out " + file, "--rate -1", "--assert p98<1", "--fault nonsense",
	} {
		r := run(t, "bench", append([]string{"chat", "--users", "2"}, strings.Fields(flags)...)...)
		require.Equal(t, 4, r.code, flags)
		require.NotContains(t, r.stderr, "starting", flags)
	}
}

func TestAnInterruptedBenchSaysSo(t *testing.T) {
	cmd := command(t, "bench", "chat", "--users", "20", "--rate", "20", "--for", "50s", "--warmup", "0s")
	var stdout, stderr bytes.Buffer
	cmd.Stdout = &stdout
	pipe, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	buf := make([]byte, 4096)
	for !strings.Contains(stderr.String(), "chat") {
		n, err := pipe.Read(buf)
		stderr.Write(buf[:n])
		require.NoError(t, err, stderr.String())
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_, _ = stderr.ReadFrom(pipe)
	require.Equal(t, 3, exitCode(t, cmd.Wait()), stderr.String())
	require.Contains(t, stdout.String(), "INTERRUPTED")
	require.NotContains(t, stdout.String(), "MISSED")
}

// make and a terminal, or two supervisors, may each pass the same signal on.
func TestASignalThatComesTwiceAtOnceDrains(t *testing.T) {
	cmd := command(t, "standalone", "--free-ports", "--data", "")
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	out := bufio.NewReader(pipe)
	for line := ""; !strings.Contains(line, "Ctrl-C"); {
		line, err = out.ReadString('\n')
		require.NoError(t, err)
	}
	for range 2 {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		time.Sleep(time.Millisecond) // else the kernel delivers one
	}
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	require.Zero(t, exitCode(t, cmd.Wait()))
	require.Contains(t, string(rest), "stopped; the data was thrown away")
}

// F13: the commands and the program of client/doc.go, in a module of another name.
func TestTheClientWorksFromAnotherModule(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	doc, err := os.ReadFile(filepath.Join(root, "client", "doc.go"))
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	edit := "go mod edit -require parley@v" + client.Version + " -replace parley=../parley"
	require.Contains(t, string(doc), edit)
	require.Contains(t, string(readme), edit)

	var program strings.Builder
	for line := range strings.Lines(string(doc)) {
		if code, ok := strings.CutPrefix(line, "//\t"); ok && (program.Len() > 0 || strings.HasPrefix(code, "package main")) {
			program.WriteString(code)
		} else if line == "//\n" && program.Len() > 0 {
			program.WriteString("\n")
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program.String()), 0o600))
	for _, args := range []string{"mod init example.com/shop", strings.ReplaceAll(strings.TrimPrefix(edit, "go "), "../parley", root), "mod tidy", "build -o shop ."} {
		cmd := exec.CommandContext(t.Context(), "go", strings.Fields(args)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %s: %s", args, out)
	}
}

func TestTheVersionIsOne(t *testing.T) {
	version, err := os.ReadFile("../../VERSION")
	require.NoError(t, err)
	require.Equal(t, client.Version+"\n", string(version))
}
