// Command parleyctl is a tool for users and operators of a Parley cluster: accounts, and a chat in the terminal for people
// and scripts.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"parley/client"
	"parley/internal/obs"
)

// Exit codes.
const (
	exitOK    = 0
	exitFail  = 1 // the cluster refused or could not be reached
	exitUsage = 2 // the command line is wrong
)

// cli is the command line. Kong reads the struct tags.
type cli struct {
	Chat          chatCmd     `cmd:"" help:"Chat line by line: read texts from standard input, print texts to standard output."`
	Register      registerCmd `cmd:"" help:"Create an account."`
	Code          codeCmd     `cmd:"" help:"Request a verification code by mail, for register or reset-password."`
	ResetPassword resetCmd    `cmd:"" help:"Set a new password."`
	Passwd        passwdCmd   `cmd:"" help:"Change the password; ends all sessions."`
	DeleteAccount deleteCmd   `cmd:"" help:"Delete an account permanently."`
	Conform       conformCmd  `cmd:"" help:"Check whether a cluster follows the protocol."`
	Mkcerts       mkcertsCmd  `cmd:"" help:"Make certificates for development, signed by an authority of one's own."`

	Top       topCmd       `cmd:"" help:"Show the nodes of a cluster, again every second."`
	Nodes     nodesCmd     `cmd:"" help:"Show the nodes of a cluster."`
	Node      nodeCmd      `cmd:"" help:"Drain a node, or use it again."`
	Session   sessionCmd   `cmd:"" help:"List or end sessions."`
	Rebalance rebalanceCmd `cmd:"" help:"Move clients from fuller nodes to emptier ones, as after a node was added."`

	Version kong.VersionFlag `help:"Print the version."`
}

// gateFlags are what every command that speaks to a gate has.
type gateFlags struct {
	Gate    string        `help:"Address of a gate. Default http://127.0.0.1:8080." placeholder:"URL" default:"http://127.0.0.1:8080" env:"PARLEY_GATE"`
	Timeout time.Duration `help:"How long to wait for an answer." default:"30s"`
}

func (f *gateFlags) open() (*client.Gate, error) {
	g, err := client.NewGate(f.Gate)
	if err != nil {
		return nil, usageError{fmt.Errorf("--gate: %w", err)}
	}
	return g, nil
}

// environment is what the commands use of the outside; tests have their own.
type environment struct {
	ctx context.Context // ends at the first signal
	in  io.Reader
	out io.Writer // texts, and what a script would read
	err io.Writer // notices for people
	// typed reads lines of in, once something asks for them.
	typed *bufio.Reader
	// person says that somebody types: standard input is a terminal.
	person bool
	// screen takes over the terminal; it returns nil, and restore does nothing, if there is none. nil in tests.
	screen func(ctx context.Context) (s *screen, restore func(), err error)
	// stateFile names the file that remembers what a person has seen; "" if there is no place for one. nil for scripts.
	stateFile func(gate, email, device string) string
	// secret asks for a line without echo; nil if there is no terminal.
	secret func(ctx context.Context, prompt string) (string, error)
}

// usageError is a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills
	e := &environment{ctx: ctx, in: os.Stdin, out: os.Stdout, err: os.Stderr, person: term.IsTerminal(int(os.Stdin.Fd()))}
	if e.person {
		e.secret, e.screen, e.stateFile = readSecret, openScreen, stateFile
	}
	os.Exit(run(e, os.Args[1:]))
}

// readSecret asks on the terminal. A signal ends it with the echo restored.
func readSecret(ctx context.Context, prompt string) (string, error) {
	fd := int(os.Stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	type line struct {
		text []byte
		err  error
	}
	typed := make(chan line, 1)
	fmt.Fprint(os.Stderr, prompt)
	defer fmt.Fprintln(os.Stderr)
	// A read of the terminal cannot be interrupted: after a signal this goroutine is left behind, and the program ends.
	go func() {
		text, err := term.ReadPassword(fd)
		typed <- line{text, err}
	}()
	select {
	case l := <-typed:
		return string(l.text), l.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}

// helped stops kong after it printed its help.
type helped struct{ code int }

// run executes a command line and returns the exit code.
func run(e *environment, args []string) (code int) {
	parser, err := kong.New(new(cli),
		kong.Name("parleyctl"),
		kong.Description("Use a Parley cluster: accounts, and a chat in the terminal; look at it and run it.\n\n"+
			"Exit status: 0 success, 1 failure, 2 wrong usage."),
		kong.Writers(e.out, e.err), kong.Vars{"version": "parleyctl " + obs.Version()},
		kong.Exit(func(code int) { panic(helped{code}) }),
	)
	if err != nil {
		fmt.Fprintln(e.err, "parleyctl:", err)
		return exitUsage
	}
	defer func() {
		if v := recover(); v != nil {
			h, ok := v.(helped)
			if !ok {
				panic(v)
			}
			code = h.code
		}
	}()
	ctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(e.err, "parleyctl: %v\nTry \"parleyctl --help\".\n", err)
		return exitUsage
	}
	if err := ctx.Run(e); err != nil {
		code, quiet, ofConform := conformCode(err)
		if quiet {
			return code
		}
		fmt.Fprintln(e.err, "parleyctl:", explain(err))
		if _, ok := errors.AsType[usageError](err); ok {
			return exitUsage
		}
		if ofConform {
			return code
		}
		return exitFail
	}
	return exitOK
}

// explain adds what a person can do about an error.
func explain(err error) string {
	s := strings.TrimPrefix(err.Error(), "client: ")
	switch {
	case errors.Is(err, client.ErrReplaced):
		return "logged in elsewhere with the same --device; this session is over"
	case errors.Is(err, syscall.ECONNREFUSED):
		return s + " (is the cluster running? see --gate)"
	case errors.Is(err, context.DeadlineExceeded):
		return s + " (see --timeout)"
	}
	if wait := client.RetryAfter(err); wait > 0 {
		return fmt.Sprintf("%s; try again in %v", s, wait)
	}
	return s
}
