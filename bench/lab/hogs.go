package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/bench/crew"
	"parley/bench/hist"
	"parley/bench/hogs"
	"parley/bench/local"
	"parley/bench/report"
	"parley/bench/schedule"
	"parley/bench/swarm"
	"parley/bench/watch"
)

// HogFlags select the hogs and their number.
type HogFlags struct {
	Peers  int           `help:"hostile peers per kind" default:"50"`
	Kinds  []string      `help:"kinds of peers; default: all" placeholder:"KIND"`
	Rate   float64       `help:"texts per second of the well-behaved users" default:"100"`
	Before time.Duration `help:"time without hostile peers before each kind" default:"4s"`
}

// hogFigures returns the names of the figures of this verb.
func hogFigures() []string {
	names := []string{"hog_ratio", "hogs_kept_memory"}
	for c := range hogs.Budgets {
		names = append(names, string(c)+"_bytes")
	}
	for _, k := range hogs.Kinds {
		names = append(names, k.Name+"_bytes", k.Name+"_ratio")
	}
	return names
}

// mark is the resource use of a node at one moment.
type mark struct {
	rss, heap, goroutines, files float64
}

// visit is the measurement of one kind of hog.
type visit struct {
	kind          hogs.Kind
	before, after mark
	level         int64 // largest RSS while only well-behaved users were connected
	rss, kernel   int64 // increase caused by the hogs, at the moment when the sum was largest
	calm, busy    *hist.Hist
	outcomes      []hogs.Outcome
}

// bytes returns the bytes that each hog made the node hold.
func (v *visit) bytes() float64 {
	return float64(v.rss+v.kernel) / float64(max(v.sat(), 1))
}

// sat returns the number of hogs that could start.
func (v *visit) sat() (n int) {
	for _, o := range v.outcomes {
		if o.Refused == nil {
			n++
		}
	}
	return n
}

func (v *visit) ratio() float64 {
	return float64(v.busy.Quantile(.99)) / float64(max(v.calm.Quantile(.99), 1))
}

// keptMemory reports whether the node keeps the memory that the hogs made it allocate: more than a tenth of the
// budget for each hog after a collection, beyond the fluctuation of the allocator and the run.
func (v *visit) keptMemory() bool {
	n := float64(v.sat())
	return v.after.heap > v.before.heap+n*float64(hogs.Budgets[v.kind.Class])/10+4<<20 ||
		v.after.goroutines > v.before.goroutines+10 || v.after.files > v.before.files+5
}

// Hogs measures how much memory one hostile peer can make a node hold, and whether well-behaved users are affected.
func (l Lab) Hogs(ctx context.Context, o Options, f HogFlags) int {
	v := verb{
		name: "hogs", what: "peers that never read, never stop writing or never log in: what each makes a node hold, and whether others notice",
		users: 40, cross: 0, text: 100, guests: 2 * max(f.Peers, 1), tcp: true,
	}
	// The hogs also load the generator. Its lateness shows in the ratio and must not decide the verdict.
	o.MaxLag = max(o.MaxLag, 250*time.Millisecond)
	if o.Standalone || o.Local == 0 {
		o.Nodes = 1 // measure the memory of a single node
	}
	kinds, err := f.check(o)
	if err != nil {
		return l.refuse(err)
	}
	v.do = func(ctx context.Context, whole *run) error {
		place, closePlacer, err := crew.Placer(whole.spec())
		if err != nil {
			return setupError(err)
		}
		defer closePlacer()
		r := &hosting{whole, f, place}
		if err := r.logIn(ctx); err != nil {
			return err
		}
		if _, err := r.phase(ctx, step{name: "threads", Phase: swarm.Phase{Kind: "threads"}}); err != nil {
			return err
		}
		var visits []*visit
		for _, k := range kinds {
			v, err := r.visit(ctx, k)
			if err != nil {
				return err
			}
			visits = append(visits, v)
		}
		r.visited(visits)
		return r.verify(ctx)
	}
	return execute(ctx, l.options(o), v)
}

func (f HogFlags) check(o Options) (kinds []hogs.Kind, err error) {
	if f.Peers < 1 || f.Peers > 1000 || f.Rate <= 0 || f.Before <= 0 {
		return nil, errors.New("--peers must be 1 to 1000, --rate and --before more than 0")
	}
	if o.Gate != "" || len(o.Status) > 0 || len(o.Agents) > 0 {
		return nil, errors.New("hogs needs --local or --standalone: only a node that this tool started is its to spoil, and to look into")
	}
	for _, name := range f.Kinds {
		k, ok := hogs.KindOf(name)
		if !ok {
			return nil, fmt.Errorf("there is no hog called %q: %s", name, strings.Join(hogs.Names(), ", "))
		}
		kinds = append(kinds, k)
	}
	if kinds == nil {
		kinds = hogs.Kinds
	}
	return kinds, nil
}

// hosting is a run in which hogs visit a node.
type hosting struct {
	*run
	f     HogFlags
	place swarm.Placer
}

// visit runs one kind of hog against a node, between a period without hogs and a measurement of what remains.
func (r *hosting) visit(ctx context.Context, k hogs.Kind) (*visit, error) {
	f := &r.f
	v := &visit{kind: k}
	seats, err := r.seats(ctx)
	if err != nil {
		return nil, setupError(err)
	}
	node, port, err := r.nodeAt(seats[0])
	if err != nil {
		return nil, setupError(err)
	}
	chat := func(name string, d time.Duration) (*hist.Hist, error) {
		load, err := schedule.Parse("constant", f.Rate, d, r.Seed)
		if err != nil {
			return nil, setupError(err)
		}
		out, err := r.phase(ctx, step{name: name, Phase: swarm.Phase{Kind: "chat", Load: load, Patience: 15 * time.Second}, main: swarm.HAck, measured: true})
		return out.Hist(swarm.HAck), err
	}
	// Subtract the memory that the honest friends of the hogs use.
	honest := func() ([]hogs.Outcome, error) { return nil, nil }
	if k, ok := k.Honest(); ok {
		herd, err := hogs.Start(ctx, k, seats)
		if err != nil {
			return nil, err
		}
		honest = herd.Stop
	}
	calm := newSampler(node.Proc.Pid, port, nil, 0)
	v.calm, err = chat("before "+k.Name, f.Before)
	calm.end()
	if _, friends := honest(); err != nil || friends != nil {
		return nil, errors.Join(err, friends)
	}
	v.level = calm.rss
	// What honest load makes a node keep, such as connections to its stores, is not the hogs'.
	if v.before, err = look(ctx, node); err != nil {
		return nil, err
	}

	if seats, err = r.seats(ctx); err != nil {
		return nil, setupError(err)
	}
	herd, err := hogs.Start(ctx, k, seats)
	if err != nil {
		return nil, err
	}
	busy := newSampler(node.Proc.Pid, port, herd.Peers(), v.level)
	v.busy, err = chat("with "+k.Name, k.For)
	busy.end()
	var friends error
	v.outcomes, friends = herd.Stop()
	if err = errors.Join(err, friends); err != nil {
		return nil, err
	}
	if busy.err != nil {
		return nil, busy.err
	}
	v.rss, v.kernel = busy.peakRSS, busy.peakKernel
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if v.after, err = look(ctx, node); err != nil {
			return nil, err
		}
		if !v.keptMemory() && v.after.rss <= float64(v.level)+4<<20 || time.Now().After(deadline) {
			return v, nil
		}
	}
}

// seats returns seats of two friends each, with new tokens, all on one node.
func (r *hosting) seats(ctx context.Context) ([]hogs.Seat, error) {
	n := r.f.Peers
	uids := make([]int32, 2*n)
	for i := range uids {
		uids[i] = r.FirstUID + int32(r.Users+i)
	}
	var places []swarm.Place
	for part := range slices.Chunk(uids, 500) {
		got, err := r.place(ctx, part)
		if err != nil {
			return nil, err
		}
		places = append(places, got...)
	}
	seats := make([]hogs.Seat, n)
	for i := range seats {
		a, b := places[2*i], places[2*i+1]
		seats[i] = hogs.Seat{
			Node: places[0].Node, Addr: places[0].Addr.String(),
			UID: uids[2*i], Friend: uids[2*i+1], Token: a.Token, FriendsToken: b.Token,
		}
	}
	return seats, nil
}

// nodeAt returns the node process of a seat and the port for its clients.
func (r *hosting) nodeAt(s hogs.Seat) (local.Node, uint16, error) {
	for _, n := range r.layout.Nodes {
		if n.Name == s.Node || n.Name == "standalone" {
			_, text, _ := strings.Cut(s.Addr, ":")
			port, err := strconv.ParseUint(text, 10, 16)
			return n, uint16(port), err
		}
	}
	return local.Node{}, 0, fmt.Errorf("hogs: no process of this run is called %s", s.Node)
}

// look runs a garbage collection on a node and returns its resource use.
func look(ctx context.Context, n local.Node) (m mark, err error) {
	collect(ctx, n.Ops)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Ops+"/metrics", nil)
	if err != nil {
		return m, err
	}
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		return m, fmt.Errorf("hogs: the node does not tell how it is: %w", err)
	}
	defer rsp.Body.Close()
	seen := watch.Parse(rsp.Body)
	_, rss, _ := watch.Process(n.Proc.Pid())
	return mark{float64(rss), seen["go_memstats_heap_inuse_bytes"], seen["go_goroutines"], seen["process_open_fds"]}, nil
}

// visited adds the table, the headlines and the figures to the report.
func (r *hosting) visited(visits []*visit) {
	t := report.Table{
		Title:  "what one peer makes a node hold",
		Header: []string{"kind", "KiB each", "process", "kernel", "budget", "", "outcome", "written", "others' p99", "ratio", "RSS after MiB", "given back"},
		Note: "at the worst moment, by hog: the node's RSS above its largest without them, and the memory of its sockets to them (sock_diag: " +
			"received, queued, set aside, with the kernel's structures); after: RSS once they are gone and garbage is collected, from before they came",
	}
	figures := r.rep.Figures
	worst := map[hogs.Class]*visit{}
	kept := 0
	for _, v := range visits {
		n := float64(max(v.sat(), 1))
		budget := float64(hogs.Budgets[v.kind.Class])
		word := "met"
		if v.bytes() > budget {
			word = "MISSED"
		}
		back := "yes"
		if v.keptMemory() {
			kept++
			back = fmt.Sprintf("NO: heap %+.1f MiB, goroutines %+.0f, descriptors %+.0f", (v.after.heap-v.before.heap)/(1<<20),
				v.after.goroutines-v.before.goroutines, v.after.files-v.before.files)
		}
		t.Rows = append(t.Rows, []string{
			v.kind.Name, kibs(v.bytes()), kibs(float64(v.rss) / n), kibs(float64(v.kernel) / n), kibs(budget), word, outcomes(v.outcomes),
			written(v.outcomes), hist.Format(v.calm.Quantile(.99)) + " → " + hist.Format(v.busy.Quantile(.99)), fmt.Sprintf("%.1f", v.ratio()),
			fmt.Sprintf("%.1f → %.1f", v.before.rss/(1<<20), v.after.rss/(1<<20)), back,
		})
		r.rep.Notes = append(r.rep.Notes, v.kind.Name+" "+v.kind.What)
		figures[v.kind.Name+"_bytes"], figures[v.kind.Name+"_ratio"] = v.bytes(), v.ratio()
		figures["hog_ratio"] = max(figures["hog_ratio"], v.ratio())
		if w := worst[v.kind.Class]; w == nil || v.bytes() > w.bytes() {
			worst[v.kind.Class] = v
		}
	}
	figures["hogs_kept_memory"] = float64(kept)
	r.rep.Tables = append(r.rep.Tables, t)
	for _, c := range []hogs.Class{hogs.SlowReader, hogs.FloodingWriter, hogs.Stranger} {
		if w := worst[c]; w != nil {
			figures[string(c)+"_bytes"] = w.bytes()
			r.budget("a "+strings.ReplaceAll(string(c), "_", " "), kib(w.bytes()), kib(float64(hogs.Budgets[c])), w.bytes() <= float64(hogs.Budgets[c]),
				"the worst kind: "+w.kind.Name)
		}
	}
	r.budget("kinds after which memory was not given back", strconv.Itoa(kept), "0", kept == 0, "heap after a collection, goroutines, descriptors")
	if r.Standalone {
		r.rep.Notes = append(r.rep.Notes, "standalone holds Redis' data and SQLite in the same process: --local 1 measures a chat node alone")
	}
}

func kibs(b float64) string { return fmt.Sprintf("%.0f", b/1024) }

// outcomes describes what happened to the hogs, most frequent first.
func outcomes(all []hogs.Outcome) string {
	count := map[string]int{}
	after := map[string][]float64{}
	for _, o := range all {
		word := "kept"
		switch {
		case o.Refused != nil:
			word = "refused"
		case o.Closed && o.Code != 0:
			word = fmt.Sprintf("closed with %d", o.Code)
		case o.Closed:
			word = "closed"
		}
		count[word]++
		after[word] = append(after[word], o.After.Seconds())
	}
	var parts []string
	for word, n := range count {
		if strings.HasPrefix(word, "closed") {
			parts = append(parts, fmt.Sprintf("%d %s after %.1f s", n, word, median(after[word])))
		} else {
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	slices.SortFunc(parts, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return strings.Join(parts, ", ")
}

// written returns the median of what the hogs could write.
func written(all []hogs.Outcome) string {
	var total, rate []float64
	for _, o := range all {
		if o.Refused == nil {
			total = append(total, float64(o.Wrote))
			rate = append(rate, float64(o.Wrote)/max(o.Lasted.Seconds(), 1e-3))
		}
	}
	return fmt.Sprintf("%.0f KiB, %.0f KiB/s", median(total)/1024, median(rate)/1024)
}
