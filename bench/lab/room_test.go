package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/report"
)

// TestTextsToGroups has members online and offline, and removes some while texts are sent.
func TestTextsToGroups(t *testing.T) {
	t.Parallel()
	_, o := startCluster(t, 24)
	o.Users = 0
	o.Assert = "copies>100,afterremoval==0,missed==0,removed==6,online==20"
	l, out := lab()
	code := l.Room(t.Context(), o, RoomFlags{
		LoadFlags: LoadFlags{Rate: 40, Shape: "constant", For: 2 * time.Second},
		Groups:    2, Members: 12, Online: .8, Senders: 3, Remove: .3, Size: 100,
	})
	require.Equal(t, report.Pass, code, out)
	r := kept(t, o)
	require.EqualValues(t, 80, r.Ledger.Acked, "%+v", r.Ledger)
	require.EqualValues(t, 80, r.Ledger.HistoryRead, "%+v", r.Ledger)
	require.NotNil(t, r.Histogram("last"))
	require.EqualValues(t, 80, r.Histogram("first").Summary.Count)
	require.Contains(t, out.String(), "delivered to the last member")
}
