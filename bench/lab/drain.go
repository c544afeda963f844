package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"parley/bench/local"
	"parley/bench/report"
	"parley/bench/schedule"
	"parley/bench/swarm"
	"parley/internal/obs"
)

// DrainFlags are the flags of a drain.
type DrainFlags struct {
	Rate float64       `help:"texts per second" default:"500"`
	Over time.Duration `help:"time over which the node spreads the goodbyes" default:"20s"`
	Stop bool          `help:"stop the node with SIGTERM (--local), in place of a drain by an operator"`
	Size int           `help:"size of a text in bytes, 72 to 4096" default:"100"`
	// Token is the [Ops] Token of a running cluster's status node.
	Token string `name:"ops-token" help:"[Ops] Token of the status node of --ops, if it has one" env:"PARLEY_OPS_TOKEN"`
}

// before and after are how long the load runs before the drain and after its last goodbye.
func (f DrainFlags) before() time.Duration { return min(3*time.Second, f.Over/2) }
func (f DrainFlags) after() time.Duration  { return min(8*time.Second, f.Over+time.Second) }

func (f DrainFlags) load(seed uint64) (schedule.Load, error) {
	return schedule.Parse("poisson", f.Rate, f.before()+f.Over+f.after(), seed)
}

func (f DrainFlags) check(o Options) error {
	switch {
	case f.Over < time.Second || f.Over > 10*time.Minute:
		return errors.New("--over must be 1s to 10m")
	case f.Size < 72 || f.Size > 4096:
		return errors.New("--size must be 72 to 4096")
	case o.Local == 1 || o.Local == 0 && o.Nodes == 1:
		return errors.New("a drain needs two nodes or more")
	case f.Stop && o.Local == 0:
		return errors.New("--stop needs --local: only a process that this tool started is its to stop")
	case o.Fault != "":
		return errors.New("drain takes no --fault")
	}
	return nil
}

// Drain has a node send all its clients to other nodes while they chat.
func (l Lab) Drain(ctx context.Context, o Options, f DrainFlags) int {
	err := f.check(o)
	if err == nil {
		_, err = f.load(1)
	}
	if err != nil {
		return l.refuse(err)
	}
	o.KeepTo = 1
	v := verb{
		name: "drain", what: "native clients of a node that drains go on at other nodes, and chat meanwhile", users: 2000, text: f.Size,
		resume: true, reconnect: true, together: true,
	}
	if f.Stop {
		v.drain = f.Over * 10 / 8 // a node that stops spreads the goodbyes over eight tenths
	}
	v.do = func(ctx context.Context, whole *run) (err error) {
		r := &draining{run: whole, f: f}
		if r.api, err = r.operations(); err != nil {
			return setupError(err)
		}
		if err := r.logIn(ctx); err != nil {
			return err
		}
		if _, err := r.phase(ctx, step{name: "threads", Phase: swarm.Phase{Kind: "threads"}}); err != nil {
			return err
		}
		r.node = r.crew.Nodes()[0]
		if err := r.load(ctx); err != nil {
			return err
		}
		return r.verify(ctx)
	}
	return execute(ctx, l.options(o), v)
}

// draining is a run in which a node drains.
type draining struct {
	*run
	f    DrainFlags
	api  string // the operations listener through which the node is drained
	node string
}

// operations returns the operations listener through which a node is drained: of a status node, or of standalone.
func (r *draining) operations() (addr string, err error) {
	if r.f.Stop {
		return "", nil
	}
	if r.layout != nil {
		for _, n := range r.layout.Nodes {
			if strings.HasPrefix(n.Name, "status") || n.Name == "standalone" {
				return n.Ops, nil
			}
		}
	}
	for _, o := range r.Ops {
		if name, addr, ok := strings.Cut(o, "="); ok && strings.HasPrefix(name, "status") {
			return addr, nil
		}
	}
	return "", errors.New("a drain of a running cluster needs --ops status1=HOST:PORT")
}

// moving is what a node reports on clients that it sends away.
type moving struct {
	EndedMS  int64   `json:"ended_ms"`
	Told     int     `json:"told"`
	Moved    int     `json:"moved"`
	Missing  int     `json:"missing"`
	GapP50MS float64 `json:"gap_p50_ms"`
	GapP99MS float64 `json:"gap_p99_ms"`
	GapMaxMS float64 `json:"gap_max_ms"`
}

// load runs the load, drains the node in its course, and reports the result.
func (r *draining) load(ctx context.Context) error {
	f := &r.f
	load, err := f.load(r.Seed)
	if err != nil {
		return setupError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, load.For+time.Minute)
	defer cancel()
	var told *moving
	done := make(chan error, 1)
	go func() {
		var err error
		told, err = r.later(ctx)
		done <- err
	}()
	out, err := r.phase(ctx, step{name: "drain", Phase: swarm.Phase{Kind: "chat", Load: load, Patience: 20 * time.Second}, main: swarm.HAck, measured: true})
	if err != nil {
		cancel()
	}
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	moved, gap := int(out.Counters["moved"]-out.Counters["returned"]), out.Hist(swarm.HMove)
	r.rep.Figures["moved"], r.rep.Figures["told"] = float64(moved), float64(out.Counters["goodbyes"])
	r.rep.Figures["online"], r.wantAll = float64(r.crew.Live().Online), r.Users
	r.budget("clients moved", fmt.Sprintf("%d of %d", moved, r.Users), "all", moved == r.Users, fmt.Sprintf("%d were told where to go on, over %v", out.Counters["goodbyes"], f.Over))
	r.budget("gap of a client p99", seconds(gap.Quantile(.99)), "1 s", gap.Quantile(.99) <= int64(time.Second),
		fmt.Sprintf("from the goodbye to the next login: p50 %s, max %s", seconds(gap.Quantile(.5)), seconds(gap.Max())))
	if told != nil {
		r.headline("by the node's own report", fmt.Sprintf("%d of %d", told.Moved, told.Told), fmt.Sprintf("gap p50 %.0f ms, p99 %.0f ms, max %.0f ms", told.GapP50MS, told.GapP99MS, told.GapMaxMS))
	}
	r.headline("texts stored", fmt.Sprintf("%.0f/s", r.rep.Figures["rate"]), offeredNote(swarm.Phase{Load: load}))
	r.latencyLine("stored", out.Hist(swarm.HAck))
	return nil
}

func seconds(ns int64) string { return fmt.Sprintf("%.2f s", float64(ns)/1e9) }

// later drains the node, or stops it, in the course of the load. It returns the node's own report, if it can still be asked.
func (r *draining) later(ctx context.Context) (*moving, error) {
	select {
	case <-time.After(r.f.before()):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.rep.Marks = append(r.rep.Marks, report.Mark{At: time.Since(r.began).Seconds(), Text: "drain of " + r.node})
	r.screen.say("draining " + r.node)
	if r.f.Stop {
		return nil, r.layout.Do(ctx, local.Fault{What: "term", Node: r.node})
	}
	return r.drain(ctx)
}

// drain asks for a drain, and waits for the node's report on it.
func (r *draining) drain(ctx context.Context) (*moving, error) {
	f := &r.f
	at := "http://" + r.api + "/api/v1/nodes/" + url.PathEscape(r.node)
	pace := map[string]int64{"over_ms": f.Over.Milliseconds(), "rate": min(int64(2*float64(r.Users)/f.Over.Seconds())+500, 10_000)}
	if err := f.ask(ctx, http.MethodPost, at+"/drain", pace, &struct{}{}); err != nil {
		return nil, fmt.Errorf("drain of %s: %w", r.node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, f.Over+30*time.Second)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("drain of %s: no report: %w", r.node, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
		var n struct {
			Moving *moving `json:"moving"`
		}
		if err := f.ask(ctx, http.MethodGet, at, nil, &n); err == nil && n.Moving != nil && n.Moving.EndedMS != 0 {
			return n.Moving, nil
		}
	}
}

// ask makes a request to /api/v1.
func (f DrainFlags) ask(ctx context.Context, method, at string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := obs.NewRequest(ctx, method, at, f.Token, in)
	if err != nil {
		return err
	}
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(rsp.Body, 4<<20))
	if err != nil {
		return err
	}
	if rsp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", rsp.Status, bytes.TrimSpace(answer))
	}
	return json.Unmarshal(answer, out)
}
