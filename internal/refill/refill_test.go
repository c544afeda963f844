package refill

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"parley/internal/session"
)

// nowhere is a socket that accepts everything.
type nowhere struct{}

func (nowhere) Fd() int                     { return -1 }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }

// live returns a logged-in session that understands no gap notices.
func live(t *testing.T) *session.Session {
	s := new(session.Session)
	s.Init(nowhere{}, &session.Limits{})
	require.True(t, s.Identify(session.Identity{UID: 1001, Device: "native", SID: session.NewSID(time.Now()), Native: true}))
	r := session.NewRegistry()
	r.Add(s)
	require.Equal(t, session.Activated, r.Activate(s))
	return s
}

func TestRefillsAreBounded(t *testing.T) {
	s := live(t)
	var started []func()
	given := prometheus.NewCounter(prometheus.CounterOpts{Name: "given_up"})
	r := New(Deps{
		Log: slog.New(slog.DiscardHandler), Context: t.Context(), Go: func(f func()) { started = append(started, f) }, GivenUp: given,
		Member: func(context.Context, int64, int32) (bool, error) { return false, errors.New("SQL is away") },
	})
	for thread := range int64(maxThreads + 5) {
		r.Add(s, thread+1, 7)
	}
	require.Len(t, started, 1, "one for the session")
	require.EqualValues(t, 5, testutil.ToFloat64(given))
	r.Add(s, 3, 2)
	require.EqualValues(t, 2, r.waiting[s][3])
	started[0]()
	require.Empty(t, r.waiting)
	require.EqualValues(t, 5+maxThreads, testutil.ToFloat64(given))
}
