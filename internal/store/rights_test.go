package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["each verb of a group is refused to whom the table refuses it"] = testGroupRights
}

// TestGroupRightsTable spells the table of rights out: outsider, former, muted, member, admin, owner.
func TestGroupRightsTable(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"read":        "-fumao",
		"write":       "---mao",
		"info":        "-fumao",
		"members":     "--umao",
		"invite":      "----ao",
		"link":        "----ao",
		"links":       "----ao",
		"revoke link": "----ao",
		"rename":      "----ao",
		"mute member": "----ao",
		"mute group":  "----ao",
		"history":     "----ao",
		"remove":      "----ao",
		"set role":    "-----o",
		"transfer":    "-----o",
		"dissolve":    "-----o",
		"leave":       "--uma-",
		"join":        "xfumao",
	}
	require.Len(t, store.Verbs(), len(want))
	for _, v := range store.Verbs() {
		got := []byte("xfumao")
		for i, st := range store.Standings() {
			if !store.May(v, st) {
				got[i] = '-'
			}
		}
		require.Equal(t, want[v.String()], string(got), v.String())
	}
	require.False(t, store.May(-1, store.StandingOwner))
	require.False(t, store.May(store.Verb(len(want)), store.StandingOwner))
	require.False(t, store.May(store.VerbRead, -1))
	require.False(t, store.May(store.VerbRead, store.Standing(len(store.Standings()))))
	require.Equal(t, "unknown", store.Verb(-1).String()+"")
	require.Equal(t, "unknown", store.Standing(99).String())
}

func TestStanding(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		m          store.Membership
		groupMuted bool
		want       store.Standing
	}{
		{store.Membership{}, false, store.StandingOutsider},
		{store.Membership{Role: store.RoleOwner}, true, store.StandingOutsider},
		{store.Membership{FromSeq: 1}, false, store.StandingMember},
		{store.Membership{FromSeq: 1}, true, store.StandingMuted},
		{store.Membership{FromSeq: 1, MutedUntilMS: 100}, false, store.StandingMember}, // the moment itself has come
		{store.Membership{FromSeq: 1, MutedUntilMS: 101}, false, store.StandingMuted},
		{store.Membership{FromSeq: 1, LeftSeq: 2, Role: store.RoleAdmin}, false, store.StandingFormer},
		{store.Membership{FromSeq: 1, MutedUntilMS: 101, Role: store.RoleAdmin}, true, store.StandingAdmin},
		{store.Membership{FromSeq: 1, Role: store.RoleOwner}, true, store.StandingOwner},
	} {
		require.Equal(t, c.want, c.m.Standing(c.groupMuted, 100), "%+v", c)
	}
	m := store.Membership{FromSeq: 5, LeftSeq: 7}
	for seq, reads := range []bool{false, false, false, false, false, true, true, true, false} {
		require.Equal(t, reads, m.Reads(int64(seq)), seq)
	}
	require.False(t, m.Present())
	require.EqualValues(t, 7, m.LastReadable(99))
	m.LeftSeq = 0
	require.True(t, m.Present() && m.Reads(1000) && !m.Reads(4))
	require.EqualValues(t, 99, m.LastReadable(99))
	require.False(t, store.Membership{}.Reads(0) || store.Membership{}.Present())
}

// stage is a group with a user of each standing, one whom they act on, and a friend of all.
type stage struct {
	c              *circle
	of             [6]int32 // by standing
	target, friend int32
	thread         int64
	link           string
}

func newStage(c *circle) *stage {
	s := &stage{c: c, target: user(c.t, c.s, "target"), friend: user(c.t, c.s, "friend")}
	for _, st := range store.Standings() {
		s.of[st] = user(c.t, c.s, st.String())
		c.befriend(s.of[st], s.friend)
	}
	for _, uid := range append(s.of[1:5:5], s.target) {
		c.befriend(s.of[store.StandingOwner], uid)
	}
	return s
}

// set makes a new group with all of them in place.
func (s *stage) set() {
	c, ctx, owner := s.c, s.c.t.Context(), s.of[store.StandingOwner]
	s.thread = c.group(owner, append(s.of[1:5:5], s.target)...)
	_, err := c.s.Groups.RemoveMember(ctx, c.node, c.boot, owner, s.thread, s.target)
	require.NoError(c.t, err)
	c.invite(owner, s.thread, s.target)
	_, err = c.s.Groups.SetRole(ctx, c.node, c.boot, owner, s.thread, s.of[store.StandingAdmin], store.RoleAdmin)
	require.NoError(c.t, err)
	_, err = c.s.Groups.MuteMember(ctx, c.node, c.boot, owner, s.thread, s.of[store.StandingMuted], time.Now().Add(time.Hour).UnixMilli())
	require.NoError(c.t, err)
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, s.of[store.StandingFormer], s.thread)
	require.NoError(c.t, err)
	link, err := c.s.Links.Create(ctx, c.node, c.boot, owner, s.thread, 0, 1)
	require.NoError(c.t, err)
	s.link = link.Code
}

// do has a user try a verb.
func (s *stage) do(v store.Verb, uid int32) (err error) {
	c, ctx := s.c, s.c.t.Context()
	key := store.GroupKey{Thread: s.thread, UID: uid}
	right := func() store.GroupRight {
		rights, err := c.s.Rights.InGroups(ctx, []store.GroupKey{key})
		require.NoError(c.t, err)
		return rights[key]
	}
	switch v {
	case store.VerbRead:
		if r := right(); !r.Reads(r.FromSeq) {
			return store.ErrNotMember
		}
	case store.VerbWrite:
		now := time.Now().UnixMilli()
		err = c.text(s.thread, uid, store.UnknownVer).Err
		require.Equal(c.t, err == nil, right().MayWrite(now))
	case store.VerbInfo:
		_, err = c.s.Groups.Info(ctx, s.thread, uid)
	case store.VerbMembers:
		if !store.May(v, right().Standing(time.Now().UnixMilli())) {
			return store.ErrNotMember
		}
		_, err = c.s.Groups.Members(ctx, s.thread, 0, 10)
	case store.VerbInvite:
		_, err = c.s.Groups.Invite(ctx, c.node, c.boot, uid, s.thread, []int32{s.friend})
	case store.VerbLink:
		_, err = c.s.Links.Create(ctx, c.node, c.boot, uid, s.thread, 0, 1)
	case store.VerbLinks:
		_, err = c.s.Links.List(ctx, uid, s.thread)
	case store.VerbRevokeLink:
		err = c.s.Links.Revoke(ctx, c.node, c.boot, uid, s.thread, s.link)
	case store.VerbRename:
		_, err = c.s.Groups.Rename(ctx, c.node, c.boot, uid, s.thread, "another")
	case store.VerbMuteMember:
		_, err = c.s.Groups.MuteMember(ctx, c.node, c.boot, uid, s.thread, s.target, time.Now().Add(time.Hour).UnixMilli())
	case store.VerbMuteGroup:
		_, err = c.s.Groups.Mute(ctx, c.node, c.boot, uid, s.thread, true)
	case store.VerbHistory:
		_, err = c.s.Groups.SetHistoryForNew(ctx, c.node, c.boot, uid, s.thread, true)
	case store.VerbRemove:
		_, err = c.s.Groups.RemoveMember(ctx, c.node, c.boot, uid, s.thread, s.target)
	case store.VerbSetRole:
		_, err = c.s.Groups.SetRole(ctx, c.node, c.boot, uid, s.thread, s.target, store.RoleAdmin)
	case store.VerbTransfer:
		_, err = c.s.Groups.Transfer(ctx, c.node, c.boot, uid, s.thread, s.target)
	case store.VerbDissolve:
		_, err = c.s.Groups.Dissolve(ctx, c.node, c.boot, uid, s.thread)
	case store.VerbLeave:
		_, err = c.s.Groups.Leave(ctx, c.node, c.boot, uid, s.thread)
	case store.VerbJoin:
		_, err = c.s.Links.Join(ctx, c.node, c.boot, uid, s.link)
	default:
		c.t.Fatalf("%v is not tried", v)
	}
	return err
}

func testGroupRights(t *testing.T, d *database) {
	c := newCircle(t, d)
	s := newStage(c)
	s.set()
	refusals := []error{store.ErrNotMember, store.ErrNotAllowed, store.ErrOwner, store.ErrMayNotWrite}
	for _, v := range store.Verbs() {
		for _, st := range store.Standings() {
			what := fmt.Sprintf("%v by %v", v, st)
			before := history(t, c.s, s.thread)
			err := s.do(v, s.of[st])
			if store.May(v, st) {
				require.NoError(t, err, what)
				switch v {
				case store.VerbRead, store.VerbInfo, store.VerbMembers, store.VerbLinks, store.VerbWrite:
				default:
					s.set()
				}
				continue
			}
			known := false
			for _, r := range refusals {
				known = known || errors.Is(err, r)
			}
			require.True(t, known, "%s: %v", what, err)
			require.Equal(t, before, history(t, c.s, s.thread), what)
		}
	}
}
