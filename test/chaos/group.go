//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"

	"parley/client"
	"parley/internal/store"
)

// groupRow is a row of a group in SQL.
type groupRow struct {
	seq         int64
	sender      int32
	id, content string
	event       *store.Event // nil for a text
	kind        int8
	status      int32
	changed     int64 // number of the row that tells of the text's last change
	target      int64 // number of the text of which a recall or an edit tells
}

// readGroup reads the rows of a group in order.
func (l *Lab) readGroup(ctx context.Context, thread int64) (out []groupRow, err error) {
	rows, err := l.db.QueryContext(ctx, "SELECT seq, sender_id, unique_id, content, kind, status, edited_seq FROM chat_message WHERE thread_id = ? ORDER BY seq", thread)
	if err != nil {
		return nil, fmt.Errorf("read group %d: %w", thread, err)
	}
	defer rows.Close()
	for rows.Next() {
		var row groupRow
		if err := rows.Scan(&row.seq, &row.sender, &row.id, &row.content, &row.kind, &row.status, &row.changed); err != nil {
			return nil, fmt.Errorf("read group %d: %w", thread, err)
		}
		m := store.Message{Kind: row.kind, Content: row.content}
		row.target, _ = m.ChangedText()
		if row.kind == store.KindEvent {
			row.event = new(store.Event)
			if err := json.Unmarshal([]byte(row.content), row.event); err != nil {
				return nil, fmt.Errorf("event %d of group %d: %w", row.seq, thread, err)
			}
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// admits reports whether an event of a group makes a user a member; parts reports whether it ends the user's
// membership.
func admits(event string, by int32, uids []int32, uid int32) bool {
	switch event {
	case store.EventCreated, store.EventJoined:
		return by == uid || slices.Contains(uids, uid)
	case store.EventInvited:
		return slices.Contains(uids, uid)
	}
	return false
}

func parts(event string, by int32, uids []int32, uid int32) bool {
	switch event {
	case store.EventLeft:
		return by == uid
	case store.EventRemoved:
		return slices.Contains(uids, uid)
	case store.EventDissolved:
		return true
	}
	return false
}

// interval is a period of a user's membership in a group: from the event that starts it to the event that ends it,
// both included.
type interval struct{ first, last int64 }

// intervals returns the periods of a user's membership; the last one of a member has no end.
func intervals(rows []groupRow, uid int32) (out []interval) {
	member := false
	for _, row := range rows {
		switch e := row.event; {
		case e == nil:
		case !member && admits(e.Event, e.By, e.UIDs, uid):
			out = append(out, interval{row.seq, math.MaxInt64})
			member = true
		case member && parts(e.Event, e.By, e.UIDs, uid):
			out[len(out)-1].last = row.seq
			member = false
		}
	}
	return out
}

func (i interval) has(seq int64) bool { return i.first <= seq && seq <= i.last }

func within(list []interval, seq int64) bool {
	return slices.ContainsFunc(list, func(i interval) bool { return i.has(seq) })
}

// groupFaults counts violations in the rows of groups, and in what their members received.
type groupFaults struct {
	lost      int64 // acknowledged but not stored under that number
	strangers int64 // stored texts of users who were not members
	silenced  int64 // stored texts of muted members
	holes     int64
	missing   int64 // rows of a membership that the member did not receive
	outside   int64 // rows received by a user who was not a member at the time
	doubled   int64
	reordered int64
	changed   int64
	expected  int64 // rows that members should have received
	events    int64
	recalled  int64 // texts
	kept      int64 // recalled texts that are still there, and others that are not
	leaked    int64 // recalled texts whose content is somewhere else
	unedited  int64 // texts whose content is older than the last edit that was answered, or was never asked for
	views     int64 // texts that are not as stored after all changes that a member got
	log       func(format string, args ...any)
}

func (f *groupFaults) note(n *int64, format string, args ...any) {
	if *n++; *n <= 20 {
		f.log(format, args...)
	}
}

// judgeStored compares the rows of a group with the group's own events and with what senders were told. acked has the
// number of each text by its unique id.
func (f *groupFaults) judgeStored(thread int64, rows []groupRow, acked map[string]int64) {
	members, muted := make(map[int32]bool), make(map[int32]bool)
	stored := make(map[string]int64, len(rows))
	next := int64(1)
	for _, row := range rows {
		if row.seq != next {
			f.note(&f.holes, "group %d: row %d comes where %d is due", thread, row.seq, next)
		}
		next = row.seq + 1
		e := row.event
		if e == nil {
			stored[row.id] = row.seq // recalls and edits have ids of their own
			if !members[row.sender] {
				f.note(&f.strangers, "group %d: row %d is of user %d, who is no member", thread, row.seq, row.sender)
			}
			if muted[row.sender] && row.kind != store.KindRecall {
				f.note(&f.silenced, "group %d: row %d is of user %d, who is muted", thread, row.seq, row.sender)
			}
			continue
		}
		f.events++
		for _, uid := range append([]int32{e.By}, e.UIDs...) {
			switch {
			case admits(e.Event, e.By, e.UIDs, uid):
				members[uid] = true
			case parts(e.Event, e.By, e.UIDs, uid):
				delete(members, uid)
			}
		}
		if e.Event == store.EventMuted || e.Event == store.EventUnmuted {
			for _, uid := range e.UIDs {
				muted[uid] = e.Event == store.EventMuted
			}
		}
	}
	for id, seq := range acked {
		if stored[id] != seq {
			f.note(&f.lost, "group %d: text %s was acknowledged as %d and is stored as %d", thread, id, seq, stored[id])
		}
	}
}

// judgeMember compares what a user received of a group with the rows of the user's memberships.
func (f *groupFaults) judgeMember(thread int64, rows []groupRow, uid int32, got []client.Message) {
	at := make(map[int64]*groupRow, len(rows))
	for i := range rows {
		at[rows[i].seq] = &rows[i]
	}
	times := intervals(rows, uid)
	seen := make(map[int64]bool, len(got))
	last := int64(0)
	for _, m := range got {
		row := at[m.ID]
		switch {
		case seen[m.ID]:
			f.note(&f.doubled, "group %d: user %d got row %d twice", thread, uid, m.ID)
			continue
		case !within(times, m.ID):
			f.note(&f.outside, "group %d: user %d got row %d, its times are %v", thread, uid, m.ID, times)
		case m.ID < last:
			f.note(&f.reordered, "group %d: user %d got row %d after %d", thread, uid, m.ID, last)
		}
		seen[m.ID] = true
		last = max(last, m.ID)
		if row == nil || m.ThreadID != thread || m.Sender != row.sender || m.UniqueID != row.id || int8(m.Kind) != row.kind ||
			row.kind == store.KindText && !row.is(&m) || m.Target != row.target || (row.event != nil) != (m.Event != nil) {
			f.note(&f.changed, "group %d: user %d got %+v, stored is %+v", thread, uid, m, row)
		}
	}
	for _, row := range rows {
		if !within(times, row.seq) {
			continue
		}
		f.expected++
		if !seen[row.seq] {
			f.note(&f.missing, "group %d: user %d has not got row %d, its times are %v", thread, uid, row.seq, times)
		}
	}
}

// is reports whether a member may have been given the row so: a text that was changed may come as it was before, as it is, or
// as recalled.
func (row *groupRow) is(m *client.Message) bool {
	switch {
	case row.changed == 0:
		return m.Text == row.content && !m.Recalled
	case m.Recalled:
		return m.Text == ""
	}
	return versionOf(row.id, m.Text) >= 0
}

func (f *groupFaults) report(r *Report) {
	r.Note("events", f.events)
	r.Note("rows for members", f.expected)
	r.Zero("lost", f.lost)
	r.Zero("holes", f.holes)
	r.Zero("texts of others stored", f.strangers)
	r.Zero("texts of muted members stored", f.silenced)
	r.Zero("missing", f.missing)
	r.Zero("outside a membership", f.outside)
	r.Zero("doubled", f.doubled)
	r.Zero("reordered", f.reordered)
	r.Zero("changed", f.changed)
	r.Note("texts recalled", f.recalled)
	r.Zero("recalled and still there", f.kept)
	r.Zero("recalled and found elsewhere", f.leaked)
	r.Zero("edits lost", f.unedited)
	r.Zero("shown otherwise than stored", f.views)
}

// pushLog collects the pushes to a plain connection. Its event method is for client.Options.OnEvent.
type pushLog struct {
	mu      sync.Mutex // guards the following
	rows    map[int64][]int64
	highest map[int64]int64
}

func newPushLog() *pushLog {
	return &pushLog{rows: make(map[int64][]int64), highest: make(map[int64]int64)}
}

func (p *pushLog) event(ev client.Event) {
	t, ok := ev.(client.Texts)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range t.Messages {
		p.rows[m.ThreadID] = append(p.rows[m.ThreadID], m.ID)
		p.highest[m.ThreadID] = max(p.highest[m.ThreadID], m.ID)
	}
}

// reached reports whether a row with this number or a higher one was pushed.
func (p *pushLog) reached(thread, seq int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.highest[thread] >= seq
}

// take returns the numbers of a thread's rows that were pushed since the last call.
func (p *pushLog) take(thread int64) []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	rows := p.rows[thread]
	delete(p.rows, thread)
	return rows
}
