package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parley/internal/rpc"
	"parley/internal/session"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/chatservice"
	"parley/kitex_gen/message/nodeservice"
)

// Goroutines that netpoll and Kitex start once per process and never end are ignored.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/loadbalance/lbcache.(*BalancerFactory).watcher"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/utils.(*SharedTicker).Tick"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createTicker.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createWorker.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc.preallocateForStream"),
		goleak.IgnoreAnyFunction("github.com/bytedance/gopkg/util/gopool.(*worker).run.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/loadbalance/lbcache.newBalancerFactory"),
	)
}

// fakeNode is another chat node that records what it receives.
type fakeNode struct {
	t    *testing.T
	addr string
	stop func()

	mu     sync.Mutex // guards the following
	pushes []*message.Push
	calls  int
	times  map[[2]uint64]int // of each call, by stream and number
	code   func(*message.Push) int32
	err    int32
	block  chan struct{}
	byNotify
}

// byNotify holds what arrived by llfcchat's calls.
type byNotify struct {
	texts   []*message.TextChatMsgReq
	applied []*message.AddFriendReq
	approve []*message.AuthFriendReq
	kicks   []*message.KickUserReq
}

func (n *fakeNode) Operate(context.Context, *message.OperateReq) (*message.OperateRsp, error) {
	return nil, errors.New("not reached")
}

func (n *fakeNode) Hello(_ context.Context, r *message.HelloReq) (*message.HelloRsp, error) {
	return &message.HelloRsp{Name: "b", Boot: "boot of b, asked by " + r.Name}, nil
}

func (n *fakeNode) Deliver(_ context.Context, r *message.DeliverReq) (*message.DeliverRsp, error) {
	n.mu.Lock()
	n.calls++
	if n.times == nil {
		n.times = map[[2]uint64]int{}
	}
	n.times[[2]uint64{r.Stream, r.Call}]++
	block := n.block
	n.mu.Unlock()
	if block != nil {
		<-block
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	rsp := &message.DeliverRsp{Error: n.err, Codes: make([]int32, len(r.Pushes))}
	for i, p := range r.Pushes {
		n.pushes = append(n.pushes, p)
		if n.code != nil {
			rsp.Codes[i] = n.code(p)
		}
	}
	return rsp, nil
}

func (n *fakeNode) NotifyAddFriend(_ context.Context, r *message.AddFriendReq) (*message.AddFriendRsp, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.applied = append(n.applied, r)
	return &message.AddFriendRsp{}, nil
}

func (n *fakeNode) NotifyAuthFriend(_ context.Context, r *message.AuthFriendReq) (*message.AuthFriendRsp, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.approve = append(n.approve, r)
	return &message.AuthFriendRsp{}, nil
}

func (n *fakeNode) NotifyTextChatMsg(_ context.Context, r *message.TextChatMsgReq) (*message.TextChatMsgRsp, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.texts = append(n.texts, r)
	return &message.TextChatMsgRsp{}, nil
}

func (n *fakeNode) NotifyKickUser(_ context.Context, r *message.KickUserReq) (*message.KickUserRsp, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kicks = append(n.kicks, r)
	return &message.KickUserRsp{Error: n.err, Uid: r.Uid}, nil
}

func (n *fakeNode) RplyAddFriend(context.Context, *message.RplyFriendReq) (*message.RplyFriendRsp, error) {
	return nil, errors.New("not called")
}

func (n *fakeNode) SendChatMsg(context.Context, *message.SendChatMsgReq) (*message.SendChatMsgRsp, error) {
	return nil, errors.New("not called")
}

// serve runs the node on addr, or on a free port if addr is "", until stop.
func (n *fakeNode) serve(addr string, chatOnly bool) {
	n.t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var ln net.Listener
	require.Eventually(n.t, func() (ok bool) { // the port may not be free again yet
		var err error
		ln, err = net.Listen("tcp", addr)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	s, err := rpc.NewServer(ln, rpc.ServerConfig{Name: "b", ExitWait: 100 * time.Millisecond})
	require.NoError(n.t, err)
	require.NoError(n.t, chatservice.RegisterService(s, n))
	if !chatOnly {
		require.NoError(n.t, nodeservice.RegisterService(s, n))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ctx) // the calls show failures
	}()
	n.addr = s.Addr()
	n.stop = sync.OnceFunc(func() { cancel(); <-done })
	n.t.Cleanup(n.stop)
}

func startNode(t *testing.T) *fakeNode {
	t.Helper()
	n := &fakeNode{t: t}
	n.serve("", false)
	return n
}

// got returns the numbers of all pushes received so far.
func (n *fakeNode) got() (seqs []int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.pushes {
		seqs = append(seqs, p.Seq)
	}
	return seqs
}

// called returns the number of Deliver calls.
func (n *fakeNode) called() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

// told records what a pool reports about pushes.
type told struct {
	mu        sync.Mutex
	notHere   []int64
	elsewhere []int64
	forgotten []int32
}

func dial(addr string, grpc bool) (Clients, error) {
	c := rpc.ClientConfig{Timeout: 30 * time.Second, GRPC: grpc}
	a, b := rpc.NewClient(c, addr), rpc.NewClient(c, addr)
	node, err := nodeservice.NewClient("chatnode", a.Options()...)
	if err != nil {
		return Clients{}, err
	}
	chat, err := chatservice.NewClient("chatnode", b.Options()...)
	return Clients{Node: node, Chat: chat, Close: func() { a.Close(); b.Close() }}, err
}

func startPool(t *testing.T, change func(*Config)) (*Pool, *told) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.MaxPause, cfg.Timeout = 200*time.Millisecond, 10*time.Second // a busy machine must not look like a dead peer
	if change != nil {
		change(&cfg)
	}
	said := new(told)
	p := New(cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Self: "a", Dial: dial,
		NotHere: func(node string, p *session.Push) {
			said.mu.Lock()
			defer said.mu.Unlock()
			if node == "b" {
				said.notHere = append(said.notHere, p.Seq)
			}
		},
		ElsewhereToo: func(p *session.Push) {
			said.mu.Lock()
			defer said.mu.Unlock()
			said.elsewhere = append(said.elsewhere, p.Seq)
		},
		Forget: func(uid int32) { said.mu.Lock(); defer said.mu.Unlock(); said.forgotten = append(said.forgotten, uid) },
	})
	t.Cleanup(p.Close)
	return p, said
}

func push(to int32, seq int64) *session.Push {
	return &session.Push{
		To: to, ID: wire.MsgTextPush, From: 9, Thread: 7, Seq: seq, Body: []byte(fmt.Sprint("body ", seq)), Device: "d", SID: "s",
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, 2*time.Millisecond, what)
}

func TestPushesArriveInOrderAndInFewCalls(t *testing.T) {
	n := startNode(t)
	p, _ := startPool(t, nil)
	p.SetNodes(map[string]string{"a": "127.0.0.1:1", "b": n.addr})
	require.False(t, p.Forward("a", push(1, 1)), "no link to myself")
	require.False(t, p.Forward("c", push(1, 1)))
	const users, each = 10, 300
	block := make(chan struct{})
	n.block = block // so that pushes wait, however fast calls are
	var wg sync.WaitGroup
	for u := range int32(users) {
		wg.Go(func() {
			for i := range each {
				require.True(t, p.Forward("b", push(u, int64(i))))
			}
		})
	}
	wg.Wait()
	close(block)
	eventually(t, "all pushes to arrive", func() bool { return len(n.got()) == users*each })
	n.mu.Lock()
	pushes := n.pushes
	n.mu.Unlock()
	next := map[int32]int64{}
	for _, m := range pushes {
		require.Equal(t, next[m.ToUid], m.Seq)
		next[m.ToUid]++
	}
	require.Equal(t, &message.Push{
		ToUid: pushes[0].ToUid, Device: "d", MsgId: 1019, FromUid: 9, ThreadId: 7, Seq: 0, Body: []byte("body 0"), Sid: "s",
	}, pushes[0])
	// Each lane makes a first call with what had arrived by then, and the others with full batches.
	lanes, perCall := p.cfg.Lanes, p.cfg.CallPushes
	require.LessOrEqual(t, n.called(), 2*lanes+users*each/perCall, "what waits shares a call")
}

func TestWhatThePeerSaysOfEachPush(t *testing.T) {
	n := startNode(t)
	n.code = func(m *message.Push) int32 { // before any call
		return []int32{0, CodeNotHere, CodeElsewhereToo, int32(wire.CodeSlowConsumer)}[m.Seq%4]
	}
	p, said := startPool(t, nil)
	p.SetNodes(map[string]string{"b": n.addr})
	for i := range 8 {
		require.True(t, p.Forward("b", push(1, int64(i))))
	}
	hint := &session.Push{To: 1, Seq: 1}
	require.True(t, p.Forward("b", hint), "that somebody is here too")
	eventually(t, "the answers", func() bool {
		said.mu.Lock()
		defer said.mu.Unlock()
		return len(n.got()) == 9 && len(said.elsewhere) == 2
	})
	eventually(t, "the last answer", func() bool { return !p.link("b").lane(&session.Push{To: 1}).running.Load() })
	p.Close()
	require.Equal(t, []int64{1, 5}, said.notHere, "a hint that reaches nobody is no push to deliver")
	require.Equal(t, []int64{2, 6}, said.elsewhere)
	require.Empty(t, said.forgotten)
}

// Rows of a group keep their order, and a peer without members causes no look-up.
func TestRowsOfGroupsAreCarried(t *testing.T) {
	n := startNode(t)
	n.code = func(*message.Push) int32 { return CodeNotHere }
	p, said := startPool(t, nil)
	p.SetNodes(map[string]string{"b": n.addr})
	for seq := range int64(20) {
		require.True(t, p.Forward("b", &session.Push{ID: wire.MsgGroupPush, Thread: 6, Ver: 3, First: seq + 1, Seq: seq + 2, Body: []byte("rows")}))
	}
	eventually(t, "the rows", func() bool { return len(n.got()) == 20 })
	p.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	require.Equal(t, &message.Push{MsgId: 2144, ThreadId: 6, MemberVer: 3, FirstSeq: 1, Seq: 2, Body: []byte("rows")}, n.pushes[0])
	for i, m := range n.pushes {
		require.EqualValues(t, i+1, m.FirstSeq)
	}
	require.Empty(t, said.notHere)
}

func TestCallsAreBoundedInPushesAndBytes(t *testing.T) {
	n := startNode(t)
	p, _ := startPool(t, func(c *Config) { c.Lanes, c.CallPushes, c.CallBytes = 1, 10, 100 })
	p.SetNodes(map[string]string{"b": n.addr})
	n.block = make(chan struct{})
	require.True(t, p.Forward("b", push(1, 0)))
	eventually(t, "the first call", func() bool { return n.called() == 1 })
	for i := range 20 {
		require.True(t, p.Forward("b", &session.Push{To: 1, ID: 1019, Seq: int64(i), Body: make([]byte, 5)}))
	}
	for i := range 3 {
		require.True(t, p.Forward("b", &session.Push{To: 1, ID: 1019, Seq: int64(i), Body: make([]byte, 60)}))
	}
	require.True(t, p.Forward("b", &session.Push{To: 1, ID: 1019, Body: make([]byte, 1000)}), "one alone may be larger")
	n.mu.Lock()
	close(n.block)
	n.block = nil
	n.mu.Unlock()
	eventually(t, "all", func() bool { return len(n.got()) == 25 })
	require.Equal(t, 1+2+3+1, n.called())
}

func TestALaneIsBounded(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"pushes": func(c *Config) { c.Lanes, c.LanePushes = 1, 5 },
		"bytes":  func(c *Config) { c.Lanes, c.LaneBytes = 1, 5*len("body 1") },
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t)
			n.block = make(chan struct{})
			p, _ := startPool(t, change)
			p.SetNodes(map[string]string{"b": n.addr})
			require.True(t, p.Forward("b", push(1, 0)))
			eventually(t, "the first call", func() bool { return n.called() == 1 })
			for i := range 5 {
				require.True(t, p.Forward("b", push(1, int64(i))))
			}
			require.False(t, p.Forward("b", push(1, 6)))
			close(n.block)
			eventually(t, "all", func() bool { return len(n.got()) == 6 })
			require.True(t, p.Forward("b", push(1, 7)))
		})
	}
}

func TestADeadPeerIsLeftAloneAndComesBack(t *testing.T) {
	n := startNode(t)
	p, said := startPool(t, nil)
	p.SetNodes(map[string]string{"b": n.addr})
	require.True(t, p.Forward("b", push(1, 1)))
	eventually(t, "the first push", func() bool { return len(n.got()) == 1 })
	n.stop()
	eventually(t, "the pause", func() bool { return !p.Forward("b", push(1, 2)) })
	require.Equal(t, []string{"b"}, p.Paused())
	said.mu.Lock()
	require.Contains(t, said.forgotten, int32(1), "the user may be elsewhere by now")
	said.mu.Unlock()

	n.serve(n.addr, false)
	eventually(t, "the recovery", func() bool {
		p.Forward("b", push(1, 3))
		seqs := n.got()
		return len(seqs) > 1 && seqs[len(seqs)-1] == 3
	})
	eventually(t, "the end of the pause", func() bool { return len(p.Paused()) == 0 })
	require.True(t, p.Forward("b", push(1, 4)), "success ends the pause")
}

func TestTheFirstPushAfterAPeersRestartArrives(t *testing.T) {
	for round := range 5 {
		n := startNode(t)
		p, said := startPool(t, func(c *Config) { c.Lanes = 1 })
		p.SetNodes(map[string]string{"b": n.addr})
		require.True(t, p.Forward("b", push(1, 1)))
		eventually(t, "the first push", func() bool { return len(n.got()) == 1 })
		n.stop()
		n.serve(n.addr, false)
		require.True(t, p.Forward("b", push(1, 2)), "the pooled connection is dead, the peer is not")
		eventually(t, fmt.Sprint("the push after the restart, round ", round), func() bool { return len(n.got()) == 2 })
		said.mu.Lock()
		require.Empty(t, said.forgotten)
		said.mu.Unlock()
		p.Close()
	}
}

func TestACallThatTimedOutIsMadeAgainUnderItsNumber(t *testing.T) {
	n := startNode(t)
	block := make(chan struct{})
	n.block = block
	p, said := startPool(t, func(c *Config) { c.Lanes, c.Timeout = 1, 300*time.Millisecond })
	p.SetNodes(map[string]string{"b": n.addr})
	require.True(t, p.Forward("b", push(1, 1)))
	eventually(t, "the second try", func() bool { return n.called() >= 2 })
	n.mu.Lock()
	n.block = nil
	n.mu.Unlock()
	close(block)
	require.True(t, p.Forward("b", push(1, 2)), "no pause yet")
	eventually(t, "both pushes", func() bool {
		n.mu.Lock()
		calls := len(n.times)
		n.mu.Unlock()
		return calls == 2 && len(n.got()) >= 2
	})
	said.mu.Lock()
	require.Empty(t, said.forgotten)
	said.mu.Unlock()
	p.Close() // not earlier: that could end the second call, and its user would be forgotten
	for call, times := range n.times {
		require.NotZero(t, call[0])
		require.Contains(t, []uint64{1, 2}, call[1])
		require.True(t, call[1] == 2 || times > 1) // on a busy machine the second one too is made again
	}
}

func TestAPeerThatNeverAnswersIsGivenUp(t *testing.T) {
	n := startNode(t)
	n.block = make(chan struct{})
	defer close(n.block)
	p, said := startPool(t, func(c *Config) { c.Lanes, c.Timeout = 1, 50*time.Millisecond })
	p.SetNodes(map[string]string{"b": n.addr})
	require.True(t, p.Forward("b", push(1, 1)))
	eventually(t, "the end", func() bool { said.mu.Lock(); defer said.mu.Unlock(); return len(said.forgotten) == 1 })
	p.Close()
	require.LessOrEqual(t, n.called(), DefaultConfig().Tries) // on a busy machine a try can end before it has reached the node
}

func TestARefusedCallIsAFailure(t *testing.T) {
	n := startNode(t)
	n.err = int32(wire.CodeNotAllowed)
	p, said := startPool(t, nil)
	p.SetNodes(map[string]string{"b": n.addr})
	require.True(t, p.Forward("b", push(1, 1)))
	eventually(t, "the failure", func() bool { said.mu.Lock(); defer said.mu.Unlock(); return len(said.forgotten) == 1 })
	require.Equal(t, 1, n.called())
}

func TestKickAndHello(t *testing.T) {
	n := startNode(t)
	p, _ := startPool(t, nil)
	name, boot, err := p.Hello(t.Context(), n.addr)
	require.NoError(t, err)
	require.Equal(t, "b", name)
	require.Equal(t, "boot of b, asked by a", boot)

	kick := func() error {
		_, err := p.Kick(t.Context(), "b", 5, "sid", false)
		return err
	}
	require.ErrorContains(t, kick(), "no such node")
	p.SetNodes(map[string]string{"b": n.addr})
	require.NoError(t, kick())
	n.mu.Lock()
	require.Equal(t, "sid", n.kicks[0].Sid)
	require.EqualValues(t, 5, n.kicks[0].Uid)
	n.err = 2002
	n.mu.Unlock()
	require.ErrorContains(t, kick(), "code 2002")
	n.stop()
	_, _, err = p.Hello(t.Context(), n.addr)
	require.Error(t, err)
	require.Error(t, kick())
}

func TestNodesComeAndGo(t *testing.T) {
	n, m := startNode(t), startNode(t)
	p, _ := startPool(t, nil)
	p.SetNodes(map[string]string{"b": n.addr})
	require.True(t, p.Forward("b", push(1, 1)))
	eventually(t, "a push at the first", func() bool { return len(n.got()) == 1 })
	p.SetNodes(map[string]string{"b": m.addr})
	require.True(t, p.Forward("b", push(1, 2)))
	eventually(t, "a push at the second", func() bool { return len(m.got()) == 1 })
	require.Equal(t, []string{"b"}, p.Nodes())
	p.SetNodes(nil)
	require.True(t, p.Forward("b", push(1, 3)), "kept: it may only have lost its lease")
	p.Close()
	p.SetNodes(map[string]string{"b": n.addr})
	require.False(t, p.Forward("b", push(1, 3)), "a closed pool has no links")
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	n := startNode(t)
	n.block = make(chan struct{})
	defer close(n.block)
	p, _ := startPool(t, func(c *Config) { c.Timeout = time.Minute })
	p.SetNodes(map[string]string{"b": n.addr})
	for i := range 100 {
		require.True(t, p.Forward("b", push(int32(i), int64(i))))
	}
	eventually(t, "calls", func() bool { return n.called() == DefaultConfig().Lanes })
	began := time.Now()
	p.Close()
	require.Less(t, time.Since(began), 15*time.Second)
}

func TestAForeignPeerGetsTheSeedsCalls(t *testing.T) {
	n := &fakeNode{t: t}
	n.serve("", true)
	p, _ := startPool(t, func(c *Config) { c.Lanes = 1 })
	require.NoError(t, p.AddStatic("x", n.addr))
	body := wire.AppendTextBody(nil, 9, 1, 7, []wire.SentText{
		{Seq: 3, CreatedMS: 1767605472000, UniqueID: "u", Content: "hello"}, {Seq: 4, CreatedMS: 1767605472000, UniqueID: "v", Content: "you"},
	})
	applied, err := wire.Encode(wire.AppliedPush{ApplyUID: 9, Name: "carol", Desc: "hi", Icon: "i", Nick: "c", Sex: 1})
	require.NoError(t, err)
	approved, err := wire.Encode(wire.ApprovedPush{FromUID: 9, ToUID: 1, Chats: []wire.StoredText{{Sender: 1, MsgID: 5, ThreadID: 7, UniqueID: "w", Content: "hi", Status: 2}}})
	require.NoError(t, err)
	for _, q := range []*session.Push{
		{To: 1, From: 9, ID: wire.MsgTextPush, Thread: 7, Seq: 4, Body: body},
		{To: 1, From: 9, ID: wire.MsgApplied, Body: []byte("not JSON")},
		{To: 1},
		{To: 1, From: 9, ID: wire.MsgApplied, Body: applied},
		{To: 1, From: 9, ID: wire.MsgApproved, Body: approved},
	} {
		require.True(t, p.Forward("x", q))
	}
	eventually(t, "the calls", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.approve) == 1 })
	n.mu.Lock()
	defer n.mu.Unlock()
	require.Equal(t, []*message.TextChatMsgReq{{Fromuid: 9, Touid: 1, ThreadId: 7, Textmsgs: []*message.TextChatData{
		{UniqueId: "u", MsgId: 3, Msgcontent: "hello", ChatTime: "2026-01-05 09:31:12"},
		{UniqueId: "v", MsgId: 4, Msgcontent: "you", ChatTime: "2026-01-05 09:31:12"},
	}}}, n.texts)
	require.Equal(t, []*message.AddFriendReq{{Applyuid: 9, Name: "carol", Desc: "hi", Icon: "i", Nick: "c", Sex: 1, Touid: 1}}, n.applied)
	require.Equal(t, []*message.AuthFriendReq{{Fromuid: 9, Touid: 1, Textmsgs: []*message.AddFriendMsg{
		{SenderId: 1, UniqueId: "w", MsgId: 5, ThreadId: 7, Msgcontent: "hi", Status: 2},
	}}}, n.approve)
}

func TestAPeerOfOursInTheConfigurationGetsOurCalls(t *testing.T) {
	n := startNode(t)
	p, _ := startPool(t, nil)
	require.NoError(t, p.AddStatic("x", n.addr))
	require.True(t, p.Static("x"))
	require.False(t, p.Static("b"))
	require.True(t, p.Forward("x", push(1, 1)))
	eventually(t, "the push", func() bool { return len(n.got()) == 1 })
}

func TestAPanicCostsABatch(t *testing.T) {
	n := startNode(t)
	n.code = func(*message.Push) int32 { return CodeNotHere }
	cfg := DefaultConfig()
	p := New(cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Self: "a", Dial: dial,
		NotHere: func(string, *session.Push) { panic("in the router") },
	})
	defer p.Close()
	p.SetNodes(map[string]string{"b": n.addr})
	for i := range 3 {
		require.True(t, p.Forward("b", push(1, int64(i))))
		eventually(t, "the push", func() bool { return len(n.got()) == i+1 })
	}
}
