// Package doctor reports the limits of this machine for a load test, what they allow, and how to raise each.
package doctor

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"parley/bench/watch"
)

// Finding is a limit of the machine.
type Finding struct {
	What  string
	Value string
	// Connections is the number of connections of this process that it permits; 0: no limit.
	Connections int64
	OK          bool
	Fix         string // the exact remedy; empty if none is needed
}

// Plan is the size of a run.
type Plan struct {
	Connections int // of all processes together
	Beside      int // those of them that do not lead to chat nodes
	Processes   int // processes that share them, at least 1
	Sources     int // loopback addresses per process; 64
	Servers     int // chat nodes on this machine, 0 for none
}

// PerConnection is the memory for a loopback connection: both sockets, an idle session, and the generator's side.
const PerConnection = 14 << 10

const (
	sparedFiles = 100 // descriptors a process needs besides its connections
	sparedMiB   = 512
)

// Examine compares the machine with a plan.
func Examine(p Plan) []Finding {
	p.Processes = max(p.Processes, 1)
	each := int64((p.Connections + p.Processes - 1) / p.Processes)
	var out []Finding
	add := func(what, value string, allows int64, wants int64, fix string) {
		f := Finding{What: what, Value: value, Connections: allows, OK: allows == 0 || allows >= wants}
		if !f.OK {
			f.Fix = fix
		}
		out = append(out, f)
	}

	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		soft := int64(files.Cur)
		add("descriptors a process", fmt.Sprintf("%d (hard limit %d)", files.Cur, files.Max), max(soft-sparedFiles, 1), each,
			fmt.Sprintf("--workers %d shares the connections out; or raise it: ulimit -n %d", (int64(p.Connections)+soft-sparedFiles-1)/max(soft-sparedFiles, 1), each+sparedFiles))
		if p.Servers > 0 {
			// A chat node accepts connections up to nine tenths of its limit.
			room, served := soft*9/10*int64(p.Servers), int64(p.Connections-p.Beside)
			add("descriptors of the chat nodes", fmt.Sprintf("%d nodes of %d", p.Servers, soft*9/10), room, served,
				fmt.Sprintf("--local %d", (served+soft*9/10-1)/max(soft*9/10, 1)))
		}
	}
	if max := readInt("/proc/sys/fs/file-max"); max > 0 {
		add("descriptors of the machine", strconv.FormatInt(max, 10), max/2, int64(p.Connections), fmt.Sprintf("sysctl fs.file-max=%d", 3*p.Connections))
	}
	if low, high := portRange(); high > low {
		ports := high - low + 1
		sources := int64(1)
		if p.Sources > 0 {
			sources = int64(p.Sources)
		}
		add("client ports", fmt.Sprintf("%d-%d, from %d loopback addresses a process", low, high, sources), ports*sources*9/10*int64(p.Processes), int64(p.Connections),
			"sysctl net.ipv4.ip_local_port_range='1024 65535'")
	}
	if n := readInt("/proc/sys/net/core/somaxconn"); n > 0 {
		f := Finding{What: "listen backlog", Value: strconv.FormatInt(n, 10), OK: n >= 1024}
		if !f.OK {
			f.Fix = "sysctl net.core.somaxconn=4096"
		}
		out = append(out, f)
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_mem"); err == nil {
		if f := strings.Fields(string(b)); len(f) == 3 {
			pages, _ := strconv.ParseInt(f[2], 10, 64)
			out = append(out, Finding{What: "TCP buffer memory", Value: fmt.Sprintf("%d MiB at most", pages*int64(os.Getpagesize())>>20), OK: true})
		}
	}
	if available, _ := watch.Memory(); available > 0 {
		limit := available
		value := fmt.Sprintf("%d MiB available", available>>20)
		if group := cgroupLimit(); group > 0 && group < limit {
			limit = group
			value += fmt.Sprintf(", %d MiB in this cgroup", group>>20)
		}
		add("memory", value, max((limit-sparedMiB<<20)/PerConnection, 1), int64(p.Connections), "fewer --users: each needs about 14 KiB when both ends are here")
	}
	cores := Finding{What: "processors", Value: strconv.Itoa(runtime.GOMAXPROCS(0)), OK: true}
	if runtime.GOMAXPROCS(0) < 2 {
		cores.OK, cores.Fix = false, "with one processor the generator and the server take turns: believe ratios only"
	}
	out = append(out, cores)
	if b, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource"); err == nil {
		name := strings.TrimSpace(string(b))
		f := Finding{What: "clock", Value: name, OK: name == "tsc" || name == "kvm-clock" || name == "arch_sys_counter"}
		if !f.OK {
			f.Fix = "reading this clock takes a system call; latencies under 10 µs will look larger"
		}
		out = append(out, f)
	}
	if soft := softTarget(); soft != "" {
		out = append(out, Finding{What: "conntrack", Value: soft, OK: true})
	}
	return out
}

// Most returns the largest number of connections that the findings allow.
func Most(fs []Finding) int64 {
	most := int64(0)
	for _, f := range fs {
		if f.Connections > 0 && (most == 0 || f.Connections < most) {
			most = f.Connections
		}
	}
	return most
}

// Check returns an error that names every limit the plan exceeds, with the remedy.
func Check(p Plan) error {
	var faults []string
	for _, f := range Examine(p) {
		if !f.OK && f.Connections > 0 {
			faults = append(faults, fmt.Sprintf("%s: %s allows %d connections, the run wants %d; %s", f.What, f.Value, f.Connections, p.Connections, f.Fix))
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("this machine cannot do it:\n  %s", strings.Join(faults, "\n  "))
	}
	return nil
}

func readInt(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n
}

func portRange() (low, high int64) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0
	}
	if f := strings.Fields(string(b)); len(f) == 2 {
		low, _ = strconv.ParseInt(f[0], 10, 64)
		high, _ = strconv.ParseInt(f[1], 10, 64)
	}
	return low, high
}

func cgroupLimit() int64 {
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if n := readInt(path); n > 0 && n < 1<<50 {
			return n
		}
	}
	return 0
}

func softTarget() string {
	n := readInt("/proc/sys/net/netfilter/nf_conntrack_max")
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10) + " at most; loopback is usually not tracked"
}
