package login

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

// nowhere is a socket that accepts everything.
type nowhere struct{}

func (nowhere) Fd() int                     { return -1 }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }

// A login without a predecessor asks for the lists' version no second time, unless a push missed it.
func TestALoginLooksForWhatItMayHaveMissed(t *testing.T) {
	fresh := func() *attempt {
		s := new(session.Session)
		s.Init(nowhere{}, &session.Limits{})
		return &attempt{known: presence.Prelogin{ListsVersion: 5}, claimed: &presence.Claimed{ListsVersion: 5}, session: s}
	}
	a := fresh()
	require.False(t, a.mayHaveMissed())
	a.claimed.ListsVersion = 6
	require.True(t, a.mayHaveMissed(), "changed before the claim")
	a = fresh()
	a.claimed.Old = &presence.Location{}
	require.True(t, a.mayHaveMissed(), "told to the session that was replaced")
	a = fresh()
	a.claimed.Others = []presence.Location{{}}
	require.True(t, a.mayHaveMissed(), "told to another device")

	a = fresh()
	r := session.NewRegistry()
	require.True(t, a.session.Identify(session.Identity{UID: 9, Device: "native", SID: 1, Native: true}))
	r.Add(a.session)
	n, _, err := r.Deliver(&session.Push{To: 9, ID: wire.MsgApproved}, nil)
	require.NoError(t, err)
	require.Zero(t, n)
	require.True(t, a.mayHaveMissed(), "a push came while it was pending")
}
