package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"parley/lab/conform"
)

// exitSetUp says that a cluster could not be checked at all.
const exitSetUp = 4

// demoAccounts are the users that a standalone cluster has unless told otherwise; their passwords are public.
var demoAccounts = []conform.Account{
	{Email: "alice@example.com", Password: "alice-demo"},
	{Email: "bob@example.com", Password: "bob-demo"},
}

type conformCmd struct {
	Gate      string        `help:"Address of a gate. Default http://127.0.0.1:8080." placeholder:"URL" default:"http://127.0.0.1:8080" env:"PARLEY_GATE"`
	Status    []string      `help:"Address of a status node, for the checks of its RPCs. May be repeated." placeholder:"HOST:PORT"`
	Secret    string        `help:"Secret of the cluster, for the same." env:"PARLEY_CLUSTER_SECRET"`
	CodesFile string        `help:"File with the output of a gate that prints verification codes; - for standard input. With it fresh users are registered." placeholder:"FILE" xor:"users"`
	Users     string        `help:"File of existing users in place of fresh ones, an e-mail address and a password a line." placeholder:"FILE" xor:"users"`
	Only      string        `help:"Only checks whose name matches." placeholder:"REGEXP" name:"run"`
	List      bool          `help:"List the checks and what each expects."`
	JSON      bool          `help:"Print one JSON object at the end instead of lines." name:"json"`
	Timeout   time.Duration `help:"Longest time of one check." default:"1m"`
	transportFlags
}

// Help is what --help says below the flags.
func (*conformCmd) Help() string {
	return "Without --codes-file and --users the demo users alice and bob are used, and checks that need more are skipped.\n" +
		"To check all of a cluster on this machine:\n\n" +
		"  bin/standalone --data '' > parley.out &\n" +
		"  bin/parleyctl conform --codes-file parley.out\n\n" +
		"Exit status: 0 all ok, 1 a check failed, 2 wrong usage, 4 the cluster could not be checked."
}

// quietError ends the program with a code; what there is to say has been said.
type quietError struct{ code int }

func (quietError) Error() string { return "checks failed" }

// setUpError is a cluster that could not be checked.
type setUpError struct{ error }

func (e setUpError) Unwrap() error { return e.error }

// Run checks a cluster.
func (c *conformCmd) Run(e *environment) error {
	var names *regexp.Regexp
	var err error
	if c.Only != "" {
		if names, err = regexp.Compile(c.Only); err != nil {
			return usageError{fmt.Errorf("--run: %w", err)}
		}
	}
	if c.List {
		return c.list(e.out, names)
	}
	target, err := c.target(e)
	if err != nil {
		return err
	}
	o := conform.Options{Run: names, Timeout: c.Timeout}
	if !c.JSON {
		o.Report = func(r conform.Result) { printResult(e.out, r) }
	}
	began := time.Now()
	results, err := conform.Run(e.ctx, target, o)
	switch {
	case errors.Is(err, conform.ErrSetUp):
		return setUpError{err}
	case err != nil:
		return err
	case len(results) == 0:
		return usageError{fmt.Errorf("--run: no check matches %q", c.Only)}
	}
	return c.sum(e.out, results, time.Since(began))
}

// target opens the files that say which users there are.
func (c *conformCmd) target(e *environment) (conform.Target, error) {
	t := conform.Target{Gate: c.Gate, Status: c.Status, Secret: c.Secret, Transport: c.Transport}
	var err error
	if t.TLS, err = c.config(); err != nil {
		return t, err
	}
	switch {
	case c.CodesFile == "-":
		codes := new(conform.Codes)
		// It ends with the input, or with the program.
		go func() { _, _ = io.Copy(codes, e.in) }()
		t.Code = codes.Code
	case c.CodesFile != "":
		code, err := conform.CodesFile(c.CodesFile)
		if err != nil {
			return t, setUpError{err}
		}
		t.Code = code
	case c.Users != "":
		f, err := os.Open(c.Users)
		if err != nil {
			return t, setUpError{err}
		}
		defer f.Close()
		if t.Accounts, err = conform.ReadAccounts(f); err != nil {
			return t, setUpError{fmt.Errorf("%s: %w", c.Users, err)}
		}
	default:
		t.Accounts = demoAccounts
	}
	return t, nil
}

func (c *conformCmd) list(w io.Writer, names *regexp.Regexp) error {
	tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, k := range conform.Checks() {
		if names == nil || names.MatchString(k.Name) {
			fmt.Fprintf(tab, "%s\t%s\t%s\n", k.Name, strings.Join(k.Rules, " "), k.Doc)
		}
	}
	return tab.Flush()
}

func printResult(w io.Writer, r conform.Result) {
	switch {
	case !r.OK:
		fmt.Fprintf(w, "FAIL %s: %s\n", r.Name, r.Err)
	case r.Skipped != "":
		fmt.Fprintf(w, "skip %s: %s\n", r.Name, r.Skipped)
	default:
		fmt.Fprintf(w, "ok   %s\n", r.Name)
	}
}

// report is what --json prints.
type report struct {
	OK      bool             `json:"ok"`
	Passed  int              `json:"passed"`
	Failed  int              `json:"failed"`
	Skipped int              `json:"skipped"`
	Checks  []conform.Result `json:"checks"`
}

// sum prints the end of the run.
func (c *conformCmd) sum(w io.Writer, results []conform.Result, took time.Duration) error {
	r := report{Checks: results}
	for i := range results {
		switch {
		case !results[i].OK:
			r.Failed++
		case results[i].Skipped != "":
			r.Skipped++
		default:
			r.Passed++
		}
	}
	r.OK = r.Failed == 0
	var err error
	if c.JSON {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		err = out.Encode(r)
	} else {
		_, err = fmt.Fprintf(w, "\n%d ok, %d failed, %d skipped in %v\n", r.Passed, r.Failed, r.Skipped, took.Round(100*time.Millisecond))
	}
	if err == nil && !r.OK {
		err = quietError{exitFail}
	}
	return err
}

// conformCode returns the exit code of an error of conform's, and whether it is one; quiet ones are not printed.
func conformCode(err error) (code int, quiet, ok bool) {
	if q, is := errors.AsType[quietError](err); is {
		return q.code, true, true
	}
	if _, is := errors.AsType[setUpError](err); is {
		return exitSetUp, false, true
	}
	return 0, false, false
}
