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

// Nodes looks at processes once a second; with more than a few processes less often, because it costs them time.
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
	troubles map[string]float64            // what processes counted since the watch began, by series
	counted  map[string]map[string]float64 // what each told last
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
		troubles: map[string]float64{}, counted: map[string]map[string]float64{},
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
	m, troubles := n.scrape(ctx, w.Ops)
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
	if m != nil {
		n.count(w.Name, troubles)
	}
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

// count adds what a process counted since it was last looked at. n.mu is held.
func (n *Nodes) count(name string, now map[string]float64) {
	last, ok := n.counted[name]
	n.counted[name] = now
	if !ok {
		return // what was before the watch is not its business
	}
	for series, v := range now {
		d := v - last[series]
		if d < 0 { // it began anew
			d = v
		}
		if d > 0 {
			n.troubles[series] += d
		}
	}
}

// Troubles returns how often something went wrong since the watch began, over all processes: the counters of what is
// dropped, refused, late, lost or repeated, with their labels. What a process counted between the last look and its death
// is not in it.
func (n *Nodes) Troubles() map[string]float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.troubles)
}

// wanted are the metrics a sample is made of; those of several nodes in one process are added up.
var wanted = map[string]bool{
	"process_cpu_seconds_total": true, "process_resident_memory_bytes": true, "go_goroutines": true,
	"go_gc_duration_seconds_sum": true, "go_memstats_heap_inuse_bytes": true,
	"parley_chat_sessions": true, "parley_chat_texts_waiting": true,
}

// trouble fits the names of the counters that stay still when all is well.
var trouble = regexp.MustCompile(`^parley_\w*(abandoned|bad_|bisected|dropped|errors|failed|failures|fenced|flooding|full|gaps|late|` +
	`limited|lost|offline|panics|refused|repeated|retries|slow|stale|throttled|timeouts|unclear|unheard|unknown)\w*_total$`)

// scrape asks a process, which is nobody when addr is "", for its wanted metrics and its troubles.
func (n *Nodes) scrape(ctx context.Context, addr string) (m, troubles map[string]float64) {
	if addr == "" {
		return nil, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, nil
	}
	rsp, err := n.http.Do(req)
	if err != nil {
		return nil, nil // gone, or stopped: the sample says so
	}
	defer rsp.Body.Close()
	m, troubles = map[string]float64{}, map[string]float64{}
	each(io.LimitReader(rsp.Body, 4<<20), func(name, labels string, v float64) {
		if wanted[name] {
			m[name] += v
		}
		if v > 0 && trouble.MatchString(name) {
			troubles[name+labels] = v
		}
	})
	return m, troubles
}

// Parse reads Prometheus' text form and adds up the values of each name over its labels.
func Parse(r io.Reader) map[string]float64 {
	m := map[string]float64{}
	each(r, func(name, _ string, v float64) { m[name] += v })
	return m
}

// each reads Prometheus' text form. labels is what stands between braces, with them, or "".
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

// Stop ends the watch and returns everything seen.
func (n *Nodes) Stop() ([]Sample, []Machine) {
	n.cancel()
	n.wg.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.samples, n.machine
}
