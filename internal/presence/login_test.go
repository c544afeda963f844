package presence

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTokenIsGoodOnce(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n1")
		first, second := mint(t, p, 7), mint(t, p, 7)
		require.Len(t, first, 43, "32 bytes in base64url")
		require.NotEqual(t, first, second)
		for _, token := range []string{first, second} {
			ok, err := p.Tokens.Check(ctx, 7, token)
			require.NoError(t, err)
			require.True(t, ok, "two tokens of a user coexist")
			pre, err := p.Logins.Prelogin(ctx, 7, token)
			require.NoError(t, err)
			require.True(t, pre.TokenOK)
		}
		ttl := p.rdb.PTTL(ctx, p.keys.token(7, digest(first))).Val()
		require.LessOrEqual(t, ttl, TokenTTL)
		require.Greater(t, ttl, TokenTTL/2)

		claim := Claim{UID: 7, Token: first, SID: "s1", Node: "n1", Boot: "b1"}
		got, err := p.Logins.Claim(ctx, claim)
		require.NoError(t, err)
		require.Nil(t, got.Old)
		require.Empty(t, got.Others)
		require.Equal(t, []Location{{UID: 7, SID: "s1", Node: "n1", Boot: "b1"}}, locate(t, p, 7))
		names, err := p.Sessions.NodeNames(ctx, []int32{6, 7, 8})
		require.NoError(t, err)
		require.Equal(t, []string{"", "n1", ""}, names)
		require.Greater(t, p.rdb.PTTL(ctx, p.keys.session(7)).Val(), SessionTTL/2)

		before := dump(t, p.rdb)
		claim.SID = "s2"
		_, err = p.Logins.Claim(ctx, claim)
		require.ErrorIs(t, err, ErrTokenInvalid, "used")
		require.Equal(t, before, dump(t, p.rdb))
		ok, err := p.Tokens.Check(ctx, 7, first)
		require.NoError(t, err)
		require.False(t, ok)

		claim.Token = second
		got, err = p.Logins.Claim(ctx, claim)
		require.NoError(t, err, "using one token does not touch the other")
		require.Equal(t, &Location{UID: 7, SID: "s1", Node: "n1", Boot: "b1"}, got.Old)
	})
}

func TestAClaimWithAllCachedIsOneStepAndAnyOtherChangesNothing(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n1")
		profile, lists := []byte(`{"name":"Ada"}`), []byte("friends\nand applications")
		c := Claim{UID: 7, Device: "native", Token: mint(t, p, 7), SID: "s1", Node: "n1", Boot: "b1", NextResume: "t1"}
		unclaimed := func(why string) Prelogin {
			t.Helper()
			before := dump(t, p.rdb)
			known, claimed, err := p.Logins.ClaimCached(ctx, c)
			require.NoError(t, err, why)
			require.Nil(t, claimed, why)
			require.True(t, known.TokenOK, why)
			require.Equal(t, before, dump(t, p.rdb), why)
			return known
		}
		require.Equal(t, Prelogin{TokenOK: true}, unclaimed("nothing is cached"))
		require.NoError(t, p.Cache.PutProfile(ctx, 7, "Ada", profile))
		require.Equal(t, Prelogin{TokenOK: true, Profile: profile}, unclaimed("no lists"))
		require.NoError(t, p.Cache.PutLists(ctx, 7, 0, lists))
		require.NoError(t, p.Cache.BumpLists(ctx, 7))
		known := unclaimed("lists of before")
		require.Nil(t, known.Lists)
		require.NoError(t, p.Cache.PutLists(ctx, 7, known.ListsVersion, lists))

		guess := c
		guess.Token = NewToken()
		before := dump(t, p.rdb)
		_, _, err := p.Logins.ClaimCached(ctx, guess)
		require.ErrorIs(t, err, ErrTokenInvalid)
		require.Equal(t, before, dump(t, p.rdb))

		all := Prelogin{TokenOK: true, Profile: profile, Lists: lists, ListsVersion: known.ListsVersion}
		known, claimed, err := p.Logins.ClaimCached(ctx, c)
		require.NoError(t, err)
		require.Equal(t, all, known)
		require.Equal(t, &Claimed{ListsVersion: known.ListsVersion}, claimed)
		require.Equal(t, []Location{{UID: 7, Device: "native", SID: "s1", Node: "n1", Boot: "b1"}}, locate(t, p, 7))
		_, _, err = p.Logins.ClaimCached(ctx, guess)
		require.ErrorIs(t, err, ErrTokenInvalid)

		c = Claim{UID: 7, Device: "native", Token: "t1", Resume: true, SID: "s2", Node: "n1", Boot: "b1", NextResume: "t2"}
		known, claimed, err = p.Logins.ClaimCached(ctx, c)
		require.NoError(t, err)
		require.Equal(t, all, known)
		require.Equal(t, "s1", claimed.Old.SID)

		require.NoError(t, p.Cache.BumpLists(ctx, 7))
		c.SID, c.Token, c.NextResume = "s3", "t2", "t3"
		got, err := p.Logins.Claim(ctx, c)
		require.NoError(t, err)
		require.NotEqual(t, all.ListsVersion, got.ListsVersion, "the version of the moment")
	})
}

func TestWrongGuessChangesNothing(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n1")
		token := mint(t, p, 7)
		_, err := p.Logins.Claim(ctx, Claim{UID: 7, Token: token, SID: "s1", Node: "n1", Boot: "b1"})
		require.NoError(t, err)
		good := mint(t, p, 7)
		before := dump(t, p.rdb)
		for _, c := range []Claim{
			{UID: 7, Token: "guess"},
			{UID: 7, Token: ""},
			{UID: 8, Token: good},
			{UID: 7, Device: "native", Token: good, Resume: true},
			{UID: 7, Device: "native", Token: "-", Resume: true},
			{UID: 7, Token: "guess", NextResume: "next"},
		} {
			c.SID, c.Node, c.Boot = "s2", "n2", "b2"
			_, err := p.Logins.Claim(ctx, c)
			require.ErrorIs(t, err, ErrTokenInvalid)
			pre, err := p.Logins.Prelogin(ctx, c.UID, c.Token)
			require.NoError(t, err)
			require.Equal(t, c.Resume && c.Token == good, pre.TokenOK)
		}
		_, err = p.Logins.Claim(ctx, Claim{UID: 7, Token: good, SID: "s|2", Node: "n2", Boot: "b2"})
		require.ErrorContains(t, err, "malformed")
		require.Equal(t, before, dump(t, p.rdb))
	})
}

// If a reply is lost, the client library may send the script again: the second answer must be the same as the first.
func TestClaimResentGetsTheFirstAnswer(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n1")
		_, err := p.Logins.Claim(ctx, Claim{UID: 7, Token: mint(t, p, 7), SID: "s1", Node: "n1", Boot: "b1"})
		require.NoError(t, err)
		claim := Claim{UID: 7, Token: mint(t, p, 7), SID: "s2", Node: "n1", Boot: "b1"}
		for range 3 {
			got, err := p.Logins.Claim(ctx, claim)
			require.NoError(t, err)
			require.Equal(t, "s1", got.Old.SID)
		}
		next := Claim{UID: 7, Token: mint(t, p, 7), SID: "s3", Node: "n1", Boot: "b1"}
		_, err = p.Logins.Claim(ctx, next)
		require.NoError(t, err)
		_, err = p.Logins.Claim(ctx, claim)
		require.ErrorIs(t, err, ErrTokenInvalid, "replaced since")
		require.Equal(t, "s3", locate(t, p, 7)[0].SID)
		ttl := p.rdb.PTTL(ctx, p.keys.token(7, digest(claim.Token))).Val()
		require.LessOrEqual(t, ttl, replayWindow)
		require.Positive(t, ttl)

		// The same with tickets.
		claim = Claim{UID: 7, Device: "native", Token: mint(t, p, 7), SID: "d1", Node: "n1", Boot: "b1", NextResume: "t1"}
		_, err = p.Logins.Claim(ctx, claim)
		require.NoError(t, err)
		for _, following := range []string{"t2", ""} {
			claim = Claim{UID: 7, Device: "native", Token: claim.NextResume, SID: claim.SID + "'", Node: "n1", Boot: "b1", Resume: true, NextResume: following}
			var first Claimed
			for try := range 3 {
				got, err := p.Logins.Claim(ctx, claim)
				require.NoError(t, err)
				if try == 0 {
					first = got
				}
				require.Equal(t, first, got)
			}
			require.Equal(t, claim.SID, first.Old.SID+"'")
		}
	})
}

func TestConcurrentClaimsFormOneChain(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx := t.Context()
		nodes := []*Presence{b.open(t, Options{}), b.open(t, Options{})}
		startNode(t, nodes[0], "n0")
		const claims = 60
		uids := make([]int32, claims)
		for i := range uids {
			uids[i] = 7
		}
		placed, err := nodes[0].Nodes.Place(ctx, uids)
		require.NoError(t, err)
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			next = map[string]string{} // sid of the new session by sid of the old one; "" for none
		)
		for i, pl := range placed {
			wg.Go(func() {
				n := i % 2
				sid := fmt.Sprintf("s%d", i)
				got, err := nodes[n].Logins.Claim(ctx, Claim{UID: 7, Token: pl.Token, SID: sid, Node: fmt.Sprintf("n%d", n), Boot: "b"})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("claim %d: %v", i, err)
					return
				}
				old := ""
				if got.Old != nil {
					old = got.Old.SID
				}
				if other, ok := next[old]; ok {
					t.Errorf("both %s and %s replaced %q", other, sid, old)
				}
				next[old] = sid
			})
		}
		wg.Wait()
		require.Len(t, next, claims)
		last, length := "", 0
		for sid, ok := next[""]; ok; sid, ok = next[sid] {
			last = sid
			length++
		}
		require.Equal(t, claims, length, "one chain holds all")
		found := locate(t, nodes[1], 7)
		require.Len(t, found, 1)
		require.Equal(t, last, found[0].SID, "and ends at the session that is there")
	})
}

func TestDevicesAreApart(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		live := startNode(t, p, "n1")
		claim := func(device, node, boot string) (Claimed, error) {
			return p.Logins.Claim(ctx, Claim{UID: 7, Device: device, Token: mint(t, p, 7), SID: "s-" + device, Node: node, Boot: boot})
		}
		for i := range MaxDevices {
			got, err := claim(fmt.Sprint("d", i), "n1", live.Boot)
			require.NoError(t, err)
			require.Nil(t, got.Old)
			require.Len(t, got.Others, i)
		}
		token := mint(t, p, 7)
		ninth := Claim{UID: 7, Device: "d8", Token: token, SID: "s-d8", Node: "n1", Boot: live.Boot}
		before := dump(t, p.rdb)
		_, err := p.Logins.Claim(ctx, ninth)
		require.ErrorIs(t, err, ErrTooManyDevices)
		require.Equal(t, before, dump(t, p.rdb))
		got, err := claim("d3", "n1", live.Boot)
		require.NoError(t, err, "a device that is there is replaced, not added")
		require.Equal(t, "s-d3", got.Old.SID)

		// A session on a dead node does not count.
		require.NoError(t, p.Sessions.Release(ctx, []Location{{UID: 7, Device: "d3", SID: "s-d3", Node: "n1", Boot: live.Boot}}))
		_, err = claim("d3", "n1", "an earlier boot")
		require.ErrorContains(t, err, "malformed")
		_, err = claim("d3", "n1", "earlier-boot")
		require.NoError(t, err)
		got, err = p.Logins.Claim(ctx, ninth)
		require.NoError(t, err)
		require.Len(t, got.Others, MaxDevices-1)
		for _, l := range got.Others {
			require.Equal(t, live.Boot, l.Boot)
		}
	})
}

func TestResumeTickets(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n1")
		n := 0
		claim := func(token string, resume bool, next string) (Claimed, error) {
			n++
			return p.Logins.Claim(ctx, Claim{
				UID: 7, Device: "native", Token: token, SID: fmt.Sprint("s", n), Node: "n1", Boot: "b",
				Resume: resume, NextResume: next,
			})
		}
		good := func(ticket string) bool {
			pre, err := p.Logins.PreloginResume(ctx, 7, "native", ticket)
			require.NoError(t, err)
			return pre.TokenOK
		}
		_, err := claim(mint(t, p, 7), false, "t1")
		require.NoError(t, err)
		require.True(t, good("t1"))
		require.Greater(t, p.rdb.PTTL(ctx, p.keys.resume(7, "native")).Val(), ResumeTTL/2)
		_, err = p.Logins.Claim(ctx, Claim{UID: 7, Device: "other", Token: "t1", SID: "x", Node: "n1", Boot: "b", Resume: true})
		require.ErrorIs(t, err, ErrTokenInvalid, "a ticket is of one device")

		got, err := claim("t1", true, "t2")
		require.NoError(t, err)
		require.Equal(t, "s1", got.Old.SID)
		got, err = claim("t1", true, "t3")
		require.NoError(t, err, "the reply with t2 was lost: t1 stays good until the new one is used")
		require.Equal(t, "s2", got.Old.SID)
		require.True(t, good("t2"), "the client may hold either: the two logins may have got here in the other order")
		_, err = claim("t3", true, "t4")
		require.NoError(t, err)
		require.False(t, good("t1"))
		require.False(t, good("t2"))
		_, err = claim("t2", true, "t5")
		require.ErrorIs(t, err, ErrTokenInvalid, "its sibling was used")
		_, err = claim("t1", true, "t5")
		require.ErrorIs(t, err, ErrTokenInvalid, "the new one was used")
		require.True(t, good("t3"))
		require.True(t, good("t4"))

		_, err = claim("t4", true, "")
		require.NoError(t, err)
		require.False(t, good("t3"))
		require.False(t, good("t4"))
		_, err = claim("t4", true, "")
		require.ErrorIs(t, err, ErrTokenInvalid, "no further ticket was asked for")

		_, err = claim(mint(t, p, 7), false, "t6")
		require.NoError(t, err)
		require.True(t, good("t6"))
		_, err = claim(mint(t, p, 7), false, "")
		require.NoError(t, err)
		require.False(t, good("t6"), "a login with a token ends the device's earlier tickets")
	})
}

func TestPasswordResetRevokes(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n1")
		claim := func(token string, resume bool, next string) error {
			_, err := p.Logins.Claim(ctx, Claim{
				UID: 7, Device: "native", Token: token, SID: NewToken(), Node: "n1", Boot: "b", Resume: resume, NextResume: next,
			})
			return err
		}
		require.NoError(t, claim(mint(t, p, 7), false, "t1"))
		require.NoError(t, claim("t1", true, "t2"))
		old, others := mint(t, p, 7), mint(t, p, 8)
		require.NoError(t, p.Tokens.Revoke(ctx, 7))

		ok, err := p.Tokens.Check(ctx, 7, old)
		require.NoError(t, err)
		require.False(t, ok)
		pre, err := p.Logins.Prelogin(ctx, 7, old)
		require.NoError(t, err)
		require.False(t, pre.TokenOK)
		pre, err = p.Logins.PreloginResume(ctx, 7, "native", "t2")
		require.NoError(t, err)
		require.False(t, pre.TokenOK)
		require.ErrorIs(t, claim(old, false, "t3"), ErrTokenInvalid)
		require.ErrorIs(t, claim("t2", true, "t3"), ErrTokenInvalid)
		require.ErrorIs(t, claim("t1", true, "t3"), ErrTokenInvalid)
		require.GreaterOrEqual(t, p.rdb.PTTL(ctx, p.keys.tokenMin(7)).Val(), ResumeTTL-TokenTTL, "the mark outlives tickets")
		ok, err = p.Tokens.Check(ctx, 8, others)
		require.NoError(t, err)
		require.True(t, ok, "another user's stay")

		// The clock must advance by a millisecond.
		eventually(t, "a token minted after the reset is good", func() bool { return claim(mint(t, p, 7), false, "t4") == nil })
		require.NoError(t, claim("t4", true, ""))
	})
}

func TestReleaseNeverRemovesANewerSession(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n1")
		old := Location{UID: 7, SID: "s1", Node: "n1", Boot: "b1"}
		newer := Location{UID: 7, SID: "s2", Node: "n2", Boot: "b2"}
		phone := Location{UID: 7, Device: "phone", SID: "s3", Node: "n3", Boot: "b3"}
		for _, l := range []Location{old, newer, phone} {
			_, err := p.Logins.Claim(ctx, Claim{UID: 7, Device: l.Device, Token: mint(t, p, 7), SID: l.SID, Node: l.Node, Boot: l.Boot})
			require.NoError(t, err)
		}
		require.Equal(t, []Location{newer, phone}, locate(t, p, 7))
		almost := []Location{old, newer, newer, newer, newer}
		almost[1].SID, almost[2].Boot, almost[3].Node, almost[4].Device = "s1", "b1", "n1", "phone"
		before := dump(t, p.rdb)
		require.NoError(t, p.Sessions.Release(ctx, almost))
		require.Equal(t, before, dump(t, p.rdb))

		require.NoError(t, p.Sessions.Release(ctx, []Location{phone}))
		require.Equal(t, []Location{newer}, locate(t, p, 7))
		require.Equal(t, "n2", p.rdb.Get(ctx, p.keys.nodeOf(7)).Val(), "names a node that still has a session")
		require.NoError(t, p.Sessions.Release(ctx, []Location{newer, newer}))
		require.Empty(t, locate(t, p, 7))
		require.Zero(t, p.rdb.Exists(ctx, p.keys.session(7), p.keys.nodeOf(7)).Val())
	})
}

func TestCompareExtends(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{MaxBatch: 2})
		var locs []Location
		for uid := range int32(5) {
			locs = append(locs, Location{UID: uid, SID: "s", Node: "n1", Boot: "b"})
		}
		lost, err := p.Sessions.Restore(ctx, locs)
		require.NoError(t, err)
		require.Empty(t, lost)
		sessions := liveSince(time.Now(), append(locs, Location{UID: 99, SID: "s", Node: "n1", Boot: "b"})...)
		for _, extend := range []bool{false, true} {
			for _, l := range locs {
				require.NoError(t, p.rdb.Expire(ctx, p.keys.session(l.UID), SessionTTL/60).Err())
				require.NoError(t, p.rdb.Expire(ctx, p.keys.nodeOf(l.UID), SessionTTL/60).Err())
			}
			standing, err := p.Sessions.Compare(ctx, sessions, extend)
			require.NoError(t, err)
			require.Equal(t, []Standing{0, 0, 0, 0, 0, StandingMissing}, standing)
			for _, l := range locs {
				require.Equal(t, extend, p.rdb.TTL(ctx, p.keys.session(l.UID)).Val() > SessionTTL/2)
				require.Equal(t, extend, p.rdb.TTL(ctx, p.keys.nodeOf(l.UID)).Val() > SessionTTL/2)
			}
		}
		require.Empty(t, locate(t, p, 99), "creates nothing")
		standing, err := p.Sessions.Compare(ctx, nil, true)
		require.NoError(t, err)
		require.Empty(t, standing)
		require.NoError(t, p.Sessions.Release(ctx, nil))
		found, err := p.Sessions.Locate(ctx, []int32{4, 99, 0, 1, 2, 3})
		require.NoError(t, err)
		require.Len(t, found, 6)
		require.Equal(t, locs[4:], found[0])
		require.Nil(t, found[1])
		require.Equal(t, locs[3:4], found[5])
	})
}

func TestRestoreAfterDataLoss(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		n1 := startNode(t, p, "n1")
		gen, err := p.Leases.Extend(ctx, n1)
		require.NoError(t, err)
		mine := []Location{
			{UID: 1, SID: "s1", Node: "n1", Boot: n1.Boot},
			{UID: 2, Device: "native", SID: "s2", Node: "n1", Boot: n1.Boot},
			{UID: 3, SID: "s3", Node: "n1", Boot: n1.Boot},
		}
		for _, l := range mine {
			_, err := p.Logins.Claim(ctx, Claim{UID: l.UID, Device: l.Device, Token: mint(t, p, l.UID), SID: l.SID, Node: l.Node, Boot: l.Boot})
			require.NoError(t, err)
		}
		same, err := p.Leases.Extend(ctx, n1)
		require.NoError(t, err)
		require.Equal(t, gen, same)

		flushAll(t, p.rdb)
		_, err = p.Leases.Extend(ctx, n1)
		require.ErrorIs(t, err, ErrLeaseLost)
		var held *HeldError
		require.NotErrorAs(t, err, &held, "nobody else has it")
		require.NoError(t, p.Leases.Take(ctx, n1, ""))
		require.NoError(t, p.Leases.ReportLoad(ctx, "n1", len(mine), nil))
		again, err := p.Leases.Extend(ctx, n1)
		require.NoError(t, err)
		require.NotEqual(t, gen, again, "another generation says that data was lost")
		id, age, err := p.Leases.Generation(ctx)
		require.NoError(t, err)
		require.Equal(t, again, id)
		require.Less(t, age, int64(60_000))

		// User 3 has logged in elsewhere in the meantime.
		got, err := p.Logins.Claim(ctx, Claim{UID: 3, Token: mint(t, p, 3), SID: "elsewhere", Node: "n2", Boot: "b2"})
		require.NoError(t, err)
		require.Nil(t, got.Old)
		for range 2 { // Restore may be repeated
			lost, err := p.Sessions.Restore(ctx, mine)
			require.NoError(t, err)
			require.Equal(t, mine[2:], lost)
		}
		require.Equal(t, mine[:1], locate(t, p, 1))
		require.Equal(t, mine[1:2], locate(t, p, 2))
		require.Equal(t, "elsewhere", locate(t, p, 3)[0].SID)
		require.Equal(t, "n1", p.rdb.Get(ctx, p.keys.nodeOf(1)).Val())
	})
}

// A string that llfcchat left under the key of the session hash must not lock its user out.
func TestKeyOfTheSeedIsReplaced(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n1")
		require.NoError(t, p.rdb.Set(ctx, p.keys.session(7), "0d3b2f9e-uuid", 0).Err())
		require.Empty(t, locate(t, p, 7))
		_, err := p.Logins.Claim(ctx, Claim{UID: 7, Token: mint(t, p, 7), SID: "s1", Node: "n1", Boot: "b1"})
		require.NoError(t, err)
		require.Len(t, locate(t, p, 7), 1)
	})
}
