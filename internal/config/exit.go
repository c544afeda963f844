package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// Exit codes of every node. A signal that was asked for politely and drained ends with ExitOK.
const (
	ExitOK         = 0
	ExitFailure    = 1  // a failure while running, or a second signal
	ExitUsage      = 2  // unknown or malformed flags
	ExitDependency = 69 // something the node cannot start without is missing: a port, Redis, SQL, its own name
	ExitConfig     = 78 // the configuration is wrong
)

// ErrDone says that the command line asked for something other than running (--help, --check, …) and got it. It maps to
// ExitOK and is not printed.
var ErrDone = errors.New("done")

type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Usage marks err as a mistake on the command line (ExitUsage). It returns nil for nil.
func Usage(err error) error { return withCode(ExitUsage, err) }

// Dependency marks err as something the node needs at start and could not get (ExitDependency). It returns nil for nil.
func Dependency(err error) error { return withCode(ExitDependency, err) }

// Invalid marks err as a mistake in the configuration (ExitConfig). It returns nil for nil.
func Invalid(err error) error { return withCode(ExitConfig, err) }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

// ExitCode returns the exit code that err asks for: ExitOK for nil and ErrDone, ExitFailure for an error nobody marked.
// Of several marks the outermost counts.
func ExitCode(err error) int {
	if err == nil || errors.Is(err, ErrDone) {
		return ExitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return ExitFailure
}

// Process is all that a program is given from outside. Tests make their own.
type Process struct {
	Name    string   // of the program, as in its messages: "chatnode"
	Version string   // one line, printed by --version
	Args    []string // without the program's name
	Environ []string // "KEY=value", as os.Environ returns it
	Stdout  io.Writer
	Stderr  io.Writer
}

// minProcs is the least GOMAXPROCS a node runs with, also in a container of one processor.
const minProcs = 2

// sameSignal is how soon after the first signal another one counts as the same: make passes on what its whole process group
// has received.
const sameSignal = 50 * time.Millisecond

// Main runs a program and exits the process with the code its error maps to; it does not return. The first SIGINT or
// SIGTERM ends run's context, a second one exits at once with ExitFailure. GOMEMLIMIT is nine tenths of the control group's
// memory unless it is set; GOMAXPROCS is at least 2.
func Main(name, version string, run func(context.Context, Process) error) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		first := time.Now() // before the end begins, which may take the processor
		cancel()
		for {
			<-signals
			if time.Since(first) > sameSignal {
				os.Exit(ExitFailure)
			}
		}
	}()
	// Near the limit of its container a process should collect harder instead of being killed. Where there is no limit, or
	// none can be read, nothing changes.
	_, _ = memlimit.Set()
	// netpoll sits in a system call while it waits for events. With one P, everything else waits each time until the
	// runtime has noticed and taken the P away, up to 10 ms: an acknowledgement took 46 ms instead of 2.
	if runtime.GOMAXPROCS(0) < minProcs {
		runtime.GOMAXPROCS(minProcs)
	}
	err := run(ctx, Process{
		Name: name, Version: version, Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%s: stopped while it was starting\n", name)
		err = nil
	}
	if err != nil && !errors.Is(err, ErrDone) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, strings.TrimPrefix(err.Error(), name+": "))
	}
	os.Exit(ExitCode(err))
}
