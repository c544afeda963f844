package client

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

func TestDialTellsWhatTheServerSaid(t *testing.T) {
	f := newFake(t)
	f.welcome = map[string]any{
		"name": "alice", "desc": "hi", "window": 7, "heartbeat_s": 12, "node": "chat2",
		"friend_list": []any{map[string]any{"uid": 2, "name": "bob", "back": "bobby"}},
		"apply_list": []any{
			map[string]any{"uid": 3, "name": "carol", "desc": "it is me", "status": 0},
			map[string]any{"uid": 4, "name": "dave", "desc": "old", "status": 1},
		},
	}
	c := f.dial(1, Options{Client: "test/1", Device: "cli", Window: 9, Heartbeat: 15 * time.Second})

	require.Equal(t, Profile{UID: 1, Name: "alice", Nick: "nick", Desc: "hi"}, c.Profile())
	require.Equal(t, []Friend{{Profile: Profile{UID: 2, Name: "bob"}, Alias: "bobby"}}, c.Friends())
	require.Equal(t, []Application{{Profile: Profile{UID: 3, Name: "carol"}, Greeting: "it is me"}}, c.Applications())
	require.Equal(t, Ticket{Addr: f.addr(), UID: 1, Resume: "resume-1"}, c.Ticket())
	require.Equal(t, "chat2", c.Node())
	require.Equal(t, "1", c.SID())
	require.Equal(t, 7, c.Window())
	require.Equal(t, 12*time.Second, c.Heartbeat())
	require.True(t, c.Granted("gap"))
	require.False(t, c.Granted("magic"))

	require.Equal(t, wire.LoginRequest{
		UID: 1, Token: "good", Client: "test/1", Device: "cli", Window: 9, HeartbeatS: 15,
		Caps: []string{"batch", "resume", "gap", "groups", "rows", "marks", "presence"},
	}, f.logins[0])
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", f.ticket(1), f.ticket(1), f.ticket(1), f.ticket(1)), "good")
}

func TestDialFails(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		f := newFake(t)
		f.refuse = func(wire.LoginRequest) map[string]any {
			return map[string]any{"error": 2008, "retry_ms": 1500, "to": "127.0.0.1:9"}
		}
		_, err := Dial(t.Context(), f.ticket(1), Options{})
		require.Equal(t, &Error{Op: "login", Code: CodeDraining, RetryAfter: 1500 * time.Millisecond, To: "127.0.0.1:9"}, err)
		require.Equal(t, Retry, Advise(err))
	})
	t.Run("bad token", func(t *testing.T) {
		f := newFake(t)
		_, err := Dial(t.Context(), Ticket{Addr: f.addr(), UID: 1, Token: "bad"}, Options{})
		require.Equal(t, CodeTokenInvalid, CodeOf(err))
		require.Equal(t, LoginAgain, Advise(err))
	})
	t.Run("nobody there", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ln.Close()
		_, err = Dial(t.Context(), Ticket{Addr: ln.Addr().String(), UID: 1, Token: "x"}, Options{})
		require.Error(t, err)
		require.Equal(t, Retry, Advise(err))
	})
	t.Run("silent server", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		_, err = Dial(t.Context(), Ticket{Addr: ln.Addr().String(), UID: 1, Token: "x"}, Options{LoginTimeout: 50 * time.Millisecond})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = Dial(ctx, Ticket{Addr: ln.Addr().String(), UID: 1, Token: "x"}, Options{})
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("not our protocol", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			nc, err := ln.Accept()
			if err == nil {
				nc.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x", 70000)))
				nc.Close()
			}
		})
		_, err = Dial(t.Context(), Ticket{Addr: ln.Addr().String(), UID: 1, Token: "x"}, Options{})
		require.Error(t, err)
		wg.Wait()
	})
	t.Run("bad options", func(t *testing.T) {
		_, err := Dial(t.Context(), Ticket{}, Options{Heartbeat: time.Second})
		require.ErrorContains(t, err, "heartbeat")
		_, err = Dial(t.Context(), Ticket{}, Options{Window: 5000})
		require.ErrorContains(t, err, "window")
	})
}

func TestFramesArriveInAnyPieces(t *testing.T) {
	for _, slice := range []bool{false, true} {
		t.Run(fmt.Sprint("sliced ", slice), func(t *testing.T) {
			f := newFake(t)
			f.slice = slice
			f.thread(7, 1, 2)
			c := f.dial(1, Options{})
			// Many frames in one write, and each byte by itself, both end up as the same events.
			var all []byte
			for i := range 50 {
				m := f.append(7, 2, fmt.Sprint("u", i), strings.Repeat("é", i))
				frame, err := wire.AppendFrame(nil, wire.MsgTextPush, mustJSON(t, textFrame(m)))
				require.NoError(t, err)
				all = append(all, frame...)
			}
			f.living(1)[0].write(all)
			for i := range 50 {
				ev, err := c.Next(t.Context())
				require.NoError(t, err)
				texts := ev.(Texts)
				require.Equal(t, int64(7), texts.ThreadID)
				require.Equal(t, []Message{{
					ThreadID: 7, ID: int64(i + 1), Sender: 2, UniqueID: fmt.Sprint("u", i), Text: strings.Repeat("é", i),
					Time: time.UnixMilli(1_700_000_000_000 + int64(i)).UTC(),
				}}, texts.Messages)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	f := newFake(t)
	c := f.dial(1, Options{})
	s := f.living(1)[0]
	s.send(wire.MsgApplied, wire.AppliedPush{ApplyUID: 9, Name: "carol", Desc: "hello", Nick: "c"})
	s.send(wire.MsgID(2999), map[string]any{"error": 0})  // unknown: ignored
	s.send(wire.MsgSearchRsp, map[string]any{"error": 0}) // nobody asked: ignored
	s.send(wire.MsgApproved, wire.ApprovedPush{FromUID: 8, Name: "dave", Chats: []wire.StoredText{{Sender: 1, MsgID: 1, ThreadID: 4, Content: "hi"}}})
	s.send(wire.MsgGap, wire.Gap{ThreadID: 4, FromSeq: 12})
	s.send(wire.MsgGoodbye, wire.Goodbye{Error: wire.CodeDraining, Reason: "going", RetryMS: 20, To: "h:1"})
	s.nc.Close()

	goodbye := &Error{Op: "goodbye", Code: CodeDraining, Reason: "going", RetryAfter: 20 * time.Millisecond, To: "h:1"}
	want := []Event{
		Applied{Application{Profile: Profile{UID: 9, Name: "carol", Nick: "c"}, Greeting: "hello"}},
		Approved{Friend: Profile{UID: 8, Name: "dave"}, Messages: []Message{{ThreadID: 4, ID: 1, Sender: 1, Text: "hi"}}},
		Gap{ThreadID: 4, From: 12},
		Goodbye{Err: goodbye},
		Disconnected{Err: goodbye},
	}
	// A gap is told when nothing else waits, so the order is only sure without it.
	var got []Event
	for range want {
		ev, err := c.Next(t.Context())
		require.NoError(t, err)
		got = append(got, ev)
	}
	require.ElementsMatch(t, want, got)
	require.Equal(t, want[4], got[4])
	for range 2 {
		_, err := c.Next(t.Context())
		require.Equal(t, goodbye, err)
	}
	<-c.Done()
	require.Equal(t, goodbye, c.Err())
	_, err := c.SendText(t.Context(), User(2), "late")
	require.Equal(t, CodeDraining, CodeOf(err))
	_, err = c.Threads(t.Context())
	require.Equal(t, CodeDraining, CodeOf(err))
}

func TestReplacedEndsTheConnection(t *testing.T) {
	f := newFake(t)
	c := f.dial(1, Options{})
	s := f.living(1)[0]
	s.send(wire.MsgReplaced, map[string]any{"error": 0, "uid": 1})
	s.send(wire.MsgGoodbye, wire.Goodbye{Error: wire.CodeInternal})
	s.nc.Close()
	<-c.Done()
	require.ErrorIs(t, c.Err(), ErrReplaced)
	require.Equal(t, GiveUp, Advise(c.Err()))
}

func TestCutInTheMiddleOfAFrame(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	c := f.dial(1, Options{})
	f.living(1)[0].cut(11)
	_, err := c.SendText(t.Context(), User(2), "hello")
	require.ErrorContains(t, err, "in the middle of a frame")
	require.Equal(t, Retry, Advise(err))
	require.Equal(t, CodeOK, CodeOf(err))
}

func TestOnEvent(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	var got atomic.Int32
	ended := make(chan error, 1)
	c := f.dial(1, Options{OnEvent: func(ev Event) {
		switch ev := ev.(type) {
		case Texts:
			got.Add(int32(len(ev.Messages)))
		case Disconnected:
			ended <- ev.Err
		}
	}})
	for i := range 20 {
		f.say(7, 2, fmt.Sprint(i))
	}
	eventually(t, "20 texts", func() bool { return got.Load() == 20 })
	c.Close()
	require.ErrorIs(t, <-ended, ErrClosed)
}

func TestSlowConsumerGetsGaps(t *testing.T) {
	f := newFake(t)
	f.thread(7, 1, 2)
	f.thread(8, 1, 3)
	c := f.dial(1, Options{EventBytes: 2000})
	for i := range 40 {
		f.say(7, 2, fmt.Sprint("seven", i))
		f.say(8, 3, fmt.Sprint("eight", i))
	}
	// A request behind the pushes: when it is answered they have all been read.
	_, err := c.Threads(t.Context())
	require.NoError(t, err)
	last := map[int64]int64{}
	gaps := map[int64]int64{}
	for len(gaps) < 2 {
		ev, err := c.Next(t.Context())
		require.NoError(t, err)
		switch ev := ev.(type) {
		case Texts:
			require.Equal(t, last[ev.ThreadID]+1, ev.Messages[0].ID)
			last[ev.ThreadID]++
		case Gap:
			gaps[ev.ThreadID] = ev.From
		}
	}
	require.Equal(t, map[int64]int64{7: last[7] + 1, 8: last[8] + 1}, gaps)
	// The gap is told: texts come again.
	f.say(7, 2, "again")
	ev, err := c.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, "again", ev.(Texts).Messages[0].Text)
}

func TestSlowConsumerOfWhatCannotBeReadBack(t *testing.T) {
	f := newFake(t)
	c := f.dial(1, Options{EventBytes: 1000})
	s := f.living(1)[0]
	for i := range 20 {
		s.send(wire.MsgApplied, wire.AppliedPush{ApplyUID: int32(i + 1)})
	}
	<-c.Done()
	require.ErrorIs(t, c.Err(), ErrSlowConsumer)
}

// pipe returns a Dial to a server in this bubble, which answers the login with the given 1006 and passes what comes then to on. wait
// waits for its end.
func pipe(login string, on func(far net.Conn, id wire.MsgID)) (dial func(context.Context, string, string) (net.Conn, error), wait func()) {
	var wg sync.WaitGroup
	dial = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		wg.Go(func() {
			rd := bufio.NewReader(far)
			for {
				id, _, err := readFake(rd)
				if err != nil {
					return
				}
				if id == wire.MsgLogin {
					frame, _ := wire.AppendFrame(nil, wire.MsgLoginRsp, []byte(login))
					far.Write(frame)
				}
				on(far, id)
			}
		})
		return near, nil
	}
	return dial, wg.Wait
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := true
		var mu sync.Mutex
		beats := 0
		dial, wait := pipe(`{"error":0,"uid":1,"heartbeat_s":20}`, func(far net.Conn, id wire.MsgID) {
			if id == wire.MsgHeartbeat {
				mu.Lock()
				beats++
				if answer {
					far.Write(wire.HeartbeatFrame)
				}
				mu.Unlock()
			}
		})
		c, err := Dial(t.Context(), Ticket{UID: 1, Token: "x"}, Options{Dial: dial})
		require.NoError(t, err)
		time.Sleep(200 * time.Second)
		synctest.Wait()
		require.NoError(t, c.Err())
		mu.Lock()
		require.InDelta(t, 10, beats, 1)
		answer = false
		mu.Unlock()
		time.Sleep(31 * time.Second) // a period and the 10 s an answer may take
		synctest.Wait()
		require.ErrorIs(t, c.Err(), ErrTimeout)
		<-c.Done()
		wait()
	})
}

// A network that swallows everything is noticed soon after a request, not at the next heartbeat; a server that works on a request
// for long is not.
func TestASilentNetworkIsNoticedSoonAfterARequest(t *testing.T) {
	for name, beats := range map[string]bool{"silent network": false, "slow request": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial, wait := pipe(`{"error":0,"uid":1,"heartbeat_s":300}`, func(far net.Conn, id wire.MsgID) {
					if id == wire.MsgHeartbeat && beats {
						far.Write(wire.HeartbeatFrame)
					}
				})
				c, err := Dial(t.Context(), Ticket{UID: 1, Token: "x"}, Options{RequestTimeout: time.Minute, Dial: dial})
				require.NoError(t, err)
				time.Sleep(20 * time.Second)
				began := time.Now()
				for range 2 { // a second one begins no new wait
					go func() { _, _ = c.SendText(t.Context(), User(2), "hello") }()
					time.Sleep(4 * time.Second)
				}
				_, err = c.Search(t.Context(), "bob")
				require.ErrorIs(t, err, ErrTimeout)
				if want := 2 * answerTimeout; beats {
					require.NoError(t, c.Err())
				} else {
					require.ErrorIs(t, c.Err(), ErrTimeout)
					require.InDelta(t, want.Seconds(), time.Since(began).Seconds(), 1)
				}
				c.Close()
				<-c.Done()
				wait()
			})
		})
	}
}

// Who handles an event for long does not take the server for silent.
func TestASlowReceiverIsNotASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Heartbeats get no answer: nobody would read it.
		dial, wait := pipe(`{"error":0,"uid":1,"heartbeat_s":20}`, func(far net.Conn, id wire.MsgID) {
			if id == wire.MsgLogin {
				frame, _ := wire.AppendFrame(nil, wire.MsgApplied, []byte(`{"error":0,"applyuid":2,"name":"bob"}`))
				far.Write(frame)
			}
		})
		slow := make(chan struct{})
		c, err := Dial(t.Context(), Ticket{UID: 1, Token: "x"}, Options{
			Dial: dial,
			OnEvent: func(e Event) {
				if _, ended := e.(Disconnected); !ended {
					time.Sleep(2 * time.Minute)
					close(slow)
				}
			},
		})
		require.NoError(t, err)
		<-slow
		require.NoError(t, c.Err())
		c.Close()
		<-c.Done()
		wait()
	})
}

func TestServerThatDoesNotRead(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		readFake(bufio.NewReader(far))
		frame, _ := wire.AppendFrame(nil, wire.MsgLoginRsp, []byte(`{"error":0,"uid":1,"window":2}`))
		far.Write(frame)
	})
	c, err := Dial(t.Context(), Ticket{UID: 1, Token: "x"}, Options{
		QueueBytes: 100, Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil },
	})
	require.NoError(t, err)
	wg.Wait()
	// Requests block at the bound of the queue, texts at the window; both end with their context.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var callers sync.WaitGroup
	for range 10 {
		callers.Go(func() {
			_, err := c.Search(ctx, "somebody with a name of some length")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			_, err = c.SendText(ctx, User(2), "hello")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
	callers.Wait()
	c.mu.Lock()
	require.Less(t, len(c.out), 1000)
	c.mu.Unlock()
	c.Close()
	<-c.Done()
}
