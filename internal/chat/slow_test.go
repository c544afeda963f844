package chat

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// slowReader logs user i in as a native client with the given capabilities and a small receive buffer, and reads no
// further than 1006.
func (f *fixture) slowReader(n *node, i int, caps ...string) *stockClient {
	f.t.Helper()
	ticket := f.ticket(n, i)
	s := dialRaw(f.t, ticket.Addr)
	require.NoError(f.t, s.conn.(*net.TCPConn).SetReadBuffer(4096))
	s.send(wire.MsgLogin, map[string]any{"uid": ticket.UID, "token": ticket.Token, "client": "slow/1", "caps": caps, "device": "slow"})
	s.expect(wire.MsgLoginRsp)
	return s
}

// flood sends texts until the node says that the reader's outbox overflowed.
func flood(t *testing.T, from *client.Conn, thread int64, overflowed func() bool) (sent int64) {
	t.Helper()
	text := strings.Repeat("x", 4000)
	for i := 0; !overflowed(); i++ {
		require.Less(t, i, 5000, "nothing overflowed")
		got, err := from.SendText(t.Context(), client.InThread(thread), fmt.Sprint(i, text))
		require.NoError(t, err)
		sent = got.MessageID
	}
	return sent
}

func TestASlowReaderWithTheGapCapabilityIsToldWhatItMissed(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t, 2)
	a := f.start("chat1", func(c *Config) { c.Limits.WriteTimeout = time.Minute })
	sender, slow := f.login(a, 1), f.slowReader(a, 2, "batch", "gap")
	gaps := func() float64 { return counterValue(t, a.metrics.gaps) }
	last := flood(t, sender, f.threads[0], func() bool { return gaps() > 0 })

	var next int64 = 1
	for {
		got := slow.next()
		if got.id == wire.MsgGap {
			var gap wire.Gap
			got.into(t, &gap)
			require.Equal(t, f.threads[0], gap.ThreadID)
			require.Equal(t, next, gap.FromSeq, "the first text that was not pushed")
			require.LessOrEqual(t, gap.FromSeq, last)
			break
		}
		var push wire.TextPush
		require.Equal(t, wire.MsgTextPush, got.id)
		got.into(t, &push)
		require.Equal(t, next, push.Chats[0].Seq)
		next++
	}
	// What comes after the gap is pushed again.
	sent, err := sender.SendText(t.Context(), client.InThread(f.threads[0]), "after the gap")
	require.NoError(t, err)
	var push wire.TextPush
	slow.expect(wire.MsgTextPush).into(t, &push)
	require.Equal(t, sent.MessageID, push.Chats[0].Seq)
}

func TestASlowReaderWithoutItIsClosedAndHarmsNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	a := f.start("chat1", func(c *Config) { c.Limits.WriteTimeout = 500 * time.Millisecond })
	sender, other, slow := f.login(a, 2), f.login(a, 3), f.slowReader(a, 1, "batch")
	// On a slow machine the write time-out comes before the overflow; either ends the session.
	ended := func() bool { return counterValue(t, a.metrics.slow)+counterValue(t, a.metrics.writeFailures) > 0 }
	flood(t, sender, f.threads[0], ended)
	eventually(t, "the slow session to be gone", func() bool { return a.Sessions() == 2 })
	slow.expectClose()
	_, err := sender.SendText(t.Context(), client.InThread(f.threads[1]), "still here")
	require.NoError(t, err)
	require.Equal(t, "still here", nextTexts(t, other).Messages[0].Text)
}

// B9: a client may read late, as long as it keeps within what it may have unanswered.
func TestAClientWithinItsBoundsIsNeverSlow(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a := f.start("chat1", func(c *Config) { c.Limits.WriteTimeout = time.Minute })
	s := f.slowReader(a, 1, "batch")
	var frames []byte
	frame := func(id wire.MsgID, body string) {
		var err error
		frames, err = wire.AppendFrame(frames, id, []byte(body))
		require.NoError(t, err)
	}
	const texts = 31 // 127 KiB
	for i := range texts {
		frame(wire.MsgText, fmt.Sprintf(`{"thread_id":%d,"text_array":[{"unique_id":"%d","content":%q}]}`, f.threads[0], i, strings.Repeat("x", 4096)))
	}
	_, err := s.conn.Write(frames)
	require.NoError(t, err)
	eventually(t, "all to be stored", func() bool {
		return counterValue(t, a.metrics.requests(wire.MsgText)) == texts && textsWaiting(t, a) == 0
	})
	frames = nil
	pages := a.cfg.Limits.QueuedFrames
	for range pages { // each brings some 30 KiB
		frame(wire.MsgHistory, fmt.Sprintf(`{"thread_id":%d,"message_id":0,"limit":100}`, f.threads[0]))
	}
	_, err = s.conn.Write(frames)
	require.NoError(t, err)
	eventually(t, "the pages to be asked for", func() bool {
		_, waiting := connOf(t, a, firstUID).Unanswered()
		return waiting > 0 && waiting < pages
	})
	for range texts {
		s.expect(wire.MsgTextRsp)
	}
	for range pages {
		var page wire.HistoryReply
		s.expect(wire.MsgHistoryRsp).into(t, &page)
		require.NotEmpty(t, page.Chats)
	}
	require.Zero(t, counterValue(t, a.metrics.slow))
}

// textsWaiting returns how many texts of the first user wait for their answer.
func textsWaiting(t *testing.T, n *node) int {
	t.Helper()
	texts, _ := connOf(t, n, firstUID).Unanswered()
	return texts
}
