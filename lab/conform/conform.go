// Package conform checks from outside whether a running cluster follows the protocol: it registers users, logs in as stock
// and native clients do, and compares the answers with docs/PROTOCOL.md. It does not depend on the implementation of the
// cluster, so it can check other implementations as well.
//
// A check is a small function with a name and the rules it covers; Run runs them one after the other, the slow ones
// beside the others. Names of users are new in each run, so that it can be repeated.
package conform

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"parley/lab/stockmodel"
)

// Check is one thing a cluster must do.
type Check struct {
	Name  string   // lower case with dashes; the part before the first is its group
	Rules []string // of the stock client (R1–R24) and defects of upstream (D1–D62) it stands for; may be empty
	Doc   string   // what is expected, in a line
	slow  bool     // mostly waits: runs beside the others
	run   func(*attempt)
}

// Target says what to check and how to get users there.
type Target struct {
	Gate   string   // URL
	Status []string // host:port of status nodes, may be empty: their checks are skipped
	Secret string   // of the cluster, for RPCs to the status nodes; may be empty
	// Accounts to use where none can be registered.
	Accounts []Account
	// Code returns the verification code that was last mailed to an address; nil: no account can be registered.
	Code func(ctx context.Context, email string) (string, error)
}

// Account is a user and how to log in.
type Account struct {
	Name, Email, Password string
	uid                   int32 // 0 until the first login
}

// Options adjust a run. The zero value runs everything.
type Options struct {
	Run     *regexp.Regexp // names to run; nil: all
	Timeout time.Duration  // of one check; 0: 60 s
	Report  func(Result)   // told of each result as it comes; never from two goroutines at once
}

// Result is what became of a check.
type Result struct {
	Name    string        `json:"name"`
	Rules   []string      `json:"rules,omitempty"`
	OK      bool          `json:"ok"`
	Skipped string        `json:"skipped,omitempty"` // why it did not run
	Err     string        `json:"error,omitempty"`   // "expected …, got …"
	Took    time.Duration `json:"took_ns"`
}

// ErrSetUp is wrapped by Run's error when the cluster cannot be checked at all.
var ErrSetUp = errors.New("conform: cannot set up")

// Checks lists all checks in the order they run.
func Checks() []Check {
	return slices.Concat(httpChecks, loginChecks, kickChecks, searchChecks, friendChecks, threadChecks, textChecks, historyChecks,
		hostileChecks, stockChecks, nativeChecks, rightsChecks, groupChecks, markChecks, presenceChecks, rowChecks, statusChecks)
}

// Run runs the checks of o against t. The error is ErrSetUp, or ctx's; failed checks are in the results.
func Run(ctx context.Context, t Target, o Options) ([]Result, error) {
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	e, err := newEnv(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetUp, err)
	}
	defer e.close()
	var mu sync.Mutex // guards the following
	var results []Result
	done := func(r Result) {
		mu.Lock()
		defer mu.Unlock()
		results = append(results, r)
		if o.Report != nil {
			o.Report(r)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	var inTurn []Check
	for _, c := range Checks() {
		switch {
		case o.Run != nil && !o.Run.MatchString(c.Name):
		case c.slow:
			wg.Go(func() { done(e.try(ctx, c, o.Timeout)) })
		default:
			inTurn = append(inTurn, c)
		}
	}
	for _, c := range inTurn {
		if ctx.Err() != nil {
			break
		}
		done(e.try(ctx, c, o.Timeout))
	}
	wg.Wait()
	return results, ctx.Err()
}

// failure and skip end an attempt from inside.
type (
	failure string
	skip    string
)

// try runs one check.
func (e *env) try(ctx context.Context, c Check, timeout time.Duration) (r Result) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := &attempt{env: e, ctx: ctx}
	r = Result{Name: c.Name, Rules: c.Rules}
	defer func() {
		switch v := recover().(type) {
		case nil:
			r.OK = true
		case failure:
			r.Err = string(v)
		case skip:
			r.OK, r.Skipped = true, string(v)
		default:
			r.Err = fmt.Sprintf("panic: %v\n%s", v, debug.Stack())
		}
		a.end()
		r.Took = time.Since(began)
	}()
	c.run(a)
	return r
}

// attempt is one run of one check. Its methods end it when something is not as expected.
type attempt struct {
	*env
	ctx   context.Context
	conns []*conn
	procs []*stockmodel.Process

	closers []func()
}

func (a *attempt) end() {
	for _, c := range a.conns {
		c.nc.Close()
	}
	for _, p := range a.procs {
		p.Logout()
	}
	for _, f := range a.closers {
		f()
	}
}

// failf ends the attempt. By custom the text is "expected …, got …".
func (a *attempt) failf(format string, args ...any) {
	panic(failure(fmt.Sprintf(format, args...)))
}

// want fails unless ok.
func (a *attempt) want(ok bool, format string, args ...any) {
	if !ok {
		a.failf(format, args...)
	}
}

// equal fails unless got is want.
func equal[T comparable](a *attempt, what string, want, got T) {
	if want != got {
		a.failf("%s: expected %v, got %v", what, want, got)
	}
}

func (a *attempt) skipf(format string, args ...any) { panic(skip(fmt.Sprintf(format, args...))) }

// ok fails for an error.
func (a *attempt) ok(what string, err error) {
	if err != nil {
		a.failf("%s: expected success, got %v", what, err)
	}
}
