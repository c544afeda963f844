package rpc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/kitex_gen/message"
	"parley/kitex_gen/message/nodeservice"
)

func TestStandingTakesAMajorityAndForgets(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	var log bytes.Buffer
	s := NewStanding(slog.New(slog.NewTextHandler(&log, nil)))
	s.now = func() time.Time { return now }
	require.NoError(t, s.Err())
	refused := &Refusal{Reason: ReasonSignature}
	s.note("a", refused)
	require.EqualError(t, s.Err(), "rpc: 1 of 1 peers refuse this node's signature: its [Cluster] Secret is another")
	s.note("b", nil)
	require.NoError(t, s.Err(), "one node with another secret does not make the others unready")
	s.note("c", refused)
	require.Error(t, s.Err())
	s.note("c", errors.New("timeout"))
	s.note("c", &Refusal{Reason: ReasonReplay})
	require.Error(t, s.Err(), "what says nothing about the secret or the clock does not count")
	s.note("d", &Refusal{Reason: ReasonClock, Detail: "45 s behind"})
	s.note("e", nil)
	s.note("e", errors.New("timeout"))
	require.Error(t, s.Err(), "3 of 5")
	s.note("a", nil)
	require.NoError(t, s.Err())
	require.Contains(t, log.String(), "a peer accepts this node's signature again")
	require.Contains(t, log.String(), "clocks differ, this node's is 45 s behind")
	now = now.Add(standingAge + time.Second)
	s.note("c", refused)
	require.Error(t, s.Err(), "what the others said is too old")
	require.NoError(t, (*Standing)(nil).Err())
	(*Standing)(nil).note("a", refused)
	for i := range 3 * maxStanding {
		s.note(string(rune(i)), nil)
	}
	require.LessOrEqual(t, len(s.peers), maxStanding)
}

// helloNode answers Hello.
type helloNode struct{ message.NodeService }

func (helloNode) Hello(context.Context, *message.HelloReq) (*message.HelloRsp, error) {
	return &message.HelloRsp{}, nil
}

func serveHello(t *testing.T, auth *Auth) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, err := NewServer(ln, ServerConfig{Auth: auth})
	require.NoError(t, err)
	require.NoError(t, nodeservice.RegisterService(s, &helloNode{}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return s.Addr()
}

// A2: a node learns from its own calls that its peers refuse its signature, and that they accept it again.
func TestANodeKnowsThatItsPeersRefuseIt(t *testing.T) {
	right := NewAuth(secret)
	late := NewAuth(secret)
	late.now = func() time.Time { return time.Now().Add(time.Minute) } // so all others appear a minute behind
	addr, lateAddr := serveHello(t, right), serveHello(t, late)
	for _, c := range []struct {
		name, addr, want string
		auth             *Auth
	}{
		{"another secret", addr, "1 of 1 peers refuse this node's signature: its [Cluster] Secret is another", NewAuth("another secret")},
		{"no secret", addr, "1 of 1 peers refuse this node's signature: it has a [Cluster] Secret and this node has none", nil},
		{"clock", lateAddr, "1 of 1 peers refuse this node's signature: clocks differ, this node's is ", NewAuth(secret)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewStanding(slog.New(slog.DiscardHandler))
			s.every = 10 * time.Millisecond
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			peers := make(chan []string, 1)
			peers <- []string{c.addr}
			go func() {
				defer close(done)
				s.Ask(ctx, "n", c.auth, func() []string {
					p := <-peers
					peers <- p
					return p
				})
			}()
			require.Eventually(t, func() bool { return s.Err() != nil }, time.Minute, time.Millisecond)
			var r *Refused
			require.ErrorAs(t, s.Err(), &r)
			require.Contains(t, r.Public(), c.want)
			<-peers
			peers <- []string{c.addr, serveHello(t, c.auth), serveHello(t, nil)}
			require.Eventually(t, func() bool { return s.Err() == nil }, time.Minute, time.Millisecond)
			cancel()
			<-done
		})
	}
}

// A stranger who sends invalid data to a node does not make it unready.
func TestAStrangerDoesNotMakeANodeUnready(t *testing.T) {
	addr := serveHello(t, NewAuth(secret))
	s := NewStanding(slog.New(slog.DiscardHandler))
	strangers := NewClient(ClientConfig{Auth: NewAuth("another secret")}, addr)
	defer strangers.Close()
	node, err := nodeservice.NewClient("chatnode", strangers.Options()...)
	require.NoError(t, err)
	for range 10 {
		_, err := node.Hello(t.Context(), &message.HelloReq{})
		require.True(t, IsUnauthenticated(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Ask(ctx, "n", NewAuth(secret), func() []string { return nil })
	require.NoError(t, s.Err())
}
