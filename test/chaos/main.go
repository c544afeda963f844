//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"
)

// Exit codes.
const (
	exitPass        = 0
	exitMiss        = 1
	exitUsage       = 2
	exitInterrupted = 3
)

// flags is the command line. Kong reads the struct tags.
type flags struct {
	Bars     []string      `help:"Ids of the bars to run, such as D1,P3; a letter stands for all of its bars. Default: all." placeholder:"ID"`
	List     bool          `help:"Print the bars and exit."`
	Short    bool          `help:"Reduced counts, as in CI: all bars within 6 minutes on two cores."`
	Soak     time.Duration `help:"Run no bar but the soak, for this long: texts, churn and one random fault per minute." placeholder:"DURATION"`
	Seed     uint64        `help:"Decides every choice made by chance. 0 draws one and prints it." default:"0"`
	Parallel int           `help:"Bars at a time; those that compare times always run alone. Default 1, with --short 5." placeholder:"N"`
	Out      string        `help:"Directory for what is kept of bars that missed. Default: a new temporary one." placeholder:"DIR"`
	Bin      string        `help:"Directory with the programs of the nodes. Default: they are built." placeholder:"DIR"`
	OnceMore bool          `help:"Run bars that were late and had nothing else wrong once more, alone, if they are few."`
	Keep     bool          `help:"Keep the directories of all bars, not only of those that missed."`
	Markdown string        `help:"Write the table to FILE as Markdown; with --list, one without figures." placeholder:"FILE"`

	// Arguments of the processes that a run starts itself.
	Inside   string `hidden:"" help:"Run one bar in this network namespace and write its result to FILE."`
	Template string `hidden:"" help:"Data of mariadbd to begin with."`
	Sender   string `hidden:"" help:"Be the client of bar D3 that FILE describes."`
	Appender bool   `hidden:"" help:"Be the process of bar D8 that standard input describes."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var f flags
	exited := -1
	parser, err := kong.New(&f, kong.Name("chaos"), kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }),
		kong.Description("Breaks a cluster on purpose and checks that it keeps its promises. docs/ROBUSTNESS.md explains the bars."))
	if err != nil {
		fmt.Fprintln(stderr, "chaos:", err)
		return exitUsage
	}
	_, err = parser.Parse(args)
	switch {
	case exited >= 0:
		return exited
	case err != nil:
		fmt.Fprintln(stderr, "chaos:", err)
		return exitUsage
	}
	if f.Sender != "" {
		return beSender(ctx, f.Sender, stdout, stderr)
	}
	if f.Appender {
		return beAppender(ctx, os.Stdin, stdout, stderr)
	}
	chosen, err := choose(allBars(), f.Bars)
	if err != nil {
		fmt.Fprintln(stderr, "chaos:", err)
		return exitUsage
	}
	if f.Soak != 0 {
		if f.Soak < time.Minute || len(f.Bars) > 0 {
			fmt.Fprintln(stderr, "chaos: --soak takes at least a minute and excludes --bars")
			return exitUsage
		}
		chosen = []Bar{soakBar(f.Soak)}
	}
	if f.List {
		list(stdout, chosen)
		if f.Markdown != "" {
			if err := os.WriteFile(f.Markdown, []byte(markdownList(chosen)), 0o644); err != nil {
				fmt.Fprintln(stderr, "chaos:", err)
				return exitUsage
			}
		}
		return exitPass
	}
	if f.Seed == 0 {
		f.Seed = rand.Uint64N(1_000_000) + 1
	}
	if f.Parallel <= 0 {
		f.Parallel = 1
		if f.Short {
			f.Parallel = 5
		}
	}
	redis.SetLogger(quiet{})
	if err := raiseDescriptors(); err != nil {
		fmt.Fprintln(stderr, "chaos: descriptor limit:", err)
	}
	s := &suite{flags: f, out: stdout, err: stderr}
	if f.Inside != "" {
		return s.inside(ctx, chosen[0])
	}
	return s.run(ctx, chosen)
}

// quiet keeps the harness's Redis client from writing between the lines of the bars; servers die on purpose here.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// maxDescriptors is the number of descriptors that some bars need in this process and in a node.
const maxDescriptors = 20_000

// raiseDescriptors raises the soft limit of descriptors, which child processes inherit.
func raiseDescriptors() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Cur >= maxDescriptors {
		return nil
	}
	l.Cur = min(l.Max, maxDescriptors)
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
}

// choose returns the bars with the given ids, in the order of the list.
func choose(all []Bar, ids []string) ([]Bar, error) {
	if len(ids) == 0 {
		return all, nil
	}
	var chosen []Bar
	used := make([]bool, len(ids))
	for _, b := range all {
		for i, id := range ids {
			id = strings.TrimSpace(id)
			if strings.EqualFold(id, b.ID) || strings.EqualFold(id, strings.TrimRight(b.ID, "0123456789")) {
				used[i] = true
				if !slices.ContainsFunc(chosen, func(c Bar) bool { return c.ID == b.ID }) {
					chosen = append(chosen, b)
				}
			}
		}
	}
	for i, ok := range used {
		if !ok {
			return nil, fmt.Errorf("there is no bar %q: --list prints them", ids[i])
		}
	}
	if len(chosen) == 0 {
		return nil, errors.New("no bar chosen")
	}
	return chosen, nil
}

func list(w io.Writer, bars []Bar) {
	for _, b := range bars {
		fmt.Fprintf(w, "%-4s %s\n     %s\n", b.ID, b.Fault, b.Want)
	}
}
