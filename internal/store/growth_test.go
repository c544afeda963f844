package store_test

import (
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/lab/launch"
	"parley/lab/launchtest"
	"parley/test/benchgate/cputime"
)

// BenchmarkGrowth reads the same pages from a database of ten thousand messages and from one of PARLEY_BENCH_ROWS, in
// turns, and reports how many times as long the larger one takes, on the clock (medians) and in our own processor time.
// Both have as many threads as messages in each, and one user has all of the threads; the data fits into the server's
// memory. Ten million rows take some minutes to make, 3 GB of disk below TMPDIR, and 4 GB of memory.
func BenchmarkGrowth(b *testing.B) {
	large := 100_000
	if v := os.Getenv("PARLEY_BENCH_ROWS"); v != "" {
		var err error
		large, err = strconv.Atoi(v)
		require.NoError(b, err)
	}
	launchtest.Need(b)
	server, err := launch.StartMariaDB(b.Context(), launch.MariaDBOptions{BufferPool: "4G"})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, server.Close()) })
	sizes := []*archive{newArchive(b, server, 10_000), newArchive(b, server, large)}

	for _, what := range []struct {
		name string
		read func(a *archive, b *testing.B, at float64)
	}{
		{"history", (*archive).readHistory}, {"threads", (*archive).readThreads}, {"marks", (*archive).readMarks},
	} {
		for _, where := range []struct {
			name   string
			cursor func() float64
		}{
			{"start", func() float64 { return 0 }},
			{"middle", func() float64 { return 0.2 + 0.6*rand.Float64() }},
			{"end", func() float64 { return 1 }},
		} {
			read, cursor := what.read, where.cursor
			b.Run(what.name+"/"+where.name, func(b *testing.B) {
				for range 100 { // statements are prepared, and the first pages read
					for _, a := range sizes {
						read(a, b, cursor())
					}
				}
				var took [2][]time.Duration
				var cpu [2]time.Duration
				b.ReportAllocs()
				for b.Loop() {
					for i, a := range sizes {
						at, used, start := cursor(), cputime.Used(), time.Now()
						read(a, b, at)
						took[i] = append(took[i], time.Since(start))
						cpu[i] += cputime.Used() - used
					}
				}
				for i := range took {
					slices.Sort(took[i])
				}
				middle := len(took[0]) / 2
				b.ReportMetric(float64(took[1][middle])/float64(took[0][middle]), "×time")
				b.ReportMetric(float64(cpu[1])/float64(cpu[0]), "×cpu")
				b.ReportMetric(float64(took[1][middle].Microseconds()), "large-µs")
			})
		}
	}
}

// archive is a database full of messages.
type archive struct {
	s       *store.Store
	threads []int64
	side    int // how many threads, and messages in each
}

// everybody is the user who has all of an archive's threads.
const everybody = 2000

// page is how many rows a client gets.
const page = 50

func newArchive(b *testing.B, server *launch.MariaDB, rows int) *archive {
	b.Helper()
	d := newMariaDB(b, server)
	a := &archive{s: d.migrated(b), side: int(math.Sqrt(float64(rows)))}
	users, pairs := []store.NewUser{{Name: "all", Email: "all", PasswordHash: "h"}}, [][2]int32{}
	for i := range int32(a.side) {
		name := fmt.Sprint("u", i)
		users = append(users, store.NewUser{Name: name, Email: name, PasswordHash: "h"})
		pairs = append(pairs, [2]int32{everybody, everybody + 1 + i})
	}
	require.NoError(b, a.s.Seed.Users(b.Context(), everybody, users))
	var err error
	a.threads, err = a.s.Seed.Friends(b.Context(), pairs)
	require.NoError(b, err)

	db := d.sql(b)
	db.SetMaxOpenConns(1) // unique_checks is the session's
	start := time.Now()
	exec(b, db, "SET GLOBAL innodb_flush_log_at_trx_commit=0")
	exec(b, db, "SET unique_checks=0")
	for part := range slices.Chunk(a.threads, 100) { // in the order of both keys, some hundred thousand a transaction
		exec(b, db, fmt.Sprintf(`INSERT INTO chat_message(thread_id,seq,sender_id,unique_id,content,status,created_ms)
			SELECT t.id, s.seq, %d, CONCAT(LPAD(t.id,10,'0'),'-',LPAD(s.seq,10,'0')), REPEAT('Hello. ',8), 0, 1767605472000+s.seq
			FROM chat_thread t JOIN seq_1_to_%d s WHERE t.id BETWEEN %d AND %d ORDER BY t.id, s.seq`,
			everybody, a.side, part[0], part[len(part)-1]))
	}
	exec(b, db, "ANALYZE TABLE chat_message, private_chat, chat_thread")
	exec(b, db, fmt.Sprintf("UPDATE chat_thread SET last_seq=%d", a.side))
	n := scan[int](b, db, "SELECT COUNT(*) FROM chat_message")
	require.Equal(b, a.side*a.side, n)
	b.Logf("%d messages in %d threads made in %v", n, a.side, time.Since(start).Round(time.Second))
	return a
}

func exec(b *testing.B, db *sql.DB, q string) {
	b.Helper()
	_, err := db.ExecContext(b.Context(), q)
	require.NoError(b, err, q)
}

// readHistory reads a page of a random thread; at says how far into it, from 0 to 1.
func (a *archive) readHistory(b *testing.B, at float64) {
	after := int64(at * float64(a.side-page))
	msgs, _, err := a.s.Messages.History(b.Context(), a.threads[rand.IntN(len(a.threads))], after, page, 16<<10)
	if err != nil || len(msgs) != page || msgs[0].Seq != after+1 {
		b.Fatal(len(msgs), err)
	}
}

// readThreads reads a page of the list of threads of the user who has them all.
func (a *archive) readThreads(b *testing.B, at float64) {
	after := a.threads[int(at*float64(a.side-page))] - 1
	threads, err := a.s.Threads.List(b.Context(), everybody, after, page)
	if err != nil || len(threads) != page || threads[0].ID != after+1 {
		b.Fatal(len(threads), err)
	}
}

// readMarks reads the marks of such a page, and counts the unread texts of threads in which the user has read nothing; at says
// where the list begins.
func (a *archive) readMarks(b *testing.B, at float64) {
	first := int(at * float64(a.side-page))
	list := make([]store.Thread, page)
	for i := range list {
		other := everybody + 1 + int32(first+i)
		list[i] = store.Thread{ID: a.threads[first+i], Type: store.ThreadPrivate, User1: everybody, User2: other, LastSeq: int64(a.side)}
	}
	marks, err := a.s.Marks.OfThreads(b.Context(), 1, list) // who has written nothing
	if err != nil || marks[0].Unread != store.MaxUnread {
		b.Fatal(marks, err)
	}
}
