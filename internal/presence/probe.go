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

// keyProbe is the key that write probes write.
const keyProbe = "parley_probe"

// probeAge is how long a successful write remains valid.
const probeAge = 5 * time.Second

// A WriteProbe reports whether Redis accepts writes. Ping does not tell: a full server, a replica, and a server whose
// disk fails still answer it. On a cluster the probe asks one of the masters. Use NewWriteProbe to make one.
type WriteProbe struct {
	conn *conn

	mu    sync.Mutex // guards the following, and serialises the writes
	wrote time.Time
}

// NewWriteProbe returns a probe that has not written yet.
func (p *Presence) NewWriteProbe() *WriteProbe { return &WriteProbe{conn: p.conn} }

// Unwritable means that Redis answers but refuses writes.
type Unwritable struct {
	Reason string // "out of memory", "read-only", "cannot save to disk", "too few replicas" or "refuses writes"
	Err    error
}

func (u *Unwritable) Error() string { return fmt.Sprintf("presence: %s: %v", u.Reason, u.Err) }
func (u *Unwritable) Unwrap() error { return u.Err }

// Public returns the error without confidential details.
func (u *Unwritable) Public() string { return u.Reason }

// Check returns an error if Redis does not answer, and an *Unwritable if it refuses writes. It writes at most once
// per probeAge.
func (w *WriteProbe) Check(ctx context.Context) error {
	if err := w.conn.ping(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.wrote) < probeAge {
		return nil
	}
	ctx, cancel := w.conn.bound(ctx)
	defer cancel()
	err := w.conn.rdb.Set(ctx, keyProbe, "1", time.Minute).Err()
	if err == nil {
		w.wrote = time.Now()
		return nil
	}
	if _, answered := errors.AsType[redis.Error](err); answered {
		return &Unwritable{Reason: unwritable(err.Error()), Err: err}
	}
	return fmt.Errorf("presence: write probe: %w", err)
}

// unwritable describes the error code at the start of an answer.
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
