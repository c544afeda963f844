package legacy

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/session"
	"parley/internal/wire"
)

// C5: texts of a thread that the client has yet to load are left to its history if there is no space for them.
func TestManyTextsDuringTheFirstLoadCloseNobody(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		left := 0
		c.counters.LeftToHistory = func() { left++ }
		_, _ = c.ThreadsAsked(0)
		require.True(t, c.Announce(talk, friend))
		require.NoError(t, c.s.Reply(frameOf(wire.MsgThreadsRsp, `{}`)))
		c.ThreadsListed()
		text := strings.Repeat("x", 1000)
		const sent = 800
		for seq := range int64(sent) {
			require.NoError(t, c.s.Push(push(friend, talk, text, seq+1)))
		}
		require.Positive(t, left)
		require.LessOrEqual(t, c.held.bytes, MaxHeld)

		require.Zero(t, c.HistoryAsked(talk))
		// A page is being read: it may lack this text.
		require.NoError(t, c.s.Push(push(friend, talk, text, sent+1)))
		require.NoError(t, c.s.Reply(frameOf(wire.MsgHistoryRsp, `{}`)))
		c.HistoryServed(talk, sent, false)
		var all []int64
		for _, f := range c.wait(2 * time.Second) {
			if f.id == wire.MsgTextPush {
				all = append(all, seqs(c.texts(f))...)
			}
		}
		require.Equal(t, []int64{sent + 1}, all, "what history did not bring, and nothing twice")
		require.False(t, c.eof)
	})
}

// C5: texts that a page being read may lack are not left to that page.
func TestTextsBesideAPageAreNotLeftToIt(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.load(0)
		c.wait(time.Second)
		c.HistoryAsked(talk)
		var err error
		for seq := int64(1); err == nil; seq++ {
			require.LessOrEqual(t, seq, int64(100))
			err = c.s.Push(push(friend, talk, strings.Repeat("x", 1000), seq))
		}
		require.ErrorIs(t, err, session.ErrSlow)
	})
}

// B4
func TestApplicationsDoNotFillThePlaceOfTexts(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		dropped := 0
		c.counters.ApplicationsDropped = func() { dropped++ }
		body := []byte(`{"applyuid":9,"desc":"` + strings.Repeat("x", 1000) + `"}`)
		for range 200 { // everything waits before the first load
			require.NoError(t, c.s.Push(&session.Push{To: me, From: stranger, ID: wire.MsgApplied, Body: body}))
		}
		require.Equal(t, 200-maxAppliedHeld, dropped)
		c.load(0)
		applied := 0
		for _, f := range c.wait(2 * time.Second) {
			if f.id == wire.MsgApplied {
				applied++
			}
		}
		require.Equal(t, maxAppliedHeld, applied)
		require.NoError(t, c.s.Push(&session.Push{To: me, From: stranger, ID: wire.MsgApplied, Body: body}))
		require.Len(t, c.wait(time.Second), 1)
	})
}

// C6
func TestSpacingGrowsWithTheTexts(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.wheel.spacing.Text = 100 * time.Millisecond
		c.load(0)
		c.wait(time.Second)
		require.NoError(t, c.s.Push(push(friend, talk, "x", 1, 2, 3)))
		require.NoError(t, c.s.Push(push(friend, talk, "x", 4)))
		require.NoError(t, c.s.Push(push(friend, talk, "x", 5)))
		frames := c.wait(2 * time.Second)
		require.Len(t, frames, 2, "the two that waited are one frame")
		require.GreaterOrEqual(t, frames[1].at-frames[0].at, Gap+300*time.Millisecond)
		require.LessOrEqual(t, frames[1].at-frames[0].at, Gap+300*time.Millisecond+2*Resolution)
	})
}
