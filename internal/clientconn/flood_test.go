package clientconn

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"parley/internal/admission"
	"parley/internal/ending"
	"parley/internal/outbox"
	"parley/internal/session"
	"parley/internal/store/sqlite"
	"parley/internal/textrate"
	"parley/internal/transport"
	"parley/internal/wire"
)

const unreadBytes = 256 << 10

// startConns serves clients without a node, and returns the connections, their registry, and where clients connect.
func startConns(t *testing.T, handlers map[wire.MsgID]func(context.Context, *session.Session, []byte) error) (*Conns, *session.Registry, string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	count := func(name string) prometheus.Counter { return prometheus.NewCounter(prometheus.CounterOpts{Name: name}) }
	other := count("other")
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "parley.db"))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	require.NoError(t, db.Migrate(t.Context()))
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	registry := session.NewRegistry()
	texts := textrate.New(0, 0, textrate.Deps{Log: log})
	conns := New(Config{
		MaxFrameBytes: wire.DefaultMaxBody, UnreadBytes: unreadBytes, OutboxBytes: 128 << 10, QueuedFrames: 16, QueuedBytes: 64 << 10,
		InFlightBytes: 128 << 10, WriteTimeout: 5 * time.Second, RequestTimeout: 5 * time.Second, QuietTimeout: time.Hour,
	}, Deps{
		Log: log, Context: ctx, Go: wg.Go, Threads: db.Threads, Texts: texts, Handlers: handlers,
		Session: &session.Limits{
			Limits: outbox.Limits{Bytes: 128 << 10, ReplyBytes: 512 << 10, WriteTimeout: 5 * time.Second, Go: wg.Go}, Linger: time.Second,
		},
		Admission: admission.New(admission.Limits{Connections: 10, Waiting: 10, Timeout: time.Minute, MinTimeout: time.Minute}),
		Ender: ending.New(ending.Deps{
			Log: log, Node: "chat1", Registry: registry, Texts: texts, Janitor: ending.NewJanitor(log, nil, other, nil),
			Left: func(*session.Session) {}, NextNode: func(wire.Transport) string { return "" }, Replaced: other, Stale: other,
		}),
		Metrics: Metrics{
			Evicted: other, AcceptFailures: other, Heartbeats: other, BadFrames: other, BadHandshakes: other, BadProxyHeaders: other, UnknownIDs: other, RateLimited: other,
			Flooding: count("flooding"), QueueFull: other, WindowFull: other, TextsLimited: other, Panics: other,
			HandlerSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "seconds"}),
			Requests:       func(wire.MsgID) prometheus.Counter { return other }, Refusals: func(wire.Code) prometheus.Counter { return other },
		},
	})
	ln, err := transport.Listen("127.0.0.1:0", 32<<10, 64<<10)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() {
		served <- ln.Serve(transport.Deps{
			Log: log, Context: ctx, Crowded: func() bool { return false }, Pause: func(time.Time) time.Duration { return 0 },
			Welcome: func(fd int, from netip.Addr) { conns.Welcome(fd, from, wire.TCP) }, Rests: other, Failures: other,
		})
	}()
	t.Cleanup(func() {
		stop()
		ln.Close()
		require.NoError(t, <-served)
		conns.Close()
		wg.Wait()
	})
	return conns, registry, ln.Addr.String()
}

// TestAClientThatWritesAheadOfItsHandlerIsClosed holds a connection's handler up, as a busy machine does. netpoll reads on
// meanwhile, so whoever does not wait for answers could have the node hold all it sends.
func TestAClientThatWritesAheadOfItsHandlerIsClosed(t *testing.T) {
	conns, registry, addr := startConns(t, nil)
	client, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer client.Close()
	require.Eventually(t, func() bool { return conns.Count() == 1 }, 15*time.Second, time.Millisecond)
	c := conns.Open()[0]
	require.True(t, c.Identify(session.Identity{UID: 1001, Device: "native", SID: 1, Native: true, Silent: time.Hour}))
	registry.Add(&c.Session)
	require.Equal(t, session.Activated, registry.Activate(&c.Session))
	// A text that names no thread goes into the queue, whose lock the test holds.
	body := fmt.Appendf(nil, `{"touid":1,"text_array":[{"unique_id":"u","content":%q}]}`, strings.Repeat("x", 2000))
	one, err := wire.AppendFrame(nil, wire.MsgText, body)
	require.NoError(t, err)
	block := bytes.Repeat(one, 4*unreadBytes/len(one)+1)
	require.NoError(t, client.(*net.TCPConn).SetWriteBuffer(64<<10)) // the rest must have been read when Write returns
	c.queue.mu.Lock()                                                // the first request waits here
	c.Seen(time.UnixMilli(1))
	_, err = client.Write(one)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.LastSeen().UnixMilli() > 1 }, 15*time.Second, time.Millisecond, "its handler runs")
	_, err = client.Write(block)
	c.queue.mu.Unlock()
	require.NoError(t, err, "netpoll takes it all")
	require.NoError(t, client.SetReadDeadline(time.Now().Add(15*time.Second)))
	for {
		var head [wire.HeaderLen]byte
		_, err := io.ReadFull(client, head[:])
		require.NoError(t, err)
		id, n := wire.ParseHeader(head[:])
		body := make([]byte, n)
		_, err = io.ReadFull(client, body)
		require.NoError(t, err)
		if id != wire.MsgGoodbye {
			continue
		}
		var bye wire.Goodbye
		require.NoError(t, wire.Decode(body, &bye))
		require.Equal(t, wire.CodeRateLimited, bye.Error)
		require.Positive(t, bye.RetryMS)
		break
	}
	_, err = client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	var m dto.Metric
	require.NoError(t, conns.d.Metrics.Flooding.Write(&m))
	require.EqualValues(t, 1, m.GetCounter().GetValue())
}
