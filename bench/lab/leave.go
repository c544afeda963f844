package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"parley/bench/report"
	"parley/bench/seed"
	"parley/bench/swarm"
)

// leavePatience is how long a cluster may take to forget users who have left. Normally that takes a second, because
// nodes write once a second. But a killed node counts as alive until its lease of ten seconds lapses, and closing
// very many connections takes time.
func leavePatience(users int) time.Duration {
	return 30*time.Second + time.Duration(users)*100*time.Microsecond
}

// ending is a run that has done its verb.
type ending struct{ *run }

// tearDown ends all sessions and checks that the cluster forgets them.
func (r ending) tearDown() {
	if r.crew == nil {
		return
	}
	r.rep.Self = r.crew.Self()
	began := time.Now()
	patience := leavePatience(r.Users)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience+15*time.Second)
	defer cancel()
	r.troubles(ctx) // before the sessions end
	if _, err := r.crew.Run(ctx, swarm.Phase{Kind: "close"}); err != nil {
		r.rep.Notes = append(r.rep.Notes, "closing the sessions: "+err.Error())
	}
	gone := time.Now()
	note := "not checked: no operations listener is known"
	left, known := report.Left{}, false
	for r.nodes != nil {
		if left.NodeSessions, known = r.nodeSessions(ctx); !known || left.NodeSessions == 0 || time.Since(gone) > patience {
			break
		}
		time.Sleep(100*time.Millisecond + time.Duration(len(r.nodes.Latest()))*10*time.Millisecond) // each request takes the nodes some time
	}
	if known {
		note = "all sessions gone from the nodes"
		if left.NodeSessions > 0 {
			note = fmt.Sprintf("%d sessions still on the nodes", left.NodeSessions)
		}
		if r.layout == nil {
			left.NodeSessions = 0 // on an existing cluster these may be other users' sessions
		}
	}
	if r.db != nil {
		r.askRedis(ctx, gone, &left)
	}
	if left.Seconds = time.Since(gone).Seconds(); known || left.Redis {
		r.rep.Left = &left
	}
	r.stageDone("drain", began, note)
}

// troubles reports what the nodes refused, dropped, repeated or lost during the run.
func (r ending) troubles(ctx context.Context) {
	if r.nodes == nil {
		return
	}
	r.nodes.Look(ctx)
	seen := r.nodes.Troubles()
	t := report.Table{
		Title: "what the nodes count as trouble", Header: []string{"metric", "all nodes"},
		Note: "from the first look at the nodes to the last, before the users left; each is explained where the node describes its metrics",
	}
	for _, series := range slices.Sorted(maps.Keys(seen)) {
		t.Rows = append(t.Rows, []string{series, fmt.Sprintf("%.0f", seen[series])})
	}
	if len(t.Rows) > 0 {
		r.rep.Tables = append(r.rep.Tables, t)
	}
}

// nodeSessions adds up the numbers of sessions that the nodes report.
func (r ending) nodeSessions(ctx context.Context) (n int, known bool) {
	r.nodes.Look(ctx)
	for _, s := range r.nodes.Latest() {
		n += int(s.Sessions)
		known = known || strings.HasPrefix(s.Name, "chat") || s.Name == "standalone" || len(r.Ops) > 0
	}
	return n, known
}

// askRedis waits until Redis holds nothing of the run's users any more.
func (r ending) askRedis(ctx context.Context, gone time.Time, left *report.Left) {
	uids := make([]int32, r.Users)
	for i := range uids {
		uids[i] = r.FirstUID + int32(i)
	}
	var l seed.Left
	for {
		var err error
		if l, err = r.db.Left(ctx, uids); err != nil {
			r.unasked = fmt.Errorf("what is left in Redis is not known: %w", err)
			return
		}
		if r.layout == nil {
			l.Counted = 0 // others may be logged in
		}
		if !r.tolerate && r.layout != nil { // no node was stopped, so no entry may look like that of a dead node
			l.Sessions, l.Dead = l.Sessions+l.Dead, 0
		}
		if l.Sessions+l.Names == 0 && l.Counted == 0 || time.Since(gone) > leavePatience(r.Users) {
			break
		}
		uids = l.UIDs // users who have left stay away
		time.Sleep(200 * time.Millisecond)
	}
	left.Redis, left.Sessions, left.Names, left.Counted, left.Dead, left.Example = true, l.Sessions, l.Names, l.Counted, l.Dead, l.Example
	if left.Wrong() == 0 {
		left.Example = ""
	}
}
