package chat

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// C10
func TestANodeThatNeverJoinedIsNotReady(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.redis.SetError("LOADING Redis is loading the dataset in memory")
	var log logBuffer
	s, err := New(LocalConfig("chat1"), Deps{Log: slog.New(slog.NewTextHandler(&log, nil)), Store: f.store, Presence: f.presence})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	time.AfterFunc(300*time.Millisecond, stop)
	require.NoError(t, <-done)
	require.Contains(t, log.String(), "cannot join")
	require.NotContains(t, log.String(), "ready")
	c, err := net.Dial("tcp", s.ClientAddr())
	if err == nil {
		c.Close()
	}
	require.Error(t, err, "the client port is given back")
}
