package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/varifyservice"
)

func TestVarifyServiceOverKitex(t *testing.T) {
	t.Parallel()
	for _, overGRPC := range []bool{false, true} {
		t.Run(fmt.Sprintf("grpc=%v", overGRPC), func(t *testing.T) {
			f := newFixture(t)
			c := rpc.NewClient(rpc.ClientConfig{GRPC: overGRPC}, f.VarifyAddr())
			defer c.Close()
			varify, err := varifyservice.NewClient("gatenode", c.Options()...)
			require.NoError(t, err)
			ask := func(email string) *message.GetVarifyRsp {
				rsp, err := varify.GetVarifyCode(t.Context(), &message.GetVarifyReq{Email: email})
				require.NoError(t, err)
				require.Empty(t, rsp.Code, "the code travels by mail only")
				require.Equal(t, email, rsp.Email)
				return rsp
			}
			require.Zero(t, ask("a@example.com").Error)
			require.Equal(t, wire.CodeOK, f.call("/user_register", registration("alice", "a@example.com", "abcdef", f.mail.last("a@example.com"))).Error)
			require.Equal(t, int32(wire.CodeBadRequest), ask("nobody").Error)
			f.mail.failWith(errors.New("refused"))
			require.Equal(t, int32(codeMailRefused), ask("a@example.com").Error)
			for range 3 {
				ask("a@example.com")
			}
			require.Equal(t, int32(wire.CodeRateLimited), ask("a@example.com").Error)
			f.mr.SetError("LOADING")
			require.Equal(t, int32(codeStoreFailed), ask("b@example.com").Error)
			f.mr.SetError("")
		})
	}
}

// prutalCodec lets google.golang.org/grpc carry Kitex's messages.
type prutalCodec struct{}

type prutalMessage interface {
	Marshal([]byte) ([]byte, error)
	Unmarshal([]byte) error
}

func (prutalCodec) Marshal(v any) ([]byte, error)   { return v.(prutalMessage).Marshal(nil) }
func (prutalCodec) Unmarshal(b []byte, v any) error { return v.(prutalMessage).Unmarshal(b) }
func (prutalCodec) Name() string                    { return "proto" }

func TestVarifyServiceOverPlainGRPC(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	conn, err := grpc.NewClient("passthrough:///"+f.VarifyAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	var rsp message.GetVarifyRsp
	require.NoError(t, conn.Invoke(t.Context(), "/message.VarifyService/GetVarifyCode",
		&message.GetVarifyReq{Email: "a@example.com"}, &rsp, grpc.ForceCodec(prutalCodec{})))
	require.Zero(t, rsp.Error)
	require.Equal(t, "a@example.com", rsp.Email)
	require.Regexp(t, `^[0-9]{6}$`, f.mail.last("a@example.com"))
}

// nodeServer imitates llfcchat's VarifyServer: codes are four characters of a UUID, reused while they live.
type nodeServer struct {
	rdb  atomic.Pointer[redis.UniversalClient]
	next string
	fail atomic.Int32
}

func (n *nodeServer) GetVarifyCode(ctx context.Context, req *message.GetVarifyReq) (*message.GetVarifyRsp, error) {
	fail := n.fail.Load()
	if rdb := *n.rdb.Load(); fail == 0 && rdb.Exists(ctx, "code_"+req.Email).Val() == 0 {
		rdb.Set(ctx, "code_"+req.Email, n.next, 0)
		rdb.Expire(ctx, "code_"+req.Email, 600*time.Second)
	}
	return &message.GetVarifyRsp{Error: fail, Email: req.Email}, nil
}

func TestExternalVarifyServer(t *testing.T) {
	t.Parallel()
	node := &nodeServer{next: "0a9f"}
	addr := serveKitex(t, func(s *rpc.Server) error { return varifyservice.RegisterService(s, node) })
	f := newFixture(t, func(c *Config) {
		host, port, _ := strings.Cut(addr, ":")
		c.Varify.Host = host
		_, err := fmt.Sscan(port, &c.Varify.Port)
		require.NoError(t, err)
	})
	node.rdb.Store(&f.rdb)
	require.Empty(t, f.VarifyAddr(), "somebody else serves it")
	register := func(code string) wire.Code {
		return f.call("/user_register", registration("alice", "alice@example.com", "abcdef", code)).Error
	}
	require.Equal(t, wire.CodeVarifyExpired, register("0a9f"))
	require.Equal(t, `{"error":0,"email":"Alice@Example.com"}`, f.post("/get_varifycode", `{"email":"Alice@Example.com"}`))
	require.Empty(t, f.mail.codes)
	require.Equal(t, wire.CodeVarify, register("0A9F"))
	require.Equal(t, wire.CodeVarify, register("0a9"))
	require.Equal(t, wire.CodeOK, register("0a9f"))
	require.Equal(t, wire.CodeVarifyExpired, register("0a9f"), "one use")

	node.fail.Store(2)
	require.Equal(t, `{"error":2}`, f.post("/get_varifycode", `{"email":"b@example.com"}`))
}

func TestExternalCodeHasFiveTries(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Varify.Host, c.Varify.Port = "127.0.0.1", 1 })
	require.NoError(t, f.rdb.Set(t.Context(), "code_a@example.com", "0a9f", 600*time.Second).Err())
	for range codeTries {
		require.Equal(t, wire.CodeVarify, f.call("/user_register", registration("alice", "a@example.com", "abcdef", "ffff")).Error)
	}
	require.Equal(t, wire.CodeVarifyExpired, f.call("/user_register", registration("alice", "a@example.com", "abcdef", "0a9f")).Error)
	require.Equal(t, `{"error":1002}`, f.post("/get_varifycode", `{"email":"b@example.com"}`), "nobody serves there")
}

func TestCodeRequestsAreLimited(t *testing.T) {
	t.Parallel()
	t.Run("a mailbox", func(t *testing.T) {
		f := newFixture(t)
		for range 5 {
			f.code("a@example.com")
		}
		last := f.mail.last("a@example.com")
		r := f.call("/get_varifycode", map[string]any{"email": "A@Example.com"})
		require.Equal(t, wire.CodeRateLimited, r.Error)
		require.InDelta(t, time.Hour.Milliseconds(), r.RetryMS, float64(patience.Milliseconds()))
		require.Equal(t, wire.CodeOK, f.call("/user_register", registration("alice", "a@example.com", "abcdef", last)).Error)
		f.code("b@example.com")
		clock := time.Now().Add(time.Hour + time.Second)
		f.varify.mailboxes.now = func() time.Time { return clock }
		f.code("a@example.com")
	})
	t.Run("an address", func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.Limits.ThrottleLoopback = true })
		for i := range 20 {
			f.code(fmt.Sprintf("u%d@example.com", i))
		}
		require.Equal(t, wire.CodeRateLimited, f.call("/get_varifycode", map[string]any{"email": "last@example.com"}).Error)
	})
}
