package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
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
	typed   bool       // one of these has a type; a batch of plain texts pays nothing for that column

	// writers are those who may write to groups, as read in this attempt; nil until a group is asked about.
	writers map[GroupKey]bool

	// mine is what attempts with an unclear COMMIT tried to store: found again, it is no resend.
	mine map[claim]bool
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
