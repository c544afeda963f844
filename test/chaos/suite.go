//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/lab/launch"
)

// suite is a run of some bars.
type suite struct {
	flags    flags
	out, err io.Writer

	dir      string // of the run
	bin      string // programs of the nodes
	template string // data of a mariadbd with the schema, copied for each bar

	bugsOnce sync.Once // guards the following
	bugsBin  string    // programs with seeded bugs
	bugsErr  error

	outMu   sync.Mutex // guards out and results
	results []result
}

// outcome is the outcome of a bar.
type outcome string

const (
	pass    outcome = "PASS"
	miss    outcome = "MISS"
	skipped outcome = "SKIP"
)

// result is the result of a bar that has ended.
type result struct {
	Bar     Bar
	Outcome outcome
	Took    time.Duration
	Figures []Figure
	Err     error
	Kept    string // directory, if it was kept
}

func (s *suite) run(ctx context.Context, bars []Bar) int {
	begin := time.Now()
	if err := s.prepare(ctx); err != nil {
		fmt.Fprintln(s.err, "chaos:", err)
		if ctx.Err() != nil {
			return exitInterrupted
		}
		return exitMiss
	}
	defer s.cleanUp()
	fmt.Fprintf(s.out, "%d bars, seed %d, %s counts, up to %d at a time, in %s\n", len(bars), s.flags.Seed, counts(s.flags.Short), s.flags.Parallel, s.dir)

	var together, alone []Bar
	for _, b := range bars {
		if b.Alone || s.flags.Parallel == 1 {
			alone = append(alone, b)
		} else {
			together = append(together, b)
		}
	}
	// Start those that may take longest first, so that none of them is left at the end.
	slices.SortStableFunc(together, func(a, b Bar) int { return cmp.Compare(b.Limit, a.Limit) })
	var wg sync.WaitGroup
	slots := make(chan struct{}, s.flags.Parallel)
	for _, b := range together {
		slots <- struct{}{}
		if ctx.Err() != nil {
			<-slots
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			s.done(s.try(ctx, b))
		})
	}
	wg.Wait()
	for _, b := range alone {
		if ctx.Err() != nil {
			break
		}
		s.done(s.try(ctx, b))
	}
	s.onceMore(ctx)
	table(s.out, bars, s.results, time.Since(begin))
	if s.flags.Markdown != "" {
		if err := os.WriteFile(s.flags.Markdown, []byte(markdown(bars, s.results, s.flags)), 0o644); err != nil {
			fmt.Fprintln(s.err, "chaos: markdown:", err)
		}
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(s.out, "INTERRUPTED")
		return exitInterrupted
	case s.anyMissed():
		return exitMiss
	}
	return exitPass
}

// maxOnceMore bounds the bars that are repeated. If more of them are late, the machine is not the reason.
const maxOnceMore = 3

// onceMore repeats, alone, the bars that missed only times; the second result counts. It does nothing without
// --once-more.
func (s *suite) onceMore(ctx context.Context) {
	var late []int
	for i := range s.results {
		if s.results[i].late() {
			late = append(late, i)
		}
	}
	if !s.flags.OnceMore || len(late) > maxOnceMore {
		return
	}
	for _, i := range late {
		if ctx.Err() != nil {
			return
		}
		fmt.Fprintf(s.out, "once more, alone: %s was late\n", s.results[i].Bar.ID)
		again := s.try(ctx, s.results[i].Bar)
		s.print(again)
		s.results[i] = again
	}
}

// late reports whether the bar missed times and nothing else.
func (r *result) late() bool {
	return r.Outcome == miss && r.Err == nil && !slices.ContainsFunc(r.Figures, func(f Figure) bool { return !f.OK && !f.Time })
}

func counts(short bool) string {
	if short {
		return "short"
	}
	return "full"
}

func (s *suite) anyMissed() bool {
	for _, r := range s.results {
		if r.Outcome == miss {
			return true
		}
	}
	return false
}

// prepare builds the programs and the initial data of the bars.
func (s *suite) prepare(ctx context.Context) (err error) {
	if err := launch.Missing(); err != nil {
		return err
	}
	if s.flags.Out == "" {
		s.dir, err = os.MkdirTemp("", "parley-chaos-")
	} else if s.dir, err = filepath.Abs(s.flags.Out); err == nil {
		err = os.MkdirAll(s.dir, 0o755)
	}
	if err != nil {
		return err
	}
	if s.bin = s.flags.Bin; s.bin == "" {
		s.bin = filepath.Join(s.dir, "bin")
		if err := os.MkdirAll(s.bin, 0o755); err != nil {
			return err
		}
		fmt.Fprintln(s.err, "building the nodes …")
		if err := launch.Build(ctx, s.bin, false, "chatnode", "gatenode", "statusnode"); err != nil {
			return err
		}
	}
	return s.makeTemplate(ctx)
}

// makeTemplate starts one node once, so that the tables are made once and not by each bar.
func (s *suite) makeTemplate(ctx context.Context) error {
	dir := filepath.Join(s.dir, "template")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	c, err := launch.Start(ctx, launch.Options{Dir: dir, Bin: s.bin, Chat: 1, MariaDB: launch.MariaDBOptions{Args: quietSQL}})
	if err != nil {
		return fmt.Errorf("prepare the schema: %w", err)
	}
	if err := c.Close(); err != nil {
		return fmt.Errorf("prepare the schema: %w", err)
	}
	s.template = filepath.Join(dir, "mariadb")
	return nil
}

// seededBin builds the nodes with the bugs that the checker must find, once.
func (s *suite) seededBin(ctx context.Context) (string, error) {
	s.bugsOnce.Do(func() {
		s.bugsBin = filepath.Join(s.dir, "bin-bugs")
		if s.bugsErr = os.MkdirAll(s.bugsBin, 0o755); s.bugsErr == nil {
			s.bugsErr = launch.BuildTagged(ctx, s.bugsBin, false, "seededbugs", "chatnode", "gatenode", "statusnode")
		}
	})
	return s.bugsBin, s.bugsErr
}

// cleanUp removes what no bar needs any more. The directory of the run stays if a bar's was kept in it.
func (s *suite) cleanUp() {
	for _, name := range []string{"template", "bin", "bin-bugs"} {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			fmt.Fprintln(s.err, "chaos:", err)
		}
	}
	_ = os.Remove(s.dir) // fails if something was kept, as it should
}

// try runs a bar in the environment that it requires.
func (s *suite) try(ctx context.Context, b Bar) result {
	if b.Namespace {
		return s.inNamespace(ctx, b)
	}
	return s.one(ctx, b)
}

// one runs a bar and cleans up after it in any case.
func (s *suite) one(ctx context.Context, b Bar) (res result) {
	begin := time.Now()
	res = result{Bar: b, Outcome: miss}
	w := &World{Short: s.flags.Short, Seed: s.flags.Seed, suite: s, id: b.ID, Dir: filepath.Join(s.dir, b.ID)}
	h := fnv.New64a()
	_, _ = io.WriteString(h, b.ID) // a hash never fails
	w.Rand = rand.New(rand.NewPCG(s.flags.Seed, h.Sum64()))
	r := &Report{}
	defer func() {
		res.Took = time.Since(begin)
		res.Figures = r.Figures()
	}()
	if res.Err = os.RemoveAll(w.Dir); res.Err != nil {
		return res
	}
	if res.Err = os.MkdirAll(w.Dir, 0o755); res.Err != nil {
		return res
	}
	if w.log, res.Err = openLog(filepath.Join(w.Dir, "bar.log")); res.Err != nil {
		return res
	}
	defer w.log.Close()

	limit := b.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	bctx, cancel := context.WithTimeout(ctx, limit)
	err := guarded(bctx, b, w, r)
	if err != nil && bctx.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("not done within %v: %w", limit, err)
	}
	cancel()
	failed := err != nil && !errors.Is(err, errSkip) || r.Missed()
	err = errors.Join(err, w.close(r, failed))
	switch {
	case errors.Is(err, errSkip):
		res.Outcome = skipped
	case err == nil && !r.Missed():
		res.Outcome = pass
	}
	res.Err = err
	if res.Outcome == miss || s.flags.Keep {
		res.Kept = w.Dir
		for _, f := range r.Figures() {
			w.Logf("%v", f)
		}
		w.Logf("%s: %v", res.Outcome, err)
		w.trim()
	} else if err := os.RemoveAll(w.Dir); err != nil {
		fmt.Fprintln(s.err, "chaos:", err)
	}
	return res
}

// guarded turns a panic of a bar into an error, so that its processes are stopped and the other bars run.
func guarded(ctx context.Context, b Bar, w *World, r *Report) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, stack())
		}
	}()
	return b.Run(ctx, w, r)
}

// close stops the bar's clusters. Of a bar that failed it keeps what is useful for diagnosis.
func (w *World) close(r *Report, failed bool) error {
	w.mu.Lock()
	labs := w.labs
	w.labs = nil
	w.mu.Unlock()
	var errs []error
	for _, l := range labs {
		if failed {
			l.snapshot()
		}
		errs = append(errs, l.Close())
		if n, where := l.crashes(); n > 0 {
			r.add("crashes", fmt.Sprintf("%d, see %s", n, where), "= 0", false)
			if !failed {
				w.Logf("crashes: %d, see %s", n, where)
			}
		}
	}
	return errors.Join(errs...)
}

// trim removes the databases from a directory that is kept: they are large, and their contents have been evaluated.
func (w *World) trim() {
	for _, pattern := range []string{"*/mariadb*", "*/*/mariadb*"} {
		found, err := filepath.Glob(filepath.Join(w.Dir, pattern))
		if err != nil {
			continue // the pattern is valid
		}
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				_ = os.RemoveAll(path) // the next run finds what is left
			}
		}
	}
}

// done stores and prints the result of a bar.
func (s *suite) done(r result) {
	s.outMu.Lock()
	defer s.outMu.Unlock()
	s.results = append(s.results, r)
	s.print(r)
}

func (s *suite) print(r result) {
	fmt.Fprintln(s.out, r.line())
	if r.Outcome == miss {
		if r.Err != nil {
			fmt.Fprintf(s.out, "     %v\n", r.Err)
		}
		fmt.Fprintf(s.out, "     kept in %s\n     replay: %s\n", r.Kept, s.replay(r.Bar.ID))
	}
}

// replay returns the command that repeats a bar.
func (s *suite) replay(id string) string {
	parts := []string{"go run ./test/chaos", "--bars", id, "--seed", fmt.Sprint(s.flags.Seed)}
	if s.flags.Soak > 0 {
		parts = []string{"go run ./test/chaos", "--soak", s.flags.Soak.String(), "--seed", fmt.Sprint(s.flags.Seed)}
	}
	if s.flags.Short {
		parts = append(parts, "--short")
	}
	return strings.Join(parts, " ")
}
