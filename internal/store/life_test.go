package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["a recall leaves the content nowhere"] = testRecall
	bodies["an edit replaces the content, and the row that tells of it has none"] = testEdit
	bodies["who may recall and edit in a group"] = testChangesInGroups
	bodies["a change of a text with an unclear commit is made once"] = testChangeUnclearCommit
	bodies["a resend of a changed text says so"] = testResendOfChanged
	bodies["no edit or recall is stored after the end of a friendship"] = testChangesAreExact
	bodies["recalls, edits and texts of one thread at once"] = testChangesConcurrently
	bodies["hidden messages are the user's own and bounded"] = testHide
	bodies["types of texts are stored"] = testTypes
}

const always = 24 * time.Hour

// say appends one text and returns its number.
func (c *circle) say(thread int64, from int32, content string) int64 {
	c.t.Helper()
	got := c.send(store.NewMessage{
		ThreadID: thread, Sender: from, MemberVer: store.UnknownVer, UniqueID: fmt.Sprint("u", c.n.Add(1)), Content: content, Type: "text/x",
	})
	require.NoError(c.t, got.Err)
	return got.Seq
}

func testRecall(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	a, b, x := user(t, c.s, "a"), user(t, c.s, "b"), user(t, c.s, "x")
	thread := c.befriend(a, b)
	secret := c.say(thread, a, "the secret")
	_, err := c.s.Messages.Edit(ctx, c.node, c.boot, a, thread, secret, "another secret", always)
	require.NoError(t, err)

	for name, call := range map[string]struct {
		by          int32
		thread, seq int64
		within      time.Duration
		want        error
	}{
		"another's":     {b, thread, secret, always, store.ErrNotAllowed},
		"outsider":      {x, thread, secret, always, store.ErrNotMember},
		"no such text":  {a, thread, 9999, always, store.ErrNoText},
		"an edit's row": {a, thread, secret + 1, always, store.ErrNoText},
		"too late":      {a, thread, secret, -time.Second, store.ErrTooLate},
		"no thread":     {a, 9999, 1, always, store.ErrNotMember},
	} {
		_, err := c.s.Messages.Recall(ctx, c.node, c.boot, call.by, call.thread, call.seq, call.within)
		require.ErrorIs(t, err, call.want, name)
	}
	_, err = c.s.Messages.Recall(ctx, "n1", "another life", a, thread, secret, always)
	require.ErrorIs(t, err, store.ErrFenced)

	done, err := c.s.Messages.Recall(ctx, c.node, c.boot, a, thread, secret, always)
	require.NoError(t, err)
	require.Equal(t, [2]int32{a, b}, done.Members)
	require.Equal(t, secret+2, done.Event.Seq)
	require.Equal(t, store.KindRecall, done.Event.Kind)
	require.Equal(t, a, done.Event.Sender)
	require.JSONEq(t, fmt.Sprintf(`{"event":"recalled","by":%d,"msg_id":%d}`, a, secret), done.Event.Content)
	changed, ok := done.Event.ChangedText()
	require.True(t, ok)
	require.Equal(t, secret, changed)

	all := history(t, c.s, thread)
	require.Equal(t, done.Event, all[len(all)-1])
	require.Equal(t, done.Target, all[secret-1])
	require.Empty(t, done.Target.Content)
	require.Empty(t, done.Target.Type)
	require.EqualValues(t, store.StatusRecalled, done.Target.Status)
	require.NotEmpty(t, done.Target.UniqueID, "to recognise a resend by")
	for _, m := range all {
		require.NotContains(t, m.Content, "secret")
	}
	texts, err := c.s.Messages.Contents(ctx, b, []store.TextID{{thread, secret}})
	require.NoError(t, err)
	require.Empty(t, texts)

	again, err := c.s.Messages.Recall(ctx, c.node, c.boot, a, thread, secret, -time.Second)
	require.NoError(t, err)
	require.Zero(t, again.Event.Seq, "nothing to do, however late")
	require.Equal(t, thread, again.Event.ThreadID)
	_, err = c.s.Messages.Edit(ctx, c.node, c.boot, a, thread, secret, "back again", always)
	require.ErrorIs(t, err, store.ErrNoText)
	require.Len(t, history(t, c.s, thread), len(all))
	require.Equal(t, int64(len(all))+1, c.say(thread, b, "next"), "the numbers go on")
}

func testEdit(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	thread := c.befriend(a, b)
	seq := c.say(thread, a, "one")
	edit := func(by int32, content string, within time.Duration) (store.TextChange, error) {
		return c.s.Messages.Edit(ctx, c.node, c.boot, by, thread, seq, content, within)
	}
	_, err := edit(b, "x", always)
	require.ErrorIs(t, err, store.ErrNotAllowed)
	_, err = edit(a, "x", -time.Second)
	require.ErrorIs(t, err, store.ErrTooLate)
	_, err = edit(a, "\xff", always)
	require.ErrorIs(t, err, store.ErrInvalid)

	done, err := edit(a, "twó", always)
	require.NoError(t, err)
	require.Equal(t, store.KindEdit, done.Event.Kind)
	require.JSONEq(t, fmt.Sprintf(`{"event":"edited","by":%d,"msg_id":%d}`, a, seq), done.Event.Content)
	all := history(t, c.s, thread)
	m := all[seq-1]
	require.Equal(t, done.Target, m)
	require.Equal(t, "twó", m.Content)
	require.Equal(t, "text/x", m.Type, "as it was")
	require.Equal(t, done.Event.Seq, m.EditedSeq)
	require.Equal(t, done.Event.CreatedMS, m.EditedMS)
	require.Zero(t, m.Status)

	same, err := edit(a, "twó", -time.Second)
	require.NoError(t, err)
	require.Zero(t, same.Event.Seq)
	done, err = edit(a, "three", always)
	require.NoError(t, err)
	require.Equal(t, int64(len(all))+1, done.Event.Seq)
	texts, err := c.s.Messages.Contents(ctx, b, []store.TextID{{thread, seq}, {thread, seq}})
	require.NoError(t, err)
	require.Equal(t, "three", texts[store.TextID{Thread: thread, Seq: seq}].Content)
	require.Equal(t, done.Event.Seq, texts[store.TextID{Thread: thread, Seq: seq}].EditedSeq)
	require.NoError(t, c.s.Messages.Hide(ctx, c.node, c.boot, b, thread, []int64{seq}))
	texts, err = c.s.Messages.Contents(ctx, b, []store.TextID{{thread, seq}})
	require.NoError(t, err)
	require.Empty(t, texts, "hidden")
	texts, err = c.s.Messages.Contents(ctx, a, []store.TextID{{thread, seq}})
	require.NoError(t, err)
	require.Len(t, texts, 1)
}

func testChangesInGroups(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	o, a, m, gone := user(t, c.s, "o"), user(t, c.s, "a"), user(t, c.s, "m"), user(t, c.s, "gone")
	id := c.group(o, a, m, gone)
	_, err := c.s.Groups.SetRole(ctx, c.node, c.boot, o, id, a, store.RoleAdmin)
	require.NoError(t, err)
	recall := func(by int32, seq int64, within time.Duration) error {
		done, err := c.s.Messages.Recall(ctx, c.node, c.boot, by, id, seq, within)
		require.Zero(t, done.Members)
		return err
	}
	edit := func(by int32, seq int64) error {
		_, err := c.s.Messages.Edit(ctx, c.node, c.boot, by, id, seq, "edited", always)
		return err
	}
	byOwner, byMember, byGone := c.say(id, o, "o"), c.say(id, m, "m"), c.say(id, gone, "gone")
	require.ErrorIs(t, recall(m, byOwner, always), store.ErrNotAllowed)
	require.ErrorIs(t, edit(a, byMember), store.ErrNotAllowed, "not even an admin")
	_, err = c.s.Groups.RemoveMember(ctx, c.node, c.boot, a, id, gone)
	require.NoError(t, err)
	require.ErrorIs(t, recall(gone, byGone, always), store.ErrNotMember, "a former member")
	require.ErrorIs(t, edit(gone, byGone), store.ErrNotMember)

	_, err = c.s.Groups.MuteMember(ctx, c.node, c.boot, a, id, m, time.Now().Add(time.Hour).UnixMilli())
	require.NoError(t, err)
	require.ErrorIs(t, edit(m, byMember), store.ErrMayNotWrite, "muted")
	require.NoError(t, recall(m, byMember, always), "muted members may take back what they said")
	require.ErrorIs(t, recall(m, 1, always), store.ErrNoText, "an event")

	require.NoError(t, recall(a, byOwner, -time.Second), "an admin, any text at any time")
	require.NoError(t, recall(o, byGone, -time.Second))
	require.Empty(t, func() (left []store.Message) {
		for _, row := range history(t, c.s, id) {
			if row.Kind == store.KindText && row.Content != "" {
				left = append(left, row)
			}
		}
		return left
	}())

	// Who comes back cannot read, nor change, what was said before.
	_, err = c.s.Groups.Invite(ctx, c.node, c.boot, o, id, []int32{gone})
	require.NoError(t, err)
	require.ErrorIs(t, edit(gone, byGone), store.ErrNoText)
	last := c.say(id, gone, "back")
	require.NoError(t, edit(gone, last))
	_, err = c.s.Groups.Dissolve(ctx, c.node, c.boot, o, id)
	require.NoError(t, err)
	require.ErrorIs(t, recall(o, last, always), store.ErrNotMember)
}

func testChangeUnclearCommit(t *testing.T, d *database) {
	for _, done := range []bool{true, false} {
		t.Run(fmt.Sprintf("done=%v", done), func(t *testing.T) {
			var lose atomic.Bool
			plain := newCircle(t, d)
			faulty := d.withFaults(t, &faults{commit: func(ctx context.Context, commit func(context.Context) error) error {
				if !lose.Swap(false) {
					return commit(ctx)
				}
				if done {
					if err := commit(ctx); err != nil {
						return err
					}
				}
				return io.ErrUnexpectedEOF
			}})
			a, b := user(t, plain.s, fmt.Sprint("a", done)), user(t, plain.s, fmt.Sprint("b", done))
			thread := plain.befriend(a, b)
			seq := plain.say(thread, a, "one")
			lose.Store(true)
			edited, err := faulty.Messages.Edit(t.Context(), plain.node, plain.boot, a, thread, seq, "two", always)
			require.NoError(t, err)
			require.Equal(t, seq+1, edited.Event.Seq)
			lose.Store(true)
			recalled, err := faulty.Messages.Recall(t.Context(), plain.node, plain.boot, a, thread, seq, always)
			require.NoError(t, err)
			require.Equal(t, seq+2, recalled.Event.Seq)
			all := history(t, plain.s, thread)
			require.Len(t, all, int(seq)+2)
			require.Equal(t, recalled.Target, all[seq-1])
			require.Equal(t, edited.Event, all[seq])
			require.Equal(t, recalled.Event, all[seq+1])
		})
	}
}

func testResendOfChanged(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	thread := c.befriend(a, b)
	m := store.NewMessage{ThreadID: thread, Sender: a, MemberVer: store.UnknownVer, UniqueID: "mine", Content: "one"}
	seq := c.send(m).Seq
	again := c.send(m)
	require.True(t, again.Resent)
	require.False(t, again.Changed)
	_, err := c.s.Messages.Edit(t.Context(), c.node, c.boot, a, thread, seq, "two", always)
	require.NoError(t, err)
	again = c.send(m)
	require.Equal(t, seq, again.Seq)
	require.True(t, again.Changed)
	_, err = c.s.Messages.Recall(t.Context(), c.node, c.boot, a, thread, seq, always)
	require.NoError(t, err)
	again = c.send(m)
	require.Equal(t, seq, again.Seq)
	require.True(t, again.Changed)
	require.Empty(t, history(t, c.s, thread)[seq-1].Content, "a resend brings nothing back")
}

// A friendship ends and begins again while its users edit and recall: each row that tells of a change lies between an approval and
// the unfriend that follows it.
func testChangesAreExact(t *testing.T, d *database) {
	const rounds = 40
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	thread := c.befriend(a, b)
	seq := c.say(thread, a, "0")
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range 2 {
		s := d.another(t, c.s)
		name, boot := node(t, s, fmt.Sprint("editor", i))
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				_, err := s.Messages.Edit(t.Context(), name, boot, a, thread, seq, fmt.Sprint(i, "-", n), always)
				if err != nil && !errors.Is(err, store.ErrMayNotWrite) {
					t.Error(err)
					return
				}
			}
		})
	}
	last := func() int64 { return int64(len(history(t, c.s, thread))) }
	for range rounds {
		_, err := c.s.Friends.Unfriend(t.Context(), c.node, c.boot, b, a)
		if err != nil {
			t.Error(err)
			break
		}
		parted := last()
		_, err = c.s.Messages.Recall(t.Context(), c.node, c.boot, a, thread, seq, always)
		if !errors.Is(err, store.ErrMayNotWrite) {
			t.Error("recall after the unfriend:", err)
		}
		if now := last(); now != parted {
			t.Errorf("rows after the unfriend: %d, then %d", parted, now)
		}
		c.befriend(a, b)
	}
	stop.Store(true)
	wg.Wait()
	all := history(t, c.s, thread)
	for i := range all {
		require.EqualValues(t, i+1, all[i].Seq)
	}
}

// Texts, edits and recalls of one thread, from several nodes: the numbers stay dense, each row that tells of a change names a text, and
// a recalled text has no content whatever came after.
func testChangesConcurrently(t *testing.T, d *database) {
	const texts = 20
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	thread := c.befriend(a, b)
	first := c.say(thread, a, "t0")
	for i := 1; i < texts; i++ {
		c.say(thread, a, fmt.Sprint("t", i))
	}
	var wg sync.WaitGroup
	for i := range 3 {
		s := d.another(t, c.s)
		name, boot := node(t, s, fmt.Sprint("changer", i))
		wg.Go(func() {
			for n := range int64(texts) {
				seq := first + n
				_, err := s.Messages.Edit(t.Context(), name, boot, a, thread, seq, fmt.Sprint("e", i, n), always)
				if err != nil && !errors.Is(err, store.ErrNoText) {
					t.Error(err)
				}
				if n%2 == 0 {
					if _, err := s.Messages.Recall(t.Context(), name, boot, a, thread, seq, always); err != nil {
						t.Error(err)
					}
				}
				out := make([]store.Appended, 1)
				msg := []store.NewMessage{{ThreadID: thread, Sender: b, MemberVer: store.UnknownVer, UniqueID: fmt.Sprint(i, "-", n), Content: "x"}}
				if err := s.Messages.Append(t.Context(), name, boot, msg, out); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	recalls := make(map[int64]int)
	for i, m := range history(t, c.s, thread) {
		require.EqualValues(t, i+1, m.Seq)
		if m.Kind == store.KindRecall {
			target, ok := m.ChangedText()
			require.True(t, ok)
			recalls[target]++
		}
	}
	all := history(t, c.s, thread)
	for n := range int64(texts) {
		m := all[first+n-1]
		if n%2 == 0 {
			require.Equal(t, 1, recalls[m.Seq], "once")
			require.Empty(t, m.Content)
		} else {
			require.True(t, strings.HasPrefix(m.Content, "e"), m.Content)
		}
	}
}

func testHide(t *testing.T, d *database) {
	c := newCircle(t, d)
	ctx := t.Context()
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	thread := c.befriend(a, b)
	hide := func(uid int32, thread int64, seqs ...int64) error {
		return c.s.Messages.Hide(ctx, c.node, c.boot, uid, thread, seqs)
	}
	any, err := c.s.Messages.HidesAny(ctx, a)
	require.NoError(t, err)
	require.False(t, any)
	require.ErrorIs(t, hide(a, thread, 1, 99999), store.ErrNoText)
	require.ErrorIs(t, hide(a, thread, 0), store.ErrNoText)
	db := d.sql(t)
	_, err = db.ExecContext(ctx, "UPDATE chat_thread SET last_seq=100000")
	require.NoError(t, err)
	other := c.befriend(a, user(t, c.s, "x"))
	require.NoError(t, hide(a, thread, 3, 1, 3))
	require.NoError(t, hide(a, thread, 1, 2), "again")
	require.NoError(t, hide(a, other, 1))
	of := func(uid int32, thread, from, to int64) []int64 {
		list, err := c.s.Messages.Hidden(ctx, uid, []store.Span{{Thread: thread, After: from - 1, Upto: to}})
		require.NoError(t, err)
		return list[thread]
	}
	require.Equal(t, []int64{1, 2, 3}, of(a, thread, 1, 100))
	require.Equal(t, []int64{2}, of(a, thread, 2, 2))
	require.Empty(t, of(b, thread, 1, 100))
	any, err = c.s.Messages.HidesAny(ctx, a)
	require.NoError(t, err)
	require.True(t, any)

	require.ErrorIs(t, hide(a, thread), store.ErrInvalid)
	require.ErrorIs(t, hide(a, thread, make([]int64, 0)...), store.ErrInvalid)
	require.ErrorIs(t, hide(9999, thread, 1), store.ErrNotFound)
	require.ErrorIs(t, c.s.Messages.Hide(ctx, "n1", "another life", a, thread, []int64{9}), store.ErrFenced)

	// Up to the bound, from two devices at once.
	q := d.on(
		"INSERT INTO hidden_message(user_id,thread_id,seq) WITH RECURSIVE n(i) AS (SELECT 101 UNION ALL SELECT i+1 FROM n WHERE i<10000) SELECT ?,?,i FROM n",
		"INSERT INTO hidden_message(user_id,thread_id,seq) WITH RECURSIVE n(i) AS (SELECT 101 UNION ALL SELECT i+1 FROM n WHERE i<10000) SELECT ?,?,i FROM n")
	if d.engine == store.MySQL {
		_, err = db.ExecContext(ctx, "SET GLOBAL max_recursive_iterations=20000")
		require.NoError(t, err)
		db = d.sql(t)
	}
	_, err = db.ExecContext(ctx, q, a, thread)
	require.NoError(t, err)
	var wg sync.WaitGroup
	var full atomic.Int64
	for i := range int64(2) {
		s := d.another(t, c.s)
		wg.Go(func() {
			for n := range int64(100) {
				err := s.Messages.Hide(ctx, c.node, c.boot, a, thread, []int64{20000 + 2*n + i})
				switch {
				case errors.Is(err, store.ErrTooManyHidden):
					full.Add(1)
				case err != nil:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 200-97, full.Load())
	require.Len(t, of(a, thread, 1, 1<<30), store.MaxHidden)
	require.NoError(t, hide(a, thread, 1, 2, 3), "what is hidden costs no room")
	require.NoError(t, hide(b, thread, 1))

	_, err = c.s.Users.Delete(ctx, a, "hash of a")
	require.NoError(t, err)
	require.Equal(t, 1, scan[int](t, d.sql(t), "SELECT COUNT(*) FROM hidden_message"), "those of b")
}

func testTypes(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	thread := c.befriend(a, b)
	base := len(history(t, c.s, thread))
	var msgs []store.NewMessage
	for i, kind := range []string{"", "image/png", "", strings.Repeat("x", store.MaxType), strings.Repeat("x", store.MaxType+1)} {
		msgs = append(msgs, store.NewMessage{
			ThreadID: thread, Sender: a, MemberVer: store.UnknownVer, UniqueID: fmt.Sprint(i), Content: "x", Type: kind,
		})
	}
	out := make([]store.Appended, len(msgs))
	require.NoError(t, c.s.Messages.Append(t.Context(), c.node, c.boot, msgs, out))
	require.ErrorIs(t, out[4].Err, store.ErrInvalid)
	for i, m := range history(t, c.s, thread)[base:] {
		require.Equal(t, msgs[i].Type, m.Type)
		require.Equal(t, msgs[i].UniqueID, m.UniqueID)
	}
}
