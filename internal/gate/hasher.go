package gate

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"

	"parley/internal/slots"
)

// errHashBusy means that no hashing slot became free in time.
var errHashBusy = errors.New("hashing is busy")

// hasher does all password hashing of a gate. A hash takes 19 MiB and tens of milliseconds of one core, so only a few
// run at once. A few callers wait in order, each for at most patience; others are refused at once. It is safe for
// concurrent use.
type hasher struct {
	params   hashParams
	slots    *slots.Slots
	patience time.Duration
	metrics  *metrics
}

// hashSlots returns one slot per core unless cfg says otherwise.
func hashSlots(cfg Hash, cores int) *slots.Slots {
	parallel := cfg.Parallel
	if parallel <= 0 {
		parallel = cores
	}
	return slots.New(parallel, cfg.Waiting)
}

func newHasher(cfg Hash, free *slots.Slots, m *metrics) *hasher {
	return &hasher{
		params:   hashParams{memoryKiB: uint32(cfg.MemoryKiB), passes: uint32(cfg.Passes), lanes: 1},
		slots:    free,
		patience: cfg.Patience,
		metrics:  m,
	}
}

// do runs f in a hashing slot. If it returns an error, f has not run: errHashBusy if no slot became free, or the
// cause of ctx's end.
func (h *hasher) do(ctx context.Context, f func()) error {
	if err := h.slots.Take(ctx, h.patience); err != nil {
		return h.refused(err)
	}
	defer h.slots.Give()
	start := time.Now()
	f()
	h.metrics.hashSeconds.Observe(time.Since(start).Seconds())
	return nil
}

// refused counts and translates the error of a caller that got no slot.
func (h *hasher) refused(err error) error {
	switch err {
	case slots.ErrFull:
		h.metrics.hashRefused.WithLabelValues("queue").Inc()
	case slots.ErrLate:
		h.metrics.hashRefused.WithLabelValues("patience").Inc()
	default:
		h.metrics.hashRefused.WithLabelValues("gone").Inc()
		return err
	}
	return errHashBusy
}

// retryAfter returns the retry time for a refused caller: about the time that the full queue takes.
func (h *hasher) retryAfter() time.Duration { return max(h.patience/2, 100*time.Millisecond) }

// hash returns passwd as a PHC string.
func (h *hasher) hash(ctx context.Context, passwd string) (string, error) {
	var out string
	err := h.do(ctx, func() {
		h.metrics.hashes.WithLabelValues("new").Inc()
		out = newPHC(h.params, passwd)
	})
	return out, err
}

// verdict is the result of checking a password.
type verdict struct {
	ok       bool
	upgraded string // a new PHC string for the row; "" if none is needed
	bad      error  // the row is unusable; ok is false
}

// check compares passwd with stored, which may be "" for a user who does not exist. Every outcome costs one hash with
// the current parameters, so that the duration reveals nothing about the account; only a success may cost a second
// hash.
func (h *hasher) check(ctx context.Context, stored, passwd string) (verdict, error) {
	var v verdict
	err := h.do(ctx, func() { v = h.checkNow(stored, passwd) })
	return v, err
}

// checkNow compares in the caller's hashing slot. Every path does the work of one hash; see check.
func (h *hasher) checkNow(stored, passwd string) verdict {
	count := func(kind string) { h.metrics.hashes.WithLabelValues(kind).Inc() }
	if isPHC(stored) {
		parsed, err := parsePHC(stored)
		if err != nil {
			count("dummy")
			burn(h.params, passwd)
			return verdict{bad: err}
		}
		count("verify")
		v := verdict{ok: parsed.matches(passwd)}
		if v.ok && parsed.weaker(h.params) {
			count("new")
			v.upgraded = newPHC(h.params, passwd)
		}
		return v
	}
	// Either a row of llfcchat's or no user at all. An empty row matches nothing.
	if stored != "" && subtle.ConstantTimeCompare([]byte(stored), []byte(passwd)) == 1 {
		count("new")
		return verdict{ok: true, upgraded: newPHC(h.params, passwd)}
	}
	count("dummy")
	burn(h.params, passwd)
	return verdict{}
}

// HashPassword returns the stored form of an untransformed password at the default cost. It takes about 30 ms of one
// core and 19 MiB. It is for tools that create users without a gate.
func HashPassword(password string) string {
	h := DefaultConfig().Hash
	return newPHC(hashParams{memoryKiB: uint32(h.MemoryKiB), passes: uint32(h.Passes), lanes: 1}, Transform(password))
}
