package config

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be a program: signals and exit codes are a process' own.
func TestMain(m *testing.M) {
	if mode := os.Getenv("CONFIG_TEST_MAIN"); mode != "" {
		Main("program", "v1", func(ctx context.Context, p Process) error { return program(ctx, p, mode) })
	}
	os.Exit(m.Run())
}

func program(ctx context.Context, p Process, mode string) error {
	switch mode {
	case "fails":
		return errors.New("it broke")
	case "invalid":
		return Invalid(errors.New("it is wrong"))
	case "done":
		return ErrDone
	case "procs":
		fmt.Fprintln(p.Stdout, runtime.GOMAXPROCS(0))
		return nil
	}
	fmt.Fprintln(p.Stdout, "up")
	<-ctx.Done()
	fmt.Fprintln(p.Stdout, "draining")
	if mode == "stubborn" {
		select {}
	}
	return nil
}

func TestMainExits(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, c := range []struct {
		mode    string
		signals int
		code    int
		stderr  string
	}{
		{"polite", 1, 0, ""},
		{"stubborn", 2, 1, ""},
		{"fails", 0, 1, "program: it broke\n"},
		{"invalid", 0, 78, "program: it is wrong\n"},
		{"done", 0, 0, ""},
	} {
		t.Run(c.mode, func(t *testing.T) {
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), "CONFIG_TEST_MAIN="+c.mode)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			var stderr lines
			cmd.Stderr = &stderr
			require.NoError(t, cmd.Start())
			read := bufio.NewScanner(out)
			for _, want := range []string{"up", "draining"}[:c.signals] {
				require.True(t, read.Scan())
				require.Equal(t, want, read.Text())
				require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			}
			ended := make(chan struct{})
			var again sync.WaitGroup
			again.Go(func() { // a second one that came at once counted as the first
				for c.signals > 1 {
					select {
					case <-ended:
						return
					case <-time.After(2 * sameSignal):
						_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
					}
				}
			})
			for read.Scan() {
			}
			close(ended)
			again.Wait()
			_ = cmd.Wait() // the code says it
			require.Equal(t, c.code, cmd.ProcessState.ExitCode())
			require.Equal(t, c.stderr, string(stderr))
		})
	}
}

// With one P every event waits for the runtime to take it away from netpoll.
func TestMainRunsWithTwoProcessors(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	for set, want := range map[string]string{"1": "2\n", "3": "3\n"} {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "CONFIG_TEST_MAIN=procs", "GOMAXPROCS="+set)
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, want, string(out))
	}
}

type lines []byte

func (l *lines) Write(p []byte) (int, error) {
	*l = append(*l, p...)
	return len(p), nil
}
