package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/test/rights"
)

// groupRows collects the rows of its only group that are pushed to a connection, and reads the rows that gap notices
// announce.
type groupRows struct {
	conn *client.Conn
	mu   sync.Mutex               // guards the following
	rows map[int64]client.Message // by number
	gaps map[int64]int64          // threads to read, each from a number on
	news chan struct{}            // holds a token after a change
}

// loginForGroups connects a user whose pushed group rows are collected.
func (w *world) loginForGroups(t *testing.T, uid int32, node int) (*client.Conn, *groupRows) {
	t.Helper()
	g := &groupRows{rows: make(map[int64]client.Message), gaps: make(map[int64]int64), news: make(chan struct{}, 1)}
	g.conn = w.login(t, uid, node, client.Options{OnEvent: func(ev client.Event) {
		g.mu.Lock()
		switch ev := ev.(type) {
		case client.Texts:
			for _, m := range ev.Messages {
				g.rows[m.ID] = m
			}
		case client.Gap:
			from, known := g.gaps[ev.ThreadID]
			if !known {
				from = ev.From
			}
			g.gaps[ev.ThreadID] = min(from, ev.From)
		}
		g.mu.Unlock()
		select {
		case g.news <- struct{}{}:
		default:
		}
	}})
	return g.conn, g
}

// fill reads the rows announced by gap notices so far.
func (g *groupRows) fill(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	gaps := g.gaps
	g.gaps = make(map[int64]int64)
	g.mu.Unlock()
	for thread, from := range gaps {
		require.NotZero(t, thread, "a notice that rows of any thread may be missing")
		for m, err := range g.conn.Messages(t.Context(), thread, from-1) {
			require.NoError(t, err)
			g.mu.Lock()
			g.rows[m.ID] = m
			g.mu.Unlock()
		}
	}
}

// await waits for a row, which must satisfy ok.
func (g *groupRows) await(t *testing.T, what string, ok func(client.Message) bool) client.Message {
	t.Helper()
	deadline := time.After(patience)
	for {
		g.fill(t)
		g.mu.Lock()
		for _, m := range g.rows {
			if ok(m) {
				g.mu.Unlock()
				return m
			}
		}
		g.mu.Unlock()
		select {
		case <-g.news:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func (g *groupRows) last() (last int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.rows {
		last = max(last, id)
	}
	return last
}

// Each change of a group by a user on one node reaches the members on the other node, in the order of the thread.
func TestGroupsOverTwoNodes(t *testing.T) {
	w := sharedCluster(t)
	owner, far, _ := w.pair(t)
	guest := w.users(t, 1)
	w.friends(t, owner, guest)
	a, _ := w.loginForGroups(t, owner, 0)
	b, seen := w.loginForGroups(t, far, 1)
	c, guestSeen := w.loginForGroups(t, guest, 1)
	ctx := t.Context()

	made, err := a.CreateGroup(ctx, client.GroupDraft{Name: "the band", Members: []int32{far}})
	require.NoError(t, err)
	id := made.ThreadID
	event := func(what client.GroupChange) *client.GroupEvent {
		t.Helper()
		m := seen.await(t, string(what), func(m client.Message) bool { return m.Event != nil && m.Event.What == what })
		require.Equal(t, id, m.ThreadID)
		return m.Event
	}
	require.Equal(t, owner, event(client.GroupCreated).By)
	for _, change := range []struct {
		what client.GroupChange
		make func() error
	}{
		{client.GroupRenamed, func() error { return a.RenameGroup(ctx, id, "the Band") }},
		{client.GroupMuteAll, func() error { return a.MuteGroup(ctx, id, true) }},
		{client.GroupHistory, func() error { return a.SetHistoryForNew(ctx, id, true) }},
		{client.GroupMuted, func() error { return a.MuteMember(ctx, id, far, time.Now().Add(time.Hour)) }},
		{client.GroupUnmuted, func() error { return a.MuteMember(ctx, id, far, time.Time{}) }},
		{client.GroupRole, func() error { return a.SetRole(ctx, id, far, client.RoleAdmin) }},
		{client.GroupInvited, func() error { _, err := a.Invite(ctx, id, guest); return err }},
		{client.GroupRemoved, func() error { return b.RemoveMember(ctx, id, guest) }},
		{client.GroupOwner, func() error { return a.TransferGroup(ctx, id, far) }},
	} {
		require.NoError(t, change.make(), change.what)
		event(change.what)
	}
	guestSeen.await(t, "the invitation", func(m client.Message) bool { return m.Event != nil && m.Event.What == client.GroupInvited })
	guestSeen.await(t, "the removal", func(m client.Message) bool { return m.Event != nil && m.Event.What == client.GroupRemoved })

	// A removed user cannot return with a link; a user who left can.
	link, err := b.CreateLink(ctx, id, time.Hour, 10)
	require.NoError(t, err)
	_, _, err = c.JoinByLink(ctx, link.Code)
	require.Equal(t, client.CodeNotAllowed, client.CodeOf(err))
	require.NoError(t, a.LeaveGroup(ctx, id))
	event(client.GroupLeft)
	joined, name, err := a.JoinByLink(ctx, link.Code)
	require.NoError(t, err)
	require.Equal(t, id, joined)
	require.Equal(t, "the Band", name)
	event(client.GroupJoined)
	links, err := b.Links(ctx, id)
	require.NoError(t, err)
	require.Len(t, links, 1)
	require.NoError(t, b.RevokeLink(ctx, id, link.Code))
	_, _, err = c.JoinByLink(ctx, link.Code)
	require.Equal(t, client.CodeNotAllowed, client.CodeOf(err))

	require.NoError(t, b.MuteGroup(ctx, id, false))
	sent, err := a.SendText(ctx, client.InThread(id), "hello")
	require.NoError(t, err)
	require.Equal(t, "hello", seen.await(t, "the text", func(m client.Message) bool { return m.ID == sent.MessageID }).Text)
	info, err := b.Group(ctx, id)
	require.NoError(t, err)
	require.Equal(t, far, info.Owner)
	require.Equal(t, 2, info.Members)
	members := 0
	for m, err := range b.GroupMembers(ctx, id) {
		require.NoError(t, err)
		require.Contains(t, []int32{owner, far}, m.UID)
		members++
	}
	require.Equal(t, 2, members)
	require.NoError(t, b.DissolveGroup(ctx, id))
	event(client.GroupDissolved)
	_, err = a.SendText(ctx, client.InThread(id), "too late")
	require.Equal(t, client.CodeNotAllowed, client.CodeOf(err))

	page, err := c.History(ctx, id, 0, 500)
	require.NoError(t, err)
	require.NotEmpty(t, page.Messages)
	require.EqualValues(t, 1, page.Messages[0].ID, "history was open when it joined")
	require.Equal(t, client.GroupRemoved, page.Messages[len(page.Messages)-1].Event.What, "and ends with its removal")
	require.LessOrEqual(t, guestSeen.last(), page.Messages[len(page.Messages)-1].ID, "nothing later was pushed to it")
}

// From the moment a removal from a group is committed, no text of the removed user is stored, on whichever node, and
// no later row is pushed to it.
func TestNothingIsStoredAfterARemoval(t *testing.T) {
	w := rightsCluster(t)
	owner, member, _ := w.pair(t)
	x := w.login(t, owner, 0, quiet)
	y, seen := w.loginForGroups(t, member, 1)
	made, err := x.CreateGroup(t.Context(), client.GroupDraft{Name: "the band", Members: []int32{member}})
	require.NoError(t, err)
	id := made.ThreadID
	var sum rights.Result
	for i := range max(rights.Count(60)/5, 1) {
		got, err := rights.Race(t.Context(), w.db, y, id, func(ctx context.Context) error { return x.RemoveMember(ctx, id, member) })
		require.NoError(t, err)
		sum.Add(got)
		info, err := y.Group(t.Context(), id)
		require.NoError(t, err)
		_, err = x.SendText(t.Context(), client.InThread(id), fmt.Sprint("without you, ", i))
		require.NoError(t, err)
		seen.await(t, "the removal", func(m client.Message) bool { return m.ID == info.Left })
		require.LessOrEqual(t, seen.last(), info.Left)
		refused, err := x.Invite(t.Context(), id, member)
		require.NoError(t, err)
		require.Empty(t, refused)
	}
	checkRaces(t, sum)
}
