package lab

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// takeSlack lets sleeping threads of this process and of those it starts be woken up so much later (prctl(2),
// PR_SET_TIMERSLACK). A thread takes it from the one that made it, and the threads of Go's runtime exist before any code of
// ours runs: so this program executes itself once more, and does not return then.
func takeSlack(d time.Duration) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	want := int(d)
	if have, err := slack(); err != nil || have == want {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(want), 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: set: %w", err)
	}
	have, err := slack()
	if err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("timer slack: the kernel took %v instead of %v: is the process of a real-time class?", time.Duration(have), d)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	return fmt.Errorf("timer slack: execute again: %w", syscall.Exec(self, os.Args, os.Environ()))
}

// slack returns that of this thread, in nanoseconds.
func slack() (int, error) {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0, fmt.Errorf("timer slack: get: %w", err)
	}
	return ns, nil
}
