package presence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// keyProbe is what write probes write.
const keyProbe = "parley_probe"

// probeAge is how long a successful write counts.
const probeAge = 5 * time.Second

// WriteProbe tells whether Redis takes writes, which Ping does not: a server that is full, a replica, and one whose disk
// fails still answer. On a cluster it asks one of the masters. Make it with NewWriteProbe.
type WriteProbe struct {
	p *Presence

	mu    sync.Mutex // guards the following, and lets one probe write at a time
	wrote time.Time
}

// NewWriteProbe returns a probe that has written nothing yet.
func (p *Presence) NewWriteProbe() *WriteProbe { return &WriteProbe{p: p} }

// Unwritable means that Redis answers but refuses to be written to.
type Unwritable struct {
	Reason string // "out of memory", "read-only", "cannot save to disk", "too few replicas" or "refuses writes"
	Err    error
}

func (u *Unwritable) Error() string { return fmt.Sprintf("presence: %s: %v", u.Reason, u.Err) }
func (u *Unwritable) Unwrap() error { return u.Err }

// Public is the error without anything that is not for everybody.
func (u *Unwritable) Public() string { return u.Reason }

// Check reports that Redis does not answer, or an *Unwritable.
func (w *WriteProbe) Check(ctx context.Context) error {
	if err := w.p.Ping(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.wrote) < probeAge {
		return nil
	}
	ctx, cancel := w.p.bound(ctx)
	defer cancel()
	err := w.p.rdb.Set(ctx, keyProbe, "1", time.Minute).Err()
	if err == nil {
		w.wrote = time.Now()
		return nil
	}
	if _, answered := errors.AsType[redis.Error](err); answered {
		return &Unwritable{Reason: unwritable(err.Error()), Err: err}
	}
	return fmt.Errorf("presence: write probe: %w", err)
}

// unwritable puts the first word of an answer into words.
func unwritable(answer string) string {
	code, _, _ := strings.Cut(answer, " ")
	switch code {
	case "OOM":
		return "out of memory"
	case "READONLY":
		return "read-only"
	case "MISCONF":
		return "cannot save to disk"
	case "NOREPLICAS":
		return "too few replicas"
	case "NOAUTH", "NOPERM", "WRONGPASS":
		return "auth"
	}
	return "refuses writes"
}
