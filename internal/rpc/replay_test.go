package rpc_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"parley/internal/rpc"
	"parley/kitex_gen/message"
)

const clusterSecret = "a secret of the cluster"

// relay forwards connections from clients to several servers in turn, and records what clients send.
type relay struct {
	ln net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex // guards the following
	servers []string
	next    int
	sent    bytes.Buffer
	conns   []net.Conn
}

func newRelay(t *testing.T, servers ...string) *relay {
	r := &relay{ln: listen(t), servers: servers}
	r.wg.Go(func() {
		for {
			in, err := r.ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			server := r.servers[r.next%len(r.servers)]
			r.next++
			r.mu.Unlock()
			out, err := net.Dial("tcp", server)
			if err != nil {
				_ = in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			r.wg.Go(func() { _, _ = io.Copy(out, io.TeeReader(in, r)); _ = out.Close() })
			r.wg.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
		}
	})
	t.Cleanup(func() {
		_ = r.ln.Close()
		r.mu.Lock()
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.ln.Addr().String() }

func (r *relay) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent.Write(p)
}

// recorded returns what clients have sent since the last call.
func (r *relay) recorded() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := bytes.Clone(r.sent.Bytes())
	r.sent.Reset()
	return b
}

// replay sends bytes to a server and returns the beginning of the answer.
func replay(t *testing.T, addr string, recorded []byte) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write(recorded)
	require.NoError(t, err)
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	require.NoError(t, err)
	return string(answer[:n])
}

// A1: a call recorded on the way to one node is refused by every other node, by the same one after a restart, and
// with another body.
func TestARecordedCallIsGoodNowhereElse(t *testing.T) {
	a, b := &statusHandler{}, &statusHandler{}
	addrA, stopA := serve(t, a, rpc.ServerConfig{Auth: rpc.NewAuth(clusterSecret)})
	addrB, _ := serve(t, b, rpc.ServerConfig{Auth: rpc.NewAuth(clusterSecret)})
	way := newRelay(t, addrA)
	gate := kitexClient(t, way.addr(), rpc.ClientConfig{Auth: rpc.NewAuth(clusterSecret)})
	const uid = 77
	for range 2 { // the first call learns the callee's name
		way.recorded()
		_, err := gate.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: uid})
		require.NoError(t, err)
	}
	recorded := way.recorded()
	require.EqualValues(t, uid, recorded[len(recorded)-1])
	calls := a.calls.Load()

	require.Contains(t, replay(t, addrB, recorded), "unauthenticated")
	require.Contains(t, replay(t, addrA, recorded), "unauthenticated")
	other := bytes.Clone(recorded)
	other[len(other)-1] = uid + 1
	require.Contains(t, replay(t, addrA, other), "unauthenticated")
	require.Contains(t, replay(t, addrB, other), "unauthenticated")
	stopA()
	again := &statusHandler{}
	addrA, _ = serve(t, again, rpc.ServerConfig{Auth: rpc.NewAuth(clusterSecret)})
	require.Contains(t, replay(t, addrA, recorded), "unauthenticated")
	require.Zero(t, b.calls.Load())
	require.Zero(t, again.calls.Load())
	require.Equal(t, calls, a.calls.Load())
}

// A1: a signed call that never arrived, and so used up no nonce, is valid only for its own body.
func TestABodyThatWasExchangedIsRefused(t *testing.T) {
	h := &statusHandler{}
	addr, _ := serve(t, h, rpc.ServerConfig{Auth: rpc.NewAuth(clusterSecret)})
	auth := rpc.NewAuth(clusterSecret)
	lost := listen(t) // a node that reads calls but answers none
	got := make(chan []byte, 1)
	go func() {
		conn, err := lost.Accept()
		if err != nil {
			return
		}
		b := make([]byte, 4096)
		n, _ := conn.Read(b)
		got <- b[:n]
		_ = conn.Close()
	}()
	t.Cleanup(func() { _ = lost.Close() })
	way := newRelay(t, addr)
	c := kitexClient(t, way.addr(), rpc.ClientConfig{Auth: auth, MaxIdle: 1})
	_, err := c.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1}) // learns the name behind the relay
	require.NoError(t, err)
	way.mu.Lock()
	way.servers = []string{lost.Addr().String()}
	for _, conn := range way.conns {
		_ = conn.Close()
	}
	way.mu.Unlock()
	calls := h.calls.Load()
	require.Eventually(t, func() bool { // a pooled connection may not have noticed the restart yet
		_, err := c.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 77})
		return err != nil && len(got) == 1
	}, time.Minute, time.Millisecond)
	fresh := <-got
	require.EqualValues(t, 77, fresh[len(fresh)-1])
	other := bytes.Clone(fresh)
	other[len(other)-1]++
	require.Contains(t, replay(t, addr, other), "unauthenticated: body")
	require.Equal(t, calls, h.calls.Load())
}

// A1, over gRPC.
func TestASignatureForOneProcessIsRefusedByAnother(t *testing.T) {
	a, b := &statusHandler{}, &statusHandler{}
	addrA, _ := serve(t, a, rpc.ServerConfig{Auth: rpc.NewAuth(clusterSecret)})
	addrB, _ := serve(t, b, rpc.ServerConfig{Auth: rpc.NewAuth(clusterSecret)})
	toA := calleeOf(t, grpcConn(t, addrA))
	req := &message.LoginReq{Uid: 7}
	signed := rpc.NewAuth(clusterSecret).Sign(toA, "StatusService", "Login", encoded(t, req))
	ctx := metadata.NewOutgoingContext(t.Context(), metadata.New(signed))
	err := grpcConn(t, addrB).Invoke(ctx, "/message.StatusService/Login", req, &message.LoginRsp{})
	require.Equal(t, codes.Unauthenticated, grpcstatus.Code(err), "%v", err)
	require.Zero(t, b.calls.Load())
	require.NoError(t, grpcConn(t, addrA).Invoke(ctx, "/message.StatusService/Login", req, &message.LoginRsp{}))
}

func TestACallFollowsARestartedCallee(t *testing.T) {
	for _, grpc := range []bool{false, true} {
		h := &statusHandler{}
		addr, stop := serve(t, h, rpc.ServerConfig{Auth: rpc.NewAuth(clusterSecret)})
		way := newRelay(t, addr)
		c := kitexClient(t, way.addr(), rpc.ClientConfig{Auth: rpc.NewAuth(clusterSecret), GRPC: grpc, Timeout: 10 * time.Second})
		call := func() error {
			_, err := c.Login(t.Context(), &message.LoginReq{Uid: 1})
			return err
		}
		require.NoError(t, call())
		stop()
		again, _ := serve(t, h, rpc.ServerConfig{Auth: rpc.NewAuth(clusterSecret)})
		way.mu.Lock()
		way.servers = []string{again}
		way.mu.Unlock()
		require.Eventually(t, func() bool { return call() == nil }, time.Minute, 10*time.Millisecond)
		require.NoError(t, call())
	}
}

// An address may lead to several processes with different connections, as that of a Kubernetes Service does.
func TestOneAddressForSeveralProcesses(t *testing.T) {
	handlers := make([]*statusHandler, 3)
	var addrs []string
	for i := range handlers {
		handlers[i] = &statusHandler{}
		addr, _ := serve(t, handlers[i], rpc.ServerConfig{Auth: rpc.NewAuth(clusterSecret)})
		addrs = append(addrs, addr)
	}
	way := newRelay(t, addrs...)
	c := kitexClient(t, way.addr(), rpc.ClientConfig{Auth: rpc.NewAuth(clusterSecret), MaxIdle: 64, Timeout: 20 * time.Second})
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 16 {
		wg.Go(func() {
			for range 20 {
				if _, err := c.Login(context.Background(), &message.LoginReq{Uid: 1}); err != nil {
					t.Log(err)
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, failed.Load())
	total := int64(0)
	for _, h := range handlers {
		require.Positive(t, h.calls.Load())
		total += h.calls.Load()
	}
	require.EqualValues(t, 16*20, total, "a refused call was not executed")
}
