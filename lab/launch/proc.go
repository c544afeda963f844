package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrRunning is returned by Start of a process that is running already.
var ErrRunning = errors.New("already running")

// ErrNotRunning is returned when a signal is meant for a process that has ended.
var ErrNotRunning = errors.New("not running")

// readyPoll is how often a starting process is asked whether it is ready: far below what a start costs.
const readyPoll = 20 * time.Millisecond

// logTailBytes bounds what Log returns: enough for a stack trace, little enough to read.
const logTailBytes = 32 << 10

// Proc is a child process that can be killed, paused and started again with the same command line. Its output goes to
// one log file, appended to by each start. All methods may be called from any goroutine.
type Proc struct {
	// Fixed after newProc.
	name    string
	path    string
	args    []string
	env     []string
	logPath string
	ready   func(ctx context.Context) error // nil once the process serves

	mu  sync.Mutex // guards cur
	cur *life      // the running or the last process; nil before the first start
}

// life is one run of a Proc.
type life struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
	err  error         // what Wait returned; read after done
}

func newProc(name, path, logPath string, ready func(context.Context) error, args ...string) *Proc {
	return &Proc{name: name, path: path, args: args, env: cleanEnv(os.Environ()), logPath: logPath, ready: ready}
}

// cleanEnv drops the variables that would override the configuration a child is given. The race detector's second of
// waiting at exit would look like a slow end; a GORACE of the caller's own counts instead.
func cleanEnv(env []string) []string {
	kept := make([]string, 0, len(env)+1)
	kept = append(kept, "GORACE=atexit_sleep_ms=0") // of two values of one name exec takes the later
	for _, kv := range env {
		if !strings.HasPrefix(kv, "PARLEY_") {
			kept = append(kept, kv)
		}
	}
	return kept
}

// spawn starts cmd and waits for it on one goroutine that stays on one thread: Linux sends Pdeathsig when the thread
// that forked ends, not the process, and a locked thread that sits in wait cannot end before its child.
func spawn(cmd *exec.Cmd) (*life, error) {
	cmd.SysProcAttr = childAttr()
	l := &life{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(l.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			l.err = cmd.Wait()
		}
	}()
	return l, <-started
}

func (l *life) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// Name is what the process is called in logs and file names, such as "chat1".
func (p *Proc) Name() string { return p.name }

// Pid is the process id of the running or the last process, 0 before the first start.
func (p *Proc) Pid() int {
	if l := p.life(); l != nil {
		return l.cmd.Process.Pid
	}
	return 0
}

// Running reports whether the process has been started and not yet been seen to end. A paused process is running.
func (p *Proc) Running() bool {
	l := p.life()
	return l != nil && !l.ended()
}

// Command is the command line, for a person who wants to repeat it by hand.
func (p *Proc) Command() string { return strings.Join(append([]string{p.path}, p.args...), " ") }

// LogPath is the file that takes stdout and stderr of every start.
func (p *Proc) LogPath() string { return p.logPath }

// Log returns the end of the log, at most 32 KiB, beginning with a whole line.
func (p *Proc) Log() string { return logTail(p.logPath) }

func logTail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	if len(b) > logTailBytes {
		b = b[len(b)-logTailBytes:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return string(b)
}

func (p *Proc) life() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cur
}

// Start starts the process and returns when it is ready, with an error when it ended before or ctx did. A process that
// is up but not ready when ctx ends is left running. ErrRunning when it runs already.
func (p *Proc) Start(ctx context.Context) error {
	l, err := p.spawn()
	if err != nil {
		return fmt.Errorf("launch: start %s: %w", p.name, err)
	}
	if err := p.awaitReady(ctx, l); err != nil {
		return fmt.Errorf("launch: start %s: %w; end of %s:\n%s", p.name, err, p.logPath, p.Log())
	}
	return nil
}

func (p *Proc) spawn() (*life, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur != nil && !p.cur.ended() {
		return nil, ErrRunning
	}
	out, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own copy; a file, not a pipe, so that nobody must drain it
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = p.env
	cmd.Stdout, cmd.Stderr = out, out
	l, err := spawn(cmd)
	if err != nil {
		return nil, err
	}
	p.cur = l
	return l, nil
}

func (p *Proc) awaitReady(ctx context.Context, l *life) error {
	if p.ready == nil {
		return nil
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-l.done:
			return fmt.Errorf("ended before it was ready: %s", l.describe())
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w; last answer: %v", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

func (l *life) describe() string {
	if l.err == nil {
		return "exit status 0"
	}
	return l.err.Error()
}

// Signal sends sig without waiting for its effect. ErrNotRunning when the process has ended; a process id is never
// signalled after it has been waited for, so it cannot hit a stranger.
func (p *Proc) Signal(sig os.Signal) error {
	l := p.life()
	if l == nil || l.ended() {
		return fmt.Errorf("launch: signal %s: %w", p.name, ErrNotRunning)
	}
	if err := l.cmd.Process.Signal(sig); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			err = ErrNotRunning
		}
		return fmt.Errorf("launch: signal %s: %w", p.name, err)
	}
	return nil
}

// Kill sends SIGKILL and returns when the process is gone. Killing what has ended already is no error: the caller has
// what it asked for.
func (p *Proc) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, ErrNotRunning) {
		return err
	}
	if l := p.life(); l != nil {
		<-l.done
	}
	return nil
}

// Pause sends SIGSTOP and returns when every thread of the process stands still (on Linux; elsewhere the signal has
// been sent). A process that ends instead gives ErrNotRunning.
func (p *Proc) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := awaitStopped(p.Pid()); err != nil {
		return fmt.Errorf("launch: pause %s: %w", p.name, err)
	}
	return nil
}

// Resume sends SIGCONT.
func (p *Proc) Resume() error { return p.Signal(syscall.SIGCONT) }

// Terminate sends SIGTERM and waits for the process to end, as long as ctx allows. It returns the exit code, -1 for a
// process ended by a signal. A paused process is resumed, else it would not see the signal.
func (p *Proc) Terminate(ctx context.Context) (code int, err error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	if err := p.Resume(); err != nil && !errors.Is(err, ErrNotRunning) {
		return 0, err
	}
	return p.Wait(ctx)
}

// Wait waits for the process to end and returns its exit code, -1 when a signal ended it. It returns ctx's error when
// that comes first, ErrNotRunning when the process was never started. Waiting again is allowed.
func (p *Proc) Wait(ctx context.Context) (code int, err error) {
	l := p.life()
	if l == nil {
		return 0, fmt.Errorf("launch: wait for %s: %w", p.name, ErrNotRunning)
	}
	select {
	case <-l.done:
		return l.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("launch: wait for %s: %w", p.name, ctx.Err())
	}
}

// Restart kills the process if it runs and starts it again: same command line, same ports, same data. It returns when
// the process is ready.
func (p *Proc) Restart(ctx context.Context) error {
	if err := p.Kill(); err != nil {
		return err
	}
	return p.Start(ctx)
}

// stop ends the process politely, then not: SIGTERM, and SIGKILL after the bound. It returns an error when the process
// had to be killed, or ended by itself with a code other than 0. What was killed on purpose before is no error.
func (p *Proc) stop(bound time.Duration) error {
	if !p.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	code, err := p.Terminate(ctx)
	switch {
	case errors.Is(err, ErrNotRunning):
		return nil
	case err != nil:
		return errors.Join(fmt.Errorf("launch: %s ignored SIGTERM for %v and was killed", p.name, bound), p.Kill())
	case code != 0:
		return fmt.Errorf("launch: %s ended with code %d at SIGTERM", p.name, code)
	}
	return nil
}
