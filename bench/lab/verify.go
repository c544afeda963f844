package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/bench/seed"
	"parley/bench/swarm"
)

// Sources of the stored history, as named in the report.
const (
	readFromSQL  = "read from SQL"
	readAsClient = "read as a client"
)

// verifyTime bounds reading all histories.
const verifyTime = 2 * time.Minute

// openStores opens the stores of the cluster if they are known.
func (r *run) openStores(ctx context.Context) error {
	at := r.stores
	if r.layout != nil {
		at = r.layout.Stores
	}
	if at == nil {
		return nil
	}
	var err error
	if r.db, err = seed.Open(ctx, *at); err != nil && r.layout == nil {
		return fmt.Errorf("%w; the stores that --config names are what history and presence are checked against: "+
			"give --secret in its place where they cannot be reached, and the history is read as a client", err)
	}
	return err
}

// verify compares the ledger with the stored history: with the one in SQL, after all sessions have ended; otherwise
// with the one that the nodes return to a client, now.
func (r *run) verify(ctx context.Context) error {
	if r.db != nil {
		r.historyDue = true
		return nil
	}
	r.rep.HistoryBy = readAsClient
	_, err := r.phase(ctx, step{name: "verify", Phase: swarm.Phase{Kind: "verify"}, main: swarm.HHistory})
	return err
}

// verifySQL reads the history of every thread from the database.
func (r ending) verifySQL(ctx context.Context) error {
	r.rep.HistoryBy = readFromSQL
	r.screen.say("reading the history from SQL")
	began := time.Now()
	var messages atomic.Int64
	read := historyReader(r.db.History)
	bounded, cancel := context.WithTimeoutCause(ctx, verifyTime, errors.New("it took too long"))
	defer cancel()
	err := r.crew.ReadHistory(bounded, func(ctx context.Context, of []swarm.Conversation, enter func([]swarm.Stored) error) error {
		return read.readAll(ctx, of, func(parts []swarm.Stored) error {
			for i := range parts {
				messages.Add(int64(len(parts[i].Messages)))
			}
			return enter(parts)
		})
	})
	r.stageDone("history", began, fmt.Sprintf("%d messages %s", messages.Load(), readFromSQL))
	if err != nil {
		return fmt.Errorf("the stored history could not be %s: %w", readFromSQL, err)
	}
	_, err = r.phase(ctx, step{name: "verify", Phase: swarm.Phase{Kind: "verify", Entered: true}})
	return err
}

const (
	readers     = 4    // conversations read at once per worker
	partThreads = 64   // maximum conversations passed on at once
	partRows    = 4096 // messages at which a part is passed on
)

// historyReader reads the messages of a thread after a number, in order.
type historyReader func(ctx context.Context, thread, after int64, each func(seed.Message)) error

// readAll reads several conversations at a time, and passes on what it has read in parts of bounded size.
func (read historyReader) readAll(ctx context.Context, of []swarm.Conversation, enter func([]swarm.Stored) error) error {
	work := make(chan []swarm.Conversation)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for some := range work {
				if err := read.some(ctx, some, enter); err != nil {
					cancel(err)
				}
			}
		})
	}
	for some := range slices.Chunk(of, partThreads) {
		select {
		case work <- some:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

func (read historyReader) some(ctx context.Context, of []swarm.Conversation, enter func([]swarm.Stored) error) error {
	var parts []swarm.Stored
	rows := 0
	for _, c := range of {
		part := swarm.Stored{Conversation: c}
		var refused error
		err := read(ctx, c.Thread, c.After, func(m seed.Message) {
			part.Messages = append(part.Messages, swarm.Message(m))
			if rows++; rows >= partRows && refused == nil {
				refused = enter(append(parts, part))
				parts, part.Messages, rows = nil, nil, 0
			}
		})
		if err = errors.Join(err, refused); err != nil {
			return err
		}
		parts = append(parts, part)
	}
	return enter(parts)
}
