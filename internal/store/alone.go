package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime/trace"
)

// A text that is alone in its batch would wait for four round trips to MySQL. A stored procedure does the same in one: it
// checks the fence, numbers the text, stores it and commits. At 500 texts per second that is 0.91 × the time of a text and
// 0.91 × the processor time of node and server (docs/PERFORMANCE.md).
//
// The procedure decides nothing. When it finds anything but the usual case, it leaves the transaction open, and attempt goes on in
// it with statements. The same happens where there is no procedure.

// alone stores the only text of a batch by the procedure and leaves the outcome in b.results. It reports false if it
// stored nothing; then the transaction is still open.
func (b *batch) alone(ctx context.Context, t *tx, row int) (stored bool, err error) {
	defer trace.StartRegion(ctx, "alone").End()
	m, now := &b.msgs[row], b.s.ms()
	b.results = append(b.results[:0], Appended{CreatedMS: now, MemberVer: m.MemberVer})
	b.fresh = append(b.fresh[:0], true)
	b.args = append(b.args[:0], b.node, b.boot, m.ThreadID, m.MemberVer, m.Sender, m.UniqueID, m.Content, m.Type, now)
	seq := &b.results[0].Seq
	if _, err = t.one(ctx, qAlone, b.args, seq); err != nil {
		if code, ok := b.s.code(err); ok && noProcedure(code) {
			b.s.alone.Store(false)
			return false, nil
		}
		if c, _ := classOf(err); c == classRow { // not all of it may be the text's fault
			return false, b.s.wrap(b.s.rollBack(ctx, t.w))
		}
		t.noteUnclear(err)
		return false, err
	}
	t.committed = *seq > 0
	if t.committed {
		b.s.m.alone.Inc()
	}
	return t.committed, nil
}

// prepareAlone creates the procedure if there is none, and tries it. Where that fails, texts are
// stored by statements, and the log says why.
func (s *Store) prepareAlone(ctx context.Context, log *slog.Logger) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err := s.inspect(ctx, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, qAloneCreate)
		if code, ok := s.db.code(err); err != nil && (!ok || code != procedureExists) {
			return err
		}
		// No node has this name: nothing is stored. The transaction ends the lock on the gap where it would be.
		try, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		var number int64
		err = try.QueryRowContext(ctx, qAlone.text[MySQL], "", "", 0, 0, 0, "", "", "", 0).Scan(&number)
		return errors.Join(err, try.Rollback())
	})
	if err == nil {
		s.db.alone.Store(true)
		return nil
	}
	code, ok := s.db.code(err)
	if !ok || s.db.classify(err) == classConn {
		return fmt.Errorf("store: prepare the procedure for single texts: %w", err)
	}
	todo := "see what the server answers, and restart the node when that is mended"
	if denied(code) {
		todo = "grant CREATE ROUTINE and EXECUTE to the node's user, and restart the node"
	}
	log.Warn("a text that comes alone takes four round trips to SQL instead of one: "+todo, "procedure", procedureName, "err", err)
	return nil
}
