package legacy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/session"
	"parley/internal/wire"
)

func TestFramesAreSpacedAndRepliesGoFirst(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.load(0)
		c.wait(time.Second)
		for i := range 5 {
			require.NoError(t, c.s.Push(&session.Push{To: me, ID: wire.MsgApplied, Body: []byte(fmt.Sprint("p", i))}))
			require.NoError(t, c.s.Reply(frameOf(wire.MsgSearchRsp, fmt.Sprint("r", i))))
		}
		frames := c.wait(time.Second)
		var order []string
		for _, f := range frames {
			order = append(order, f.body)
		}
		// The first push was written at once; from then on replies overtake.
		require.Equal(t, []string{"p0", "r0", "r1", "r2", "r3", "r4", "p1", "p2", "p3", "p4"}, order)
		for i := 1; i < len(frames); i++ {
			require.LessOrEqual(t, frames[i].at-frames[i-1].at, Gap+2*Resolution, "nor much later than it must")
		}
	})
}

func TestFramesAtRandomTimesAreSpaced(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.load(0)
		n := 0
		for range 300 {
			for range rand.IntN(3) {
				n++
				require.NoError(t, c.s.Reply(frameOf(wire.MsgSearchRsp, "r")))
			}
			c.wait(time.Duration(rand.IntN(40)) * time.Millisecond) // checks the gap
		}
		require.Positive(t, n)
	})
}

func TestHeartbeatRepliesGoOnlyWhenNothingElseDoes(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		beat := func() { require.NoError(t, c.s.Reply(wire.HeartbeatFrame)) }
		beat()
		require.Equal(t, []wire.MsgID{wire.MsgHeartbeatRsp}, ids(c.wait(time.Second)))
		beat()
		beat()
		beat() // the waiting answer counts for both heartbeats
		require.Len(t, c.wait(time.Second), 2)
		require.Equal(t, 1, c.heartbeats)

		search := frameOf(wire.MsgSearchRsp, "")
		require.NoError(t, c.s.Reply(search))
		require.NoError(t, c.s.Reply(search))
		beat()
		require.Equal(t, []wire.MsgID{wire.MsgSearchRsp, wire.MsgSearchRsp}, ids(c.wait(time.Second)))
		require.Equal(t, 2, c.heartbeats)

		require.NoError(t, c.s.Reply(search))
		beat() // nothing else waits, until something does
		require.NoError(t, c.s.Reply(search))
		require.Equal(t, []wire.MsgID{wire.MsgSearchRsp, wire.MsgSearchRsp}, ids(c.wait(time.Second)))
		require.Equal(t, 3, c.heartbeats)
	})
}

func TestPushesWaitForTheFirstLoad(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		applied := &session.Push{To: me, ID: wire.MsgApplied, Body: []byte(`{"error":0}`)}
		require.NoError(t, c.s.Push(applied))
		require.NoError(t, c.s.Push(push(friend, talk, "x", 3)))
		require.Empty(t, c.wait(time.Second), "before 1025")

		c.ThreadsAsked(0)
		require.True(t, c.Announce(talk, friend))
		require.NoError(t, c.s.Reply(frameOf(wire.MsgThreadsRsp, `{}`)))
		require.Equal(t, []wire.MsgID{wire.MsgThreadsRsp}, ids(c.wait(time.Second)), "a page that is not the last")
		c.ThreadsListed()
		require.Equal(t, []wire.MsgID{wire.MsgApplied}, ids(c.wait(time.Second)), "texts wait for their thread's history")

		require.NoError(t, c.s.Reply(frameOf(wire.MsgHistoryRsp, `{}`)))
		c.HistoryServed(talk, 1, true)
		require.Equal(t, []wire.MsgID{wire.MsgHistoryRsp}, ids(c.wait(time.Second)))
		require.NoError(t, c.s.Push(push(friend, talk, "y", 4)))
		require.NoError(t, c.s.Reply(frameOf(wire.MsgHistoryRsp, `{}`)))
		c.HistoryServed(talk, 3, false)
		frames := c.wait(time.Second)
		require.Equal(t, []wire.MsgID{wire.MsgHistoryRsp, wire.MsgTextPush}, ids(frames))
		require.Equal(t, []int64{4}, seqs(c.texts(frames[1])), "3 was in the history")
	})
}

func TestTextsOfOneSenderAndThreadAreMerged(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		require.NoError(t, c.s.Push(push(friend, talk, "a", 1, 2)))
		require.NoError(t, c.s.Push(push(pal, 8, "b", 1)))
		require.NoError(t, c.s.Push(push(friend, talk, "c", 4)))
		require.NoError(t, c.s.Push(push(friend, talk, "d", 5)))
		c.ThreadsAsked(0)
		c.Announce(talk, friend)
		c.Announce(8, pal)
		require.NoError(t, c.s.Reply(frameOf(wire.MsgThreadsRsp, `{}`)))
		c.HistoryServed(talk, 1, false)
		c.HistoryServed(8, 0, false)
		c.ThreadsListed()
		frames := c.wait(time.Second)
		require.Equal(t, []wire.MsgID{wire.MsgThreadsRsp, wire.MsgTextPush, wire.MsgTextPush}, ids(frames))
		first := c.texts(frames[1])
		require.Equal(t, []int64{2, 4, 5}, seqs(first))
		require.Equal(t, wire.TextPush{FromUID: friend, ToUID: me, ThreadID: talk, Chats: first.Chats}, first)
		require.Equal(t, []int64{1}, seqs(c.texts(frames[2])))
		require.Equal(t, 2, c.merged)
	})
}

func TestMergedTextsFitAFrame(t *testing.T) {
	for _, content := range []string{"x", "\b", "\x01", "日", "\u2028"} {
		for _, gen1 := range []bool{false, true} {
			in(t, func(t *testing.T, c *stock) {
				content := strings.Repeat(content, wire.MaxText/len(content))
				const pushes = 6
				for i := range pushes {
					p := push(friend, talk, content, int64(i+1))
					if c.held.bytes+len(p.Body) > MaxHeld {
						break
					}
					require.NoError(t, c.s.Push(p))
				}
				n := len(c.held.pushes)
				if gen1 {
					c.FirstGeneration()
				} else {
					c.load(0)
				}
				var all []int64
				for _, f := range c.wait(2 * time.Second) {
					if f.id == wire.MsgTextPush {
						all = append(all, seqs(c.texts(f))...)
					}
				}
				require.Len(t, all, n, "%q: none is lost", content[:1])
				require.IsIncreasing(t, all)
			})
		}
	}
}

func TestALongPushReachesTheFirstGeneration(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		var long []int64
		for i := range 12 {
			long = append(long, int64(i+1))
		}
		require.NoError(t, c.s.Push(push(friend, talk, strings.Repeat("x", 4000), long...)))
		c.FirstGeneration()
		frames := c.wait(time.Second)
		require.Equal(t, []wire.MsgID{wire.MsgTextPush}, ids(frames))
		require.Equal(t, 12, strings.Count(frames[0].body, `"msgid":"u`))
	})
}

func TestAThreadMadeMeanwhileIsAnnouncedFirst(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.load(0)
		c.wait(time.Second)
		require.NoError(t, c.s.Push(push(pal, 8, "a", 1)))
		require.NoError(t, c.s.Push(push(pal, 8, "b", 2)))
		frames := c.wait(time.Second)
		require.Equal(t, []wire.MsgID{wire.MsgOpenThreadRsp, wire.MsgTextPush}, ids(frames))
		require.Equal(t, `{"error":0,"uid":1,"other_id":3,"thread_id":8}`, frames[0].body)
		require.Equal(t, []int64{1, 2}, seqs(c.texts(frames[1])))
		require.NoError(t, c.s.Push(push(pal, 8, "c", 3)))
		require.Equal(t, []wire.MsgID{wire.MsgTextPush}, ids(c.wait(time.Second)), "once")
		require.Equal(t, 1, c.reannounced)
	})
}

func TestAStrangersTextIsDropped(t *testing.T) {
	for _, gen1 := range []bool{false, true} {
		in(t, func(t *testing.T, c *stock) {
			if gen1 {
				c.FirstGeneration()
			} else {
				c.load(0)
			}
			c.wait(time.Second)
			require.NoError(t, c.s.Push(push(stranger, 99, "a", 1)))
			require.NoError(t, c.s.Push(push(friend, talk, "b", 1)))
			frames := c.wait(time.Second)
			require.Len(t, frames, 1)
			require.Equal(t, friend, c.texts(frames[0]).FromUID)
			require.Equal(t, 1, c.unsafe)
			require.Zero(t, c.held.bytes)
		})
	}
}

func TestANewFriendsTextsFollowTheApproval(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.load(0)
		c.wait(time.Second)
		body, err := wire.Encode(wire.ApprovedPush{FromUID: stranger, ToUID: me, Chats: []wire.StoredText{{MsgID: 1, ThreadID: 99}, {MsgID: 2, ThreadID: 99}}})
		require.NoError(t, err)
		require.NoError(t, c.s.Push(&session.Push{To: me, From: stranger, ID: wire.MsgApproved, Body: body}))
		require.NoError(t, c.s.Push(push(stranger, 99, "a", 2)))
		require.NoError(t, c.s.Push(push(stranger, 99, "b", 3)))
		frames := c.wait(time.Second)
		require.Equal(t, []wire.MsgID{wire.MsgApproved, wire.MsgTextPush}, ids(frames))
		require.Equal(t, []int64{3}, seqs(c.texts(frames[1])), "1 and 2 came with the approval")

		empty, err := wire.Encode(wire.ApprovedPush{FromUID: 10})
		require.NoError(t, err)
		require.NoError(t, c.s.Push(&session.Push{To: me, From: 10, ID: wire.MsgApproved, Body: empty}))
		require.Empty(t, c.wait(time.Second), "an approval without a message crashes the client")
	})
}

func TestNoTextOvertakesTheReplyThatNamesItsThread(t *testing.T) {
	for name, announce := range map[string]func(c *stock) wire.MsgID{
		"1028": func(c *stock) wire.MsgID { require.True(c.t, c.AnnounceLoaded(8, pal)); return wire.MsgOpenThreadRsp },
		"1014": func(c *stock) wire.MsgID { c.Befriended(stranger, 8, 1); return wire.MsgApproveRsp },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, c *stock) {
				c.load(0)
				c.wait(time.Second)
				id := announce(c)
				from := pal
				if id == wire.MsgApproveRsp {
					from = stranger
				}
				require.NoError(t, c.s.Push(push(from, 8, "a", 2)))
				require.NoError(t, c.s.Reply(frameOf(wire.MsgTextRsp, ""))) // of a text of its own
				require.Equal(t, []wire.MsgID{wire.MsgTextRsp}, ids(c.wait(time.Second)))
				require.NoError(t, c.s.Reply(frameOf(id, "")))
				require.Equal(t, []wire.MsgID{id, wire.MsgTextPush}, ids(c.wait(time.Second)))
			})
		})
	}
}

func TestWhatIsListed(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		after, first := c.ThreadsAsked(500)
		require.True(t, first)
		require.Zero(t, after, "the client's cursor outlives its list")
		require.True(t, c.Announce(talk, friend))
		require.False(t, c.Announce(talk, friend), "twice wipes what it has")
		require.False(t, c.Announce(99, stranger), "a peer outside the friend list crashes it")
		require.False(t, c.AnnounceLoaded(99, stranger))
		require.True(t, c.AnnounceLoaded(talk, friend), "asked for by the client: it may be named again")
		after, first = c.ThreadsAsked(500)
		require.False(t, first)
		require.EqualValues(t, 500, after)
	})
}

func TestAClientThatAsksForNoThreadsIsTheFirstGeneration(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		require.NoError(t, c.s.Push(push(friend, talk, "hi", 1)))
		for time.Since(c.opened) < FirstLoad-time.Second {
			c.Tick(time.Now())
			require.Empty(t, c.wait(time.Second-Gap))
		}
		c.wait(FirstLoad - time.Since(c.opened))
		c.Tick(time.Now())
		frames := c.wait(time.Second)
		require.Equal(t, []wire.MsgID{wire.MsgTextPush}, ids(frames))
		require.Contains(t, frames[0].body, `"text_array":[{"content":"hi","msgid":"u1"}]`)
		require.GreaterOrEqual(t, frames[0].at, FirstLoad)

		// The client was only slow.
		c.load(1)
		c.wait(time.Second)
		require.NoError(t, c.s.Push(push(friend, talk, "ho", 2)))
		require.NotContains(t, c.wait(time.Second)[0].body, "text_array")
		c.FirstGeneration()
		require.NoError(t, c.s.Push(push(friend, talk, "ho", 3)))
		require.NotContains(t, c.wait(time.Second)[0].body, "text_array", "it asked for threads")
	})
}

// The client cannot ask for its threads before it has its 1006, however long the login took. A text that was pushed meanwhile, in a
// thread without an announcement, would crash it.
func TestALongLoginLeavesTheClientItsTimeToAskForThreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStock(t)
		for range 2 * int(FirstLoad/time.Second) {
			require.Empty(t, c.wait(time.Second))
			c.Tick(time.Now())
		}
		require.NoError(t, c.s.Reply(frameOf(wire.MsgLoginRsp, `{"error":0}`)))
		require.NoError(t, c.s.Push(push(friend, talk, "hi", 1)))
		c.Tick(time.Now())
		require.Equal(t, []wire.MsgID{wire.MsgLoginRsp}, ids(c.wait(FirstLoad-time.Second)))
		c.Tick(time.Now())
		c.load(0)
		frames := c.wait(time.Second)
		require.Equal(t, []wire.MsgID{wire.MsgThreadsRsp, wire.MsgHistoryRsp, wire.MsgTextPush}, ids(frames))
		require.NotContains(t, frames[2].body, "text_array")
	})
}

// The 1025 waits for its turn behind what is left to do of the login.
func TestAClientWhoseThreadsAreAskedForIsNoFirstGeneration(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.Asking()
		require.NoError(t, c.s.Push(push(friend, talk, "hi", 1)))
		for range 2 * int(FirstLoad/time.Second) {
			c.Tick(time.Now())
			require.Empty(t, c.wait(time.Second))
		}
		c.FirstGeneration()
		require.Empty(t, c.wait(time.Second))
		c.load(0)
		require.Equal(t, []wire.MsgID{wire.MsgThreadsRsp, wire.MsgHistoryRsp, wire.MsgTextPush}, ids(c.wait(time.Second)))
	})
}

func TestPatienceWithALoadEnds(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.ThreadsAsked(0)
		c.Announce(talk, friend)
		require.NoError(t, c.s.Reply(frameOf(wire.MsgThreadsRsp, "")))
		c.ThreadsListed()
		require.NoError(t, c.s.Push(push(friend, talk, "x", 1)))
		c.wait(LoadPatience - time.Second)
		c.Tick(time.Now())
		require.Empty(t, c.wait(900*time.Millisecond))
		c.wait(200 * time.Millisecond)
		c.Tick(time.Now())
		require.Equal(t, []wire.MsgID{wire.MsgTextPush}, ids(c.wait(time.Second)))
	})
}

func TestWhatOnlyOurClientsUnderstandIsDropped(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.load(0)
		c.wait(time.Second)
		for _, id := range []wire.MsgID{wire.MsgGap, wire.MsgGoodbye, wire.MsgOpenThreadRsp, 0} {
			require.NoError(t, c.s.Push(&session.Push{To: me, ID: id, Body: []byte("{}")}))
		}
		require.Empty(t, c.wait(time.Second))
	})
}

func TestTooMuchHeldClosesTheSession(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		held := 0
		var err error
		for err == nil {
			p := push(friend, talk, strings.Repeat("x", 1000), 1)
			if err = c.s.Push(p); err == nil {
				held += len(p.Body)
			}
		}
		require.ErrorIs(t, err, session.ErrSlow)
		require.LessOrEqual(t, held, MaxHeld)
		require.Equal(t, 1, c.overflowed)
		c.wait(time.Second)
		require.True(t, c.eof)
		require.ErrorIs(t, c.s.Reply(wire.HeartbeatFrame), session.ErrClosed)
		require.Zero(t, c.held.bytes)
	})
}

func TestTooManyRepliesCloseTheSession(t *testing.T) {
	for name, size := range map[string]int{"count": 1, "bytes": 60000} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, c *stock) {
				n := 0
				for c.s.Reply(frameOf(wire.MsgSearchRsp, strings.Repeat("x", size))) == nil {
					n++
					require.LessOrEqual(t, n, maxReplies+1)
				}
				require.LessOrEqual(t, (n-1)*size, maxReplyBytes)
				c.wait(time.Second)
				require.True(t, c.eof)
			})
		})
	}
}

func TestTheLastFrameFollowsTheReplies(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.load(0)
		c.wait(time.Second)
		for range 3 {
			require.NoError(t, c.s.Reply(frameOf(wire.MsgSearchRsp, "")))
		}
		require.NoError(t, c.s.Push(push(friend, talk, "x", 1)))
		require.True(t, c.s.Finish(frameOf(wire.MsgReplaced, `{"error":0}`)))
		require.ErrorIs(t, c.s.Reply(wire.HeartbeatFrame), session.ErrClosed)
		require.ErrorIs(t, c.Push(push(friend, talk, "x", 2)), session.ErrClosed)
		require.ErrorIs(t, c.Reply(wire.HeartbeatFrame), session.ErrClosed)
		r := wire.MsgSearchRsp
		require.Equal(t, []wire.MsgID{r, r, r, wire.MsgReplaced}, ids(c.wait(time.Second)))
		require.True(t, c.eof)
	})
}

func TestTheEndWithoutAFrame(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		require.True(t, c.s.Finish(nil))
		require.Empty(t, c.wait(50*time.Millisecond))
		require.True(t, c.eof)
	})
}

// A frame queued behind a partially written one would be written together with the rest of it.
func TestNoFrameJoinsTheRestOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStock(t)
		frame := frameOf(wire.MsgSearchRsp, strings.Repeat("x", 60000))
		full := false
		for range 50 {
			if c.queued() == 0 {
				require.NoError(t, c.s.Reply(frame))
			}
			time.Sleep(Gap + Resolution)
			synctest.Wait()
			if c.s.Queued() > 0 {
				full = true
				require.Less(t, c.s.Queued(), len(frame))
			}
		}
		require.True(t, full)
		require.Equal(t, 1, c.queued())
		// The client reads again: first the rest, then the next frame, each with its spacing.
		n := 0
		buf := make([]byte, 1<<20)
		for range 1000 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
			k, _ := syscall.Read(c.fd, buf)
			n += max(k, 0)
		}
		require.Zero(t, n%len(frame))
		require.Zero(t, c.queued())
	})
}

// Replies, pushes, ticks, the wheel and the end of a session run concurrently without a deadlock.
func TestNoDeadlock(t *testing.T) {
	for range 30 {
		var wg sync.WaitGroup
		c := newStock(t)
		var reader sync.WaitGroup
		stop := make(chan struct{})
		reader.Go(func() {
			buf := make([]byte, 64<<10)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if n, err := syscall.Read(c.fd, buf); n == 0 && err == nil {
					return
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
		for k := range 4 {
			wg.Go(func() {
				for i := range 200 {
					switch rand.IntN(8) {
					case 0:
						_ = c.s.Push(push(friend, talk, "x", int64(i+1)))
					case 1:
						_ = c.s.Push(push(pal, 8, strings.Repeat("y", 3000), int64(i+1)))
					case 2:
						c.Tick(time.Now().Add(time.Duration(i) * time.Second))
					case 3:
						c.HistoryServed(talk, int64(i), i%2 == 0)
					case 4:
						c.ThreadsListed()
					default:
						_ = c.s.Reply(frameOf(wire.MsgSearchRsp, strings.Repeat("z", rand.IntN(2000))))
					}
				}
				switch k {
				case 0:
					c.s.Finish(wire.HeartbeatFrame)
				case 1:
					c.s.Close()
				}
			})
		}
		wg.Wait()
		c.s.Close()
		close(stop)
		reader.Wait()
		require.ErrorIs(t, c.s.Reply(wire.HeartbeatFrame), session.ErrClosed)
	}
}

func TestTheWheelCoversItsSpan(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		// The time is longer than the wheel: it calls early, and the policy waits again.
		c.wheel.after(time.Hour, c.Policy)
		c.wheel.after(0, c.Policy)
		c.wait(time.Second)
		c.wheel.mu.Lock()
		defer c.wheel.mu.Unlock()
		require.Zero(t, c.wheel.waiting)
		for _, s := range c.wheel.slot {
			require.Empty(t, s)
		}
	})
}

func TestWhatWasPushedIsLeftOutOfHistoryAskedAgain(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.load(5)
		c.wait(time.Second)
		require.NoError(t, c.s.Push(push(friend, talk, "x", 6)))
		require.Len(t, c.wait(time.Second), 1)
		require.EqualValues(t, 6, c.HistoryAsked(talk))
		require.NoError(t, c.s.Push(push(friend, talk, "y", 7)))
		require.Empty(t, c.wait(time.Second), "pushed and served at the same time would be shown twice")
		c.HistoryServed(talk, 5, false)
		require.Len(t, c.wait(time.Second), 1)
		require.EqualValues(t, 6, c.HistoryAsked(talk))
		require.Zero(t, c.HistoryAsked(99), "a thread of the user before")
	})
}

func TestALoadThatGoesOnIsWaitedFor(t *testing.T) {
	in(t, func(t *testing.T, c *stock) {
		c.ThreadsAsked(0)
		c.Announce(talk, friend)
		require.NoError(t, c.s.Reply(frameOf(wire.MsgThreadsRsp, "")))
		c.ThreadsListed()
		require.NoError(t, c.s.Push(push(friend, talk, "x", 1)))
		for range 4 {
			c.wait(LoadPatience - time.Second)
			c.Tick(time.Now())
			c.HistoryAsked(98) // of another thread in a long list
		}
		require.Empty(t, c.wait(100*time.Millisecond))
	})
}
