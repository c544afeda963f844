// Package rights races texts against changes that forbid them: unfriend, block, deletion of an account. The database itself
// notes where in the thread each change came, so that a text stored after it is found however short the moment was.
package rights

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"parley/client"
)

// Count returns how many races to run: PARLEY_RIGHTS_RACES, or few.
func Count(few int) int {
	if n, err := strconv.Atoi(os.Getenv("PARLEY_RIGHTS_RACES")); err == nil && n > 0 {
		return n
	}
	return few
}

// Watch has the database note, in the transaction of each change of a thread's membership, the last text before it.
func Watch(ctx context.Context, db *sql.DB, mysql bool) error {
	trigger := `CREATE TRIGGER note_membership AFTER UPDATE OF member_ver ON chat_thread BEGIN
		INSERT INTO membership_change VALUES(NEW.id,NEW.member_ver,NEW.last_seq); END`
	if mysql {
		trigger = `CREATE TRIGGER note_membership AFTER UPDATE ON chat_thread FOR EACH ROW INSERT INTO membership_change
			SELECT NEW.id,NEW.member_ver,NEW.last_seq FROM DUAL WHERE NEW.member_ver<>OLD.member_ver`
	}
	for _, q := range []string{
		"CREATE TABLE membership_change (thread_id INTEGER NOT NULL, ver INTEGER NOT NULL, last_seq INTEGER NOT NULL, PRIMARY KEY (thread_id, ver))",
		trigger,
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("rights: %w", err)
		}
	}
	return nil
}

// Result is what one or many races came to.
type Result struct {
	Races  int
	Stored int // texts stored before the changes
	Denied int // texts refused after them
	// Late counts texts stored after the change, and Allowed those sent after its answer and acknowledged: both must be 0.
	Late, Allowed int
}

// Add adds up.
func (r *Result) Add(o Result) {
	r.Races += o.Races
	r.Stored += o.Stored
	r.Denied += o.Denied
	r.Late += o.Late
	r.Allowed += o.Allowed
}

// senders is how many texts are under way at any moment of a race.
const senders = 4

// Race has one side of a thread send texts without pause while change is carried out at a random moment, and counts. change
// returns when it is acknowledged.
func Race(ctx context.Context, db *sql.DB, from *client.Conn, thread int64, change func(context.Context) error) (Result, error) {
	r := Result{Races: 1}
	var mu sync.Mutex // guards r and failed
	var failed error
	var answered atomic.Bool // the change
	first := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for after := 0; after < 3; {
				late := answered.Load()
				if late {
					after++
				}
				_, err := from.SendText(ctx, client.InThread(thread), "as long as I may")
				mu.Lock()
				switch code := client.CodeOf(err); {
				case err == nil && late:
					r.Allowed++
				case err == nil:
					r.Stored++
					once.Do(func() { close(first) })
				case code == client.CodeNotAllowed:
					r.Denied++
				case code == client.CodeRateLimited, code == client.CodeBusy:
					mu.Unlock()
					time.Sleep(max(client.RetryAfter(err), 20*time.Millisecond))
					mu.Lock()
				default:
					failed = errors.Join(failed, err)
					once.Do(func() { close(first) })
				}
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	select {
	case <-first:
	case <-ctx.Done():
	}
	time.Sleep(rand.N(5 * time.Millisecond))
	err := change(ctx)
	answered.Store(true)
	wg.Wait()
	if err = errors.Join(err, failed); err != nil {
		return r, fmt.Errorf("rights: race: %w", err)
	}
	err = db.QueryRowContext(ctx, `SELECT COUNT(*) FROM chat_message WHERE thread_id=? AND sender_id=? AND seq>
		(SELECT last_seq FROM membership_change WHERE thread_id=? ORDER BY ver DESC LIMIT 1)`, thread, from.Profile().UID, thread).Scan(&r.Late)
	if err != nil {
		return r, fmt.Errorf("rights: count: %w", err)
	}
	return r, nil
}

// Befriend makes friends of two users who are strangers, and waits until both connections have the thread.
func Befriend(ctx context.Context, applicant, approver *client.Conn) error {
	if err := applicant.Apply(ctx, approver.Profile().UID, "", ""); err != nil {
		return err
	}
	_, err := approver.Approve(ctx, applicant.Profile().UID, "")
	return err
}

// Rounds runs n races of y's texts against x's block and unfriend in turn, and makes the two friends again after each.
func Rounds(ctx context.Context, db *sql.DB, x, y *client.Conn, thread int64, n int) (Result, error) {
	var sum Result
	for i := range n {
		request := x.Block
		if i%2 == 1 {
			request = x.Unfriend
		}
		r, err := Race(ctx, db, y, thread, func(ctx context.Context) error { return request(ctx, y.Profile().UID) })
		sum.Add(r)
		if err != nil {
			return sum, err
		}
		if i%2 == 0 {
			if err := x.Unblock(ctx, y.Profile().UID); err != nil {
				return sum, err
			}
		}
		if err := Befriend(ctx, y, x); err != nil {
			return sum, err
		}
	}
	return sum, nil
}
