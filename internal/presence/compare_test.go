package presence

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func liveSince(since time.Time, locs ...Location) []Session {
	var out []Session
	for _, l := range locs {
		out = append(out, Session{Location: l, Since: since})
	}
	return out
}

// A4
func TestCompareTellsWhatBecameOfASession(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{MaxBatch: 3})
		n1 := startNode(t, p, "n1")
		var mine []Location
		for uid := range int32(5) {
			l := Location{UID: uid, Device: "phone", SID: "s", Node: "n1", Boot: n1.Boot}
			mine = append(mine, l)
			_, err := p.Logins.Claim(ctx, Claim{UID: uid, Device: l.Device, Token: mint(t, p, uid), SID: l.SID, Node: l.Node, Boot: l.Boot})
			require.NoError(t, err)
		}
		compare := func() []Standing {
			standing, err := p.Sessions.Compare(ctx, liveSince(time.Now(), mine...), false)
			require.NoError(t, err)
			return standing
		}
		require.Equal(t, []Standing{0, 0, 0, 0, 0}, compare())

		require.NoError(t, p.rdb.Del(ctx, p.keys.session(1)).Err()) // as after an eviction or a failover
		require.NoError(t, p.rdb.HDel(ctx, p.keys.session(2), "phone").Err())
		require.NoError(t, p.rdb.HSet(ctx, p.keys.session(2), "tablet", "other|n2|b2").Err())
		_, err := p.Logins.Claim(ctx, Claim{UID: 3, Device: "phone", Token: mint(t, p, 3), SID: "newer", Node: "n2", Boot: "b2"})
		require.NoError(t, err)
		require.NoError(t, p.rdb.Set(ctx, p.keys.session(4), "0d3b2f9e-uuid", 0).Err())
		before := dump(t, p.rdb)
		require.Equal(t, []Standing{StandingHeld, StandingMissing, StandingMissing, StandingReplaced, StandingMissing}, compare())
		require.Equal(t, before, dump(t, p.rdb), "looking changes nothing")

		lost, err := p.Sessions.Restore(ctx, mine)
		require.NoError(t, err)
		require.Equal(t, mine[3:4], lost)
		require.Equal(t, []Standing{StandingHeld, StandingHeld, StandingHeld, StandingReplaced, StandingHeld}, compare())
	})
}

// A3
func TestCompareFindsSessionsOlderThanAPasswordReset(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		n1 := startNode(t, p, "n1")
		mine := Location{UID: 7, SID: "s1", Node: "n1", Boot: n1.Boot}
		token, old := mint(t, p, 7), time.Now()
		_, err := p.Logins.Claim(ctx, Claim{UID: 7, Token: token, SID: mine.SID, Node: mine.Node, Boot: mine.Boot})
		require.NoError(t, err)
		standing := func(since time.Time) Standing {
			out, err := p.Sessions.Compare(ctx, liveSince(since, mine), false)
			require.NoError(t, err)
			return out[0]
		}
		require.Equal(t, StandingHeld, standing(old))
		// Elapsed times are compared, so a login an instant before the reset could count as one after it.
		eventually(t, "the next milliseconds", func() bool { return time.Since(old) > 50*time.Millisecond })
		require.NoError(t, p.Tokens.Revoke(ctx, 7))
		eventually(t, "a short round trip", func() bool { return standing(old) == StandingRevoked })
		eventually(t, "a token that is good again", func() bool {
			ok, err := p.Tokens.Check(ctx, 7, mint(t, p, 7))
			return err == nil && ok
		})
		require.Equal(t, StandingHeld, standing(time.Now()), "one that logged in with the new password stays")
		require.NoError(t, p.rdb.Del(ctx, p.keys.session(7)).Err())
		eventually(t, "a short round trip, and it is not written back either", func() bool { return standing(old) == StandingRevoked })
		require.NoError(t, p.rdb.Set(ctx, p.keys.tokenMin(7), "what others wrote", 0).Err())
		require.Equal(t, StandingMissing, standing(old))
	})
}
