package launch

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// holdVar makes this test binary a process of another kind, see TestMain.
const holdVar = "CLUSTER_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdVar); path != "" {
		hold(path)
	}
	if strings.HasSuffix(os.Args[0], "node") {
		os.Exit(fakeNode())
	}
	goleak.VerifyTestMain(m)
}

// hold starts a child, writes its process id to the file and waits to be killed.
func hold(path string) {
	p := newProc("sleep", "/bin/sleep", path+".log", nil, "600")
	if err := p.Start(context.Background()); err != nil {
		panic(err)
	}
	if err := os.WriteFile(path+".tmp", []byte(port{number: p.Pid()}.String()), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		panic(err)
	}
	select {}
}

// shell makes a process that runs a script of the shell and is ready when its log holds the line "ready".
func shell(t *testing.T, script string) *Proc {
	t.Helper()
	var p *Proc
	p = newProc("shell", "/bin/sh", filepath.Join(t.TempDir(), "shell.log"), func(context.Context) error {
		if !strings.Contains(p.Log(), "ready\n") {
			return os.ErrNotExist
		}
		return nil
	}, "-c", script)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	return p
}

// sleeper waits in the shell itself, so that the process that gets the signal is the one that waits.
const sleeper = "echo ready; while :; do read -r line </dev/tty 2>/dev/null || sleep 0.05; done"

func eventually(t *testing.T, what string, f func() (ok bool, why string)) {
	t.Helper()
	var why string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var ok bool
		if ok, why = f(); ok {
			return
		}
	}
	t.Fatalf("%s: not within 20 s: %s", what, why)
}

func TestProcStartKillRestart(t *testing.T) {
	p := shell(t, sleeper)
	require.Zero(t, p.Pid())
	require.False(t, p.Running())
	require.ErrorIs(t, p.Signal(syscall.SIGTERM), ErrNotRunning)
	_, err := p.Wait(t.Context())
	require.ErrorIs(t, err, ErrNotRunning)

	require.NoError(t, p.Start(t.Context()))
	require.True(t, p.Running())
	require.ErrorIs(t, p.Start(t.Context()), ErrRunning)
	first := p.Pid()

	require.NoError(t, p.Kill())
	require.False(t, p.Running())
	require.NoError(t, p.Kill(), "killing twice is no error")
	require.ErrorIs(t, syscall.Kill(first, 0), syscall.ESRCH, "the process has been waited for")
	code, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, -1, code)

	require.NoError(t, p.Restart(t.Context()))
	require.NotEqual(t, first, p.Pid())
	require.NoError(t, p.Restart(t.Context()), "a running process is killed first")
}

func TestProcTerminate(t *testing.T) {
	tests := []struct {
		name, script string
		code         int
	}{
		{"handled", "trap 'exit 7' TERM; " + sleeper, 7},
		{"clean", "trap 'exit 0' TERM; " + sleeper, 0},
		{"not handled", sleeper, -1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p := shell(t, tc.script)
			require.NoError(t, p.Start(t.Context()))
			code, err := p.Terminate(t.Context())
			require.NoError(t, err)
			require.Equal(t, tc.code, code)
			_, err = p.Terminate(t.Context())
			require.ErrorIs(t, err, ErrNotRunning)
		})
	}
}

func TestProcTerminateReachesPausedProcess(t *testing.T) {
	p := shell(t, "trap 'exit 3' TERM; "+sleeper)
	require.NoError(t, p.Start(t.Context()))
	require.NoError(t, p.Pause())
	code, err := p.Terminate(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, code)
}

func TestProcPauseStopsIt(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	p := shell(t, sleeper)
	require.NoError(t, p.Start(t.Context()))
	for range 3 { // a second pause must see the second stop
		require.NoError(t, p.Pause())
		require.Equal(t, "T", procState(t, p.Pid()))
		require.True(t, p.Running())
		require.NoError(t, p.Resume())
		eventually(t, "resumed", func() (bool, string) {
			s := procState(t, p.Pid())
			return s != "T", s
		})
	}
	require.NoError(t, p.Kill())
	require.ErrorIs(t, p.Pause(), ErrNotRunning)
}

// procState is the letter in /proc/pid/stat, behind the name in parentheses.
func procState(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", port{number: pid}.String(), "stat"))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(b), ") ")
	require.True(t, ok)
	return rest[:1]
}

func TestProcStopKillsWhatIgnoresSIGTERM(t *testing.T) {
	p := shell(t, "trap '' TERM; "+sleeper)
	require.NoError(t, p.Start(t.Context()))
	err := p.stop(50 * time.Millisecond)
	require.ErrorContains(t, err, "ignored SIGTERM")
	require.False(t, p.Running())
	require.NoError(t, p.stop(time.Second), "what has ended needs no stopping")
}

func TestProcStopReportsExitCode(t *testing.T) {
	p := shell(t, "trap 'exit 66' TERM; "+sleeper)
	require.NoError(t, p.Start(t.Context()))
	require.ErrorContains(t, p.stop(20*time.Second), "code 66")
}

func TestProcStartFails(t *testing.T) {
	t.Run("ends before it is ready", func(t *testing.T) {
		p := shell(t, "echo no port for me; exit 69")
		err := p.Start(t.Context())
		require.ErrorContains(t, err, "exit status 69")
		require.ErrorContains(t, err, "no port for me", "the log is in the error")
	})
	t.Run("never ready", func(t *testing.T) {
		p := shell(t, strings.ReplaceAll(sleeper, "ready", "thinking"))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, p.Start(ctx), context.DeadlineExceeded)
		require.True(t, p.Running())
	})
	t.Run("no such program", func(t *testing.T) {
		p := newProc("nothing", filepath.Join(t.TempDir(), "nothing"), filepath.Join(t.TempDir(), "log"), nil)
		require.ErrorIs(t, p.Start(t.Context()), os.ErrNotExist)
		require.False(t, p.Running())
	})
}

func TestProcLogIsATail(t *testing.T) {
	p := newProc("log", "/bin/true", filepath.Join(t.TempDir(), "log"), nil)
	require.Contains(t, p.Log(), "no log")
	long := strings.Repeat("0123456789\n", logTailBytes/11+100)
	require.NoError(t, os.WriteFile(p.LogPath(), []byte(long+"last\n"), 0o600))
	got := p.Log()
	require.LessOrEqual(t, len(got), logTailBytes)
	require.True(t, strings.HasPrefix(got, "0123456789\n"), "begins with a whole line")
	require.True(t, strings.HasSuffix(got, "last\n"))
}

func TestCleanEnv(t *testing.T) {
	got := cleanEnv([]string{"PATH=/bin", "PARLEY_REDIS_ADDR=x", "HOME=/"})
	require.Equal(t, []string{"GORACE=atexit_sleep_ms=0", "PATH=/bin", "HOME=/"}, got)
}

// TestChildDiesWithParent kills a process that has started a child, in the one way that leaves it no chance to clean up.
func TestChildDiesWithParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has Pdeathsig")
	}
	path := filepath.Join(t.TempDir(), "pid")
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), holdVar+"="+path)
	require.NoError(t, parent.Start())
	var child string
	eventually(t, "child started", func() (bool, string) {
		b, err := os.ReadFile(path)
		child = string(b)
		return err == nil, "no file yet"
	})
	cmdline := filepath.Join("/proc", child, "cmdline")
	b, err := os.ReadFile(cmdline)
	require.NoError(t, err)
	require.Contains(t, string(b), "sleep")

	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait())
	eventually(t, "child gone", func() (bool, string) {
		b, err := os.ReadFile(cmdline) // a zombie that nobody has waited for yet has an empty one
		return err != nil || len(b) == 0, string(b)
	})
}

// TestChildOutlivesThreads gives the thread that started the child every reason to end.
func TestChildOutlivesThreads(t *testing.T) {
	p := shell(t, sleeper)
	require.NoError(t, p.Start(t.Context()))
	for range 100 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // ending without unlocking ends the thread
		}()
		<-done
	}
	require.NoError(t, p.Pause())
	require.NoError(t, p.Resume())
	require.True(t, p.Running())
}

func TestTakePort(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		p, err := takePort()
		require.NoError(t, err)
		defer func() { require.NoError(t, p.Close()) }()
		require.False(t, seen[p.number], "%d taken twice", p.number)
		seen[p.number] = true
		require.GreaterOrEqual(t, p.number, lowestPort)
		require.Less(t, p.number, highestPort)
	}
	require.NoError(t, port{}.Close())
}
