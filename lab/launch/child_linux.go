package launch

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttr makes the kernel kill the child when its starter dies, however that happens, and keeps a terminal's
// Ctrl-C from reaching the child before the starter can stop it in order.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// awaitStopped returns when all threads of a signalled child have stopped. The child's state is looked at, not taken,
// so the goroutine that waits for its end is not disturbed.
func awaitStopped(pid int) error {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR:
		case err == unix.ECHILD:
			return ErrNotRunning
		case err != nil:
			return err
		case info.Code == cldStopped:
			return nil
		default:
			return ErrNotRunning
		}
	}
}

// cldStopped is CLD_STOPPED of waitid(2), the same on every Linux architecture.
const cldStopped = 5
