// Package operate answers operators of a chat node: it shows its figures and sessions, moves its clients to other nodes, and
// ends sessions.
package operate

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/ending"
	"parley/internal/moving"
	"parley/internal/ops"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
	"parley/kitex_gen/message"
)

// Deps is what an Operator works with.
type Deps struct {
	Log      *slog.Logger
	Context  context.Context // of movings; ends with the node
	Node     string
	Version  string
	Started  time.Time
	Metrics  prometheus.Gatherer // of this node alone
	Limits   map[string]string   // as Figures shows them
	Registry *session.Registry
	Lease    Lease
	Ender    *ending.Ender
	Mover    *moving.Mover
	// Logout takes a session out of Redis, with the resume tickets of its device.
	Logout func(ctx context.Context, l presence.Location) error
	// Nodes returns what is known of all nodes.
	Nodes func() []presence.Node
	// Connections returns how many connections there are.
	Connections func() int
	// Over is how long a drain takes if the operator does not say.
	Over time.Duration
}

// Lease is the node's place in the cluster; *membership.Member is one.
type Lease interface {
	Boot() string
	Draining() bool
	SetDraining(ctx context.Context, draining bool)
}

// Operator implements ops.Node. Its methods are safe for concurrent use.
type Operator struct {
	d Deps

	mu       sync.Mutex // held while Lease and Mover are changed together
	stopping bool
}

var _ ops.Node = (*Operator)(nil)

// New returns an Operator.
func New(d Deps) *Operator { return &Operator{d: d} }

const (
	// floor is how many clients a second leave at least: a few need no long time.
	floor = 50
	// patience is how long clients that were told to go are waited for.
	patience = 10 * time.Second
	maxSlow  = 10
)

// Serve answers NodeService.Operate.
func (o *Operator) Serve(ctx context.Context, req *message.OperateReq) *message.OperateRsp {
	return ops.Serve(ctx, o.d.Log, o, req)
}

// Figures implements ops.Node.
func (o *Operator) Figures(context.Context) (ops.Figures, error) {
	f := ops.Figures{
		Node: o.d.Node, Boot: o.d.Lease.Boot(), Version: o.d.Version, State: o.state(),
		StartedMS: o.d.Started.UnixMilli(), AtMS: time.Now().UnixMilli(),
		Connections: o.d.Connections(), Limits: o.d.Limits, Moving: o.d.Mover.Report(),
	}
	o.d.Registry.Each(func(s *session.Session) {
		if s.State() != session.Live {
			return
		}
		f.Sessions++
		if s.Native() {
			f.Native++
		}
		if s.Queued() > 0 {
			f.Slow = append(f.Slow, o.show(s))
		}
	})
	slices.SortFunc(f.Slow, func(a, b ops.Session) int { return cmp.Compare(b.Queued, a.Queued) })
	f.Slow = f.Slow[:min(len(f.Slow), maxSlow)]
	if err := f.Read(o.d.Metrics); err != nil {
		return f, fmt.Errorf("operate: figures: %w", err)
	}
	return f, nil
}

func (o *Operator) state() string {
	switch {
	case !o.d.Lease.Draining():
		return ops.StateOpen
	case o.d.Mover.Busy():
		return ops.StateDraining
	}
	return ops.StateDrained
}

func (o *Operator) show(s *session.Session) ops.Session {
	return ops.Session{
		Node: o.d.Node, UID: s.UID(), Device: s.Device(), SID: s.SID().String(), Native: s.Native(),
		SinceMS: s.Began().UnixMilli(), SeenMS: s.LastSeen().UnixMilli(), Queued: s.Queued(),
	}
}

// Sessions implements ops.Node. The pages are by part of the registry, and by user and session in each: a session that lives
// all the time is on exactly one page.
func (o *Operator) Sessions(_ context.Context, q ops.SessionQuery) (ops.SessionPage, error) {
	limit := q.Limit
	if limit <= 0 || limit > ops.MaxSessions {
		limit = ops.MaxSessions
	}
	page := ops.SessionPage{Sessions: []ops.Session{}}
	if q.UID != 0 {
		for _, s := range o.live(q.UID) {
			page.Sessions = append(page.Sessions, o.show(s))
		}
		return page, nil
	}
	at, err := parseCursor(q.Cursor)
	if err != nil {
		return page, err
	}
	for ; at.part < session.Parts; at = (cursor{part: at.part + 1}) {
		var list []*session.Session
		o.d.Registry.EachOf(at.part, func(s *session.Session) {
			if s.State() == session.Live && at.before(s) {
				list = append(list, s)
			}
		})
		slices.SortFunc(list, func(a, b *session.Session) int {
			return cmp.Or(cmp.Compare(a.UID(), b.UID()), cmp.Compare(a.SID(), b.SID()))
		})
		for _, s := range list {
			if len(page.Sessions) == limit {
				page.Cursor = at.String()
				return page, nil
			}
			page.Sessions = append(page.Sessions, o.show(s))
			at.uid, at.sid = s.UID(), s.SID()
		}
	}
	return page, nil
}

// cursor is the last session of a page.
type cursor struct {
	part int
	uid  int32
	sid  session.SID
}

func (c cursor) before(s *session.Session) bool {
	return c.uid < s.UID() || c.uid == s.UID() && c.sid < s.SID()
}

func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%d.%s", c.part, c.uid, c.sid))
}

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	bad := ops.Refusef(wire.CodeBadRequest, "malformed cursor")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.Split(string(raw), ".")
	if err != nil || len(parts) != 3 {
		return c, bad
	}
	part, err1 := strconv.ParseUint(parts[0], 10, 16)
	uid, err2 := strconv.ParseInt(parts[1], 10, 32)
	sid, ok := session.ParseSID(parts[2])
	if err1 != nil || err2 != nil || !ok {
		return c, bad
	}
	return cursor{part: int(part), uid: int32(uid), sid: sid}, nil
}

// live returns the live sessions of a user.
func (o *Operator) live(uid int32) []*session.Session {
	list, _ := o.d.Registry.Find(nil, &session.Push{To: uid})
	return list
}

// plan turns a Pace into a Plan.
func (o *Operator) plan(reason string, p ops.Pace) (moving.Plan, error) {
	over := o.d.Over
	if p.OverMS != 0 {
		over = time.Duration(p.OverMS) * time.Millisecond
	}
	if p.OverMS < 0 || over > ops.MaxOver || p.Rate < 0 || p.Rate > ops.MaxRate {
		return moving.Plan{}, ops.Refusef(wire.CodeBadRequest, "a moving takes at most %v and %d clients per second", ops.MaxOver, ops.MaxRate)
	}
	return moving.Plan{Reason: reason, Over: over, Floor: floor, Rate: cmp.Or(p.Rate, ops.DefaultRate), Patience: patience}, nil
}

// Drain implements ops.Node.
func (o *Operator) Drain(ctx context.Context, p ops.Pace) error {
	plan, err := o.plan("drain", p)
	if err != nil {
		return err
	}
	if !o.others(func(string) bool { return true }) {
		return ops.Refusef(wire.CodeUnavailable, "no other node takes logins")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopping {
		return ops.Refusef(wire.CodeUnavailable, "the node is stopping")
	}
	o.d.Log.Info("drain requested", "dur", plan.Over, "rate", plan.Rate)
	o.d.Lease.SetDraining(ctx, true)
	o.d.Mover.Start(o.d.Context, plan)
	return nil
}

// Undrain implements ops.Node.
func (o *Operator) Undrain(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopping {
		return ops.Refusef(wire.CodeUnavailable, "the node is stopping")
	}
	if o.d.Lease.Draining() {
		o.d.Log.Info("drain ended")
		o.d.Mover.Stop()
	}
	o.d.Lease.SetDraining(ctx, false)
	return nil
}

// Stopping says that the process ends: from now on the node drains for good, at the caller's pace.
func (o *Operator) Stopping(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopping = true
	o.d.Lease.SetDraining(ctx, true)
}

// Move implements ops.Node.
func (o *Operator) Move(_ context.Context, m ops.Move) error {
	plan, err := o.plan("rebalance", m.Pace)
	if err != nil {
		return err
	}
	for name, n := range m.To {
		if n < 0 || n > 0 && !o.others(func(open string) bool { return open == name }) {
			return ops.Refusef(wire.CodeUnavailable, "node %q takes no logins", name)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopping || o.d.Lease.Draining() || o.d.Mover.Busy() {
		return ops.Refusef(wire.CodeUnavailable, "clients are being moved already")
	}
	plan.To = m.To
	o.d.Mover.Start(o.d.Context, plan)
	return nil
}

// others reports whether another node that takes logins is one that matches.
func (o *Operator) others(matches func(name string) bool) bool {
	return slices.ContainsFunc(o.d.Nodes(), func(n presence.Node) bool {
		return n.Open() && n.Name != o.d.Node && matches(n.Name)
	})
}

// Kick implements ops.Node. The resume tickets go first, so that no session that is ended here comes back by itself.
func (o *Operator) Kick(ctx context.Context, k ops.Kick) (n int, err error) {
	if k.UID <= 0 {
		return 0, ops.Refusef(wire.CodeBadRequest, "a kick needs a user")
	}
	for _, s := range o.live(k.UID) {
		if k.SID != "" && k.SID != s.SID().String() || k.Device != nil && *k.Device != s.Device() {
			continue
		}
		if err := o.d.Logout(ctx, o.d.Ender.Location(s)); err != nil {
			return n, fmt.Errorf("operate: kick: %w", err)
		}
		if o.d.Ender.Goodbye(s, wire.CodeNotAllowed, "ended by the operator", 0) {
			n++
		}
	}
	return n, nil
}
