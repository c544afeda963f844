package legacy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

func TestReceivedRemembersEachText(t *testing.T) {
	r := received{}
	for _, seq := range []int64{5, 9, 7, 6, 8, 1, 3} {
		require.True(t, r.add(7, seq))
		require.False(t, r.add(7, seq))
	}
	require.Equal(t, []run{{1, 1}, {3, 3}, {5, 9}}, r[7])
	require.True(t, r.add(7, 2))
	require.True(t, r.add(7, 4))
	require.Equal(t, []run{{1, 9}}, r[7])
	require.EqualValues(t, 9, r.floor(7))
	require.Zero(t, r.floor(8))
	require.True(t, r.add(8, 5), "another thread")
	require.Zero(t, r.floor(8))
	require.True(t, r.add(8, 0))
	require.True(t, r.add(8, 0), "a number that says nothing")
}

func TestReceivedIsBounded(t *testing.T) {
	r := received{}
	for seq := int64(2); seq < 1000; seq += 2 { // every other text is the user's own
		require.True(t, r.add(7, seq))
		require.LessOrEqual(t, len(r[7]), maxRuns)
	}
	require.EqualValues(t, 998-2*(maxRuns-1), r.floor(7))
	require.False(t, r.add(7, 3), "too long ago to tell")
	require.True(t, r.add(7, 997))
}

// C1, C2: the stock client would show each copy of a text.
func TestATextPushedTwiceIsShownOnce(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.load(3)
		c.wait(time.Second)
		require.NoError(t, c.s.Push(push(friend, talk, "hello", 4, 5)))
		frames := c.wait(time.Second)
		require.Equal(t, []int64{4, 5}, seqs(c.texts(frames[0])))
		require.NoError(t, c.s.Push(push(friend, talk, "hello", 5)))
		require.Empty(t, c.wait(time.Second))
		require.NoError(t, c.s.Push(push(friend, talk, "hello", 8)))
		require.NoError(t, c.s.Push(push(friend, talk, "hello", 6, 7)))
		require.NoError(t, c.s.Push(push(friend, talk, "hello", 5, 6, 8, 9)))
		var all []int64
		for _, f := range c.wait(time.Second) {
			all = append(all, seqs(c.texts(f))...)
		}
		require.Equal(t, []int64{8, 6, 7, 9}, all)
		require.EqualValues(t, 3, c.served(talk))
		require.True(t, c.Lacks(talk, 10))
		require.False(t, c.Lacks(talk, 2))
		require.False(t, c.Lacks(talk, 7))
		require.EqualValues(t, 3, c.Floor(talk))
		require.Equal(t, []int64{talk}, c.Known())
		require.True(t, c.Settled(talk))
		require.Zero(t, c.Held())
	})
}

// A first-generation client keeps its texts over a new login, and a sender may resend one of them.
func TestTheFirstGenerationIsSentNothingFromBeforeItsLogin(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.stored[talk] = 4
		require.True(t, c.Lacks(talk, 4), "it may load history")
		require.NoError(t, c.s.Push(push(friend, talk, "again", 4)))
		c.FirstGeneration()
		require.NoError(t, c.s.Push(push(friend, talk, "and", 3, 5)))
		frames := c.wait(time.Second)
		require.Len(t, frames, 1)
		require.Equal(t, []int64{5}, seqs(c.texts(frames[0])))
		require.False(t, c.Lacks(talk, 4))
		require.True(t, c.Lacks(talk, 6))
		require.EqualValues(t, 4, c.Floor(talk))
		require.Equal(t, []int64{talk}, c.Known())
	})
}

func (c *stock) served(id int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.threads[id].served
}

func TestAThreadThatIsStillToBeLoadedIsNotSettled(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		require.False(t, c.Settled(talk))
		_, _ = c.ThreadsAsked(0)
		require.True(t, c.Announce(talk, friend))
		require.NoError(t, c.s.Reply(frameOf(wire.MsgThreadsRsp, `{}`)))
		c.ThreadsListed()
		require.False(t, c.Settled(talk))
		c.HistoryServed(talk, 4, false)
		require.True(t, c.Settled(talk))
		require.EqualValues(t, 4, c.Floor(talk))
		c.wait(time.Second)
	})
}
