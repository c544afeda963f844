package watch

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// clockTick is USER_HZ, which is 100 on every Linux.
const clockTick = 100

// Process returns the CPU seconds and the resident bytes of a process; ok is false if it does not exist.
func Process(pid int) (cpu float64, rss int64, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, false
	}
	// The name, in parentheses, may contain spaces.
	_, rest, found := bytes.Cut(b, []byte(") "))
	f := bytes.Fields(rest)
	if !found || len(f) < 22 {
		return 0, 0, false
	}
	user, _ := strconv.ParseFloat(string(f[11]), 64)
	system, _ := strconv.ParseFloat(string(f[12]), 64)
	pages, _ := strconv.ParseInt(string(f[21]), 10, 64)
	return (user + system) / clockTick, pages * int64(os.Getpagesize()), true
}

// Memory reads /proc/meminfo. Values are in bytes.
func Memory() (available, slab int64) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "MemAvailable:":
			available = kb << 10
		case "Slab:":
			slab = kb << 10
		}
	}
	return available, slab
}

// ProcEntries returns the bytes of the kernel's slab that are inodes and names of /proc files, 0 where only root may know.
// A program that lists /proc/*/fd leaves some for every descriptor there is; the kernel drops them when it needs room, so
// they are not what a connection costs.
func ProcEntries() int64 {
	b, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		return 0
	}
	var inodes, inodeBytes, nameBytes int64
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // name, objects in use, objects, bytes of one, …
		if len(f) < 4 {
			continue
		}
		switch f[0] {
		case "proc_inode_cache":
			inodes, _ = strconv.ParseInt(f[2], 10, 64)
			inodeBytes, _ = strconv.ParseInt(f[3], 10, 64)
		case "dentry":
			nameBytes, _ = strconv.ParseInt(f[3], 10, 64)
		}
	}
	return inodes * (inodeBytes + nameBytes)
}

// MachineCPU returns how many CPU seconds all processes have used, and how many there were.
func MachineCPU() (busy, total float64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, s := range strings.Fields(line) {
		v, _ := strconv.ParseFloat(s, 64)
		if i == 0 || i > 8 { // guest time is part of user time
			continue
		}
		total += v / clockTick
		if i != 4 && i != 5 { // idle, iowait
			busy += v / clockTick
		}
	}
	return busy, total
}
