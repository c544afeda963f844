package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Texts can be recalled and edited. Either is one transaction, which locks the thread's row before it reads what it decides by,
// changes the text, and appends a row that tells of it. That row holds no content: the text itself is only in its own row, so that a
// recall leaves it nowhere.

const (
	// MaxHidden is how many messages of one thread a user may hide.
	MaxHidden = 10000
	// MaxHide bounds the messages of one call of Hide.
	MaxHide = 100
)

var (
	qText = same(`SELECT sender_id,unique_id,content,status,created_ms,kind,type,edited_ms,edited_seq
		FROM chat_message WHERE thread_id=? AND seq=?`)
	qTextRecall = same("UPDATE chat_message SET content='',type='',status=1,edited_ms=0,edited_seq=? WHERE thread_id=? AND seq=?")
	qTextEdit   = same("UPDATE chat_message SET content=?,edited_ms=?,edited_seq=? WHERE thread_id=? AND seq=?")

	// The present content of texts, but for those that were recalled or that the user has hidden.
	qContents = sameList(`SELECT m.thread_id,m.seq,m.content,m.type,m.edited_ms,m.edited_seq FROM chat_message m
		LEFT JOIN hidden_message h ON h.user_id=? AND h.thread_id=m.thread_id AND h.seq=m.seq
		WHERE m.status=0 AND h.seq IS NULL AND (@)`, "m.thread_id=? AND m.seq=?", " OR ")

	qHidden      = sameList("@", "SELECT thread_id,seq FROM hidden_message WHERE user_id=? AND thread_id=? AND seq>? AND seq<=?", " UNION ALL ")
	qThreadSeq   = same("SELECT last_seq FROM chat_thread WHERE id=?")
	qHiddenAny   = same("SELECT 1 FROM hidden_message WHERE user_id=? LIMIT 1")
	qHiddenCount = same("SELECT COUNT(*) FROM hidden_message WHERE user_id=? AND thread_id=?")
	qHiddenOf    = sameList("SELECT seq FROM hidden_message WHERE user_id=? AND thread_id=? AND seq IN (@)", "?", ",")
)

// textEvent is the content of a row of KindRecall or KindEdit, as JSON: who changed which text.
type textEvent struct {
	Event string `json:"event"`
	By    int32  `json:"by"`
	MsgID int64  `json:"msg_id"`
}

// TextChange is what Recall or Edit did.
type TextChange struct {
	// Event is the row that tells of the change. Its Seq is 0 if there was nothing to do; its ThreadID is always set.
	Event Message
	// Target is the text as it is now.
	Target Message
	// Members are the users of a private thread; they are 0 in a group.
	Members [2]int32
	// Ver is the version of the thread's membership.
	Ver int32
}

// textCall says who wants to change which text.
type textCall struct {
	node, boot  string
	by          int32
	thread, seq int64
}

// textTx is a transaction that has locked the thread of a text.
type textTx struct {
	*tx
	last   int64
	ver    int32
	pair   [2]int32 // of a private thread
	may    bool     // write to the thread
	admin  bool     // or owner of the group
	target Message
	nowMS  int64
}

// Recall takes a text back: its content and type are gone. A user may recall its own text while that is younger than within and the
// user is a friend of the other member of a private thread, or a member of the group; the admins and the owner of a group may
// recall any text of it. Recalling a recalled text does nothing. It returns ErrNoText, ErrNotMember, ErrMayNotWrite, ErrNotAllowed,
// ErrTooLate, ErrThreadFull and ErrFenced.
func (s *Messages) Recall(ctx context.Context, node, boot string, by int32, thread, seq int64, within time.Duration) (TextChange, error) {
	c := textCall{node: node, boot: boot, by: by, thread: thread, seq: seq}
	done, err := s.change(ctx, c, KindRecall, func(ctx context.Context, x *textTx) (bool, error) {
		m := &x.target
		switch {
		case m.Sender != by && !x.admin:
			return false, ErrNotAllowed
		case m.Status == StatusRecalled:
			return false, nil
		case !x.admin && x.nowMS-m.CreatedMS > within.Milliseconds():
			return false, ErrTooLate
		}
		m.Content, m.Type, m.Status, m.EditedMS, m.EditedSeq = "", "", StatusRecalled, 0, x.last+1
		_, err := x.exec(ctx, qTextRecall, 1, m.EditedSeq, thread, seq)
		return true, err
	})
	if err != nil {
		return TextChange{}, fmt.Errorf("store: user %d recalls %d of thread %d: %w", by, seq, thread, err)
	}
	return done, nil
}

// Edit replaces the content of a user's own text that is younger than within, if the user may still write to the thread. To edit it to
// what it is does nothing. It returns ErrInvalid for a content that Append would refuse, and otherwise the errors of Recall.
func (s *Messages) Edit(ctx context.Context, node, boot string, by int32, thread, seq int64, content string, within time.Duration) (TextChange, error) {
	c := textCall{node: node, boot: boot, by: by, thread: thread, seq: seq}
	done, err := s.change(ctx, c, KindEdit, func(ctx context.Context, x *textTx) (bool, error) {
		m := &x.target
		switch {
		case len(content) > MaxContent || !utf8.ValidString(content):
			return false, ErrInvalid
		case m.Sender != by:
			return false, ErrNotAllowed
		case m.Status == StatusRecalled:
			return false, ErrNoText
		case !x.may:
			return false, ErrMayNotWrite
		case m.Content == content:
			return false, nil
		case x.nowMS-m.CreatedMS > within.Milliseconds():
			return false, ErrTooLate
		}
		m.Content, m.EditedMS, m.EditedSeq = content, x.nowMS, x.last+1
		_, err := x.exec(ctx, qTextEdit, 1, content, m.EditedMS, m.EditedSeq, thread, seq)
		return true, err
	})
	if err != nil {
		return TextChange{}, fmt.Errorf("store: user %d edits %d of thread %d: %w", by, seq, thread, err)
	}
	return done, nil
}

// change runs fn in a transaction that has checked the fence, locked the thread of c, made sure that c.by is a member of it,
// and read the text. fn reports whether it has changed the text.
func (s *Messages) change(ctx context.Context, c textCall, kind int8, fn func(context.Context, *textTx) (bool, error)) (TextChange, error) {
	uniqueID := newUniqueID()
	var done TextChange
	err := s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
		if err := t.checkFence(ctx, c.node, c.boot); err != nil {
			return err
		}
		x := &textTx{tx: t, nowMS: s.db.ms()}
		var id int64
		found, err := t.one(ctx, qThreadsLock, []any{c.thread}, &id, &x.last, &x.ver)
		if err == nil && !found {
			err = ErrNotMember
		}
		if err == nil && t.unclear {
			// Only now: with the thread locked nothing of an earlier attempt can still be under way.
			var m Message
			found, err = t.one(ctx, qMessageByID, []any{c.by, uniqueID}, &m.ThreadID, &m.Seq, &m.Content, &m.Status, &m.CreatedMS)
			if err == nil && found {
				return nil // done is of that attempt
			}
		}
		if err == nil {
			err = x.read(ctx, c)
		}
		if err != nil {
			return err
		}
		changed, err := fn(ctx, x)
		if err != nil {
			return err
		}
		done = TextChange{Event: Message{ThreadID: c.thread}, Target: x.target, Members: x.pair, Ver: x.ver}
		if changed {
			done.Event, err = x.tell(ctx, c, kind, uniqueID)
		}
		return err
	})
	if err == nil && done.Event.Seq > 0 {
		s.db.m.changed[kind].Inc()
	}
	return done, err
}

// read reads the rights of c.by in the locked thread, and the text.
func (x *textTx) read(ctx context.Context, c textCall) error {
	var a Access
	private := false
	if err := x.each(ctx, qAccess, 1, []any{c.thread}, func(rows *sql.Rows) (err error) {
		private = true
		_, a, err = scanAccess(rows)
		return err
	}); err != nil {
		return err
	}
	var right GroupRight
	switch {
	case private && c.by != a.User1 && c.by != a.User2:
		return ErrNotMember
	case private && !a.Friends:
		return ErrMayNotWrite
	case private:
		x.pair, x.may = [2]int32{a.User1, a.User2}, true
	default:
		key := GroupKey{c.thread, c.by}
		rights := make(map[GroupKey]GroupRight, 1)
		if err := x.each(ctx, qGroupRights, 1, []any{key.Thread, key.UID}, func(rows *sql.Rows) error {
			return scanRight(rows, rights)
		}); err != nil {
			return err
		}
		if right = rights[key]; !right.Present() {
			return ErrNotMember
		}
		x.may, x.admin = right.MayWrite(x.nowMS), right.Role >= RoleAdmin
	}
	m := &x.target
	m.ThreadID, m.Seq = c.thread, c.seq
	found, err := x.one(ctx, qText, []any{c.thread, c.seq},
		&m.Sender, &m.UniqueID, &m.Content, &m.Status, &m.CreatedMS, &m.Kind, &m.Type, &m.EditedMS, &m.EditedSeq)
	if err == nil && (!found || m.Kind != KindText || !private && !x.admin && !right.Reads(c.seq)) {
		err = ErrNoText
	}
	return err
}

// tell appends the row that tells of a change.
func (x *textTx) tell(ctx context.Context, c textCall, kind int8, uniqueID string) (Message, error) {
	if x.last >= maxSeq {
		return Message{}, ErrThreadFull
	}
	event := textEvent{Event: "recalled", By: c.by, MsgID: c.seq}
	if kind == KindEdit {
		event.Event = "edited"
	}
	content, err := json.Marshal(event)
	if err != nil {
		return Message{}, err
	}
	m := Message{
		ThreadID: c.thread, Seq: x.last + 1, Sender: c.by, UniqueID: uniqueID, Content: string(content), CreatedMS: x.nowMS, Kind: kind,
	}
	if err := x.putEvents(ctx, m); err != nil {
		return Message{}, err
	}
	if _, err = x.exec(ctx, qThreadsBump, 1, c.thread, m.Seq); err != nil {
		return Message{}, err
	}
	return m, x.touch(ctx, c.thread)
}

// ChangedText returns the number of the text of which a row tells, and false if the row tells of none.
func (m *Message) ChangedText() (seq int64, ok bool) {
	if m.Kind != KindRecall && m.Kind != KindEdit {
		return 0, false
	}
	var e textEvent
	if json.Unmarshal([]byte(m.Content), &e) != nil || e.MsgID < 1 {
		return 0, false
	}
	return e.MsgID, true
}

// TextID identifies a text.
type TextID struct{ Thread, Seq int64 }

// Contents reads texts as they are now: ThreadID, Seq, Content, Type, EditedMS and EditedSeq of each. Those that were
// recalled, and those that uid has hidden, are missing in the result.
func (s *Messages) Contents(ctx context.Context, uid int32, ids []TextID) (map[TextID]Message, error) {
	texts := make(map[TextID]Message, len(ids))
	for part := range slices.Chunk(ids, maxList) {
		n := padded(len(part))
		args := append(make([]any, 0, 1+2*n), uid)
		for i := range n {
			id := part[min(i, len(part)-1)]
			args = append(args, id.Thread, id.Seq)
		}
		if err := s.db.each(ctx, qContents, n, args, func(rows *sql.Rows) error {
			var m Message
			err := rows.Scan(&m.ThreadID, &m.Seq, &m.Content, &m.Type, &m.EditedMS, &m.EditedSeq)
			texts[TextID{m.ThreadID, m.Seq}] = m
			return err
		}); err != nil {
			return nil, fmt.Errorf("store: contents of %d texts: %w", len(ids), err)
		}
	}
	return texts, nil
}

// Hide hides messages of a thread, MaxHide at most, from one user, who may read them; who may is the caller's business. Hidden ones
// stay so. It returns ErrInvalid, ErrNotFound if there is no such user, ErrNoText, ErrTooManyHidden and ErrFenced.
func (s *Messages) Hide(ctx context.Context, node, boot string, uid int32, thread int64, seqs []int64) error {
	seqs = slices.Compact(slices.Sorted(slices.Values(seqs)))
	err := ErrInvalid
	if len(seqs) > 0 && len(seqs) <= MaxHide {
		err = s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error { return hide(ctx, t, node, boot, uid, thread, seqs) })
	}
	if err != nil {
		return fmt.Errorf("store: user %d hides %d messages of thread %d: %w", uid, len(seqs), thread, err)
	}
	return nil
}

func hide(ctx context.Context, t *tx, node, boot string, uid int32, thread int64, seqs []int64) error {
	if err := t.checkFence(ctx, node, boot); err != nil {
		return err
	}
	// The user's row makes one of two devices wait for the other, so that the bound holds.
	exist, err := t.lockAll(ctx, []int32{uid})
	if err != nil {
		return err
	}
	if !exist[uid] {
		return ErrNotFound
	}
	last := int64(0)
	if _, err := t.one(ctx, qThreadSeq, []any{thread}, &last); err != nil {
		return err
	}
	if seqs[0] < 1 || seqs[len(seqs)-1] > last {
		return ErrNoText
	}
	hidden := make(map[int64]bool)
	args := appendPadded([]any{uid, thread}, seqs)
	if err := t.each(ctx, qHiddenOf, len(args)-2, args, func(rows *sql.Rows) error {
		var seq int64
		err := rows.Scan(&seq)
		hidden[seq] = true
		return err
	}); err != nil {
		return err
	}
	var puts []any
	for _, seq := range seqs {
		if !hidden[seq] {
			puts = append(puts, uid, thread, seq)
		}
	}
	if len(puts) == 0 {
		return nil
	}
	n := 0
	if _, err := t.one(ctx, qHiddenCount, []any{uid, thread}, &n); err != nil {
		return err
	}
	if n+len(puts)/3 > MaxHidden {
		return ErrTooManyHidden
	}
	for len(puts) > 0 {
		n := insertShape(len(puts) / 3)
		if _, err := t.exec(ctx, qHiddenPut, n, puts[:3*n]...); err != nil {
			return err
		}
		puts = puts[3*n:]
	}
	return nil
}

// Hidden returns which messages of spans, each of another thread, a user has hidden: the numbers by thread, in ascending order.
func (s *Messages) Hidden(ctx context.Context, uid int32, spans []Span) (map[int64][]int64, error) {
	hidden := make(map[int64][]int64)
	for part := range slices.Chunk(spans, historyThreads) {
		args := make([]any, 0, 4*padded(len(part)))
		for i := range padded(len(part)) {
			var sp Span // the padding is of no thread
			if i < len(part) {
				sp = part[i]
			}
			args = append(args, uid, sp.Thread, sp.After, sp.Upto)
		}
		err := s.db.each(ctx, qHidden, len(args)/4, args, func(rows *sql.Rows) error {
			var thread, seq int64
			err := rows.Scan(&thread, &seq)
			hidden[thread] = append(hidden[thread], seq)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("store: what user %d has hidden of %d threads: %w", uid, len(spans), err)
		}
	}
	for _, seqs := range hidden {
		slices.Sort(seqs) // SQL promises no order
	}
	return hidden, nil
}

// HidesAny reports whether a user has hidden a message of any thread.
func (s *Messages) HidesAny(ctx context.Context, uid int32) (found bool, err error) {
	err = s.db.each(ctx, qHiddenAny, 1, []any{uid}, func(*sql.Rows) error {
		found = true
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("store: whether user %d has hidden messages: %w", uid, err)
	}
	return found, nil
}
