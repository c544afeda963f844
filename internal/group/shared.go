package group

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"parley/internal/batch"
	"parley/internal/session"
)

// shared is what all parts of Groups share.
type shared struct {
	cfg     Config
	d       Deps
	log     *slog.Logger
	metrics *metrics
	began   time.Time
	index   *index

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// since returns the clock by which groups become empty.
func (s *shared) since() time.Duration { return time.Since(s.began) }

// tell sends a session a gap notice, unless the session is not Live yet: the notice would precede the answer to the
// login, after which the client asks anyway.
func (s *shared) tell(to *session.Session, thread, from int64) {
	if to.State() == session.Live && to.Gap(thread, from) {
		s.metrics.notices.Inc()
	}
}

func (s *shared) panicked(p *batch.Panic) {
	s.metrics.panics.Inc()
	s.log.Error("panic in a group's fan-out", "err", p.Value, "stack", string(p.Stack))
}
