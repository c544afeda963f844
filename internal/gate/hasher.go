package gate

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"

	"parley/internal/slots"
)

// errHashBusy says that no hashing slot came free in time.
var errHashBusy = errors.New("hashing is busy")

// hasher does all password hashing of a gate. One hash takes 19 MiB and tens of milliseconds of one core, so few run at
// once and few callers wait, each for at most patience; the others are refused at once. Waiters are served in order. It is safe for concurrent use.
type hasher struct {
	params   hashParams
	slots    *slots.Slots
	patience time.Duration
	metrics  *metrics
}

// hashSlots are as many as cores unless cfg says otherwise.
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

// do runs f in a hashing slot. It returns errHashBusy when none came free, or the cause when ctx ended while waiting;
// f has not run then.
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

// refused counts why there was no slot.
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

// retryAfter is what a refused caller is told to wait: about the time the full queue takes.
func (h *hasher) retryAfter() time.Duration { return max(h.patience/2, 100*time.Millisecond) }

// hash returns the PHC string of passwd.
func (h *hasher) hash(ctx context.Context, passwd string) (string, error) {
	var out string
	err := h.do(ctx, func() {
		h.metrics.hashes.WithLabelValues("new").Inc()
		out = newPHC(h.params, passwd)
	})
	return out, err
}

// verdict is what checking a password came to.
type verdict struct {
	ok       bool
	upgraded string // a new PHC string for the row, "" when it is good as it is
	bad      error  // the row cannot be used; ok is false
}

// check holds passwd against stored, which may be "" for a user who does not exist. Each way costs one hash of the
// present parameters, so that the time tells nothing about the account; only a success may cost a second one.
func (h *hasher) check(ctx context.Context, stored, passwd string) (verdict, error) {
	var v verdict
	err := h.do(ctx, func() { v = h.checkNow(stored, passwd) })
	return v, err
}

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
	// A row of llfcchat's, or nobody. An empty row matches nothing.
	if stored != "" && subtle.ConstantTimeCompare([]byte(stored), []byte(passwd)) == 1 {
		count("new")
		return verdict{ok: true, upgraded: newPHC(h.params, passwd)}
	}
	count("dummy")
	burn(h.params, passwd)
	return verdict{}
}

// HashPassword returns what is stored for a password as a person types it, at the default cost. It takes about 30 ms of
// one core and 19 MiB, and is for tools that make users without a gate.
func HashPassword(password string) string {
	h := DefaultConfig().Hash
	return newPHC(hashParams{memoryKiB: uint32(h.MemoryKiB), passes: uint32(h.Passes), lanes: 1}, Transform(password))
}
