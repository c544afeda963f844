package rpc

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Goroutines of Kitex and netpoll that exist once per process and never end.
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

// TestListenerClosesOnce tests the reason for having a listener: a second close, as Kitex and netpoll do it, must not
// close whatever has the same descriptor by then.
func TestListenerClosesOnce(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l, err := newListener(tcp)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	conn, err := l.Accept()
	require.NoError(t, err)
	require.Nil(t, conn, "closed: nobody comes any more")
	_, err = net.DialTimeout("tcp", l.Addr().String(), time.Second)
	require.Error(t, err)
	fd := l.Fd()
	require.NoError(t, l.Release())

	var files []*os.File // one of them gets the descriptor's number
	taken := false
	for range 64 {
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		files = append(files, f)
		taken = taken || int(f.Fd()) == fd
	}
	require.True(t, taken)
	require.NoError(t, l.Close())
	require.NoError(t, l.Release())
	for _, f := range files {
		_, err := f.Stat()
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
}

func TestListenerWantsTCP(t *testing.T) {
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	require.NoError(t, err)
	defer ln.Close()
	_, err = newListener(ln)
	require.Error(t, err)
}

// lockedBuffer is a buffer that library goroutines may write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestLibraryLogs(t *testing.T) {
	var out lockedBuffer
	RouteLogs(slog.New(slog.NewTextHandler(&out, nil)))
	defer RouteLogs(nil)
	for range 10_000 {
		klog.Errorf("KITEX: a peer hung up, remote=%s", "10.0.0.1")
		klog.CtxErrorf(context.Background(), "again")
		klog.Infof("KITEX: server listen at addr=%s", "x")
	}
	n := strings.Count(out.String(), "level=WARN")
	require.GreaterOrEqual(t, n, 1)
	require.LessOrEqual(t, n, 30, "a flood is thinned out")
	require.NotContains(t, out.String(), "listen at", "what is only information is for debugging")
	klog.Error("KITEX: panic happened in a handler")
	require.Contains(t, out.String(), "level=ERROR", "a panic is not lost in a flood")

	RouteLogs(nil)
	before := out.String()
	klog.Error("KITEX: panic happened in a handler")
	require.Equal(t, before, out.String())
	var other lockedBuffer
	log := slog.New(slog.NewTextHandler(&other, nil))
	giveBack := lendLogs(log)
	lendLogs(slog.New(slog.NewTextHandler(&out, nil)))() // has no effect: the lines have a destination
	klog.Error("KITEX: panic again")
	require.Contains(t, other.String(), "panic again")
	giveBack()
	require.Nil(t, libraryLog.Load())
}

func TestWarnsWithoutSecret(t *testing.T) {
	for _, c := range []struct {
		addr string
		auth *Auth
		want bool
	}{{"127.0.0.1:0", nil, false}, {"0.0.0.0:0", nil, true}, {"0.0.0.0:0", NewAuth(secret), false}} {
		ln, err := net.Listen("tcp", c.addr)
		require.NoError(t, err)
		var out bytes.Buffer
		s, err := NewServer(ln, ServerConfig{Log: slog.New(slog.NewTextHandler(&out, nil)), Auth: c.auth})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.Equal(t, c.want, strings.Count(out.String(), "level=WARN") == 1, out.String())
		require.Equal(t, c.want, out.Len() > 0)
	}
}

func TestResolve(t *testing.T) {
	r, err := resolve(t.Context(), "127.0.0.1:1,[::1]:2,localhost:3")
	require.NoError(t, err)
	var addrs []string
	for _, i := range r.Instances {
		addrs = append(addrs, i.Address().String())
	}
	require.Contains(t, addrs, "127.0.0.1:1")
	require.Contains(t, addrs, "[::1]:2")
	require.Contains(t, addrs, "127.0.0.1:3")
	_, err = resolve(t.Context(), "no port")
	require.Error(t, err)
}
