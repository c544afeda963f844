package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is a program whose output and exit code are tested.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex // guards the following
	out strings.Builder
}

// Write receives the output of the process.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start starts a program, and kills it at the end of the test if it still runs.
func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	return startWith(t, "", nil, name, args...)
}

// startWith is like start, with standard input and additional environment variables. The stdin "-" is a pipe that
// stays open.
func startWith(t testing.TB, stdin string, env []string, name string, args ...string) *process {
	t.Helper()
	bin, err := programs()
	require.NoError(t, err)
	p := &process{t: t, cmd: exec.Command(filepath.Join(bin, name), args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.Dir = t.TempDir()
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PARLEY_") {
			p.cmd.Env = append(p.cmd.Env, kv)
		}
	}
	p.cmd.Env = append(append(p.cmd.Env, "GORACE=atexit_sleep_ms=0"), env...)
	p.cmd.Stdin = strings.NewReader(stdin)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the code is read from ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // usually it has ended already
		<-p.done
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, tail(p.printed(), 40))
		}
	})
	return p
}

// wait waits for the process and returns its exit code.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), within)
	defer cancel()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-ctx.Done():
		p.t.Fatalf("%s still runs after %v", p.cmd.Path, within)
		return 0
	}
}

// awaitPrint waits until the process has printed a text.
func (p *process) awaitPrint(what string) {
	p.t.Helper()
	eventually(p.t, patience, "the output "+what, func() (bool, string) {
		select {
		case <-p.done:
			require.Contains(p.t, p.printed(), what, "ended with %d", p.cmd.ProcessState.ExitCode())
		default:
		}
		return strings.Contains(p.printed(), what), p.printed()
	})
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}
