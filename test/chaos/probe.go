//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/lab/launch"
)

// until calls f every 20 ms until it returns true. The error contains the last result.
func until(ctx context.Context, within time.Duration, what string, f func() (bool, error)) error {
	deadline := time.Now().Add(within)
	for {
		ok, err := f()
		if ok {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v until %s; last: %v", within, what, err)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

var httpClient = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// opsPage reads a page from a node's operations listener.
func opsPage(ctx context.Context, n *launch.Node, path string) (string, error) {
	return fetch(ctx, http.MethodGet, "http://"+n.OpsAddr()+path, "")
}

// fetch sends a request and returns the body of the answer.
func fetch(ctx context.Context, method, url, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	rsp, err := httpClient.Do(req)
	if err != nil {
		return "", err
	}
	defer rsp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(rsp.Body, 64<<20))
	return string(b), err
}

// metrics returns all values of a node, by name with labels.
func metrics(ctx context.Context, n *launch.Node) (map[string]float64, error) {
	page, err := opsPage(ctx, n, "/metrics")
	if err != nil {
		return nil, err
	}
	out := make(map[string]float64)
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			out[line[:at]] = v
		}
	}
	return out, nil
}

// resources is the use of machine resources by a process.
type resources struct {
	goroutines, fds int
	rss             int64
	cpu             float64 // seconds used so far
}

// resourcesOf reads the resources of a node from its metrics and from /proc.
func resourcesOf(ctx context.Context, n *launch.Node) (r resources, err error) {
	m, err := metrics(ctx, n)
	if err != nil {
		return r, err
	}
	r = resources{goroutines: int(m["go_goroutines"]), fds: int(m["process_open_fds"]), rss: int64(m["process_resident_memory_bytes"]), cpu: m["process_cpu_seconds_total"]}
	if fds, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(n.Pid()), "fd")); err == nil {
		r.fds = len(fds)
	}
	return r, nil
}

// rssOf reads the resident memory of a process from /proc.
func rssOf(pid int) int64 {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// peak samples the resident memory of a process until stop is called. stop returns the largest value.
func peak(pid int) (stop func() int64) {
	done, ended := make(chan struct{}), make(chan struct{})
	most := rssOf(pid)
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, rssOf(pid))
			case <-done:
				return
			}
		}
	}()
	return func() int64 {
		close(done)
		<-ended
		return most
	}
}

func mib(bytes int64) string { return fmt.Sprintf("%.1fMiB", float64(bytes)/(1<<20)) }

// memory reports a growth in bytes against a bound.
func (r *Report) memory(name string, got, limit int64) {
	r.add(name, mib(got), "≤ "+mib(limit), got <= limit)
}

func stack() []byte { return debug.Stack() }

// logFile is the log of a bar.
type logFile struct {
	mu    sync.Mutex // guards f
	f     *os.File
	begin time.Time
}

func openLog(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return &logFile{f: f, begin: time.Now()}, err
}

func (l *logFile) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.f, "%8.3f "+format+"\n", append([]any{time.Since(l.begin).Seconds()}, args...)...) // only helpful for diagnosis
}

// Write receives the log of the launcher.
func (l *logFile) Write(b []byte) (int, error) {
	l.printf("%s", strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

// each calls f for 0 to n-1 on up to at goroutines and returns the first errors, joined.
func each(n, at int, f func(i int) error) error {
	var mu sync.Mutex
	var first error
	failed := 0
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(at, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					mu.Lock()
					if failed++; first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	if failed > 1 {
		return fmt.Errorf("%w (and %d more)", first, failed-1)
	}
	return first
}

// widest keeps the largest of many durations. It is safe for concurrent use.
type widest struct {
	mu sync.Mutex
	d  time.Duration
}

func (m *widest) add(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.d = max(m.d, d)
}

func (m *widest) get() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.d
}
