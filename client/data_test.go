package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// serves changes which data the fake is, and ends all connections.
func (f *fake) serves(id string) {
	f.mu.Lock()
	f.welcome["data"] = id
	f.threads = make(map[int64]*fakeThread)
	f.stored = make(map[string]wire.StoredText)
	f.mu.Unlock()
}

// C4: the numbers of a new body of data are below the old cursors.
func TestTextsOfReplacedDataAreShown(t *testing.T) {
	f := newFake(t)
	f.serves("one")
	f.thread(7, 1, 2)
	for _, text := range []string{"a", "b", "c"} {
		f.say(7, 2, text)
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1), Cursors: []Cursor{}})
	texts(t, s, 3)
	require.Equal(t, "one", s.Data())

	f.serves("two")
	f.thread(7, 1, 3)
	f.say(7, 3, "new")
	f.dropAll()
	require.Zero(t, next[DataReplaced](t, s))
	require.Equal(t, "two", s.Data())
	require.Empty(t, s.Cursors())
	got := texts(t, s, 1)
	require.Equal(t, "new", got[0].Text)
	require.EqualValues(t, 1, got[0].ID)
	require.Equal(t, []Cursor{{ThreadID: 7, LastID: 1}}, s.Cursors())
	sent, err := s.SendText(t.Context(), User(3), "mine")
	require.NoError(t, err)
	require.EqualValues(t, 2, sent.MessageID)
	require.Equal(t, "mine", texts(t, s, 1)[0].Text)

	// The same data again is no news.
	f.dropAll()
	next[CaughtUp](t, s)
	f.say(7, 3, "more")
	require.EqualValues(t, 3, texts(t, s, 1)[0].ID)
}

// C4
func TestCursorsOfOtherDataAreNotUsed(t *testing.T) {
	f := newFake(t)
	f.serves("two")
	f.thread(7, 1, 2)
	f.say(7, 2, "new")
	s := f.open(SessionOptions{Ticket: f.ticket(1), Cursors: []Cursor{{ThreadID: 7, LastID: 50}}, Data: "one"})
	require.Equal(t, "one", s.Data(), "that the cursors are of")
	require.Zero(t, next[DataReplaced](t, s))
	require.Equal(t, "two", s.Data())
	require.Equal(t, "new", texts(t, s, 1)[0].Text)
}

// C4: the same data, as it was some time ago.
func TestWhatIsStoredAfterABackupWasRestoredIsShown(t *testing.T) {
	f := newFake(t)
	f.serves("one")
	f.thread(7, 1, 2)
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		f.say(7, 2, text)
	}
	s := f.open(SessionOptions{Ticket: f.ticket(1), Cursors: []Cursor{}})
	texts(t, s, 5)

	f.mu.Lock()
	th := f.threads[7]
	th.msgs = th.msgs[:2]
	th.msgs = append(th.msgs, wire.StoredText{
		Sender: 2, MsgID: 3, ThreadID: 7, UniqueID: "later", Content: "stored since", CreatedMS: 1_700_000_000_000 + time.Hour.Milliseconds(),
	})
	f.mu.Unlock()
	f.dropAll()
	require.Equal(t, DataReplaced{ThreadID: 7, LastID: 3}, next[DataReplaced](t, s))
	got := texts(t, s, 1)
	require.Equal(t, "stored since", got[0].Text, "and nothing of what was shown")
	f.append(7, 2, "next", "next")
	f.mu.Lock()
	m := f.threads[7].msgs[3]
	f.mu.Unlock()
	f.push(m)
	require.Equal(t, "next", texts(t, s, 1)[0].Text)
	require.Equal(t, []Cursor{{ThreadID: 7, LastID: 4}}, s.Cursors())
}

// C4: without knowing what was shown, nothing can be told from it but the end.
func TestAThreadThatWasSetBackGoesOn(t *testing.T) {
	var o order
	o.start(7, 50)
	o.setBack(7, 20)
	require.EqualValues(t, 20, o.cursor(7))
	require.False(t, o.hole(7))
	require.Len(t, o.push(7, []Message{{ID: 21}}), 1)

	o = order{}
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	require.Len(t, o.page(7, []Message{{ID: 4000, Time: noon}}, 4000), 1)
	o.setBack(7, 3000)
	require.EqualValues(t, 3000-maxBack, o.cursor(7))
	ready := o.page(7, []Message{{ID: 2001, Time: noon.Add(-time.Hour)}, {ID: 3000, Time: noon.Add(time.Hour)}}, 3000)
	require.Len(t, ready, 1)
	require.EqualValues(t, 3000, ready[0].ID)
	require.Len(t, o.push(7, []Message{{ID: 3001, Time: noon.Add(-time.Hour)}}), 1, "past the end by then: new, whatever its time")
}
