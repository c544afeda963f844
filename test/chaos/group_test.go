//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/store"
)

// The oracle of groups must detect each kind of violation, or G1 proves nothing.
func TestGroupOracleSeesWhatIsWrong(t *testing.T) {
	const thread, owner, member, other = 7, 1, 2, 3
	event := func(seq int64, what string, by int32, uids ...int32) groupRow {
		return groupRow{seq: seq, sender: by, id: what, kind: store.KindEvent, event: &store.Event{Event: what, By: by, UIDs: uids}}
	}
	text := func(seq int64, by int32, id string) groupRow {
		return groupRow{seq: seq, sender: by, id: id, content: "text " + id}
	}
	rows := func() []groupRow {
		return []groupRow{
			event(1, store.EventCreated, owner, other),
			text(2, owner, "a"),
			event(3, store.EventInvited, owner, member),
			text(4, member, "b"),
			event(5, store.EventMuted, owner, member),
			event(6, store.EventUnmuted, owner, member),
			event(7, store.EventRemoved, owner, member),
			text(8, owner, "c"),
			event(9, store.EventInvited, owner, member),
			text(10, member, "d"),
		}
	}
	acked := func() map[string]int64 { return map[string]int64{"a": 2, "b": 4, "c": 8, "d": 10} }
	got := func() (out []client.Message) {
		for _, row := range rows() {
			if row.seq >= 3 && row.seq <= 7 || row.seq >= 9 {
				m := client.Message{ThreadID: thread, ID: row.seq, Sender: row.sender, UniqueID: row.id, Text: row.content}
				if m.Kind = client.Kind(row.kind); row.event != nil {
					m.Event = &client.GroupEvent{What: client.GroupChange(row.event.Event)}
				}
				out = append(out, m)
			}
		}
		return out
	}
	require.Equal(t, []interval{{3, 7}, {9, 1<<63 - 1}}, intervals(rows(), member))
	require.Equal(t, []interval{{1, 1<<63 - 1}}, intervals(rows(), other))

	judge := func(rows []groupRow, acked map[string]int64, got []client.Message) (missed []string) {
		f := &groupFaults{log: t.Logf}
		f.judgeStored(thread, rows, acked)
		f.judgeMember(thread, rows, member, got)
		r := &Report{}
		f.report(r)
		for _, figure := range r.Figures() {
			if !figure.OK {
				missed = append(missed, figure.Name)
			}
		}
		return missed
	}
	require.Empty(t, judge(rows(), acked(), got()))
	for want, wrong := range map[string]func(rows *[]groupRow, acked map[string]int64, got *[]client.Message){
		"lost": func(_ *[]groupRow, acked map[string]int64, _ *[]client.Message) { acked["e"] = 11 },
		"holes": func(rows *[]groupRow, _ map[string]int64, _ *[]client.Message) {
			*rows = append(*rows, text(12, other, "e"))
		},
		"texts of others stored": func(rows *[]groupRow, _ map[string]int64, _ *[]client.Message) {
			(*rows)[7].sender = member
		},
		"texts of muted members stored": func(rows *[]groupRow, _ map[string]int64, got *[]client.Message) {
			(*rows)[5] = text(6, member, "e")
			(*got)[3] = client.Message{ThreadID: thread, ID: 6, Sender: member, UniqueID: "e", Text: "text e"}
		},
		"missing": func(_ *[]groupRow, _ map[string]int64, got *[]client.Message) { *got = slices.Delete(*got, 4, 5) },
		"outside a membership": func(_ *[]groupRow, _ map[string]int64, got *[]client.Message) {
			m := client.Message{ThreadID: thread, ID: 8, Sender: owner, UniqueID: "c", Text: "text c"}
			*got = slices.Insert(*got, 5, m)
		},
		"doubled":   func(_ *[]groupRow, _ map[string]int64, got *[]client.Message) { *got = append(*got, (*got)[1]) },
		"reordered": func(_ *[]groupRow, _ map[string]int64, got *[]client.Message) { slices.Reverse((*got)[1:3]) },
		"changed":   func(_ *[]groupRow, _ map[string]int64, got *[]client.Message) { (*got)[1].Text = "another" },
	} {
		t.Run(want, func(t *testing.T) {
			rows, acked, got := rows(), acked(), got()
			wrong(&rows, acked, &got)
			missed := judge(rows, acked, got)
			require.Contains(t, missed, want)
			// A text after the removal is no row that the member gets, but one that sits in another's place is.
			require.LessOrEqual(t, len(missed), 2, "%v", missed)
		})
	}
}

// The same for what edits, recalls and marks leave behind.
func TestGroupOracleSeesWrongChanges(t *testing.T) {
	const thread, member = 7, 2
	rows := func() []groupRow {
		text := func(seq int64, id string, version int, changed int64) groupRow {
			return groupRow{seq: seq, sender: member, id: id, content: textOf(id, version), changed: changed}
		}
		gone := text(3, "b", 0, 5)
		gone.content, gone.status = "", store.StatusRecalled
		return []groupRow{
			{seq: 1, sender: member, id: "made", kind: store.KindEvent, event: &store.Event{Event: store.EventCreated, By: member}},
			text(2, "a", 1, 4),
			gone,
			{seq: 4, sender: member, id: "e", kind: store.KindEdit, target: 2},
			{seq: 5, sender: member, id: "r", kind: store.KindRecall, target: 3},
			text(6, "c", 0, 0),
		}
	}
	all := func() map[string]*textLife {
		return map[string]*textLife{
			"a": {id: "a", thread: thread, seq: 2, asked: 2, edited: 1},
			"b": {id: "b", thread: thread, seq: 3, recalling: true, recalled: true},
			"c": {id: "c", thread: thread, seq: 6},
		}
	}
	got := func() []client.Message {
		m := func(seq int64, kind client.Kind, id, text string) client.Message {
			return client.Message{ThreadID: thread, ID: seq, Sender: member, UniqueID: id, Kind: kind, Text: text}
		}
		list := []client.Message{
			m(1, client.KindEvent, "made", ""), m(2, client.KindText, "a", textOf("a", 0)), m(3, client.KindText, "b", textOf("b", 0)),
			m(4, client.KindEdit, "e", textOf("a", 1)), m(5, client.KindRecall, "r", ""), m(6, client.KindText, "c", textOf("c", 0)),
		}
		list[0].Event = &client.GroupEvent{What: client.GroupCreated}
		list[3].Target, list[3].Edited, list[4].Target = 2, time.Now(), 3
		return list
	}
	judge := func(rows []groupRow, all map[string]*textLife, got []client.Message, page string) (missed []string) {
		f := &groupFaults{log: t.Logf}
		f.judgeStored(thread, rows, nil)
		f.judgeMember(thread, rows, member, got)
		f.judgeView(thread, rows, member, got)
		f.judgeLives(map[int64][]groupRow{thread: rows}, all, func(head string) bool { return strings.Contains(page, head) })
		r := &Report{}
		f.report(r)
		for _, figure := range r.Figures() {
			if !figure.OK {
				missed = append(missed, figure.Name)
			}
		}
		return missed
	}
	require.Empty(t, judge(rows(), all(), got(), textOf("a", 1)))
	require.Contains(t, judge(rows(), all(), got(), textOf("b", 0)), "recalled and found elsewhere")
	for _, c := range []struct {
		want  string
		wrong func(rows []groupRow, all map[string]*textLife, got []client.Message)
	}{
		{"recalled and still there", func(rows []groupRow, _ map[string]*textLife, _ []client.Message) { rows[2].content = textOf("b", 0) }},
		{"recalled and still there", func(rows []groupRow, _ map[string]*textLife, _ []client.Message) { rows[2].status = 0 }},
		{"recalled and still there", func(_ []groupRow, all map[string]*textLife, _ []client.Message) { all["b"].recalling = false }},
		{"recalled and found elsewhere", func(rows []groupRow, _ map[string]*textLife, _ []client.Message) { rows[4].content = textOf("b", 0) }},
		{"edits lost", func(_ []groupRow, all map[string]*textLife, _ []client.Message) { all["a"].edited = 2 }},
		{"edits lost", func(rows []groupRow, _ map[string]*textLife, _ []client.Message) { rows[1].content = textOf("a", 3) }},
		{"shown otherwise than stored", func(_ []groupRow, _ map[string]*textLife, got []client.Message) { got[3].Text = textOf("a", 2) }},
		{"shown otherwise than stored", func(_ []groupRow, _ map[string]*textLife, got []client.Message) { got[4].Target = 6 }},
		{"changed", func(_ []groupRow, _ map[string]*textLife, got []client.Message) { got[5].Text = textOf("c", 1) }},
		{"changed", func(_ []groupRow, _ map[string]*textLife, got []client.Message) { got[1].Text = textOf("b", 0) }},
	} {
		rows, all, got := rows(), all(), got()
		c.wrong(rows, all, got)
		require.Contains(t, judge(rows, all, got, ""), c.want)
	}
}
