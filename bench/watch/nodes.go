package watch

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Watched is a process to observe by its operations listener, by its pid, or by both.
type Watched struct {
	Name string
	Ops  string     // host:port; "" for none
	Pid  func() int // nil for a process on another machine; the pid may change with a restart
}

// Sample is an observation of a process. Unknown values are zero.
type Sample struct {
	At         float64 // seconds since the start of the watch
	Name       string
	CPU        float64 // cores used since the previous sample
	RSS        int64
	Sessions   float64
	Waiting    float64 // texts waiting for their answer
	Goroutines float64
	GCSeconds  float64 // paused for collections since the previous sample
	Heap       float64
	Live       float64 // objects of the heap and stacks, after the last collection and what was allocated since
	Gone       bool
}

// Machine is an observation of the whole machine.
type Machine struct {
	At              float64
	CPU             float64 // share of all cores, 0 to 1
	Available, Slab int64
}

// Nodes samples processes once a second, or less often if there are more than a few, because sampling takes them
// time.
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
	troubles map[string]float64            // counted by processes since the start of the watch, by series
	counted  map[string]map[string]float64 // last values of each process
}

type reading struct {
	at, cpu, gc, cores float64
	pid                int
}

// minSpan is the shortest time, in seconds, over which a share of a processor is computed.
const minSpan = .4

// perSecond is the number of processes sampled per second. Answering /metrics takes a node some milliseconds.
const perSecond = 16

func (n *Nodes) period() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return max(time.Second, time.Duration(len(n.watched))*time.Second/perSecond)
}

// WatchNodes samples until Stop. Times count from began.
func WatchNodes(began time.Time, watched []Watched) *Nodes {
	ctx, cancel := context.WithCancel(context.Background())
	n := &Nodes{
		began: began, watched: watched, cancel: cancel, last: map[string]reading{},
		troubles: map[string]float64{}, counted: map[string]map[string]float64{},
		http: &http.Client{
			Timeout:   900 * time.Millisecond,
			Transport: &http.Transport{DisableCompression: true}, // compression would use the node's processor
		},
	}
	n.lastBusy[0], n.lastBusy[1] = MachineCPU()
	n.Look(ctx)
	n.wg.Go(func() { n.watch(ctx) })
	return n
}

// watch samples one process after the other, spread over the period. Sampling all at once would keep every processor
// busy for some milliseconds of each second, and the slowest hundredth of a run's operations would measure that.
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
				n.wg.Go(func() { n.look(ctx, watched[i]) }) // a process that does not answer must not delay the others
			} else {
				n.lookAround()
			}
		}
	}
}

// Add adds a process to the watch.
func (n *Nodes) Add(w Watched) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watched = append(n.watched[:len(n.watched):len(n.watched)], w)
}

// Look samples each process once more, now.
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

// lookAround samples the machine.
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
	m, troubles := n.scrape(ctx, w.Ops)
	r := reading{at: s.At, cpu: m["process_cpu_seconds_total"], gc: m["go_gc_duration_seconds_sum"]}
	s.RSS = int64(m["process_resident_memory_bytes"])
	s.Sessions, s.Waiting = m["parley_chat_sessions"], m["parley_chat_texts_waiting"]
	s.Goroutines, s.Heap = m["go_goroutines"], m["go_memstats_heap_inuse_bytes"]
	s.Live = m["go_memstats_heap_alloc_bytes"] + m["go_memstats_stack_inuse_bytes"]
	s.Gone = m == nil
	if w.Pid != nil {
		r.pid = w.Pid()
		if cpu, rss, ok := Process(r.pid); ok {
			r.cpu, s.RSS, s.Gone = cpu, rss, false
		}
	}
	if ctx.Err() != nil {
		return // the caller gave up before the end
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if m != nil {
		n.count(w.Name, troubles)
	}
	last, ok := n.last[w.Name]
	switch {
	case !ok || last.pid != r.pid || r.cpu < last.cpu:
		n.last[w.Name] = r
	case r.at-last.at < minSpan:
		// CPU time is counted in hundredths of a second, so over a short time it would be noise.
		s.CPU = last.cores
	default:
		r.cores = (r.cpu - last.cpu) / (r.at - last.at)
		s.CPU, s.GCSeconds = r.cores, max(r.gc-last.gc, 0)
		n.last[w.Name] = r
	}
	n.samples = append(n.samples, s)
}

// count adds what a process has counted since its last sample. The caller holds n.mu.
func (n *Nodes) count(name string, now map[string]float64) {
	last, ok := n.counted[name]
	n.counted[name] = now
	if !ok {
		return // what was counted before the watch is ignored
	}
	for series, v := range now {
		d := v - last[series]
		if d < 0 { // the process restarted
			d = v
		}
		if d > 0 {
			n.troubles[series] += d
		}
	}
}

// Troubles returns how often something went wrong since the start of the watch, over all processes: the counters of
// what was dropped, refused, late, lost or repeated, with their labels. It lacks what a process counted between its
// last sample and its death.
func (n *Nodes) Troubles() map[string]float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.troubles)
}

// wanted are the metrics in a sample. Those of several nodes in one process are added up.
var wanted = map[string]bool{
	"process_cpu_seconds_total": true, "process_resident_memory_bytes": true, "go_goroutines": true,
	"go_gc_duration_seconds_sum": true, "go_memstats_heap_inuse_bytes": true,
	"go_memstats_heap_alloc_bytes": true, "go_memstats_stack_inuse_bytes": true,
	"parley_chat_sessions": true, "parley_chat_texts_waiting": true,
}

// trouble matches the names of counters that do not change in a healthy cluster.
var trouble = regexp.MustCompile(`^parley_\w*(abandoned|bad_|bisected|dropped|errors|failed|failures|fenced|flooding|full|gaps|late|` +
	`limited|lost|offline|panics|refused|repeated|retries|slow|stale|throttled|timeouts|unclear|unheard|unknown)\w*_total$`)

// scrape reads the wanted metrics and the troubles of a process; an empty addr yields nothing.
func (n *Nodes) scrape(ctx context.Context, addr string) (m, troubles map[string]float64) {
	m, troubles = map[string]float64{}, map[string]float64{}
	if !n.read(ctx, addr, func(name, labels string, v float64) {
		if wanted[name] {
			m[name] += v
		}
		if v > 0 && trouble.MatchString(name) {
			troubles[name+labels] = v
		}
	}) {
		return nil, nil
	}
	return m, troubles
}

// read calls f for the metrics of a process. It returns false if the process does not answer, as when it is gone or
// stopped, or if addr is empty.
func (n *Nodes) read(ctx context.Context, addr string, f func(name, labels string, v float64)) bool {
	if addr == "" {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return false
	}
	rsp, err := n.http.Do(req)
	if err != nil {
		return false
	}
	defer rsp.Body.Close()
	each(io.LimitReader(rsp.Body, 4<<20), f)
	return true
}

// Sum adds up over all processes, now, the values of each metric whose name matches.
func (n *Nodes) Sum(ctx context.Context, match *regexp.Regexp) map[string]float64 {
	n.mu.Lock()
	watched := n.watched
	n.mu.Unlock()
	sum := map[string]float64{}
	for _, w := range watched {
		n.read(ctx, w.Ops, func(name, _ string, v float64) {
			if match.MatchString(name) {
				sum[name] += v
			}
		})
	}
	return sum
}

// Parse parses Prometheus' text format and adds up the values of each name over its labels.
func Parse(r io.Reader) map[string]float64 {
	m := map[string]float64{}
	each(r, func(name, _ string, v float64) { m[name] += v })
	return m
}

// each parses Prometheus' text format. labels is the part in braces, including them, or "".
func each(r io.Reader, f func(name, labels string, v float64)) {
	for sc := bufio.NewScanner(r); sc.Scan(); {
		line := sc.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			continue
		}
		name, labels := line[:at], ""
		if i := strings.IndexByte(name, '{'); i > 0 {
			name, labels = name[:i], name[i:]
		}
		f(name, labels, v)
	}
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

// Stop ends the watch and returns all samples.
func (n *Nodes) Stop() ([]Sample, []Machine) {
	n.cancel()
	n.wg.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.samples, n.machine
}
