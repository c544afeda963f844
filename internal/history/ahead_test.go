package history_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/history"
	"parley/internal/store"
	"parley/internal/wire"
	"parley/lab/storetest"
)

// counted counts the calls that read rows.
type counted struct {
	*store.Messages
	reads, hidden, contents int
}

func (c *counted) HistoryTo(ctx context.Context, thread, after, upto int64, limit, maxBytes int) ([]store.Message, bool, error) {
	c.reads++
	return c.Messages.HistoryTo(ctx, thread, after, upto, limit, maxBytes)
}

func (c *counted) Histories(ctx context.Context, parts []store.Part) ([]store.Rows, error) {
	c.reads++
	return c.Messages.Histories(ctx, parts)
}

func (c *counted) Hidden(ctx context.Context, uid int32, spans []store.Span) (map[int64][]int64, error) {
	c.hidden++
	return c.Messages.Hidden(ctx, uid, spans)
}

func (c *counted) Contents(ctx context.Context, uid int32, ids []store.TextID) (map[store.TextID]store.Message, error) {
	c.contents++
	return c.Messages.Contents(ctx, uid, ids)
}

// Fifty changed threads take one read of rows, one of hidden rows and one of edited texts, and the pages are the same as when read one by
// one.
func TestPagesOfManyThreadsAreReadAtOnce(t *testing.T) {
	const me, threads = 1001, 50
	st, _ := storetest.SQLite(t)
	users, pairs := make([]store.NewUser, threads+1), make([][2]int32, threads)
	for i := range users {
		users[i] = store.NewUser{Name: fmt.Sprint("u", i), Email: fmt.Sprint("u", i), PasswordHash: "x"}
		if i > 0 {
			pairs[i-1] = [2]int32{me, me + int32(i)}
		}
	}
	require.NoError(t, st.Seed.Users(t.Context(), me, users))
	ids, err := st.Seed.Friends(t.Context(), pairs)
	require.NoError(t, err)
	boot := "boot"
	require.NoError(t, st.Fence.Take(t.Context(), "n1", boot))
	for i, id := range ids {
		msgs := make([]store.NewMessage, 3)
		for k := range msgs {
			msgs[k] = store.NewMessage{ThreadID: id, Sender: me, UniqueID: fmt.Sprint(i, "-", k), Content: fmt.Sprint("text ", k)}
		}
		require.NoError(t, st.Messages.Append(t.Context(), "n1", boot, msgs, make([]store.Appended, len(msgs))))
		if i%10 == 0 {
			require.NoError(t, st.Messages.Hide(t.Context(), "n1", boot, me, id, []int64{3}))
		}
		if i%3 == 1 {
			for _, content := range []string{"edited", "edited again"} {
				_, err := st.Messages.Edit(t.Context(), "n1", boot, me, id, 2, content, time.Hour)
				require.NoError(t, err)
			}
		}
	}
	list, err := st.Threads.List(t.Context(), me, 0, 100)
	require.NoError(t, err)
	require.Len(t, list, threads)
	var starts []history.Start
	for i, th := range list {
		starts = append(starts, history.Start{Thread: th, After: int64(i % 4)}) // the last of four has nothing new
	}
	view := history.View{UID: me, Rows: true}
	page := func(src history.Source, at history.Start) wire.HistoryReply {
		reply := wire.HistoryReply{ThreadID: at.ID, LastID: at.After}
		_, err := history.Page(t.Context(), src, &reply, history.OfThread(&at.Thread), view, 500, 32<<10)
		require.NoError(t, err)
		return reply
	}
	src := &counted{Messages: st.Messages}
	ahead, n, err := history.ReadAhead(t.Context(), src, starts, view, 500, 64<<10)
	require.NoError(t, err)
	require.Equal(t, threads, n)
	for _, at := range starts {
		if at.After < at.LastSeq {
			require.Equal(t, page(st.Messages, at), page(ahead, at))
		}
	}
	require.Equal(t, 1, src.reads)
	require.Equal(t, 1, src.hidden)
	require.Equal(t, 1, src.contents)

	_, n, err = history.ReadAhead(t.Context(), src, starts, view, 500, 5*history.ElementBytes)
	require.NoError(t, err)
	require.Equal(t, 2, n, "no more than may fit")
	_, n, err = history.ReadAhead(t.Context(), src, starts, view, 500, 0)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
