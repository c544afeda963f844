package lab

import (
	"os"
	"os/user"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"parley/bench/report"
	"parley/bench/watch"
	"parley/internal/obs"
)

func version() string { return obs.Version() }

// environment describes this machine.
func environment() report.Env {
	e := report.Env{OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Cores: runtime.NumCPU(), Commit: obs.Version()}
	e.Host, _ = os.Hostname()
	if u, err := user.Current(); err == nil {
		e.Host = u.Username + "@" + e.Host
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				e.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		e.OS += " " + strings.TrimSpace(string(b))
	}
	available, _ := watch.Memory()
	e.MemoryMiB = available >> 20
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		e.Files = files.Cur
	}
	if info, ok := debug.ReadBuildInfo(); ok && e.Commit == "" {
		e.Commit = info.Main.Version
	}
	return e
}
