package watch

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Watched is a process to look at: by its operations listener, by its pid, or by both.
type Watched struct {
	Name string
	Ops  string     // host:port; "" for none
	Pid  func() int // nil for one on another machine; it may change when the process is restarted
}

// Sample is one look at a process. What is not known is zero.
type Sample struct {
	At         float64 // seconds since the watch began
	Name       string
	CPU        float64 // cores used since the sample before
	RSS        int64
	Sessions   float64
	Waiting    float64 // texts that wait for their answer
	Goroutines float64
	GCSeconds  float64 // paused for collections since the sample before
	Heap       float64
	Gone       bool
}

// Machine is one look at everything.
type Machine struct {
	At              float64
	CPU             float64 // share of all cores, 0 to 1
	Available, Slab int64
}

// Nodes looks at processes once a second; at more than a few more seldom, for looking costs them something.
type Nodes struct {
	began  time.Time
	http   *http.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards the following
	watched  []Watched
	samples  []Sample
	machine  []Machine
	last     map[string]reading
	lastBusy [2]float64
}

type reading struct {
	at, cpu, gc, cores float64
	pid                int
}

// minSpan is the shortest time, in seconds, over which a share of a processor is worth telling.
const minSpan = .4

// perSecond is how many processes are looked at each second: an answer of /metrics takes a node some milliseconds.
const perSecond = 16

func (n *Nodes) period() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return max(time.Second, time.Duration(len(n.watched))*time.Second/perSecond)
}

// WatchNodes looks until Stop, from began on.
func WatchNodes(began time.Time, watched []Watched) *Nodes {
	ctx, cancel := context.WithCancel(context.Background())
	n := &Nodes{
		began: began, watched: watched, cancel: cancel, last: map[string]reading{},
		http: &http.Client{
			Timeout:   900 * time.Millisecond,
			Transport: &http.Transport{DisableCompression: true}, // it would be the node's processor that compresses
		},
	}
	n.lastBusy[0], n.lastBusy[1] = MachineCPU()
	n.Look(ctx)
	n.wg.Go(func() { n.watch(ctx) })
	return n
}

// watch looks at one process after the other, spread over the period: all at once, they would keep every processor busy
// for some milliseconds of each second, which is what the slowest hundredth of a run's operations would then measure.
func (n *Nodes) watch(ctx context.Context) {
	for {
		n.mu.Lock()
		watched := n.watched
		n.mu.Unlock()
		pause := n.period() / time.Duration(len(watched)+1)
		for i := range len(watched) + 1 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if i < len(watched) {
				n.wg.Go(func() { n.look(ctx, watched[i]) }) // one that does not answer must not hold up the others
			} else {
				n.lookAround()
			}
		}
	}
}

// Add makes the watch look at one more process.
func (n *Nodes) Add(w Watched) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watched = append(n.watched[:len(n.watched):len(n.watched)], w)
}

// Look takes one more sample of each process now.
func (n *Nodes) Look(ctx context.Context) {
	var wg sync.WaitGroup
	n.mu.Lock()
	watched := n.watched
	n.mu.Unlock()
	for _, w := range watched {
		wg.Go(func() { n.look(ctx, w) })
	}
	wg.Wait()
	n.lookAround()
}

// lookAround takes a sample of the machine.
func (n *Nodes) lookAround() {
	busy, total := MachineCPU()
	m := Machine{At: time.Since(n.began).Seconds()}
	m.Available, m.Slab = Memory()
	n.mu.Lock()
	defer n.mu.Unlock()
	if d := total - n.lastBusy[1]; d > 0 {
		m.CPU = (busy - n.lastBusy[0]) / d
	}
	n.lastBusy = [2]float64{busy, total}
	n.machine = append(n.machine, m)
}

func (n *Nodes) look(ctx context.Context, w Watched) {
	s := Sample{At: time.Since(n.began).Seconds(), Name: w.Name}
	var m map[string]float64
	if w.Ops != "" {
		m = n.scrape(ctx, w.Ops)
	}
	r := reading{at: s.At, cpu: m["process_cpu_seconds_total"], gc: m["go_gc_duration_seconds_sum"]}
	s.RSS = int64(m["process_resident_memory_bytes"])
	s.Sessions, s.Waiting = m["parley_chat_sessions"], m["parley_chat_texts_waiting"]
	s.Goroutines, s.Heap = m["go_goroutines"], m["go_memstats_heap_inuse_bytes"]
	s.Gone = m == nil
	if w.Pid != nil {
		r.pid = w.Pid()
		if cpu, rss, ok := Process(r.pid); ok {
			r.cpu, s.RSS, s.Gone = cpu, rss, false
		}
	}
	if ctx.Err() != nil {
		return // nobody asked to the end
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	last, ok := n.last[w.Name]
	switch {
	case !ok || last.pid != r.pid || r.cpu < last.cpu:
		n.last[w.Name] = r
	case r.at-last.at < minSpan:
		// CPU time is counted in hundredths of a second: over a moment it would be noise.
		s.CPU = last.cores
	default:
		r.cores = (r.cpu - last.cpu) / (r.at - last.at)
		s.CPU, s.GCSeconds = r.cores, max(r.gc-last.gc, 0)
		n.last[w.Name] = r
	}
	n.samples = append(n.samples, s)
}

// wanted are the metrics a sample is made of; those of several nodes in one process are added up.
var wanted = map[string]bool{
	"process_cpu_seconds_total": true, "process_resident_memory_bytes": true, "go_goroutines": true,
	"go_gc_duration_seconds_sum": true, "go_memstats_heap_inuse_bytes": true,
	"parley_chat_sessions": true, "parley_chat_texts_waiting": true,
}

func (n *Nodes) scrape(ctx context.Context, addr string) map[string]float64 {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil
	}
	rsp, err := n.http.Do(req)
	if err != nil {
		return nil // gone, or stopped: the sample says so
	}
	defer rsp.Body.Close()
	return Parse(io.LimitReader(rsp.Body, 4<<20), wanted)
}

// Parse reads Prometheus' text form and adds up the values of each wanted name over its labels. A nil filter wants all.
func Parse(r io.Reader, want map[string]bool) map[string]float64 {
	m := map[string]float64{}
	for sc := bufio.NewScanner(r); sc.Scan(); {
		line := sc.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		name := line
		if i := strings.IndexAny(line, "{ "); i > 0 {
			name = line[:i]
		}
		if want != nil && !want[name] {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			m[name] += v
		}
	}
	return m
}

// Latest returns the last sample of each process.
func (n *Nodes) Latest() map[string]Sample {
	n.mu.Lock()
	defer n.mu.Unlock()
	latest := map[string]Sample{}
	for _, s := range n.samples {
		latest[s.Name] = s
	}
	return maps.Clone(latest)
}

// Stop ends the watch and returns everything seen.
func (n *Nodes) Stop() ([]Sample, []Machine) {
	n.cancel()
	n.wg.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.samples, n.machine
}
