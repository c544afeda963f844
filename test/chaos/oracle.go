//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"parley/bench/ledger"
	"parley/client"
)

// Oracle records each text that was sent, what its sender was told, what the other member of the thread received, and
// what SQL holds. It is safe for concurrent use.
type Oracle struct {
	mu      sync.Mutex // guards the following
	book    *ledger.Book
	sides   map[int32]int // by sender
	threads []int64
	ids     map[string]sentText // by unique id
	acks    []latency
	stored  map[int32]uint32 // by sender: counter of the latest stored text, plus one
	swapped int64            // texts stored before an earlier text of the same sender
}

type sentText struct {
	side    int
	counter uint32
	at      time.Time
}

// latency is when a text was acknowledged, and how long that took.
type latency struct {
	at   time.Time
	took time.Duration
}

func newOracle(w *World) *Oracle {
	return &Oracle{
		book: ledger.New(uint32(w.Rand.Uint64())), sides: make(map[int32]int), ids: make(map[string]sentText), stored: make(map[int32]uint32),
	}
}

// pair adds two friends, each of whom may send to the other.
func (o *Oracle) pair(a, b int32, thread int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sides[a] = o.book.Open(a, b, thread)
	o.sides[b] = o.book.Open(b, a, thread)
	o.threads = append(o.threads, thread)
}

// draft plans the next text of a user and records it as sent.
func (o *Oracle) draft(from int32) client.Draft { return o.draftOf(from, 0) }

// draftOf is draft with a size in bytes.
func (o *Oracle) draftOf(from int32, size int) client.Draft {
	o.mu.Lock()
	defer o.mu.Unlock()
	side, ok := o.sides[from]
	if !ok {
		panic(fmt.Sprintf("user %d sends to nobody", from))
	}
	now := time.Now()
	t := o.book.Plan(side, now.UnixNano())
	o.book.Sent(side, t.Counter, now.UnixNano())
	d := client.Draft{UniqueID: string(t.AppendUniqueID(nil)), Text: string(t.AppendText(nil, size))}
	o.ids[d.UniqueID] = sentText{side, t.Counter, now}
	return d
}

// answered records what a sender was told about a text. An unknown outcome is not an answer.
func (o *Oracle) answered(s client.Sent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id, ok := o.ids[s.UniqueID]
	if !ok {
		return
	}
	switch {
	case s.Err == nil:
		o.book.Acked(id.side, id.counter, s.MessageID)
		now := time.Now()
		o.acks = append(o.acks, latency{now, now.Sub(id.at)})
	case client.CodeOf(s.Err) != client.CodeOK:
		o.book.Refused(id.side, id.counter)
	}
}

// resent records that a text was written again.
func (o *Oracle) resent(uniqueID string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if id, ok := o.ids[uniqueID]; ok {
		o.book.Sent(id.side, id.counter, time.Now().UnixNano())
	}
}

// delivered records what a user received. The user's own texts are not counted.
func (o *Oracle) delivered(me int32, m client.Message) {
	if m.Sender == me {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.book.Delivered(me, m.Sender, m.ThreadID, m.ID, []byte(m.Text), time.Now().UnixNano())
}

// counts returns the counts so far.
func (o *Oracle) counts() ledger.Summary {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.book.Counts()
}

// p99 returns the 99th percentile of the latencies of texts acknowledged between two times.
func (o *Oracle) p99(from, to time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	var d []time.Duration
	for _, a := range o.acks {
		if a.at.After(from) && !a.at.After(to) {
			d = append(d, a.took)
		}
	}
	return percentile(d, 0.99)
}

// ackedIn counts the texts acknowledged between two times.
func (o *Oracle) ackedIn(from, to time.Time) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.acks {
		if a.at.After(from) && !a.at.After(to) {
			n++
		}
	}
	return n
}

// settle waits until every acknowledged text has been delivered, and returns how long that took. ok is false if it
// did not happen in time.
func (o *Oracle) settle(ctx context.Context, within time.Duration) (took time.Duration, ok bool) {
	begin := time.Now()
	err := until(ctx, within, "all texts are delivered", func() (bool, error) {
		c := o.counts()
		return c.Delivered >= c.Acked, nil
	})
	return time.Since(begin), err == nil
}

// readBack reads all threads from SQL.
func (o *Oracle) readBack(ctx context.Context, l *Lab) error {
	o.mu.Lock()
	threads := slices.Clone(o.threads)
	o.mu.Unlock()
	for _, thread := range threads {
		if err := o.readThread(ctx, l, thread); err != nil {
			return fmt.Errorf("read thread %d back: %w", thread, err)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.book.ReadAll()
	return nil
}

func (o *Oracle) readThread(ctx context.Context, l *Lab, thread int64) error {
	rows, err := l.db.QueryContext(ctx, "SELECT seq, sender_id, unique_id, content FROM chat_message WHERE thread_id = ? ORDER BY seq", thread)
	if err != nil {
		return err
	}
	defer rows.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	next := int64(1)
	for rows.Next() {
		var seq int64
		var sender int32
		var id string
		var content []byte
		if err := rows.Scan(&seq, &sender, &id, &content); err != nil {
			return err
		}
		for ; next < seq; next++ {
			o.book.Hole(thread, next)
		}
		next = seq + 1
		o.book.Stored(thread, seq, sender, id, content)
		if t, ok := o.ids[id]; ok {
			if t.counter < o.stored[sender] {
				o.swapped++
			}
			o.stored[sender] = max(o.stored[sender], t.counter+1)
		}
	}
	return rows.Err()
}

// verdict reads everything back and reports what must be zero: lost, duplicated and reordered texts, and all other
// violations.
func (o *Oracle) verdict(ctx context.Context, l *Lab, r *Report) error {
	if err := o.readBack(ctx, l); err != nil {
		return err
	}
	o.mu.Lock()
	s, swapped := o.book.Summary(), o.swapped
	o.mu.Unlock()
	for _, f := range s.Faults {
		l.w.Logf("fault: %+v", f)
	}
	r.Note("sent", s.Sent)
	r.Note("acked", s.Acked)
	r.Note("delivered", s.Delivered)
	r.Zero("lost", s.Lost+s.Unstored)
	r.Zero("not delivered", s.Missed)
	r.Zero("doubled", s.Duplicated+s.StoredTwice+s.AckedTwice)
	r.Zero("reordered", s.Reordered+swapped)
	r.Zero("otherwise wrong", s.Corrupt+s.Misrouted+s.WrongSeq+s.Holes)
	return nil
}
