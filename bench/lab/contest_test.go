package lab

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/floor"
	"parley/bench/report"
)

// TestServersTakeTurnsUnderOneLoad compares standalone with a bare echo. Both get the same texts, and all of them must be accounted
// for.
func TestServersTakeTurnsUnderOneLoad(t *testing.T) {
	_, o := startCluster(t, 400) // so many that none of them sends more than a user may
	o.MaxLag, o.Rounds = time.Second, 2
	l, out := lab()
	f := CompareFlags{Rate: 200, Shape: "constant", Closed: 8, For: 500 * time.Millisecond, Size: 100, Concurrency: 8}
	at := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- floor.Serve(ctx, floor.Echo, 0, func(addr string) { at <- addr }) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	code := l.Compare(t.Context(), o, f, []string{"echo=tcp://" + <-at})
	require.Equal(t, report.Pass, code, out)
	r := kept(t, o)
	require.Len(t, r.Tables, 5)
	for i, title := range []string{"open loop", "closed loop", "logins"} {
		table := r.Tables[i]
		require.Equal(t, title, table.Title)
		require.Len(t, table.Rows, 2)
		require.Equal(t, "parley", table.Rows[0][0])
		require.Equal(t, "echo", table.Rows[1][0])
		require.Equal(t, "1.00", table.Rows[0][2], "Parley is what the others are compared with")
		for _, row := range table.Rows {
			require.Len(t, row, len(table.Header))
			require.NotEqual(t, "0", row[1], "%s of %s", title, row[0])
		}
	}
	require.Equal(t, []string{"200", "200"}, []string{r.Tables[0].Rows[0][1], r.Tables[0].Rows[1][1]}, "the same load was offered to both")
	for _, row := range r.Tables[3].Rows { // sent, acknowledged, refused, unanswered, delivered, then faults
		require.Equal(t, row[1], row[2], row)
		require.Equal(t, row[1], row[5], row)
		require.Equal(t, []string{"0", "0", "0", "0"}, row[6:], row)
	}
	require.Positive(t, r.Ledger.Acked, "Parley's own books decide")
	require.Contains(t, out.String(), "the text came back")
}

func TestCompareEndsIfAServerIsNotThere(t *testing.T) {
	_, o := startCluster(t, 20)
	o.Rounds = 1
	l, out := lab()
	f := CompareFlags{Rate: 20, Shape: "constant", For: 200 * time.Millisecond, Size: 100, Concurrency: 8}
	code := l.Compare(t.Context(), o, f, []string{"tinode=ws://127.0.0.1:1/?apikey=K"})
	require.Equal(t, report.Setup, code, out)
	require.Contains(t, out.String(), "connection refused")
}

func TestPasswordsOfServersStayOutOfReports(t *testing.T) {
	args := []string{"compare", "nats=nats://user:hunter2@127.0.0.1:4222", "echo=tcp://127.0.0.1:7", "centrifugo=ws://:hunter2@[::1"}
	hideSecrets(args)
	for _, a := range args {
		require.NotContains(t, a, "hunter2")
	}
	require.Contains(t, args[1], "127.0.0.1:4222")
	require.Equal(t, "echo=tcp://127.0.0.1:7", args[2])
}
