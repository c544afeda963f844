package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/bench/report"
	"parley/bench/swarm"
	"parley/bench/watch"
	"parley/internal/wire"
)

// PresenceFlags are the flags of a load of presence. An operation is a user who leaves and returns: two changes.
type PresenceFlags struct {
	LoadFlags `embed:""`
	Friends   int           `help:"friends of each user, who watch one another, 1 to 500" default:"50"`
	Away      time.Duration `help:"how long a user who leaves stays away" default:"3s"`
	Spread    time.Duration `help:"after the load all connections are lost at once, and each user returns at a random moment within this time; 0 means at once" default:"0s"`
	Within    time.Duration `help:"budget for each user to know who of its friends is online, after the last user has returned; after five times as long the run is incorrect" default:"2s"`
}

func (f PresenceFlags) check(o Options) error {
	switch {
	case f.Friends < 1 || f.Friends > wire.MaxWatched:
		return fmt.Errorf("--friends must be 1 to %d", wire.MaxWatched)
	case f.Away < 0 || f.Spread < 0 || f.Within <= 0:
		return errors.New("--away and --spread must be at least 0 and --within more than 0")
	case f.Closed > 0:
		return errors.New("presence has no closed loop: use --rate")
	case o.Local == 0 && o.Config == "":
		return errors.New("presence needs --local, or --config for a running cluster: it makes its users friends in SQL")
	case max(o.Workers, len(o.Agents)) > f.circles(o.Users):
		return errors.New("a circle of friends is in one generator process: there must be a circle for each")
	}
	return f.LoadFlags.check(presenceRate)
}

// patience is how long users may take to know the truth before the run is incorrect.
func (f PresenceFlags) patience() time.Duration { return 5 * f.Within }

// circles returns the number of circles of friends that have at least so many users.
func (f PresenceFlags) circles(users int) int {
	return (cmp.Or(users, 2000) + f.Friends) / (f.Friends + 1)
}

const (
	stormLimit = time.Minute
	// lookAgain is how long the states must stay true at the end.
	lookAgain = 1500 * time.Millisecond
	// exchangeBudget is the share of a core that the exchange of presence between nodes may use.
	exchangeBudget = .05
)

// Presence measures how users are told which of their friends are online, and checks it.
func (l Lab) Presence(ctx context.Context, o Options, f PresenceFlags) int {
	if err := f.check(o); err != nil {
		return l.refuse(err)
	}
	members := f.Friends + 1
	users := f.circles(o.Users) * members
	v := verb{
		name: "presence", what: "friends who watch one another come and go, then all at once", users: users + users%2, // they are seeded in pairs
		cross: -1, resume: true, reconnect: true, rooms: swarm.Rooms{Members: members, Online: members, Watch: true},
	}
	o.Users = 0
	v.do = func(ctx context.Context, whole *run) error {
		r := &presenceRun{run: whole, counted: report.Table{Title: "what the nodes counted about presence", Header: []string{"metric"}}}
		f.Warmup = f.Away // until the first return, there are only half of the changes
		p, err := f.phase("churn", presenceRate, r.Seed)
		if err != nil {
			return err
		}
		p.Away, p.Patience = f.Away, f.Away+f.patience()
		if err := r.logInSome(ctx, users); err != nil {
			return err
		}
		if err := r.comeAndGo(ctx, p); err != nil {
			return err
		}
		if err := r.dropAll(ctx, f); err != nil {
			return err
		}
		if len(r.counted.Rows) > 0 {
			r.rep.Tables = append(r.rep.Tables, r.counted)
		}
		return r.lookAgain(ctx)
	}
	return execute(ctx, l.options(o), v)
}

var (
	watchCounters = regexp.MustCompile(`^parley_(watch_\w+|peer_queue_full|peer_pushes_lost|presence_queue_full)_total$`)
	watchQueues   = regexp.MustCompile(`^parley_watch_(unread|untold)$`)
	// reading matches the function of a node that reads from Redis who is online, calling those that send and receive
	// changes, and all calls between nodes, which carry nothing else in this run.
	reading = regexp.MustCompile(`^parley/internal/watch\.\(\*reader\[.*\]\)\.step$`)
	calling = regexp.MustCompile(`^parley/internal/peer\.|^parley/internal/watch\.(\(\*news\)\.run|\(\*Watches\[.*\]\)\.Receive)$|^github\.com/cloudwego/kitex/`)
)

// presenceRun is a run of users who watch one another.
type presenceRun struct {
	*run
	counted report.Table // what the nodes counted, by part of the run
}

// comeAndGo has users leave and return, and reports what the others were told.
func (r *presenceRun) comeAndGo(ctx context.Context, p swarm.Phase) error {
	counted := r.nodes.Sum(ctx, watchCounters)
	used, known := r.nodesCPU()
	profiled, stop := context.WithCancel(ctx)
	defer stop()
	queues, exchange := r.followQueues(ctx), r.profileExchange(profiled, p.Warmup, p.Load.For)
	out, err := r.phase(ctx, step{name: "churn", Phase: p, main: swarm.HTold, measured: true, faults: true})
	lengths := queues()
	if err != nil {
		stop()
		exchange()
		return err
	}
	after, _ := r.nodesCPU()
	r.addCounters(ctx, "users come and go", counted)
	changes := out.Counters["changes"]
	length := (p.Warmup + p.Load.For).Seconds()
	r.rep.Figures["changes"] = float64(changes) / length
	r.headline("changes", fmt.Sprintf("%.0f/s", r.rep.Figures["changes"]), fmt.Sprintf("logins and logouts of %d users over %d nodes, each watched by %d others", r.wantAll, max(len(r.crew.Nodes()), 1), r.verb.rooms.Members-1))
	r.latencyLine("told to a watcher", out.Hist(swarm.HTold))
	frames := float64(out.Counters["presence frames"]) / length / float64(r.wantAll)
	r.rep.Figures["presence_frames"] = frames
	r.headline("frames per session and second", fmt.Sprintf("%.2f", frames), fmt.Sprintf("with %.1f states each, on average", float64(out.Counters["presence states"])/float64(max(out.Counters["presence frames"], 1))))
	if known && changes > 0 {
		r.rep.Figures["change_cpu"] = (after - used) / float64(changes)
		r.headline("nodes' CPU for a change", fmt.Sprintf("%.0f µs", r.rep.Figures["change_cpu"]*1e6), "a login or logout, and telling the watchers")
	}
	if calls, reads, ok := exchange(); ok {
		cores := calls + reads
		r.rep.Figures["exchange_cpu"] = cores
		r.budget("exchange between nodes", fmt.Sprintf("%.1f %% of a core", cores*100), fmt.Sprintf("%.0f %%", exchangeBudget*100), cores <= exchangeBudget,
			fmt.Sprintf("in all nodes, by their profiles: %.1f %% in calls between them, the rest in reading from Redis who is online", calls*100))
	}
	if n := len(lengths); n > 1 {
		first, second := slices.Max(lengths[:n/2]), slices.Max(lengths[n/2:])
		r.headline("longest queues", fmt.Sprintf("%.0f, then %.0f", first, second), "users to be read and sessions to be told, in the first and the second half")
	}
	r.checkViews("after the load", out)
	return nil
}

// dropAll drops all connections, and reports when everybody knew the truth again.
func (r *presenceRun) dropAll(ctx context.Context, f PresenceFlags) error {
	counted, queues := r.nodes.Sum(ctx, watchCounters), r.followQueues(ctx)
	r.rep.Marks = append(r.rep.Marks, report.Mark{At: time.Since(r.began).Seconds(), Text: "all connections dropped"})
	p := swarm.Phase{Kind: "storm", Spread: f.Spread, For: stormLimit, Patience: f.patience()}
	out, err := r.phase(ctx, step{name: "storm", Phase: p, main: swarm.HFull, show: true})
	lengths := queues()
	if err != nil {
		return err
	}
	r.addCounters(ctx, "storm", counted)
	r.rep.Figures["online"] = float64(len(out.BackAt))
	if len(out.BackAt) == 0 || len(out.RightAt) == 0 {
		return errors.New("nobody came back after the storm")
	}
	back, right := slices.Max(out.BackAt), slices.Max(out.RightAt)
	late := max(right-back, 0)
	r.rep.Figures["back100"], r.rep.Figures["presence_right"] = back, late
	r.headline("100 % back", fmt.Sprintf("%.2f s", back), "after all connections were lost at once")
	r.budget("everybody right after that", fmt.Sprintf("%.2f s", late), f.Within.String(), late <= f.Within.Seconds(), "from the last login until each user knew who of its friends is online")
	if len(lengths) > 0 {
		r.headline("longest queues in the storm", fmt.Sprintf("%.0f", slices.Max(lengths)), fmt.Sprintf("at most one entry for each watched user of a node and one for each session; %d watches refused and repeated", out.Counters["watches refused"]))
	}
	r.checkViews("after the storm", out)
	return nil
}

// lookAgain checks that the states stay true and that no queue is left.
func (r *presenceRun) lookAgain(ctx context.Context) error {
	queues := r.followQueues(ctx)
	out, err := r.phase(ctx, step{name: "rest", Phase: swarm.Phase{Kind: "hold", For: lookAgain}})
	lengths := queues()
	if err != nil {
		return err
	}
	r.checkViews("at the end", out)
	if len(lengths) > 0 {
		left := slices.Min(lengths) // the nodes always read a few users again
		r.rep.Figures["presence_queue"] = left
		r.budget("left in queues", fmt.Sprintf("%.0f", left), "0", left == 0, "")
	}
	r.headline("users who know who is online", fmt.Sprint(out.Counters["views right"]), "each compared with the sessions of its friends, at the end")
	return nil
}

// checkViews judges what users were told.
func (r *presenceRun) checkViews(when string, out *swarm.Outcome) {
	wrong, extra := out.Counters["views wrong"]+out.Counters["wrong states"], out.Counters["frames too many"]
	r.rep.Figures["presence_wrong"] += float64(wrong)
	r.rep.Figures["presence_frames_extra"] += float64(extra)
	if wrong > 0 {
		r.wrong = append(r.wrong, fmt.Sprintf("%s %d users of %d did not know who of their friends is online, and %d states were not asked for",
			when, out.Counters["views wrong"], out.Counters["views wrong"]+out.Counters["views right"], out.Counters["wrong states"]))
	}
	if extra > 0 {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %d frames of changed presence were beyond one per second of their session", when, extra))
	}
}

// addCounters adds a column of what the nodes have counted since before.
func (r *presenceRun) addCounters(ctx context.Context, title string, before map[string]float64) {
	t := &r.counted
	now := r.nodes.Sum(ctx, watchCounters)
	t.Header = append(t.Header, title)
	for i, name := range slices.Sorted(maps.Keys(now)) {
		if i == len(t.Rows) {
			t.Rows = append(t.Rows, []string{name})
		}
		t.Rows[i] = append(t.Rows[i], fmt.Sprintf("%.0f", now[name]-before[name]))
	}
}

// followQueues samples the queues of presence of all nodes, until the returned function is called for their lengths.
func (r *presenceRun) followQueues(ctx context.Context) (lengths func() []float64) {
	ctx, cancel := context.WithCancel(ctx)
	var (
		wg  sync.WaitGroup
		all []float64
	)
	wg.Go(func() {
		for tick := time.NewTicker(250 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			if m := r.nodes.Sum(ctx, watchQueues); len(m) == 2 {
				all = append(all, m["parley_watch_unread"]+m["parley_watch_untold"])
			}
		}
	})
	return func() []float64 {
		cancel()
		wg.Wait()
		return all
	}
}

// profileExchange has the chat nodes profile themselves during a load that begins after a warm-up. The returned function
// waits for that, and returns the cores that calls between nodes and reads of presence used.
func (r *presenceRun) profileExchange(ctx context.Context, warmup, length time.Duration) (cores func() (calls, reads float64, ok bool)) {
	seconds := length.Truncate(time.Second)
	if r.layout == nil || seconds == 0 {
		return func() (calls, reads float64, ok bool) { return 0, 0, false }
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex // guards the following
		sum  [2]time.Duration
		errs []error
	)
	for _, n := range r.layout.Nodes {
		if !strings.HasPrefix(n.Name, "chat") {
			continue
		}
		wg.Go(func() {
			select {
			case <-time.After(warmup):
			case <-ctx.Done():
				return
			}
			used, err := watch.Profile(ctx, n.Ops, seconds, calling, reading)
			mu.Lock()
			defer mu.Unlock()
			for i, d := range used {
				sum[i] += d
			}
			errs = append(errs, err)
		})
	}
	return func() (calls, reads float64, ok bool) {
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			r.rep.Notes = append(r.rep.Notes, "the exchange between nodes was not measured: "+err.Error())
			return 0, 0, false
		}
		return sum[0].Seconds() / seconds.Seconds(), sum[1].Seconds() / seconds.Seconds(), true
	}
}
