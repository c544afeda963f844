package store

import (
	"context"
	"errors"
	"fmt"
)

// Fence says which process of a node may store.
type Fence struct{ db *database }

// The fence keeps a node that was declared dead from storing anything when it wakes: each append and approval reads the
// node's row under a shared lock, inside its transaction, and stores only if the row carries the boot id of this process.
// Fencing a boot writes the row, so it waits for transactions that have read it and is seen by all that come later.

var (
	qFenceRead = same("SELECT boot FROM node_fence WHERE node=?")
	qFence     = same("UPDATE node_fence SET boot='' WHERE node=? AND boot=?")
)

// maxName is the length of a node's name, and maxUnique that of boot and unique ids, in bytes.
const (
	maxName   = 255
	maxUnique = 64
)

// Take makes boot the only boot of node that may store. A node calls it for itself, after it took its lease and
// before its first login. boot is 1–64 bytes, node 1–255, else ErrInvalid.
func (s *Fence) Take(ctx context.Context, node, boot string) error {
	if node == "" || boot == "" || len(node) > maxName || len(boot) > maxUnique {
		return fmt.Errorf("store: take the fence of %q: %w", node, ErrInvalid)
	}
	if _, err := s.db.exec(ctx, qFenceTake, node, boot); err != nil {
		return fmt.Errorf("store: take the fence of %q: %w", node, err)
	}
	return nil
}

// Boot returns the boot of node that may store; "" if none may, because it was fenced off or never took its row.
func (s *Fence) Boot(ctx context.Context, node string) (boot string, err error) {
	err = s.db.one(ctx, qFenceRead, []any{node}, &boot)
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("store: read the fence of %q: %w", node, err)
	}
	return boot, nil
}

// Forbid forbids deadBoot of node to store anything more. When it returns nil, what that boot has stored is committed and
// visible, and nothing will follow. It is idempotent, and does nothing if node has another boot by now. It waits for
// transactions of that boot in progress: up to the session's lock time-out, three times.
func (s *Fence) Forbid(ctx context.Context, node, deadBoot string) error {
	// Three tries: each waits for the session's lock time-out, and a login waits for all of them.
	err := s.db.transact(ctx, retry{max: 2}, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, qFence, 1, node, deadBoot)
		return err
	})
	if err != nil {
		return fmt.Errorf("store: fence %q off: %w", node, err)
	}
	return nil
}

// checkFence reads node's row under a shared lock that lasts until the transaction ends.
func (t *tx) checkFence(ctx context.Context, node, boot string) error {
	var have string
	found, err := t.one(ctx, qFenceCheck, []any{node}, &have)
	if err != nil {
		return err
	}
	if !found || have != boot || boot == "" {
		return ErrFenced
	}
	return nil
}
