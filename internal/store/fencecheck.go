package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

const (
	qTryPut    = "INSERT INTO node_fence(node,boot) VALUES(?,'')"
	qTryShared = "SELECT boot FROM node_fence WHERE node=? LOCK IN SHARE MODE"
	qTryWrite  = "SELECT boot FROM node_fence WHERE node=? FOR UPDATE NOWAIT"
	qTryDelete = "DELETE FROM node_fence WHERE node=?"
)

// checkFenceHolds tries the fence as two nodes would: one transaction reads a row under a shared lock, and until it
// commits another connection must not get the row for writing. An engine where it does, or a proxy that sends the two to
// different writers, would let a node store texts after it was fenced off.
func (s *Store) checkFenceHolds(ctx context.Context) (err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	a, err := s.db.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("store: try the fence: %w", err)
	}
	defer a.Close()
	b, err := s.db.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("store: try the fence: %w", err)
	}
	defer b.Close()
	// A row of this call's own, under a name that no node can have.
	row := fmt.Sprintf("#try %d", s.db.now().UnixNano())
	if _, err := a.ExecContext(ctx, qTryPut, row); err != nil {
		return fmt.Errorf("store: try the fence: %w", err)
	}
	defer func() {
		if _, e := b.ExecContext(ctx, qTryDelete, row); e != nil {
			err = errors.Join(err, fmt.Errorf("store: try the fence: %w", e))
		}
	}()
	holds, err := s.sharedLockHolds(ctx, a, b, row)
	if err != nil {
		return fmt.Errorf("store: try the fence: %w", err)
	}
	if !holds {
		return fmt.Errorf("store: %w: the fence does not work on this server: its shared row locks do not block other writers until COMMIT, so a dead node could still store texts; use MariaDB or MySQL with one writer, or set FenceCheck = warn to start anyway", ErrSettings)
	}
	return nil
}

// sharedLockHolds reports whether a shared lock that a holds on the row keeps b from locking it for writing.
func (s *Store) sharedLockHolds(ctx context.Context, a, b *sql.Conn, row string) (holds bool, err error) {
	reader, err := a.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, reader.Rollback()) }()
	var boot string
	if err := reader.QueryRowContext(ctx, qTryShared, row).Scan(&boot); err != nil {
		return false, err
	}
	writer, err := b.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, writer.Rollback()) }()
	err = writer.QueryRowContext(ctx, qTryWrite, row).Scan(&boot)
	code, _ := s.db.code(err)
	switch {
	case err == nil, errors.Is(err, sql.ErrNoRows): // no row: the two are on different servers
		return false, nil
	case code == lockWaitTimeout, code == lockNowait:
		return true, nil
	default:
		return false, err
	}
}

// How MariaDB and MySQL say that NOWAIT would have had to wait.
const (
	lockWaitTimeout = 1205
	lockNowait      = 3572
)
