package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/store"
	"parley/lab/launch"
)

// groupReader is a user's session, with the rows of a group that it has delivered.
type groupReader struct {
	*client.Session
	uid  int32
	done chan struct{}

	mu   sync.Mutex // guards got
	got  []client.Message
	came chan struct{} // holds a token when got has grown
}

// reader opens a session that delivers everything its user may read. It never looks for lost pushes, so a hole
// without a notice remains.
func (w *world) reader(t *testing.T, uid int32, node int, thread int64) *groupReader {
	t.Helper()
	s, err := client.Open(t.Context(), client.SessionOptions{
		Options: client.Options{Device: fmt.Sprint("at", node)}, Ticket: w.ticket(t, uid, node), Cursors: []client.Cursor{}, SyncEvery: -1,
	})
	require.NoError(t, err)
	r := &groupReader{Session: s, uid: uid, done: make(chan struct{}), came: make(chan struct{}, 1)}
	go func() {
		defer close(r.done)
		for ev := range s.Events(context.Background()) {
			texts, ok := ev.(client.Texts)
			if !ok || texts.ThreadID != thread {
				continue
			}
			r.mu.Lock()
			r.got = append(r.got, texts.Messages...)
			r.mu.Unlock()
			select {
			case r.came <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() { s.Close(); <-r.done })
	return r
}

func (r *groupReader) ids() (ids []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.got {
		ids = append(ids, m.ID)
	}
	return ids
}

// await waits until the session has delivered the message with an id, or a later one.
func (r *groupReader) await(t *testing.T, id int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if ids := r.ids(); len(ids) > 0 && slices.Max(ids) >= id {
			return
		}
		select {
		case <-r.came:
		case <-ctx.Done():
			t.Fatalf("user %d has %v and waits for %d", r.uid, r.ids(), id)
		}
	}
}

// readable returns the ids of the rows that a user may read, or could read before leaving, according to the events of
// the group.
func readable(t *testing.T, rows []store.Message, uid int32) (ids []int64) {
	member := false
	for _, m := range rows {
		var e store.Event
		if m.Kind == store.KindEvent {
			require.NoError(t, json.Unmarshal([]byte(m.Content), &e))
		}
		mine := slices.Contains(e.UIDs, uid) || e.By == uid
		if mine && (e.Event == store.EventCreated || e.Event == store.EventJoined) {
			member = true
		}
		if member {
			ids = append(ids, m.Seq)
		}
		if e.Event == store.EventLeft && e.By == uid || e.Event == store.EventRemoved && slices.Contains(e.UIDs, uid) {
			member = false
		}
	}
	return ids
}

// 200 texts are sent to a group on two nodes, from both, while members join by a link, leave, return and are removed.
// The session of each member, on either node, delivers each row of its membership exactly once and in order, and no
// other row.
func TestAGroupOnTwoNodesWhoseMembersComeAndGo(t *testing.T) {
	w := ownCluster(t, launch.Options{Race: true, Chat: 2, Configure: func(n *launch.Node, _ int, f *launch.INI) error {
		if n.Role() == launch.Chat {
			f.Set("Limits", "RequestRate", "0")
			f.Set("Limits", "TextRate", "0")
		}
		return nil
	}})
	const members, texts = 12, 100
	owner := w.users(t, members)
	setup := w.login(t, owner, 0, quiet)
	made, err := setup.CreateGroup(t.Context(), client.GroupDraft{Name: "all of us"})
	require.NoError(t, err)
	thread := made.ThreadID
	link, err := setup.CreateLink(t.Context(), thread, time.Hour, 1000)
	require.NoError(t, err)
	setup.Close()

	first, second := w.reader(t, owner, 0, thread), w.reader(t, owner+1, 1, thread)
	_, _, err = second.JoinByLink(t.Context(), link.Code)
	require.NoError(t, err)
	var writing sync.WaitGroup
	for _, r := range []*groupReader{first, second} {
		writing.Go(func() {
			for i := range texts {
				if _, err := r.SendText(t.Context(), client.To{ThreadID: thread}, fmt.Sprint(r.uid, " says ", i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}

	var coming sync.WaitGroup
	var mu sync.Mutex
	all := []*groupReader{first, second}
	gone := make(map[int32]bool)
	for i := 2; i < members; i++ {
		coming.Go(func() {
			uid := owner + int32(i)
			r := w.reader(t, uid, i%2, thread)
			mu.Lock()
			all = append(all, r)
			mu.Unlock()
			_, _, err := r.JoinByLink(t.Context(), link.Code)
			if err != nil {
				t.Error(err)
				return
			}
			if i%3 == 0 { // another device on the other node, which logs in while texts are sent
				other := w.reader(t, uid, 1-i%2, thread)
				mu.Lock()
				all = append(all, other)
				mu.Unlock()
			}
			switch i % 5 {
			case 1:
				err = r.LeaveGroup(t.Context(), thread)
			case 2:
				if err = r.LeaveGroup(t.Context(), thread); err == nil {
					_, _, err = r.JoinByLink(t.Context(), link.Code)
				}
			case 3:
				err = first.RemoveMember(t.Context(), thread, uid)
			}
			if err != nil {
				t.Error(uid, err)
			}
			mu.Lock()
			gone[uid] = i%5 == 1 || i%5 == 3
			mu.Unlock()
		})
	}
	coming.Wait()
	writing.Wait()
	if t.Failed() {
		return
	}
	rows, more, err := w.store.Messages.HistoryTo(t.Context(), thread, 0, 0, 10_000, 10<<20)
	require.NoError(t, err)
	require.False(t, more)
	for _, r := range all {
		want := readable(t, rows, r.uid)
		require.NotEmpty(t, want)
		r.await(t, want[len(want)-1])
		if got := r.ids(); len(got) < len(want) { // a device that logged in after the user left starts at the last membership
			require.Equal(t, want[len(want)-len(got):], got, "user %d", r.uid)
		} else {
			require.Equal(t, want, got, "user %d", r.uid)
		}
	}

	// From here on, former members receive nothing, however long they are logged in.
	sent, err := first.SendText(t.Context(), client.To{ThreadID: thread}, "without them")
	require.NoError(t, err)
	for _, r := range all {
		if !gone[r.uid] {
			r.await(t, sent.MessageID)
		}
	}
	for _, r := range all {
		if gone[r.uid] {
			want := readable(t, rows, r.uid)
			require.Equal(t, want[len(want)-1], slices.Max(r.ids()), "user %d", r.uid)
		}
	}
}
