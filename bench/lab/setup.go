package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"parley/bench/crew"
	"parley/bench/doctor"
	"parley/bench/local"
	"parley/bench/report"
	"parley/bench/watch"
)

// setUp checks the machine, finds or starts the cluster and gets a token for every user.
func (r *run) setUp(ctx context.Context) error {
	began := time.Now()
	if r.verb.cold && r.Local == 0 {
		return setupError(errors.New("--cold needs --local: it is the seeding that leaves the caches empty"))
	}
	want := doctor.Plan{Connections: r.Users + r.verb.guests + r.verb.beside, Beside: r.verb.beside, Processes: max(r.Workers, len(r.Agents), 1), Sources: 64}
	switch {
	case r.Standalone:
		want.Servers = 1 // a single process, however many nodes
	case r.Local > 0:
		want.Servers = r.Local
	}
	err := doctor.Check(want)
	if n := r.verb.crews; err == nil && n > 1 {
		// Each crew has its own server, but they share the generator's processes.
		want.Connections, want.Servers = r.Users*n, 0
		err = doctor.Check(want)
	}
	if err != nil {
		return setupError(err)
	}
	r.stageDone("doctor", began, "")
	began = time.Now()
	switch {
	case r.Standalone:
		r.layout, err = local.Standalone(ctx, r.Bin, r.Nodes, r.Users+r.verb.guests, r.screen)
	case r.Local > 0:
		r.layout, err = local.Cluster(ctx, local.Options{Bin: r.Bin, Chat: r.Local, Users: r.Users + r.verb.guests, Cold: r.verb.cold, Transports: r.transports, Drain: r.verb.drain, Faults: r.faults, Log: r.screen, Progress: r.screen.progress})
	}
	if err != nil {
		return setupError(err)
	}
	watched := []watch.Watched{{Name: "generator", Pid: os.Getpid}}
	if l := r.layout; l != nil {
		r.FirstUID, r.Status, r.Secret, r.Gate = l.FirstUID, l.Status, l.Secret, l.Gate
		if r.ca == nil {
			r.ca = l.CA
		}
		r.rep.Env.Layout = l.Name
		for _, n := range l.Nodes {
			watched = append(watched, watch.Watched{Name: n.Name, Ops: n.Ops, Pid: n.Proc.Pid})
		}
	} else {
		r.rep.Env.Layout = "a running cluster: " + r.Gate
		for _, o := range r.Ops {
			name, addr, ok := strings.Cut(o, "=")
			if !ok {
				name, addr = o, o
			}
			watched = append(watched, watch.Watched{Name: name, Ops: addr})
		}
	}
	r.stageDone("cluster", began, r.rep.Env.Layout)
	r.nodes = watch.WatchNodes(r.began, watched)
	if r.verb.crews > 0 {
		return nil
	}
	if err := r.openStores(ctx); err != nil {
		return setupError(err)
	}
	if len(r.transports) > 1 {
		r.turns, err = newTurns(ctx, r)
		return err
	}
	if err := r.seedRooms(ctx); err != nil {
		return setupError(err)
	}
	began = time.Now()
	if r.crew, err = r.generators.crew(ctx, r.spec()); err != nil {
		return setupError(err)
	}
	r.screen.say(fmt.Sprintf("getting %d tokens from the status node", r.Users))
	if err := r.crew.Prepare(ctx); err != nil {
		return setupError(err)
	}
	r.stageDone("tokens", began, "")
	return nil
}

// spec returns the fleet of the run.
func (r *run) spec() crew.Spec {
	return crew.Spec{
		FirstUID: r.FirstUID, Users: r.Users, Rooms: r.verb.rooms, Status: r.Status, Secret: r.Secret, Loops: r.Loops, Heartbeat: r.Heartbeat,
		Run: rand.Uint32() | 1, Seed: r.Seed, Cross: r.verb.cross, KeepTo: r.KeepTo, Together: r.verb.together, Resume: r.verb.resume, Reconnect: r.verb.reconnect, TextBytes: r.verb.text, Marks: r.verb.marks, Via: r.Via,
		Transport: r.transports[0], CA: r.ca,
	}
}

type setupFailure struct{ error }

func setupError(err error) error { return setupFailure{err} }

// breakThings executes the fault plan during a load that starts at from. The returned function waits for its end.
func (r *run) breakThings(ctx context.Context, from time.Time) func() error {
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		var errs []error
		for _, f := range r.faults {
			select {
			case <-time.After(time.Until(from.Add(f.At))):
			case <-ctx.Done():
				errs = append(errs, fmt.Errorf("fault %q was not reached: the load had ended", f))
				continue
			}
			now := time.Now()
			at := now.Sub(r.began).Seconds()
			r.screen.say(f.What + " " + f.Node)
			if err := r.layout.Do(ctx, f); err != nil {
				errs = append(errs, err)
				continue
			}
			r.broken = append(r.broken, broken{f, now})
			r.rep.Marks = append(r.rep.Marks, report.Mark{At: at, Text: f.What + " " + f.Node})
			if d := time.Since(r.began).Seconds() - at; d > .5 {
				r.rep.Marks = append(r.rep.Marks, report.Mark{At: at + d, Text: f.Node + " ready again"})
			}
		}
		done <- errors.Join(errs...)
	}()
	return func() error {
		select {
		case err := <-done:
			cancel()
			return err
		case <-time.After(time.Second):
			cancel()
			return <-done
		}
	}
}

// close stops everything.
func (r *run) close() {
	if r.crew != nil {
		r.crew.Close()
	}
	if r.nodes != nil {
		r.rep.Nodes, r.rep.Machine = r.nodes.Stop()
	}
	if r.db != nil {
		_ = r.db.Close() // it was only read
	}
	if r.layout != nil {
		for name, log := range r.layout.Logs() {
			lines := strings.Split(strings.TrimSpace(log), "\n")
			r.rep.Notes = append(r.rep.Notes, fmt.Sprintf("the log of %s speaks of an error: %s", name, lines[len(lines)-1]))
		}
		if err := r.layout.Close(); err != nil {
			r.rep.Notes = append(r.rep.Notes, "stopping the cluster: "+err.Error())
		}
	}
}
