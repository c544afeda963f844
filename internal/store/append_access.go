package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
)

// authorise reads who may write to those threads whose membership is not of the version that the caller knew, and returns
// the rows that are to be refused. With the threads locked the answer stays true until the transaction ends: every change of
// it locks the thread. It costs nothing while the versions agree.
func (b *batch) authorise(ctx context.Context, t *tx, rows []int) (refused []int, err error) {
	n := 0
	b.args = b.args[:0]
	for i := range b.threads {
		th := &b.threads[i]
		for j := th.from; j < th.to && th.found && !th.asked; j++ {
			th.asked = b.msgs[rows[j]].MemberVer != th.ver
		}
		if th.asked {
			b.args = append(b.args, th.id)
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	b.s.m.rechecked.Add(float64(n))
	for range padded(n) - n {
		b.args = append(b.args, b.args[n-1])
	}
	err = t.each(ctx, qAccess, padded(n), b.args, func(r *sql.Rows) error {
		id, a, err := scanAccess(r)
		if err != nil {
			return err
		}
		i, ok := slices.BinarySearchFunc(b.threads, id, func(t threadRun, id int64) int { return cmp.Compare(t.id, id) })
		if ok {
			b.threads[i].access, b.threads[i].private = a, true
		}
		return nil
	})
	if err == nil {
		err = b.authoriseGroups(ctx, t, rows)
	}
	for i := range b.threads {
		th := &b.threads[i]
		for j := th.from; j < th.to && th.asked; j++ {
			if b.refuses(th, &b.msgs[rows[j]]) {
				refused = append(refused, rows[j])
			}
		}
	}
	return refused, err
}

// authoriseGroups is authorise for the threads that are not private: it reads the rights of the senders themselves.
func (b *batch) authoriseGroups(ctx context.Context, t *tx, rows []int) error {
	b.writers = nil
	var keys []GroupKey
	for i := range b.threads {
		th := &b.threads[i]
		for j := th.from; j < th.to && th.asked && !th.private; j++ {
			if m := &b.msgs[rows[j]]; m.MemberVer != th.ver {
				keys = append(keys, GroupKey{th.id, m.Sender})
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	b.args = groupArgs(b.args[:0], keys)
	rights := make(map[GroupKey]GroupRight, len(keys))
	err := t.each(ctx, qGroupRights, len(b.args)/2, b.args, func(r *sql.Rows) error { return scanRight(r, rights) })
	now := b.s.ms()
	b.writers = make(map[GroupKey]bool, len(rights))
	for key, r := range rights {
		b.writers[key] = r.MayWrite(now)
	}
	return err
}

// refuses reports whether m's sender may not write to t, its thread.
func (b *batch) refuses(t *threadRun, m *NewMessage) bool {
	switch {
	case m.MemberVer == t.ver:
		return false
	case t.private:
		return !t.access.MayWrite(m.Sender)
	}
	return !b.writers[GroupKey{t.id, m.Sender}]
}
