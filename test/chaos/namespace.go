//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// farAway is the address of clients behind the network that a bar breaks. The rules in the namespace apply only to
// it, so the links between nodes and stores stay intact.
const farAway = "127.0.0.9"

// verdict is a result returned by the process in a namespace.
type verdict struct {
	Outcome outcome
	Figures []Figure
	Err     string
}

// inNamespace runs a bar in a process and a network namespace of its own, so that changes of the network affect
// nothing else and end with the process.
func (s *suite) inNamespace(ctx context.Context, b Bar) (res result) {
	begin := time.Now()
	res = result{Bar: b, Outcome: miss}
	defer func() { res.Took = time.Since(begin) }()
	if os.Geteuid() != 0 {
		res.Outcome, res.Err = skipped, skip("a network namespace needs root")
		return res
	}
	for _, program := range []string{"ip", "iptables", "tc"} {
		if _, err := exec.LookPath(program); err != nil {
			res.Err = fmt.Errorf("%s is not installed: .ci/servers does that", program)
			if os.Getenv("CI") != "true" {
				res.Outcome, res.Err = skipped, skip("%v", res.Err)
			}
			return res
		}
	}
	self, err := os.Executable()
	if err != nil {
		res.Err = err
		return res
	}
	report := filepath.Join(s.dir, b.ID+".json")
	defer os.Remove(report)
	args := []string{
		"--bars", b.ID, "--seed", strconv.FormatUint(s.flags.Seed, 10), "--bin", s.bin, "--out", s.dir,
		"--inside", report, "--template", s.template,
	}
	if s.flags.Short {
		args = append(args, "--short")
	}
	if s.flags.Keep {
		args = append(args, "--keep")
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	out, runErr := cmd.CombinedOutput()
	text, err := os.ReadFile(report)
	if err != nil {
		if errors.Is(runErr, syscall.EPERM) {
			res.Outcome, res.Err = skipped, skip("this root may not make network namespaces")
			return res
		}
		res.Err = fmt.Errorf("in a namespace: %w: %s", errors.Join(runErr, err), out)
		return res
	}
	var v verdict
	if res.Err = json.Unmarshal(text, &v); res.Err != nil {
		return res
	}
	res.Outcome, res.Figures = v.Outcome, v.Figures
	switch {
	case v.Outcome == skipped:
		res.Err = errors.New(v.Err)
	case v.Err != "":
		res.Err = errors.New(v.Err)
	}
	if v.Outcome == miss || s.flags.Keep {
		res.Kept = filepath.Join(s.dir, b.ID)
	}
	return res
}

// inside is the counterpart of inNamespace: it runs one bar in the process in the namespace.
func (s *suite) inside(ctx context.Context, b Bar) int {
	s.dir, s.bin, s.template = s.flags.Out, s.flags.Bin, s.flags.Template
	res := result{Bar: b, Outcome: miss}
	if res.Err = shell("ip", "link", "set", "lo", "up"); res.Err == nil {
		res = s.one(ctx, b)
	}
	v := verdict{Outcome: res.Outcome, Figures: res.Figures}
	if res.Err != nil {
		v.Err = res.Err.Error()
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(s.flags.Inside, text, 0o600)
	}
	if err != nil {
		fmt.Fprintln(s.err, "chaos:", err)
		return exitMiss
	}
	return exitPass
}

// shell runs a program that changes this namespace.
func shell(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// shells runs several command lines whose arguments contain no spaces.
func shells(lines ...string) error {
	for _, line := range lines {
		if err := shell(strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}
