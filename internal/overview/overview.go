// Package overview watches the chat nodes of a cluster for its operators: it asks each of them for its figures every second,
// remembers the last hour, and passes on what operators ask of a node.
//
// What it knows is in memory and its own: every status node has an overview, and a new one begins with an empty hour.
package overview

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"parley/internal/obs"
	"parley/internal/ops"
	"parley/internal/presence"
	"parley/internal/wire"
)

const (
	every = time.Second // between two looks
	// answerTimeout is less than every: what is shown is at most two seconds old.
	answerTimeout = 900 * time.Millisecond
	// actionTimeout bounds what an operator asks of a node.
	actionTimeout = 5 * time.Second
	maxAsked      = 32  // nodes at once
	window        = 5   // rates and percentiles are of so many looks
	maxNodes      = 256 // nodes whose last hour is remembered
)

// Deps is what an Overview works with.
type Deps struct {
	Log *slog.Logger
	// View returns the latest reading of the leases.
	View func() *presence.View
	// Dial returns the node at an RPC address, and a function that gives it up.
	Dial func(addr string) (ops.Node, func(), error)
}

// Node is a chat node as it was at the last look. Of a node that did not answer, the figures are the last known ones; they
// count in no sum.
type Node struct {
	Name        string             `json:"name"`
	State       string             `json:"state"` // see package ops
	Boot        string             `json:"boot,omitempty"`
	Version     string             `json:"version,omitempty"`
	ClientAddr  string             `json:"client_addr,omitempty"`
	RPCAddr     string             `json:"rpc_addr,omitempty"`
	StartedMS   int64              `json:"started_ms,omitempty"`
	HeardMS     int64              `json:"heard_ms,omitempty"` // when it last answered
	Error       string             `json:"error,omitempty"`    // why it did not
	Sessions    int                `json:"sessions"`
	Native      int                `json:"native"`
	Connections int                `json:"connections"`
	Point                          // per second and percentiles
	Totals      map[string]float64 `json:"totals,omitempty"`
	Refusals    map[string]float64 `json:"refusals,omitempty"`
	Queues      map[string]float64 `json:"queues,omitempty"`
	Slow        []ops.Session      `json:"slow,omitempty"`
	Moving      *ops.Moving        `json:"moving,omitempty"`
}

// Point is what is remembered of a look: rates per second and percentiles of the last few seconds.
type Point struct {
	Texts    float64 `json:"texts_per_s"`
	Pushes   float64 `json:"pushes_per_s"`
	Logins   float64 `json:"logins_per_s"`
	Refused  float64 `json:"refused_per_s"`
	TextP50  float64 `json:"text_p50_ms"`
	TextP99  float64 `json:"text_p99_ms"`
	LoginP99 float64 `json:"login_p99_ms"`
}

// Cluster is one look at all nodes.
type Cluster struct {
	Seq     uint64 `json:"seq"` // counts the looks
	AtMS    int64  `json:"at_ms"`
	LeaseMS int64  `json:"lease_age_ms"` // age of what was read of the leases; it grows while Redis does not answer
	// Sums over the nodes that answered; the percentiles are of all their texts and logins.
	Sessions    int `json:"sessions"`
	Connections int `json:"connections"`
	Point
	Nodes []Node `json:"nodes"`
}

// Overview watches a cluster. Its methods are safe for concurrent use.
type Overview struct {
	d     Deps
	log   *slog.Logger
	audit *slog.Logger

	// Owned by Run.
	looks map[string]*look

	mu      sync.Mutex // guards the following
	now     Cluster
	limits  map[string]map[string]string
	changed chan struct{} // closed at the next look
	closed  bool
	hour    hour
	events  events
}

// look is what is known of a node.
type look struct {
	addr  string
	node  ops.Node
	close func()

	recent []ops.Figures // the last ones of this life, oldest first
	heard  time.Time
	state  string
}

// New returns an Overview; Run has to run with it.
func New(d Deps) *Overview {
	log := d.Log.With("pkg", "overview")
	return &Overview{
		d: d, log: log, audit: log.With("audit", true), looks: map[string]*look{},
		now: Cluster{Nodes: []Node{}}, changed: make(chan struct{}),
	}
}

// Run looks at the nodes every second, until ctx ends.
func (o *Overview) Run(ctx context.Context) {
	defer o.end()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		o.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// end lets go of the nodes, and of those who wait for the next look.
func (o *Overview) end() {
	for _, l := range o.looks {
		l.giveUp()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	close(o.changed)
}

func (l *look) giveUp() {
	if l.close != nil {
		l.close()
	}
	l.node, l.close, l.addr = nil, nil, ""
}

// answer is what a node said at a look.
type answer struct {
	figures ops.Figures
	err     error
}

// round looks at all nodes once.
func (o *Overview) round(ctx context.Context) {
	view := o.d.View()
	nodes := view.Nodes()
	answers := o.ask(ctx, nodes)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	cluster := Cluster{AtMS: now.UnixMilli(), Nodes: []Node{}, LeaseMS: min(view.Age(), time.Hour).Milliseconds()}
	limits := map[string]map[string]string{}
	var changes []Event
	var heard []*look
	for i, n := range nodes {
		l := o.looks[n.Name]
		shown := l.note(n, answers[i], now)
		if shown.State != l.state {
			if l.state != "" || shown.State != ops.StateDead {
				changes = append(changes, Event{AtMS: now.UnixMilli(), Kind: shown.State, Node: n.Name, Text: describe(l.state, shown.State)})
			}
			l.state = shown.State
		}
		cluster.Nodes = append(cluster.Nodes, shown)
		if n.Live && answers[i].err == nil {
			heard = append(heard, l)
			limits[n.Name] = answers[i].figures.Limits
			cluster.Sessions += shown.Sessions
			cluster.Connections += shown.Connections
			cluster.add(shown.Point)
		}
	}
	cluster.percentiles(heard)
	for name, l := range o.looks {
		if _, ok := view.Node(name); !ok {
			l.giveUp()
			delete(o.looks, name)
			if l.state != ops.StateDead {
				changes = append(changes, Event{AtMS: now.UnixMilli(), Kind: "left", Node: name, Text: "stopped and left the cluster"})
			}
		}
	}
	o.publish(cluster, limits, changes, now)
}

// ask asks all live nodes for their figures, and remembers each node.
func (o *Overview) ask(ctx context.Context, nodes []presence.Node) []answer {
	answers := make([]answer, len(nodes))
	var wg sync.WaitGroup
	free := make(chan struct{}, maxAsked)
	for i, n := range nodes {
		l := o.looks[n.Name]
		if l == nil {
			l = &look{}
			o.looks[n.Name] = l
		}
		if !n.Live {
			continue
		}
		if l.addr != n.RPCAddr || l.node == nil {
			l.giveUp()
			node, giveUp, err := o.d.Dial(n.RPCAddr)
			if err != nil {
				answers[i].err = err
				continue
			}
			l.node, l.close, l.addr = node, giveUp, n.RPCAddr
		}
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			ctx, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			answers[i].figures, answers[i].err = l.node.Figures(ctx)
		})
	}
	wg.Wait()
	return answers
}

// note takes what a node said, and returns the node as it is shown.
func (l *look) note(n presence.Node, a answer, now time.Time) Node {
	shown := Node{
		Name: n.Name, State: ops.StateDead, Boot: n.Boot, Version: n.Version, ClientAddr: n.ClientAddr, RPCAddr: n.RPCAddr, StartedMS: n.StartedMS,
	}
	switch {
	case !n.Live:
		l.recent = nil
		return shown
	case a.err != nil:
		shown.State, shown.Error = ops.StateSilent, reasonOf(a.err)
	default:
		if last := len(l.recent) - 1; last >= 0 && l.recent[last].StartedMS != a.figures.StartedMS {
			l.recent = nil
		}
		l.recent = append(l.recent, a.figures)
		if len(l.recent) > window+1 {
			l.recent = slices.Delete(l.recent, 0, 1)
		}
		l.heard = now
		shown.State = a.figures.State
	}
	if !l.heard.IsZero() {
		shown.HeardMS = l.heard.UnixMilli()
	}
	if len(l.recent) == 0 {
		return shown
	}
	f := l.recent[len(l.recent)-1]
	shown.Sessions, shown.Native, shown.Connections = f.Sessions, f.Native, f.Connections
	shown.Totals, shown.Refusals, shown.Queues, shown.Slow, shown.Moving = f.Totals, f.Refusals, f.Queues, f.Slow, f.Moving
	if shown.State != ops.StateSilent {
		shown.Point = point(l.recent[0], f)
	}
	return shown
}

// reasonOf says in a few words why a node did not answer.
func reasonOf(err error) string {
	if refusal, ok := err.(*ops.Error); ok {
		return refusal.Reason
	}
	return obs.ErrorClass(err)
}

// point compares two looks at a node.
func point(before, now ops.Figures) Point {
	seconds := float64(now.AtMS-before.AtMS) / 1000
	if seconds <= 0 {
		return Point{}
	}
	rate := func(names ...string) (sum float64) {
		for _, name := range names {
			sum += max(now.Totals[name]-before.Totals[name], 0)
		}
		return sum / seconds
	}
	p := Point{Texts: rate("texts"), Pushes: rate("pushes", "group_pushes"), Logins: rate("logins")}
	for name, n := range now.Refusals {
		p.Refused += max(n-before.Refusals[name], 0) / seconds
	}
	p.quantiles(now.Latency, before.Latency)
	return p
}

func (p *Point) quantiles(now, before map[string]ops.Histogram) {
	p.TextP50 = 1000 * now["text"].Quantile(0.5, before["text"])
	p.TextP99 = 1000 * now["text"].Quantile(0.99, before["text"])
	p.LoginP99 = 1000 * now["login"].Quantile(0.99, before["login"])
}

func (p *Point) add(other Point) {
	p.Texts += other.Texts
	p.Pushes += other.Pushes
	p.Logins += other.Logins
	p.Refused += other.Refused
}

// percentiles joins the histograms of nodes. Those with other bounds, of another version, are left out.
func (c *Cluster) percentiles(nodes []*look) {
	now, before := map[string]ops.Histogram{}, map[string]ops.Histogram{}
	for _, l := range nodes {
		if len(l.recent) < 2 {
			continue
		}
		for name, h := range l.recent[len(l.recent)-1].Latency {
			old := l.recent[0].Latency[name]
			if sum, ok := now[name]; ok && !slices.Equal(sum.Bounds, h.Bounds) || len(old.Counts) != len(h.Counts) {
				continue
			}
			now[name], before[name] = plus(now[name], h), plus(before[name], old)
		}
	}
	c.quantiles(now, before)
}

func plus(sum, h ops.Histogram) ops.Histogram {
	if len(sum.Counts) == 0 {
		return ops.Histogram{Bounds: h.Bounds, Counts: slices.Clone(h.Counts)}
	}
	for i, n := range h.Counts {
		sum.Counts[i] += n
	}
	return sum
}

// publish makes a look the latest one.
func (o *Overview) publish(c Cluster, limits map[string]map[string]string, changes []Event, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.Seq = o.now.Seq + 1
	o.now, o.limits = c, limits
	for _, e := range changes {
		o.events.add(e)
	}
	o.hour.add(&c, now)
	close(o.changed)
	o.changed = make(chan struct{})
}

// After returns the latest look, waiting for one that came after the look with this number; with 0 it does not wait, unless
// there was none yet. It returns the latest one too when ctx ends.
func (o *Overview) After(ctx context.Context, seq uint64) Cluster {
	for {
		o.mu.Lock()
		c, changed, closed := o.now, o.changed, o.closed
		o.mu.Unlock()
		// A larger number is of another life of this node.
		if c.Seq > 0 && c.Seq != seq || closed {
			return c
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return c
		}
	}
}

// with calls f with a node. It dials anew: what Run holds is its own.
func (o *Overview) with(ctx context.Context, name string, f func(context.Context, ops.Node) error) error {
	n, ok := o.d.View().Node(name)
	if !ok || !n.Live {
		return ops.Refusef(wire.CodeUIDInvalid, "no node %q is alive", name)
	}
	node, giveUp, err := o.d.Dial(n.RPCAddr)
	if err != nil {
		return err
	}
	defer giveUp()
	ctx, cancel := context.WithTimeout(ctx, actionTimeout)
	defer cancel()
	return f(ctx, node)
}

// Plan returns how many native clients should move from which node to which, so that all nodes that take logins have about as
// many sessions. Nodes within a twentieth of the mean are left alone.
func Plan(nodes []Node) []Transfer {
	type open struct {
		name                string
		have, natives, want int
	}
	var list []open
	total := 0
	for _, n := range nodes {
		if n.State == ops.StateOpen {
			list = append(list, open{name: n.Name, have: n.Sessions, natives: n.Native})
			total += n.Sessions
		}
	}
	slices.SortFunc(list, func(a, b open) int { return cmp.Or(cmp.Compare(b.have, a.have), cmp.Compare(a.name, b.name)) })
	for i := range list { // the fuller ones keep what cannot be divided
		list[i].want = total / len(list)
		if i < total%len(list) {
			list[i].want++
		}
	}
	var plan []Transfer
	to := len(list) - 1
	for from := 0; from < to; from++ {
		spare := min(list[from].have-list[from].want, list[from].natives)
		if spare <= list[from].want/20 {
			continue
		}
		for spare > 0 && to > from {
			n := min(spare, list[to].want-list[to].have)
			if n <= 0 {
				to--
				continue
			}
			plan = append(plan, Transfer{From: list[from].name, To: list[to].name, Sessions: n})
			spare -= n
			list[to].have += n
		}
	}
	return plan
}

// Transfer is a part of a rebalance.
type Transfer struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Sessions int    `json:"sessions"`
}

// rebalance carries out a plan. It returns an error for each node that did not take its part.
func (o *Overview) rebalance(ctx context.Context, plan []Transfer, pace ops.Pace) map[string]string {
	moves := map[string]ops.Move{}
	for _, t := range plan {
		if moves[t.From].To == nil {
			moves[t.From] = ops.Move{Pace: pace, To: map[string]int{}}
		}
		moves[t.From].To[t.To] = t.Sessions
	}
	failed := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(moves)) {
		err := o.with(ctx, name, func(ctx context.Context, n ops.Node) error { return n.Move(ctx, moves[name]) })
		if err != nil {
			failed[name] = reasonOf(err)
		}
	}
	return failed
}
