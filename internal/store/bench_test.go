package store_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/lab/launchtest"
	"parley/test/benchgate/cputime"
)

// BenchmarkAppend measures messages stored a second: writers append batches to threads of their own, as the committers
// of one node do. ns/op is the time of a batch of one writer.
func BenchmarkAppend(b *testing.B) {
	shapes := []struct{ writers, rows int }{{1, 1}, {1, 16}, {1, 256}, {2, 64}, {4, 64}}
	b.Run("sqlite", func(b *testing.B) {
		for _, sh := range shapes[:3] {
			b.Run(fmt.Sprintf("%dx%d", sh.writers, sh.rows), func(b *testing.B) { benchAppend(b, newSQLite(b), sh.writers, sh.rows) })
		}
	})
	b.Run("mariadb", func(b *testing.B) {
		server := launchtest.MariaDB(b)
		for _, sh := range shapes {
			b.Run(fmt.Sprintf("%dx%d", sh.writers, sh.rows), func(b *testing.B) {
				benchAppend(b, newMariaDB(b, server), sh.writers, sh.rows)
			})
		}
	})
}

// benchRound tells the runs of one benchmark apart: each gets unique ids of its own.
var benchRound atomic.Int64

func benchAppend(b *testing.B, d *database, writers, rows int) {
	const threads = 1024
	s := d.migrated(b)
	name, boot := node(b, s, "n1")
	users := make([]store.NewUser, threads+1)
	pairs := make([][2]int32, threads)
	for i := range users {
		users[i] = store.NewUser{Name: fmt.Sprint("u", i), Email: fmt.Sprint("u", i), PasswordHash: "h"}
		if i < threads {
			pairs[i] = [2]int32{2000 + int32(i), 2001 + int32(i)}
		}
	}
	require.NoError(b, s.Seed.Users(b.Context(), 2000, users))
	ids, err := s.Seed.Friends(b.Context(), pairs)
	require.NoError(b, err)
	text := strings.Repeat("Hello there. ", 8)

	round := benchRound.Add(1)
	var batches atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	defer cputime.Report(b)()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			msgs, out := make([]store.NewMessage, rows), make([]store.Appended, rows)
			for n := batches.Add(1); n <= int64(b.N); n = batches.Add(1) {
				for i := range msgs {
					th := (int(n)*rows+i)*writers%threads + w
					msgs[i] = store.NewMessage{ThreadID: ids[th%threads], Sender: pairs[th%threads][0], UniqueID: fmt.Sprint(round, "-", n, "-", i), Content: text}
				}
				if err := s.Messages.Append(b.Context(), name, boot, msgs, out); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N*rows)/b.Elapsed().Seconds(), "rows/s")
}
