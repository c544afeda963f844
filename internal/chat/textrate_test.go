package chat

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// B5: the same from outside, with everything between.
func TestArraysDevicesAndReconnectsShareOneLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	limit := func(c *Config) { c.Limits.TextRate, c.Limits.TextBurst = 20, 70 }
	nodes := []*node{f.start("chat1", limit), f.start("chat2", limit)}
	began := time.Now()
	var conns []*client.Conn
	for i := range 4 {
		c, err := client.Dial(t.Context(), f.ticket(nodes[i%2], 1), client.Options{Device: fmt.Sprint("d", i)})
		require.NoError(t, err)
		defer c.Close()
		conns = append(conns, c)
	}
	refused := 0
	for i := range 24 {
		if i%6 == 5 { // hops to the other node
			conns[0].Close()
			c, err := client.Dial(t.Context(), f.ticket(nodes[i/6%2], 1), client.Options{Device: "d0"})
			require.NoError(t, err)
			defer c.Close()
			conns[0] = c
		}
		drafts := make([]client.Draft, 64)
		for j := range drafts {
			drafts[j] = client.NewDraft("x")
		}
		sent, err := conns[i%4].SendTexts(t.Context(), client.InThread(f.threads[0]), drafts...)
		require.NoError(t, err)
		for j, s := range sent {
			if s.Err == nil {
				require.False(t, j > 0 && sent[j-1].Err != nil, "the first are stored, not some")
				continue
			}
			refused++
			require.Equal(t, client.Code(wire.CodeRateLimited), client.CodeOf(s.Err))
			require.Positive(t, client.RetryAfter(s.Err))
		}
	}
	access, err := f.store.Threads.List(t.Context(), firstUID, 0, 1)
	require.NoError(t, err)
	require.LessOrEqual(t, float64(access[0].LastSeq), 70+20*time.Since(began).Seconds()+1)
	require.Positive(t, refused)
	require.Equal(t, 24*64-refused, int(access[0].LastSeq))
	limited := counterValue(t, nodes[0].metrics.textsLimited) + counterValue(t, nodes[1].metrics.textsLimited)
	require.EqualValues(t, refused, limited)
}
