package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"parley/client"
	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/chatservice"
	"parley/kitex_gen/message/nodeservice"
	"parley/kitex_gen/message/statusservice"
	"parley/kitex_gen/message/varifyservice"
)

// bytesCodec lets a gRPC client send and receive bytes that were encoded by hand, so that no generated code is
// involved.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (bytesCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), b...)
	return nil
}
func (bytesCodec) Name() string { return "proto" }
func num(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

func str(n protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), v)
}
func msg(n protowire.Number, parts ...[]byte) []byte { return str(n, string(slicesConcat(parts))) }

// fields decodes a message one level deep: numbers as uint64, other values as string; of a repeated field the last.
func fields(t testing.TB, b []byte) map[protowire.Number]any {
	t.Helper()
	out := make(map[protowire.Number]any)
	for len(b) > 0 {
		n, typ, k := protowire.ConsumeTag(b)
		require.Positive(t, k)
		b = b[k:]
		switch typ {
		case protowire.VarintType:
			v, k := protowire.ConsumeVarint(b)
			require.Positive(t, k)
			out[n], b = v, b[k:]
		case protowire.BytesType:
			v, k := protowire.ConsumeString(b)
			require.Positive(t, k)
			out[n], b = v, b[k:]
		default:
			t.Fatalf("field %d has type %d", n, typ)
		}
	}
	return out
}

// foreign is a gRPC client that knows only the proto file.
type foreign struct {
	conn *grpc.ClientConn
	auth *rpc.Auth
}

func newForeign(t testing.TB, addr string, auth *rpc.Auth) *foreign {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return &foreign{conn, auth}
}

func (f *foreign) call(ctx context.Context, service, method string, parts ...[]byte) ([]byte, error) {
	body := slicesConcat(parts)
	if f.auth != nil {
		ctx = metadata.NewOutgoingContext(ctx, metadata.New(f.auth.Sign(f.callee(ctx, service, method), service, method, body)))
	}
	var out []byte
	err := f.conn.Invoke(ctx, "/message."+service+"/"+method, body, &out)
	return out, err
}

// callee asks the server for the name for which calls must be signed.
func (f *foreign) callee(ctx context.Context, service, method string) string {
	ctx = metadata.NewOutgoingContext(ctx, metadata.Pairs(rpc.HeaderTo, rpc.UnknownCallee))
	var out []byte
	refused, _ := rpc.AsRefusal(f.conn.Invoke(ctx, "/message."+service+"/"+method, []byte(nil), &out))
	if refused == nil || refused.Reason != rpc.ReasonCallee {
		return rpc.UnknownCallee
	}
	return refused.Detail
}

// services returns the address of each service, with a call that changes nothing.
func (w *world) services() map[string]struct{ addr, method string } {
	return map[string]struct{ addr, method string }{
		"VarifyService": {w.Gate[0].RPCAddr(), "GetVarifyCode"},
		"StatusService": {w.Status[0].Addr(), "Login"},
		"ChatService":   {w.Chat[0].RPCAddr(), "NotifyKickUser"},
		"NodeService":   {w.Chat[0].RPCAddr(), "Hello"},
	}
}

func TestForeignGRPCClientCallsEveryService(t *testing.T) {
	w := sharedCluster(t)
	ann, bob, thread := w.pair(t)
	ctx := t.Context()
	call := func(addr, service, method string, parts ...[]byte) map[protowire.Number]any {
		t.Helper()
		out, err := newForeign(t, addr, w.auth).call(ctx, service, method, parts...)
		require.NoError(t, err, "%s/%s", service, method)
		return fields(t, out)
	}

	mail := fmt.Sprintf("grpc%d@e2e.example", ann)
	got := call(w.Gate[0].RPCAddr(), "VarifyService", "GetVarifyCode", str(1, mail))
	require.Nil(t, got[1], "error 0 is not on the wire")
	require.Equal(t, mail, got[2])
	require.Nil(t, got[3], "the code travels by mail only")
	require.NotEmpty(t, printedCode(t, w.Gate[0].Log(), mail))
	require.EqualValues(t, wire.CodeBadRequest, call(w.Gate[0].RPCAddr(), "VarifyService", "GetVarifyCode", str(1, "nonsense"))[1])

	place := call(w.Status[1].Addr(), "StatusService", "GetChatServer", num(1, uint64(ann)))
	require.Nil(t, place[1])
	token := place[4].(string)
	require.Len(t, token, 43)
	got = call(w.Status[0].Addr(), "StatusService", "Login", num(1, uint64(ann)), str(2, token))
	require.Nil(t, got[1], "a token of one status node is good at another")
	require.EqualValues(t, ann, got[2])
	require.EqualValues(t, wire.CodeTokenInvalid, call(w.Status[0].Addr(), "StatusService", "Login", num(1, uint64(ann)), str(2, "x"))[1])
	batch := call(w.Status[0].Addr(), "StatusService", "GetChatServers", str(1, string(protowire.AppendVarint(protowire.AppendVarint(nil, uint64(ann)), uint64(bob)))))
	require.Nil(t, batch[1])
	require.Equal(t, 43, len(fields(t, []byte(batch[2].(string)))[4].(string)))

	c, err := enter(t, client.Ticket{Addr: place[2].(string) + ":" + place[3].(string), UID: ann, Token: token}, client.Options{})
	require.NoError(t, err)
	require.Equal(t, place[101], c.Node())
	at := ""
	for _, n := range w.Chat {
		if n.Name() == c.Node() {
			at = n.RPCAddr()
		}
	}

	got = call(at, "ChatService", "NotifyAddFriend", num(1, 77), str(2, "zoe"), str(3, "let me in"), num(7, uint64(ann)))
	require.Nil(t, got[1])
	applied := awaitEvent[client.Applied](t, c)
	require.EqualValues(t, 77, applied.Application.UID)
	require.Equal(t, "let me in", applied.Application.Greeting)
	got = call(at, "ChatService", "NotifyAuthFriend", num(1, uint64(bob)), num(2, uint64(ann)),
		msg(3, num(1, uint64(bob)), str(2, "u"), num(3, 1), num(4, uint64(thread)), str(5, "welcome")))
	require.Nil(t, got[1])
	approved := awaitEvent[client.Approved](t, c)
	require.Equal(t, bob, approved.Friend.UID)
	require.Equal(t, "welcome", approved.Messages[0].Text)
	got = call(at, "ChatService", "NotifyTextChatMsg", num(1, uint64(bob)), num(2, uint64(ann)), num(3, uint64(thread)),
		msg(4, str(1, "u2"), num(2, 5), str(3, "from afar"), str(4, "2026-01-02 03:04:05")))
	require.Nil(t, got[1])
	require.EqualValues(t, 5, awaitText(t, c, "from afar").ID)
	require.EqualValues(t, wire.CodeUIDInvalid, call(at, "ChatService", "NotifyTextChatMsg", num(1, uint64(ann)), num(2, uint64(bob)),
		num(3, uint64(thread)), msg(4, str(1, "u3"), num(2, 6), str(3, "nobody is there")))[1])
	for _, method := range []string{"RplyAddFriend", "SendChatMsg"} {
		require.EqualValues(t, wire.CodeBadRequest, call(at, "ChatService", method, num(1, uint64(bob)))[1], method)
	}
	hello := call(at, "NodeService", "Hello", str(1, "foreigner"))
	require.Equal(t, c.Node(), hello[2])
	require.NotEmpty(t, hello[3])
	got = call(at, "NodeService", "Deliver", str(1, "foreigner"), msg(2, num(1, uint64(ann)), num(3, uint64(wire.MsgTextPush)),
		str(7, fmt.Sprintf(`{"error":0,"fromuid":%d,"touid":%d,"thread_id":%d,"chat_datas":[{"message_id":7,"unique_id":"u4","content":"pushed","status":2}]}`, bob, ann, thread))))
	require.Nil(t, got[1])
	awaitText(t, c, "pushed")
	got = call(at, "ChatService", "NotifyKickUser", num(1, uint64(ann)))
	require.Nil(t, got[1])
	require.ErrorIs(t, awaitEnd(t, c, patience), client.ErrReplaced)
	require.Nil(t, call(at, "ChatService", "NotifyKickUser", num(1, uint64(ann)))[1], "gone already is no error")
}

func TestKitexClientsCallEveryService(t *testing.T) {
	w := sharedCluster(t)
	uid := w.users(t, 1)
	for _, grpc := range []bool{false, true} {
		t.Run(map[bool]string{false: "TTHeader", true: "gRPC"}[grpc], func(t *testing.T) {
			ctx := t.Context()
			transport := func(addr string) *rpc.Client {
				c := rpc.NewClient(rpc.ClientConfig{Auth: w.auth, GRPC: grpc, Timeout: patience}, addr)
				t.Cleanup(c.Close)
				return c
			}
			varify, err := varifyservice.NewClient("gatenode", transport(w.Gate[0].RPCAddr()).Options()...)
			require.NoError(t, err)
			mail := fmt.Sprintf("kitex%d%v@e2e.example", uid, grpc)
			v, err := varify.GetVarifyCode(ctx, &message.GetVarifyReq{Email: mail})
			require.NoError(t, err)
			require.Zero(t, v.Error)
			require.Empty(t, v.Code)
			st, err := statusservice.NewClient("statusnode", transport(w.Status[0].Addr()).Options()...)
			require.NoError(t, err)
			place, err := st.GetChatServer(ctx, &message.GetChatServerReq{Uid: uid})
			require.NoError(t, err)
			require.Zero(t, place.Error)
			l, err := st.Login(ctx, &message.LoginReq{Uid: uid, Token: place.Token})
			require.NoError(t, err)
			require.Zero(t, l.Error)
			chat, err := chatservice.NewClient("chatnode", transport(w.Chat[0].RPCAddr()).Options()...)
			require.NoError(t, err)
			text, err := chat.NotifyTextChatMsg(ctx, &message.TextChatMsgReq{Fromuid: 1, Touid: uid, ThreadId: 1, Textmsgs: []*message.TextChatData{{MsgId: 1, Msgcontent: "x"}}})
			require.NoError(t, err)
			require.EqualValues(t, wire.CodeUIDInvalid, text.Error)
			kick, err := chat.NotifyKickUser(ctx, &message.KickUserReq{Uid: uid})
			require.NoError(t, err)
			require.Zero(t, kick.Error)
			node, err := nodeservice.NewClient("chatnode", transport(w.Chat[0].RPCAddr()).Options()...)
			require.NoError(t, err)
			hello, err := node.Hello(ctx, &message.HelloReq{Name: "e2e"})
			require.NoError(t, err)
			require.Equal(t, "chat1", hello.Name)
		})
	}
}

func TestUnsignedCallsAreRefused(t *testing.T) {
	w := sharedCluster(t)
	ctx := t.Context()
	for service, at := range w.services() {
		for what, auth := range map[string]*rpc.Auth{"no signature": nil, "another secret": rpc.NewAuth("another secret")} {
			_, err := newForeign(t, at.addr, auth).call(ctx, service, at.method)
			require.Equal(t, codes.Unauthenticated, status.Code(err), "%s, %s: %v", service, what, err)
		}
		// A signature is valid once, for the call it was made for.
		f := newForeign(t, at.addr, nil)
		to := f.callee(ctx, service, at.method)
		signed := metadata.New(w.auth.Sign(to, service, at.method, nil))
		var out []byte
		method := "/message." + service + "/" + at.method
		require.NoError(t, f.conn.Invoke(metadata.NewOutgoingContext(ctx, signed), method, []byte(nil), &out))
		err := f.conn.Invoke(metadata.NewOutgoingContext(ctx, signed), method, []byte(nil), &out)
		require.Equal(t, codes.Unauthenticated, status.Code(err), "%s, replayed: %v", service, err)
		for what, signed := range map[string]map[string]string{
			"another method":  w.auth.Sign(to, service, "Other", nil),
			"another body":    w.auth.Sign(to, service, at.method, []byte("another")),
			"another process": w.auth.Sign("another", service, at.method, nil),
		} {
			err = f.conn.Invoke(metadata.NewOutgoingContext(ctx, metadata.New(signed)), method, []byte(nil), &out)
			require.Equal(t, codes.Unauthenticated, status.Code(err), "%s, for %s: %v", service, what, err)
		}
	}
	for _, auth := range []*rpc.Auth{nil, rpc.NewAuth("another secret")} {
		for _, grpc := range []bool{false, true} {
			c := rpc.NewClient(rpc.ClientConfig{Auth: auth, GRPC: grpc, Timeout: patience}, w.Status[0].Addr())
			t.Cleanup(c.Close)
			st, err := statusservice.NewClient("statusnode", c.Options()...)
			require.NoError(t, err)
			_, err = st.GetChatServer(ctx, &message.GetChatServerReq{Uid: 1})
			require.True(t, rpc.IsUnauthenticated(err), "%v", err)
		}
	}
}
