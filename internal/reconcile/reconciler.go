package reconcile

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"parley/internal/presence"
	"parley/internal/session"
)

const (
	// reportGap is the time between two reports beyond which kicks may have been lost: Redis failed, or this node was
	// paused.
	reportGap = 3 * time.Second
	// retryPause is the wait before a failed comparison is repeated.
	retryPause = 500 * time.Millisecond
)

// Config says how often sessions are compared. See DefaultConfig.
type Config struct {
	Pass  time.Duration // time in which each session is compared once
	Hurry time.Duration // the same, after trouble
	// Grace is how long another session must hold a session's place before the session ends. It exceeds the duration
	// of a login, which gives the place back if its client has hung up.
	Grace time.Duration
	// Extend is the interval at which entries are kept from expiring; it is shorter than presence.SessionTTL.
	Extend time.Duration
}

// DefaultConfig returns the values that docs/GUARANTEES.md relies on. With 19,000 sessions they make 400 comparisons
// per second, or 2,400 after trouble.
func DefaultConfig() Config {
	return Config{Pass: 48 * time.Second, Hurry: 8 * time.Second, Grace: 6 * time.Second, Extend: 20 * time.Minute}
}

// Deps are the dependencies of a Reconciler.
type Deps struct {
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: registered nowhere
	Sessions *presence.Sessions
	Registry *session.Registry
	// Entry returns the entry that a live session should have in Redis.
	Entry func(*session.Session) presence.Session
	// End ends a session of this node and tells its client that it was replaced. It does nothing if there is no such
	// session.
	End func(uid int32, sid string)
	// Deleted is called for a user whose account was deleted; with 0, any accounts may have been.
	Deleted func(uid int32)
	// Release removes an ended session from Redis, in the background.
	Release func(presence.Location)
	// Missed is called for a live session that has its place in Redis back. Other nodes could not find it in the
	// meantime, so it may have missed texts.
	Missed func(*session.Session)
}

// A Reconciler compares the sessions of this node with Redis, one part of the registry at a time. Its methods are
// safe for concurrent use.
type Reconciler struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics metrics
	wake    chan struct{}

	// Owned by Run.
	part     int                            // the next part
	extended [session.Parts]time.Time       // when the entries of each part were last kept from expiring
	doubts   map[*session.Session]time.Time // sessions whose place another session holds, and since when
	lost     map[*session.Session]struct{}  // sessions missing in Redis, until they are restored
	failing  bool

	mu       sync.Mutex // guards the following
	hurried  int        // parts still to be compared in a hurry
	rewrite  int        // parts still to be written back without comparing
	reported time.Time  // time of the last successful report; zero: none yet
	trouble  bool       // a report has failed since then
	handled  presence.Kicks
}

type metrics struct {
	compared, restored, replaced, revoked, kicked, failures, hurries prometheus.Counter
}

// New returns a Reconciler; Run has to run with it.
func New(cfg Config, d Deps) *Reconciler {
	f := promauto.With(d.Metrics)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "parley_reconcile_" + name, Help: help})
	}
	ended := f.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_reconcile_sessions_ended_total",
		Help: "Sessions ended because of what Redis says, by reason: kicked (found in the node's mailbox), replaced (another session has the place), revoked (the user's tokens were revoked after the login).",
	}, []string{"reason"})
	return &Reconciler{
		cfg: cfg, deps: d, log: d.Log.With("pkg", "reconcile"), wake: make(chan struct{}, 1),
		part: rand.IntN(session.Parts), doubts: make(map[*session.Session]time.Time), lost: make(map[*session.Session]struct{}),
		metrics: metrics{
			compared: counter("sessions_compared_total", "Comparisons of a session with Redis."),
			restored: counter("sessions_restored_total", "Sessions written back because Redis had lost them."),
			kicked:   ended.WithLabelValues("kicked"), replaced: ended.WithLabelValues("replaced"), revoked: ended.WithLabelValues("revoked"),
			failures: counter("failures_total", "Failed comparisons of up to a 64th of the sessions; they are repeated."),
			hurries:  counter("hurries_total", "Times that all sessions were compared early because kicks or entries may have been lost."),
		},
	}
}

// Hurry has all sessions compared soon, because kicks or entries may have been lost.
func (r *Reconciler) Hurry() {
	r.mu.Lock()
	r.hurried = session.Parts + 1 // one more: the current part may have been read before the trouble
	r.mu.Unlock()
	r.metrics.hurries.Inc()
	r.wakeUp()
}

// Rewrite has all sessions written back at once, because Redis has lost its data.
func (r *Reconciler) Rewrite() {
	r.mu.Lock()
	r.rewrite = session.Parts + 1
	r.mu.Unlock()
	r.wakeUp()
}

func (r *Reconciler) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Handled returns the kicks that the next report removes from the node's mailbox.
func (r *Reconciler) Handled() presence.Kicks {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.handled
}

// Reported receives the outcome of a report, which reads the node's mailbox, and does what is left there. The
// kicks stay in Redis until the next report removes them: if this process dies first, the next one of the same node
// reads them again.
func (r *Reconciler) Reported(kicks presence.Kicks, err error) {
	if err != nil {
		r.mu.Lock()
		r.trouble = true
		r.mu.Unlock()
		return
	}
	now := time.Now()
	for _, k := range kicks.Sessions {
		if k.SID == "" {
			r.deps.Deleted(k.UID)
			continue
		}
		r.metrics.kicked.Inc()
		r.deps.End(k.UID, k.SID)
	}
	if kicks.Full {
		r.deps.Deleted(0)
	}
	r.mu.Lock()
	trouble := r.trouble || kicks.Full || !r.reported.IsZero() && now.Sub(r.reported) > reportGap
	r.reported, r.handled, r.trouble = now, kicks, false
	r.mu.Unlock()
	if trouble {
		r.Hurry()
	}
}

// Run compares sessions until ctx ends.
func (r *Reconciler) Run(ctx context.Context) {
	timer := time.NewTimer(r.cfg.Pass / session.Parts)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		timer.Reset(r.step(ctx))
	}
}

// step compares one part and the sessions in doubt, and returns the time to wait before the next step.
func (r *Reconciler) step(ctx context.Context) time.Duration {
	r.mu.Lock()
	rewrite := r.rewrite > 0
	r.mu.Unlock()
	err := r.visit(ctx, rewrite)
	if err == nil {
		err = r.settle(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			return retryPause
		}
		r.metrics.failures.Inc()
		if !r.failing {
			r.log.Warn("sessions not compared with Redis, retrying", "err", err)
		}
		r.failing = true
		return retryPause
	}
	r.part = (r.part + 1) % session.Parts
	if r.failing {
		r.failing = false
		r.log.Info("comparing sessions with Redis again")
		r.Hurry()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if rewrite {
		if r.rewrite--; r.rewrite == 0 {
			r.log.Info("sessions written back", "n", r.deps.Registry.Live())
		}
	} else {
		r.hurried = max(r.hurried-1, 0)
	}
	switch {
	case r.rewrite > 0:
		return 0
	case r.hurried > 0:
		return r.cfg.Hurry / session.Parts
	}
	return r.cfg.Pass / session.Parts
}

// visit compares the sessions of a part, or with rewrite writes them back without comparing.
func (r *Reconciler) visit(ctx context.Context, rewrite bool) error {
	var live []*session.Session
	r.deps.Registry.EachOf(r.part, func(s *session.Session) {
		if s.State() == session.Live {
			live = append(live, s)
		}
	})
	if rewrite {
		return r.restore(ctx, live)
	}
	now := time.Now()
	extend := now.Sub(r.extended[r.part]) >= r.cfg.Extend
	if err := r.compare(ctx, live, extend, func(s *session.Session) {
		if _, known := r.doubts[s]; !known {
			r.doubts[s] = now
		}
	}); err != nil {
		return err
	}
	if extend {
		r.extended[r.part] = now
	}
	return nil
}

// settle ends the sessions whose place another session has held for longer than a login takes.
func (r *Reconciler) settle(ctx context.Context) error {
	var due []*session.Session
	for s, since := range r.doubts {
		switch {
		case s.State() == session.Dead:
			delete(r.doubts, s)
		case time.Since(since) >= r.cfg.Grace:
			due = append(due, s)
		}
	}
	for s := range r.lost {
		if s.State() == session.Dead {
			delete(r.lost, s)
		}
	}
	return r.compare(ctx, due, false, func(s *session.Session) {
		r.end(s, "its place is another session's", r.metrics.replaced)
	})
}

// compare acts on the standing of each session in Redis. It calls replaced for a session whose place another one
// holds.
func (r *Reconciler) compare(ctx context.Context, sessions []*session.Session, extend bool, replaced func(*session.Session)) error {
	if len(sessions) == 0 {
		return nil
	}
	entries := make([]presence.Session, len(sessions))
	for i, s := range sessions {
		entries[i] = r.deps.Entry(s)
	}
	standing, err := r.deps.Sessions.Compare(ctx, entries, extend)
	if err != nil {
		return err
	}
	r.metrics.compared.Add(float64(len(sessions)))
	var missing []*session.Session
	for i, s := range sessions {
		switch standing[i] {
		case presence.StandingHeld:
			r.noteHeld(s)
		case presence.StandingMissing:
			r.lost[s] = struct{}{} // also if the answer to restore is lost
			missing = append(missing, s)
		case presence.StandingReplaced:
			replaced(s)
		case presence.StandingRevoked:
			r.end(s, "the user's tokens were revoked", r.metrics.revoked)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return r.restore(ctx, missing)
}

// restore writes sessions back. A session whose place another session took first is in doubt, and compared again
// later.
func (r *Reconciler) restore(ctx context.Context, sessions []*session.Session) error {
	locs := make([]presence.Location, len(sessions))
	for i, s := range sessions {
		locs[i] = r.deps.Entry(s).Location
	}
	lost, err := r.deps.Sessions.Restore(ctx, locs)
	if err != nil {
		return err
	}
	taken := make(map[string]bool, len(lost))
	for _, l := range lost {
		taken[l.SID] = true
	}
	now, n := time.Now(), 0
	for i, s := range sessions {
		_, doubted := r.doubts[s]
		switch {
		case s.State() != session.Live:
			// The session ended meanwhile. Its release may have come before the restore, which then has written the
			// entry back: release it once more.
			r.deps.Release(locs[i])
		case !taken[locs[i].SID]:
			r.noteHeld(s)
			n++
		case !doubted:
			r.doubts[s] = now
		}
	}
	r.metrics.restored.Add(float64(n))
	return nil
}

// noteHeld records that a session has its place in Redis.
func (r *Reconciler) noteHeld(s *session.Session) {
	_, lost := r.lost[s]
	_, doubted := r.doubts[s]
	if lost || doubted {
		delete(r.lost, s)
		delete(r.doubts, s)
		r.deps.Missed(s)
	}
}

func (r *Reconciler) end(s *session.Session, why string, count prometheus.Counter) {
	l := r.deps.Entry(s)
	r.log.Debug("session ended", "uid", l.UID, "sid", l.SID, "reason", why)
	delete(r.doubts, s)
	count.Inc()
	r.deps.End(l.UID, l.SID)
}
