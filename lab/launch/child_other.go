//go:build !linux

package launch

import "syscall"

// childAttr leaves the child in the starter's process group: without Pdeathsig, a terminal's Ctrl-C is what ends the
// children of a test that was interrupted.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// awaitStopped has no portable way to look at a child's state without taking it.
func awaitStopped(int) error { return nil }
