// Package conform checks from outside whether a running cluster follows the protocol: it registers users, logs in as
// stock and native clients do, and compares the answers with docs/PROTOCOL.md. It does not depend on the cluster's
// implementation, so it can check other implementations as well.
//
// A check is a small function with a name and the rules it covers. Run runs the checks one after the other, with slow
// ones in parallel. User names are new in each run, so that a run can be repeated.
package conform

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"parley/lab/stockmodel"
)

// Check is a requirement on a cluster.
type Check struct {
	Name  string   // lower case with dashes; the part before the first is its group
	Rules []string // rules of the stock client (R1–R24) and defects of llfcchat (D1–D62) that it covers; may be empty
	Doc   string   // the expectation, in one line
	slow  bool     // mostly waits, so it runs in parallel with the others
	run   func(*attempt)
}

// Target says what to check, and how to obtain users.
type Target struct {
	Gate   string   // URL
	Status []string // host:port of status nodes; if empty, their checks are skipped
	Secret string   // cluster secret, for RPCs to the status nodes; may be empty
	// Transport is how chat nodes are reached, as client.Gate has it; TLS is for those that are reached by it, and for a gate by https.
	Transport string
	TLS       *tls.Config
	// Accounts to use if none can be registered.
	Accounts []Account
	// Code returns the verification code last mailed to an address. If it is nil, no account can be registered.
	Code func(ctx context.Context, email string) (string, error)
}

// Account is a user with the credentials.
type Account struct {
	Name, Email, Password string
	uid                   int32 // 0 until the first login
}

// Options configure a run. The zero value runs all checks.
type Options struct {
	Run     *regexp.Regexp // names of checks to run; nil: all
	Timeout time.Duration  // of a check; 0: 60 s
	Report  func(Result)   // called with each result, never concurrently
}

// Result is the outcome of a check.
type Result struct {
	Name    string        `json:"name"`
	Rules   []string      `json:"rules,omitempty"`
	OK      bool          `json:"ok"`
	Skipped string        `json:"skipped,omitempty"` // why it did not run
	Err     string        `json:"error,omitempty"`   // "expected …, got …"
	Took    time.Duration `json:"took_ns"`
}

// ErrSetUp is wrapped by Run's error if the cluster cannot be checked at all.
var ErrSetUp = errors.New("conform: cannot set up")

// Checks returns all checks in the order in which they run.
func Checks() []Check {
	return slices.Concat(httpChecks, loginChecks, kickChecks, searchChecks, friendChecks, threadChecks, textChecks, historyChecks,
		hostileChecks, stockChecks, nativeChecks, rightsChecks, groupChecks, markChecks, presenceChecks, rowChecks, statusChecks)
}

// Run runs the checks selected by o against t. The error is ErrSetUp or ctx's; failed checks are in the results.
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

// failure and skip are panic values that end an attempt.
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

// attempt is one run of a check. Its methods end it if an expectation is not met.
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

// failf ends the attempt. By convention the text is "expected …, got …".
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

// ok fails if err is not nil.
func (a *attempt) ok(what string, err error) {
	if err != nil {
		a.failf("%s: expected success, got %v", what, err)
	}
}
