package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["friends see a user who is visible, and nobody else does"] = testVisible
	bodies["those who may read what a user writes are told that the user types"] = testTypingTo
}

func testVisible(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	a, b, x := user(t, c.s, "a"), user(t, c.s, "b"), user(t, c.s, "x")
	c.befriend(a, b)
	all := []int32{x, b, a, 9999}
	for range 300 {
		all = append(all, x) // more than one statement
	}
	sees := func(watcher int32, want ...int32) {
		t.Helper()
		got, err := c.s.Visibility.VisibleTo(ctx, watcher, all)
		require.NoError(t, err)
		require.ElementsMatch(t, want, got)
		for _, of := range []int32{a, b, x} {
			got, err := c.s.Visibility.WatchersOf(ctx, []int32{watcher}, of)
			require.NoError(t, err)
			if slices.Contains(want, of) {
				require.Equal(t, []int32{watcher}, got)
			} else {
				require.Empty(t, got)
			}
		}
	}
	sees(a, b)
	sees(b, a)
	sees(x)
	for range 2 {
		require.NoError(t, c.s.Visibility.Set(ctx, b, false))
		sees(a)
		sees(b, a)
	}
	visible, err := c.s.Visibility.Of(ctx, b)
	require.NoError(t, err)
	require.False(t, visible)
	require.NoError(t, c.s.Visibility.Set(ctx, b, true))
	sees(a, b)
	_, err = c.s.Friends.Unfriend(ctx, c.node, c.boot, a, b)
	require.NoError(t, err)
	sees(a)
	sees(b)
	require.ErrorIs(t, c.s.Visibility.Set(ctx, 9999, false), store.ErrNotFound)
	_, err = c.s.Visibility.Of(ctx, 9999)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func testTypingTo(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	o, m, n, x := user(t, c.s, "owner"), user(t, c.s, "m"), user(t, c.s, "n"), user(t, c.s, "x")
	private := c.befriend(o, m)
	c.befriend(o, n)
	group := c.group(o, m, n)
	tells := func(thread int64, uid int32, want ...int32) {
		t.Helper()
		got, err := c.s.Visibility.TypingTo(ctx, thread, uid, 3)
		require.NoError(t, err)
		require.ElementsMatch(t, want, got)
	}
	tells(private, o, m)
	tells(private, m, o)
	tells(private, n)
	tells(private, x)
	tells(group, o, m, n)
	tells(group, m, o, n)
	tells(group, x)
	tells(9999, o)
	small, err := c.s.Visibility.TypingTo(ctx, group, m, 2)
	require.NoError(t, err)
	require.Empty(t, small, "the group is too large")

	require.NoError(t, c.s.Visibility.Set(ctx, m, false))
	tells(private, m)
	tells(group, m)
	tells(private, o, m)
	require.NoError(t, c.s.Visibility.Set(ctx, m, true))

	_, err = c.s.Groups.MuteMember(ctx, c.node, c.boot, o, group, m, time.Now().Add(time.Hour).UnixMilli())
	require.NoError(t, err)
	tells(group, m)
	tells(group, n, o, m)
	_, err = c.s.Groups.Mute(ctx, c.node, c.boot, o, group, true)
	require.NoError(t, err)
	tells(group, n)
	tells(group, o, m, n)
	_, err = c.s.Groups.Mute(ctx, c.node, c.boot, o, group, false)
	require.NoError(t, err)
	_, err = c.s.Groups.Leave(ctx, c.node, c.boot, n, group)
	require.NoError(t, err)
	tells(group, n)
	tells(group, o, m)
	_, err = c.s.Groups.Dissolve(ctx, c.node, c.boot, o, group)
	require.NoError(t, err)
	tells(group, o)
	_, err = c.s.Friends.Block(ctx, c.node, c.boot, m, o)
	require.NoError(t, err)
	tells(private, o)
	tells(private, m)
}
