package chat

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/config"
	"parley/internal/delivery"
	"parley/internal/peer"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/chatservice"
)

// staticPeer configures a peer as the seed does.
func staticPeer(name, addr string) func(*Config) {
	return func(c *Config) {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			panic(err)
		}
		c.PeerServer.Servers = []string{name}
		c.PeerServer.Nodes = []config.Peer{{Name: name, Host: tcp.IP.String(), Port: tcp.Port}}
	}
}

func TestAStaticPeerOfOursIsReached(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	b := f.start("chat2")
	a := f.start("chat1", staticPeer("chat2", b.RPCAddr()))
	one, two := f.login(a, 1), f.login(b, 2)
	_, err := one.SendText(t.Context(), client.User(firstUID+1), "by the static list")
	require.NoError(t, err)
	require.Equal(t, "by the static list", nextTexts(t, two).Messages[0].Text)
	require.True(t, a.delivery.Peers.Static("chat2"))
}

func TestACallOfAPeerIsCarriedOutOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	service := f.start("chat1").service
	deliver := func(stream, call uint64) int32 {
		rsp, err := service.Deliver(t.Context(), &message.DeliverReq{
			From: "chat2", Stream: stream, Call: call,
			Pushes: []*message.Push{{ToUid: firstUID, MsgId: int32(wire.MsgTextPush), Body: []byte("{}")}},
		})
		require.NoError(t, err)
		require.Len(t, rsp.Codes, 1)
		return rsp.Codes[0]
	}
	require.Equal(t, peer.CodeNotHere, deliver(5, 1))
	f.login(f.nodes["chat1"], 1)
	require.Equal(t, peer.CodeNotHere, deliver(5, 1), "made again: not carried out, and answered as before") // C3
	require.Zero(t, deliver(5, 2), "the next one")
	require.Zero(t, deliver(5, 1), "the caller has gone on")
	require.Zero(t, deliver(6, 1))
	require.Zero(t, deliver(0, 0), "a caller that numbers nothing")
	require.Zero(t, deliver(0, 0))
}

// foreignNode is a chat node of somebody else: ChatService over gRPC, and nothing more.
type foreignNode struct {
	delivery.Service
	texts chan *message.TextChatMsgReq
	kicks chan *message.KickUserReq
}

func (n *foreignNode) NotifyKickUser(_ context.Context, r *message.KickUserReq) (*message.KickUserRsp, error) {
	n.kicks <- r
	return &message.KickUserRsp{Uid: r.Uid}, nil
}

func (n *foreignNode) NotifyTextChatMsg(_ context.Context, r *message.TextChatMsgReq) (*message.TextChatMsgRsp, error) {
	n.texts <- r
	return &message.TextChatMsgRsp{}, nil
}

// startForeign runs a foreign node and returns its address.
func startForeign(t *testing.T) (*foreignNode, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server, err := rpc.NewServer(ln, rpc.ServerConfig{Name: "foreign"})
	require.NoError(t, err)
	foreign := &foreignNode{texts: make(chan *message.TextChatMsgReq, 1), kicks: make(chan *message.KickUserReq, 1)}
	require.NoError(t, chatservice.RegisterService(server, foreign))
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-served) })
	return foreign, server.Addr()
}

func TestAForeignStaticPeerIsCalledAsTheSeedCallsIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	foreign, addr := startForeign(t)
	a := f.start("chat1", staticPeer("elsewhere", addr))
	_, err := f.presence.Sessions.Restore(t.Context(), []presence.Location{
		{UID: firstUID + 1, SID: "00000000000000aa", Node: "elsewhere", Boot: "none"},
	})
	require.NoError(t, err)
	one := f.login(a, 1)
	sent, err := one.SendText(t.Context(), client.User(firstUID+1), "abroad")
	require.NoError(t, err)
	select {
	case got := <-foreign.texts:
		require.EqualValues(t, firstUID, got.Fromuid)
		require.EqualValues(t, firstUID+1, got.Touid)
		require.Len(t, got.Textmsgs, 1)
		require.Equal(t, "abroad", got.Textmsgs[0].Msgcontent)
		require.EqualValues(t, sent.MessageID, got.Textmsgs[0].MsgId)
	case <-time.After(patience):
		t.Fatal("the foreign node was not called")
	}
}

// A5: the session on the foreign node ends before the client here is told that it is in.
func TestALoginEndsTheSessionOnAForeignStaticPeer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	foreign, addr := startForeign(t)
	a := f.start("chat1", staticPeer("elsewhere", addr))
	at := presence.Location{UID: firstUID, Device: "native", SID: "00000000000000aa", Node: "elsewhere", Boot: "none"}
	_, err := f.presence.Sessions.Restore(t.Context(), []presence.Location{at})
	require.NoError(t, err)
	f.login(a, 1)
	select {
	case got := <-foreign.kicks:
		require.EqualValues(t, firstUID, got.Uid)
		require.Equal(t, at.SID, got.Sid)
	default:
		t.Fatal("the foreign node was not asked")
	}
}

// A5: a login that its client gave up gives the place back to a session on a foreign node too.
func TestALoginGivenUpLeavesTheSessionOnAForeignStaticPeer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	_, addr := startForeign(t)
	a := f.start("chat1", staticPeer("elsewhere", addr))
	at := presence.Location{UID: firstUID, Device: "native", SID: "00000000000000aa", Node: "elsewhere", Boot: "none"}
	_, err := f.presence.Sessions.Restore(t.Context(), []presence.Location{at})
	require.NoError(t, err)
	claimed, mine := f.claimFor(a, 1)
	require.NoError(t, a.logins.Abandon(t.Context(), claimed, mine))
	found, err := f.presence.Sessions.Locate(t.Context(), []int32{firstUID})
	require.NoError(t, err)
	require.Equal(t, []presence.Location{at}, found[0])
}
