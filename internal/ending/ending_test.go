package ending

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"parley/internal/session"
)

// told is the policy of a stock client. It notes a counter at the moment in which the client is told of the end.
type told struct {
	session.Stock
	counter prometheus.Counter
	found   float64
}

func (c *told) Close([]byte) { c.found = testutil.ToFloat64(c.counter) }

type noConn struct{}

func (noConn) Fd() int                     { return -1 }
func (noConn) Write(b []byte) (int, error) { return len(b), nil }
func (noConn) Close() error                { return nil }

// Who sees the end of a session and reads the metrics then finds it there.
func TestAReplacedSessionIsCountedBeforeItsClientIsTold(t *testing.T) {
	replaced := prometheus.NewCounter(prometheus.CounterOpts{Name: "replaced"})
	client := &told{counter: replaced}
	e := New(Deps{
		Registry: session.NewRegistry(), Replaced: replaced, Janitor: NewJanitor(nil, nil, nil, nil), Left: func(*session.Session) {},
	})
	s := new(session.Session)
	s.Init(noConn{}, &session.Limits{})
	require.True(t, s.Identify(session.Identity{UID: 1, SID: 7, Stock: client}))
	e.d.Registry.Add(s)
	require.Equal(t, session.Activated, e.d.Registry.Activate(s))
	require.Nil(t, e.Kick(1, session.SID(7).String()))
	require.Equal(t, session.Dead, s.State())
	require.EqualValues(t, 1, client.found)
}
