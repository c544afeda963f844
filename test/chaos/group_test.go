//go:build linux

package main

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/store"
)

// The oracle of groups must see each kind of wrong, or G1 proves nothing.
func TestGroupOracleSeesWhatIsWrong(t *testing.T) {
	const thread, owner, member, other = 7, 1, 2, 3
	event := func(seq int64, what string, by int32, uids ...int32) groupRow {
		return groupRow{seq: seq, sender: by, id: what, event: &store.Event{Event: what, By: by, UIDs: uids}}
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
				if row.event != nil {
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
