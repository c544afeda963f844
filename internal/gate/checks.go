package gate

import (
	"context"
	"sync"
)

// checks lets many requests with one account and password share one look at the password: clients that come back at once
// are no guesses. It is safe for concurrent use.
type checks struct {
	mu   sync.Mutex // guards the following
	open map[[32]byte]*check
}

// check is one look at a password.
type check struct {
	done   chan struct{} // closed when the following are set
	stored string
	err    error
	gone   bool // the request that looked was given up: err is its own
}

func newChecks() *checks { return &checks{open: make(map[[32]byte]*check)} }

// do returns what look returns, of this call or of one with the same key that is under way. ctx is the client's: if the
// client whose call it was hangs up, the next one looks. first reports whether it was this call that looked.
func (c *checks) do(ctx context.Context, key [32]byte, look func() (string, error)) (stored string, first bool, err error) {
	for {
		c.mu.Lock()
		at := c.open[key]
		if at == nil {
			at = &check{done: make(chan struct{})}
			c.open[key] = at
			c.mu.Unlock()
			c.run(ctx, key, at, look)
			return at.stored, true, at.err
		}
		c.mu.Unlock()
		select {
		case <-at.done:
		case <-ctx.Done():
			return "", false, context.Cause(ctx)
		}
		if !at.gone {
			return at.stored, false, at.err
		}
	}
}

func (c *checks) run(ctx context.Context, key [32]byte, at *check, look func() (string, error)) {
	at.gone = true // unless look returns
	defer func() {
		c.mu.Lock()
		delete(c.open, key)
		c.mu.Unlock()
		close(at.done)
	}()
	at.stored, at.err = look()
	at.gone = at.err != nil && ctx.Err() != nil
}
