package lab

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// takeSlack sets the timer slack of this process and of those it starts (prctl(2), PR_SET_TIMERSLACK), so that the
// kernel may delay and combine wake-ups of sleeping threads. A thread inherits the slack from the thread that created
// it, but the threads of the Go runtime exist before any code of the program runs. So the program sets the slack and
// executes itself again; in that case takeSlack does not return.
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

// slack returns the timer slack of this thread, in nanoseconds.
func slack() (int, error) {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0, fmt.Errorf("timer slack: get: %w", err)
	}
	return ns, nil
}
