package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"runtime/trace"
	"slices"
	"time"
	"unicode/utf8"
)

// MaxContent is how many bytes of text one message may have.
const MaxContent = 65535

// MaxType is how many bytes the type of a message may have.
const MaxType = 32

const (
	maxSeq = math.MaxInt32 // the stock client keeps message ids in 31 bits

	// maxBatchBytes bounds the content of one transaction well below the smallest usual max_allowed_packet (16 MiB).
	maxBatchBytes = 4 << 20

	// maxPoison is how many rows the database may refuse in one call, without taking any, before it is the database
	// that is taken for broken and not the rows.
	maxPoison = 16
)

// NewMessage is a message to append. UniqueID is 1–64 bytes and names the message among all of its sender's: a message
// appended again with the same UniqueID is a resend and is stored once. Content is UTF-8 of at most MaxContent bytes, Type has
// at most MaxType and is "" for plain text.
//
// MemberVer is the Access.Ver or GroupRight.Ver under which the caller decided that Sender may write to the thread. While it is the
// thread's, the caller's word counts; under another version, and always for UnknownVer, Append decides itself.
type NewMessage struct {
	ThreadID          int64
	Sender, MemberVer int32
	UniqueID, Content string
	Type              string
}

// UnknownVer is no thread's version.
const UnknownVer int32 = -1

func (m *NewMessage) valid() bool {
	return m.UniqueID != "" && len(m.UniqueID) <= maxUnique && len(m.Content) <= MaxContent && len(m.Type) <= MaxType &&
		utf8.ValidString(m.UniqueID) && utf8.ValidString(m.Content)
}

// Appended is the fate of one message. If Err is nil the message is committed, as number Seq of its thread, at CreatedMS;
// Resent tells that an earlier message had its UniqueID, whose Seq and CreatedMS these are, and Changed that this one was recalled
// or edited since. If Err is not nil, Seq is 0.
// MemberVer is the version of the thread's membership that Append found; 0 if it did not get so far.
type Appended struct {
	Seq, CreatedMS int64
	MemberVer      int32
	Resent         bool
	Changed        bool
	Err            error
}

// Append stores msgs in the order given, each as the next of its thread, and says in out[i] what became of msgs[i]; out
// must be as long as msgs, and its old contents do not matter. It is meant for batches: up to 256 messages cost one
// transaction, which locks their threads. Batches of other goroutines and nodes that share no thread run beside it.
//
// A message alone can fail with ErrInvalid, ErrNotFound (no such thread), ErrMayNotWrite, ErrUniqueIDTaken, ErrThreadFull,
// or because the database refused it; the others are stored. When Append itself fails, its error stands in out for each
// message that is not known to be stored (others of the same call may be: a call can take several transactions, so look at
// out whatever the error is). It may be stored all the same, when the answer to a COMMIT was lost; appending it again, with the same
// UniqueID, is safe and tells.
//
// A sender whose right to write ended before the transaction locked the thread stores nothing, on whichever node; see
// NewMessage. A resend of what was stored before that is answered as any resend.
func (s *Messages) Append(ctx context.Context, node, boot string, msgs []NewMessage, out []Appended) error {
	if len(out) != len(msgs) {
		return fmt.Errorf("store: append: %d messages but %d results", len(msgs), len(out))
	}
	start := time.Now()
	ctx, cancel := bounded(ctx)
	defer cancel()
	b := batch{s: s.db, node: node, boot: boot, msgs: msgs, out: out}
	err := b.run(ctx)
	if err != nil {
		err = fmt.Errorf("store: append %d messages: %w", len(msgs), err)
		for i := range out {
			if out[i].Seq == 0 && out[i].Err == nil {
				out[i].Err = err
			}
		}
	}
	b.resolveRepeats()
	b.count()
	s.db.m.appendSeconds.Observe(time.Since(start).Seconds())
	return err
}

// batch is one call of Append.
type batch struct {
	s          *database
	node, boot string
	msgs       []NewMessage
	out        []Appended

	repeats        [][2]int // index of a message, and of the first in the batch with its sender and unique id
	stored, poison int      // rows taken and refused by the database so far

	// Reused from attempt to attempt.
	args    []any
	threads []threadRun
	results []Appended // by position in the transaction's rows
	fresh   []bool     // whether that row is to be inserted

	// writers are those who may write to groups, as read in this attempt; nil until a group is asked about.
	writers map[GroupKey]bool

	// mine is what attempts with an unclear COMMIT tried to store: found again, it is no resend.
	mine map[claim]bool
}

// claim is a message, by its index, in the place an attempt gave it; seq is 0 if the database was to number it.
type claim struct {
	row            int
	seq, createdMS int64
}

// threadRun is a thread of the batch and where its rows are.
type threadRun struct {
	id       int64
	from, to int // half-open range of rows
	found    bool
	last     int64
	ver      int32 // of its membership
	asked    bool  // access was read in this transaction
	private  bool  // as access says
	access   Access
	grown    bool // last is to be written
	quiet    bool // no row in this unit of time; see touch
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

// messageID is what makes a message the same as another.
type messageID struct {
	sender int32
	unique string
}

// run stores the batch, a transaction's worth at a time.
func (b *batch) run(ctx context.Context) error {
	rows := b.distinct()
	for len(rows) > 0 {
		n, bytes := 0, 0
		for n < len(rows) && n < maxList {
			bytes += len(b.msgs[rows[n]].Content)
			if n > 0 && bytes > maxBatchBytes {
				break
			}
			n++
		}
		if err := b.store(ctx, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// distinct returns the indices of the messages to store: valid, the first of its kind in the batch, ordered by thread
// and, within a thread, as given.
func (b *batch) distinct() []int {
	rows := make([]int, 0, len(b.msgs))
	seen := make(map[messageID]int, len(b.msgs))
	for i := range b.msgs {
		b.out[i] = Appended{}
		m := &b.msgs[i]
		if !m.valid() {
			b.out[i].Err = ErrInvalid
			continue
		}
		id := messageID{m.Sender, m.UniqueID}
		if first, ok := seen[id]; ok {
			b.repeats = append(b.repeats, [2]int{i, first})
			continue
		}
		seen[id] = i
		rows = append(rows, i)
	}
	slices.SortStableFunc(rows, func(x, y int) int { return cmp.Compare(b.msgs[x].ThreadID, b.msgs[y].ThreadID) })
	return rows
}

// store stores rows in one transaction or, if the database refuses one of them, in several, so that it fails alone.
func (b *batch) store(ctx context.Context, rows []int) error {
	b.results, b.fresh = b.results[:0], b.fresh[:0]
	alone := len(rows) == 1 && b.boot != "" && b.msgs[rows[0]].MemberVer != UnknownVer && b.s.alone.Load()
	err := b.s.transact(ctx, retryAll, func(ctx context.Context, t *tx) error {
		if alone {
			alone = false // once: statements find out what was in its way
			if stored, err := b.alone(ctx, t, rows[0]); stored || err != nil {
				return err
			}
		}
		return b.attempt(ctx, t, rows)
	})
	if err == nil {
		for i, row := range rows {
			b.out[row] = b.results[i]
		}
		b.stored += len(rows)
		return nil
	}
	c, ours := classOf(err)
	if !ours || (c != classRow && c != classDuplicate) {
		return err
	}
	if len(rows) == 1 {
		b.out[rows[0]].Err = fmt.Errorf("store: append to thread %d: %w", b.msgs[rows[0]].ThreadID, err)
		if b.poison++; b.stored == 0 && b.poison >= maxPoison {
			return err
		}
		return nil
	}
	b.s.m.bisected.Inc()
	half := len(rows) / 2
	if err := b.store(ctx, rows[:half]); err != nil {
		return err
	}
	return b.store(ctx, rows[half:])
}

// attempt is the transaction. It leaves its findings in b.results, which count only if it commits.
func (b *batch) attempt(ctx context.Context, t *tx, rows []int) error {
	if t.unclear {
		b.claim(rows)
	}
	if err := b.lock(ctx, t, rows); err != nil {
		return err
	}
	refused, err := b.authorise(ctx, t, rows)
	if err != nil {
		return err
	}
	var known map[messageID]storedMessage
	switch {
	case t.unclear || t.duplicate:
		// Only now: with the threads locked nothing of an earlier attempt can still be under way. The first attempt
		// goes without, because resends are rare and the unique key catches them.
		known, err = b.lookUp(ctx, t, rows)
	case len(refused) > 0:
		// They meet no unique key. Stored while their sender might write, they are resends.
		known, err = b.lookUp(ctx, t, refused)
	}
	if err != nil {
		return err
	}
	b.number(rows, known)
	if err := b.insert(ctx, t, rows); err != nil {
		return err
	}
	return b.bump(ctx, t)
}

// claim remembers what the attempt before this one numbered.
func (b *batch) claim(rows []int) {
	if b.mine == nil {
		b.mine = make(map[claim]bool)
	}
	for i, r := range b.results {
		if b.fresh[i] {
			b.mine[claim{rows[i], r.Seq, r.CreatedMS}] = true
		}
	}
}

// lock checks the fence, as checkFence does, and in the same round trip locks the threads of rows by ascending id and
// reads their last sequence numbers.
func (b *batch) lock(ctx context.Context, t *tx, rows []int) error {
	defer trace.StartRegion(ctx, "lock").End()
	b.threads = b.threads[:0]
	for i, row := range rows {
		id := b.msgs[row].ThreadID
		if n := len(b.threads); n > 0 && b.threads[n-1].id == id {
			b.threads[n-1].to = i + 1
			continue
		}
		b.threads = append(b.threads, threadRun{id: id, from: i, to: i + 1})
	}
	n := padded(len(b.threads))
	b.args = append(b.args[:0], b.boot, b.node)
	for i := range n {
		b.args = append(b.args, b.threads[min(i, len(b.threads)-1)].id)
	}
	mine := false
	var id, value, ver int64 // value: of the fence 1 if it is this boot's, of a thread its last number
	var quiet bool
	dest := []any{&id, &value, &ver, &quiet}
	err := t.each(ctx, qAppendLock, n, b.args, func(r *sql.Rows) error {
		if err := r.Scan(dest...); err != nil {
			return err
		}
		if id == 0 {
			mine = b.boot != "" && value == 1
			return nil
		}
		i, ok := slices.BinarySearchFunc(b.threads, id, func(t threadRun, id int64) int { return cmp.Compare(t.id, id) })
		if !ok {
			return fmt.Errorf("thread %d was not asked for", id)
		}
		th := &b.threads[i]
		th.found, th.last, th.ver, th.quiet = true, value, int32(ver), quiet
		return nil
	})
	if err == nil && !mine {
		err = ErrFenced
	}
	return err
}

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

// storedMessage is where a resent message is.
type storedMessage struct {
	thread, seq, createdMS int64
	changed                bool
}

// lookUp finds those of rows that are stored already.
func (b *batch) lookUp(ctx context.Context, t *tx, rows []int) (map[messageID]storedMessage, error) {
	n := padded(len(rows))
	b.args = b.args[:0]
	for i := range n {
		m := &b.msgs[rows[min(i, len(rows)-1)]]
		b.args = append(b.args, m.Sender, m.UniqueID)
	}
	known := make(map[messageID]storedMessage)
	err := t.each(ctx, qResends, n, b.args, func(r *sql.Rows) error {
		var id messageID
		var m storedMessage
		if err := r.Scan(&id.sender, &id.unique, &m.thread, &m.seq, &m.createdMS, &m.changed); err != nil {
			return err
		}
		known[id] = m
		return nil
	})
	return known, err
}

// number gives every row that is not known yet the next sequence number of its thread.
func (b *batch) number(rows []int, known map[messageID]storedMessage) {
	now := b.s.ms()
	b.results = slices.Grow(b.results[:0], len(rows))[:len(rows)]
	b.fresh = slices.Grow(b.fresh[:0], len(rows))[:len(rows)]
	for i := range b.threads {
		t := &b.threads[i]
		for j := t.from; j < t.to; j++ {
			m := &b.msgs[rows[j]]
			was, found := known[messageID{m.Sender, m.UniqueID}]
			b.fresh[j] = false
			switch {
			case found && was.thread == t.id:
				resent := !b.mine[claim{rows[j], was.seq, was.createdMS}] && !b.mine[claim{rows[j], 0, was.createdMS}]
				b.results[j] = Appended{Seq: was.seq, CreatedMS: was.createdMS, Resent: resent, Changed: was.changed}
			case found:
				b.results[j] = Appended{Err: ErrUniqueIDTaken}
			case !t.found:
				b.results[j] = Appended{Err: ErrNotFound}
			case b.refuses(t, m):
				b.results[j] = Appended{Err: ErrMayNotWrite}
			case t.last >= maxSeq:
				b.results[j] = Appended{Err: ErrThreadFull}
			default:
				t.last++
				t.grown = true
				b.results[j] = Appended{Seq: t.last, CreatedMS: now}
				b.fresh[j] = true
			}
			b.results[j].MemberVer = t.ver
		}
	}
}

// insert inserts the rows that number has numbered.
func (b *batch) insert(ctx context.Context, t *tx, rows []int) error {
	defer trace.StartRegion(ctx, "insert").End()
	q, columns := qMessagesPut, messageColumns
	if b.typed(rows) {
		q, columns = qTypedPut, longColumns
	}
	b.args = b.args[:0]
	for i, row := range rows {
		if !b.fresh[i] {
			continue
		}
		m, r := &b.msgs[row], &b.results[i]
		b.args = append(b.args, m.ThreadID, r.Seq, m.Sender, m.UniqueID, m.Content, r.CreatedMS)
		if columns == longColumns {
			b.args = append(b.args, m.Type)
		}
	}
	for args := b.args; len(args) > 0; {
		n := insertShape(len(args) / columns)
		if _, err := t.exec(ctx, q, n, args[:n*columns]...); err != nil {
			return err
		}
		args = args[n*columns:]
	}
	return nil
}

// typed reports whether one of rows is to be inserted with a type: a batch of plain texts pays nothing for that column.
func (b *batch) typed(rows []int) bool {
	for i, row := range rows {
		if b.fresh[i] && b.msgs[row].Type != "" {
			return true
		}
	}
	return false
}

// bump writes the new last sequence numbers.
func (b *batch) bump(ctx context.Context, t *tx) error {
	defer trace.StartRegion(ctx, "threads").End()
	b.args = b.args[:0]
	for _, th := range b.threads {
		if th.grown {
			b.args = append(b.args, th.id, th.last)
		}
	}
	n := len(b.args) / 2
	if n == 0 {
		return nil
	}
	for range padded(n) - n {
		b.args = append(b.args, b.args[2*n-2], b.args[2*n-1])
	}
	if _, err := t.exec(ctx, qThreadsBump, padded(n), b.args...); err != nil {
		return err
	}
	var quiet []int64
	for i := range b.threads {
		if th := &b.threads[i]; th.grown && th.quiet {
			quiet = append(quiet, th.id)
		}
	}
	return t.touch(ctx, quiet...)
}

// resolveRepeats answers the messages that the batch held more than once.
func (b *batch) resolveRepeats() {
	for _, r := range b.repeats {
		first := b.out[r[1]]
		switch {
		case first.Err == nil && b.msgs[r[0]].ThreadID != b.msgs[r[1]].ThreadID:
			b.out[r[0]] = Appended{Err: ErrUniqueIDTaken}
		case first.Err == nil:
			first.Resent = true
			b.out[r[0]] = first
		default:
			b.out[r[0]] = first
		}
	}
}

// count counts the results.
func (b *batch) count() {
	stored, resent, refused := 0, 0, 0
	for i := range b.out {
		switch {
		case b.out[i].Err != nil:
			refused++
		case b.out[i].Resent:
			resent++
		default:
			stored++
		}
	}
	b.s.m.stored.Add(float64(stored))
	b.s.m.resent.Add(float64(resent))
	b.s.m.refused.Add(float64(refused))
}
