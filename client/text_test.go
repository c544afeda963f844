package client

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

func TestSendTexts(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	c := f.dial(1, Options{})

	sent, err := c.SendText(t.Context(), User(2), "hello \"you\"\n\x01 \u2028 😀")
	require.NoError(t, err)
	require.Equal(t, int64(7), sent.ThreadID)
	require.Equal(t, int64(1), sent.MessageID)
	require.Equal(t, time.UnixMilli(1_700_000_000_000).UTC(), sent.Time)
	require.Equal(t, "hello \"you\"\n\x01 \u2028 😀", f.threads[7].msgs[0].Content)
	require.Equal(t, int64(7), c.threadOf(2), "the next text names its thread")

	// More than fit one request, in order; an id used again is answered with its first place.
	drafts := []Draft{{UniqueID: sent.UniqueID, Text: "hello"}}
	for i := range 300 {
		drafts = append(drafts, Draft{Text: fmt.Sprint(i, strings.Repeat("x", 600))})
	}
	results, err := c.SendTexts(t.Context(), InThread(7), drafts...)
	require.NoError(t, err)
	require.Len(t, results, 301)
	for i, r := range results {
		require.NoError(t, r.Err)
		require.Equal(t, int64(i+1), r.MessageID)
	}
	require.Len(t, f.threads[7].msgs, 301)
}

func TestTextsThatMayNotBeSent(t *testing.T) {
	f := newFake(t)
	c := f.dial(1, Options{})
	for _, text := range []string{"", "a\x00b", "\xff", strings.Repeat("x", MaxText+1), strings.Repeat("\x01", MaxText)} {
		_, err := c.SendText(t.Context(), User(2), text)
		require.ErrorIs(t, err, ErrText)
		require.Equal(t, GiveUp, Advise(err))
	}
	_, err := c.SendTexts(t.Context(), User(2), Draft{UniqueID: strings.Repeat("u", MaxUniqueID+1), Text: "x"})
	require.ErrorContains(t, err, "unique id")
}

// heldTexts makes the fake keep 1017s until they are released.
func heldTexts(f *fake) (count func() int, release func(i int)) {
	var mu sync.Mutex
	var held []func()
	f.onTexts(func(c *fakeConn, req *wire.TextRequest) bool {
		mu.Lock()
		held = append(held, func() { c.answerTexts(req) })
		mu.Unlock()
		return true
	})
	count = func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(held)
	}
	return count, func(i int) {
		mu.Lock()
		answer := held[i]
		mu.Unlock()
		answer()
	}
}

func TestAnswersOfTextsComeInAnyOrder(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	count, release := heldTexts(f)
	c := f.dial(1, Options{})
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			sent, err := c.SendTexts(t.Context(), User(2), Draft{UniqueID: fmt.Sprint("a", i), Text: "one"}, Draft{UniqueID: fmt.Sprint("b", i), Text: "two"})
			assert.NoError(t, err)
			assert.Equal(t, fmt.Sprint("a", i), sent[0].UniqueID)
			assert.Equal(t, fmt.Sprint("b", i), sent[1].UniqueID)
			f.mu.Lock()
			defer f.mu.Unlock()
			assert.Equal(t, f.stored[sent[0].UniqueID].MsgID, sent[0].MessageID)
			assert.Equal(t, f.stored[sent[1].UniqueID].MsgID, sent[1].MessageID)
		})
	}
	eventually(t, "10 in flight", func() bool { return count() == 10 })
	for i := range 10 {
		release(9 - i)
	}
	wg.Wait()
}

func TestWindow(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	f.welcome["window"] = 3
	count, release := heldTexts(f)
	c := f.dial(1, Options{})
	var done atomic.Int32
	for range 3 {
		assert.NoError(t, c.Post(t.Context(), User(2), []Draft{NewDraft("x")}, func(s []Sent) {
			assert.NoError(t, s[0].Err)
			done.Add(1)
		}))
	}
	eventually(t, "the window is used", func() bool { return count() == 3 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Post(ctx, User(2), []Draft{NewDraft("x")}, nil), context.DeadlineExceeded)
	release(1)
	eventually(t, "one answered", func() bool { return done.Load() == 1 })
	require.NoError(t, c.Post(t.Context(), User(2), []Draft{NewDraft("x")}, func([]Sent) { done.Add(1) }))
	eventually(t, "the fourth", func() bool { return count() == 4 })
	require.ErrorContains(t, c.Post(t.Context(), User(2), make4(), nil), "do not fit")
	for _, i := range []int{0, 2, 3} {
		release(i)
	}
	eventually(t, "all answered", func() bool { return done.Load() == 4 })
}

func make4() []Draft { return []Draft{NewDraft("x"), NewDraft("x"), NewDraft("x"), NewDraft("x")} }

func TestRefusedTexts(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	f.onTexts(func(c *fakeConn, req *wire.TextRequest) bool {
		if req.Texts[0].Content == "whole" {
			c.write(wire.AppendCode(nil, wire.MsgTextRsp, wire.CodeRateLimited, 0))
			return true
		}
		var datas []any
		for _, x := range req.Texts {
			d := map[string]any{"unique_id": x.UniqueID, "content": x.Content}
			switch x.Content {
			case "good":
				d["message_id"], d["status"] = f.append(7, 1, x.UniqueID, x.Content).MsgID, 2
			case "no code":
				d["status"] = 1
			case "left out":
				continue
			case "too many":
				d["status"], d["code"] = 1, 2003
			default:
				d["status"], d["code"] = 1, 2006
			}
			datas = append(datas, d)
		}
		c.send(wire.MsgTextRsp, map[string]any{"error": 0, "retry_ms": 700, "thread_id": 7, "chat_datas": datas})
		return true
	})
	c := f.dial(1, Options{})
	_, err := c.SendText(t.Context(), User(2), "too many")
	require.Equal(t, &Error{Op: "send", Code: CodeRateLimited, RetryAfter: 700 * time.Millisecond}, err) // E9
	var drafts []Draft
	for _, text := range []string{"good", "bad", "left out", "no code", "good"} {
		drafts = append(drafts, NewDraft(text))
	}
	sent, err := c.SendTexts(t.Context(), User(2), drafts...)
	require.NoError(t, err)
	require.NoError(t, sent[0].Err)
	require.Equal(t, &Error{Op: "send", Code: CodeNotAllowed, RetryAfter: 700 * time.Millisecond}, sent[1].Err)
	require.ErrorIs(t, sent[2].Err, ErrProtocol)
	require.Equal(t, CodeInternal, CodeOf(sent[3].Err))
	require.Equal(t, int64(2), sent[4].MessageID)

	_, err = c.SendText(t.Context(), User(2), "whole")
	require.Equal(t, CodeRateLimited, CodeOf(err))
	_, err = c.SendText(t.Context(), User(2), "good")
	require.NoError(t, err, "the window is whole")
	require.Equal(t, c.window.texts, c.window.freeTexts)
	require.Equal(t, windowBytes, c.window.freeBytes)
}

func TestTextsInFlightFailWithTheConnection(t *testing.T) {
	f := newFake(t)
	count, _ := heldTexts(f)
	c := f.dial(1, Options{})
	errs := make(chan error, 3)
	for i := range 3 {
		assert.NoError(t, c.Post(t.Context(), User(2), []Draft{{UniqueID: fmt.Sprint(i), Text: "x"}}, func(s []Sent) { errs <- s[0].Err }))
	}
	require.ErrorIs(t, c.Post(t.Context(), User(2), []Draft{{UniqueID: "1", Text: "x"}}, nil), ErrInFlight)
	eventually(t, "3 in flight", func() bool { return count() == 3 })
	f.dropAll()
	for range 3 {
		err := <-errs
		require.Error(t, err)
		require.Equal(t, Retry, Advise(err))
	}
	require.Error(t, c.Post(t.Context(), User(2), []Draft{NewDraft("x")}, nil))
}

func TestWindowServesInOrder(t *testing.T) {
	var w window
	w.init(4)
	require.NoError(t, w.acquire(t.Context(), 3, 10))
	// A large one waits; a small one that would fit stays behind it.
	order := make(chan string, 2)
	var wg sync.WaitGroup
	wg.Go(func() {
		assert.NoError(t, w.acquire(t.Context(), 4, 10))
		order <- "large"
		w.release(4, 10)
	})
	waits := func(n int) func() bool {
		return func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.waiters) == n
		}
	}
	eventually(t, "the large one waits", waits(1))
	wg.Go(func() {
		assert.NoError(t, w.acquire(t.Context(), 1, 10))
		order <- "small"
		w.release(1, 10)
	})
	eventually(t, "the small one waits", waits(2))
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() { assert.ErrorIs(t, w.acquire(ctx, 1, 1), context.Canceled) })
	eventually(t, "a third waits", waits(3))
	cancel()
	eventually(t, "it is gone", waits(2))
	w.release(3, 10)
	wg.Wait()
	require.Equal(t, "large", <-order)
	require.Equal(t, "small", <-order)
	require.Equal(t, 4, w.freeTexts)
	wg.Go(func() { assert.ErrorIs(t, w.acquire(t.Context(), 5, 1), ErrClosed) })
	eventually(t, "one waits", waits(1))
	w.close(ErrClosed)
	wg.Wait()
	require.ErrorIs(t, w.acquire(t.Context(), 1, 1), ErrClosed)
}
