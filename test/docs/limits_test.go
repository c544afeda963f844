package docs_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/chat"
	"parley/internal/commit"
	"parley/internal/gate"
	"parley/internal/group"
	"parley/internal/mark"
	"parley/internal/peer"
	"parley/internal/presence"
	"parley/internal/router"
	"parley/internal/store"
	"parley/internal/watch"
	"parley/internal/wire"
)

const limitsPage = "../../docs/LIMITS.md"

// limit is a row of docs/LIMITS.md.
type limit struct {
	what, bound string
	keys        string // keys in [Limits] that change the limit
	beyond      string
	counter     string // metric for operators, without "parley_"
}

// TestLimits compares docs/LIMITS.md with the constants and defaults in the code, and its keys and counters with the
// existing ones.
func TestLimits(t *testing.T) {
	node, gates := chat.DefaultConfig(), gate.DefaultConfig()
	l, c, g := node.Limits, commit.DefaultConfig(), group.DefaultConfig()
	r, p, m := router.DefaultConfig(), peer.DefaultConfig(), mark.DefaultConfig()

	var b strings.Builder
	b.WriteString(limitsIntro)
	table := func(title string, keysOf any, rows []limit) {
		fmt.Fprintf(&b, "\n## %s\n\n| limited | bound | key | beyond it | counter |\n|---|---|---|---|---|\n", title)
		for _, row := range rows {
			for _, key := range strings.Fields(row.keys) {
				require.True(t, reflect.ValueOf(keysOf).FieldByName(key).IsValid(), "no key %s", key)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", row.what, row.bound, quoted("", row.keys), row.beyond, quoted("parley_", row.counter))
		}
	}

	table("A client and a chat node", l, []limit{
		{"frame before login; after", size(wire.MaxLoginBody) + "; " + size(l.MaxFrameBytes), "MaxFrameBytes", "closed", "chat_bad_frames_total"},
		{"text", fmt.Sprintf("%s; %d per request", size(wire.MaxText), wire.MaxTexts), "", "2005 for the text, or for the request", "chat_refusals_total"},
		{"time to log in", fmt.Sprintf("%v; for silent connections it shrinks evenly to %v while %d to %d connections wait",
			l.LoginTimeout, l.MinLoginTimeout, l.Unauthenticated/2, l.Unauthenticated), "LoginTimeout MinLoginTimeout", "closed", "chat_login_timeouts_total"},
		{
			"connections that have not logged in", fmt.Sprint(l.Unauthenticated, " per node"), "Unauthenticated",
			"the network with most silent connections loses its oldest", "chat_connections_evicted_total",
		},
		{
			"logins at once; that wait for their turn", fmt.Sprintf("%d; %d", l.LoginsAtOnce, 2*l.LoginsAtOnce), "LoginsAtOnce",
			"no connection is accepted until fewer wait", "chat_accept_rests_total",
		},
		{
			"connections from one address (an IPv6 /64); new ones", fmt.Sprintf("%d; %d/s; loopback exempt", l.PerAddress, l.AddressRate),
			"PerAddress AddressRate LimitLoopback", "closed", "chat_connections_refused_total",
		},
		{"connections of a node", "nine tenths of its descriptors", "Connections", "closed", "chat_connections_refused_total"},
		{"devices of a user", fmt.Sprint(presence.MaxDevices), "", "2006 for the login", "chat_logins_refused_total"},
		{"texts of one user, over all devices, connections and nodes", fmt.Sprintf("%d/s, %d at once; each element of a 1017 counts",
			l.TextRate, l.TextBurst-l.TextBurst/10), "TextRate TextBurst", "2003 for these texts", "chat_texts_limited_total"},
		{
			"unanswered texts of a connection", fmt.Sprintf("the window, %d; %s", l.InFlightTexts, size(l.InFlightBytes)), "InFlightTexts InFlightBytes",
			"2001 for these texts", "chat_window_full_total",
		},
		{"expected wait of a text when SQL is overloaded", fmt.Sprintf("about %v", c.Target), "", "2001 with `retry_ms` for the text", "commit_requests_shed_total"},
		{
			"other requests of a connection", fmt.Sprintf("%d/s, burst %d", l.RequestRate, l.RequestBurst), "RequestRate RequestBurst",
			"2003; a stock client: closed", "chat_rate_limited_total",
		},
		{
			"queued requests of a connection", fmt.Sprintf("%d frames, %s", l.QueuedFrames, size(l.QueuedBytes)), "QueuedFrames QueuedBytes",
			"2001; stock: closed", "chat_queue_full_total",
		},
		{"time of a request in the server", l.RequestTimeout.String(), "RequestTimeout", "2002", "chat_refusals_total"},
		{
			"heartbeats of a connection", fmt.Sprintf("%d/s, %d at once; a frame refused with 2003 counts as ten", l.HeartbeatRate, 4*l.HeartbeatRate),
			"HeartbeatRate", "2101 with 2003; stock: closed", "chat_flooding_total",
		},
		{
			"received bytes that the node has not read yet", size(l.UnreadBytes) + ": more than all that may be unanswered", "UnreadBytes",
			"2101 with 2003; stock: closed", "chat_flooding_total",
		},
		{"bytes received after 2101", "256 KiB", "", "cut", ""},
		{
			"bytes queued for a slow reader", size(l.OutboxBytes) + " when a push comes; in addition, the answers to its unanswered requests", "OutboxBytes",
			"2104, or 2101 with 2004; stock: closed", "chat_gaps_total chat_slow_consumers_total",
		},
		{"time that a full socket may take nothing", l.WriteTimeout.String(), "WriteTimeout", "closed", "chat_write_failures_total"},
		{"cursors of one 2102", fmt.Sprint(wire.MaxCursors), "", "2005", "chat_refusals_total"},
		{"time to recall an own text; to edit it", fmt.Sprintf("%v; %v", l.RecallWindow, l.EditWindow), "RecallWindow EditWindow", "2006", "chat_refusals_total"},
		{"recalls and edits of one user", "60 at once on one node, then 10 per second", "", "2003", "chat_refusals_total"},
		{"type of a text", fmt.Sprintf("%d bytes", wire.MaxType), "", "2005 for the text", "chat_refusals_total"},
		{
			"texts that a user has hidden; in one 2162", fmt.Sprintf("%d per thread; %d", store.MaxHidden, wire.MaxHide), "", "2003; 2005", "chat_refusals_total",
		},
		{"blocked users of a user", fmt.Sprint(store.MaxBlocks), "", "2006", "chat_refusals_total"},
		{
			"pushes of applications (1011) to one user", "10 at once, then one per 2 s; repeated only with another greeting", "",
			"stored, not pushed: the next login lists it", "chat_applications_untold_total",
		},
	})
	w := watch.DefaultConfig()
	table("Groups", l, []limit{
		{"members of a group", fmt.Sprint(l.GroupMembers), "GroupMembers", "2006", "chat_refusals_total"},
		{"groups of a user", fmt.Sprint(store.MaxGroups), "", "2006; an invited user is refused", "chat_refusals_total"},
		{"users in one 2116 or 2122", fmt.Sprint(wire.MaxGroupUIDs), "", "2005", "chat_refusals_total"},
		{"name", fmt.Sprintf("%d printable characters", wire.MaxGroupName), "", "2005", "chat_refusals_total"},
		{
			"live links of a group; uses of one; its life", fmt.Sprintf("%d; %d; %d days", store.MaxLinks, store.MaxLinkUses, int(store.MaxLinkTTL/(24*time.Hour))), "",
			"2006; 2005; 2005", "chat_refusals_total",
		},
		{"joins by bad links", "10 per minute per user on one node", "", "2003", "chat_refusals_total"},
		{
			"pushes that wait in one of the lanes", fmt.Sprintf("%d, %s; %d lanes", g.LaneItems, size(g.LaneBytes), g.Lanes), "",
			"the members get a gap notice", "group_overflows_total",
		},
	})
	table("Read marks", l, []limit{
		{"members of a group whose authors are told who has read their texts", fmt.Sprint(mark.MaxTold), "", "2149 tells", ""},
		{"texts of a group whose authors are told, per mark and batch", "the newest 100", "", "2149 tells", ""},
		{"unread texts that are counted", fmt.Sprint(store.MaxUnread), "", "not counted", ""},
		{"marks in one 2150", "500", "", "the next page", ""},
	})
	table("Presence", l, []limit{
		{"users that a session watches", fmt.Sprint(wire.MaxWatched), "", "2005", "chat_refusals_total"},
		{"pairs of a session and a user that it watches", fmt.Sprintf("%d per node", l.WatchedUsers), "WatchedUsers", "2001", "watch_refused_total"},
		{"requests to watch (2151) of a session", fmt.Sprintf("%d at once, then one per %v", w.SetBurst, w.Sets), "", "2003", "watch_refused_total"},
		{"frames of changed presence to a session", fmt.Sprintf("one per %v", w.Spacing), "", "the states wait, the latest of each user", ""},
		{"bytes queued for a client, when states come", size(w.Backlog), "", "the states wait, the latest of each user", "watch_delayed_total"},
		{"users in a message to another node", fmt.Sprintf("%d in %v", w.MaxNews, w.News), "", "that node reads all again", "watch_read_all_total"},
		{
			"typing (2154) of a session", fmt.Sprintf("one per %v and thread, in 4 threads; groups of up to 50", w.Typing), "",
			"dropped", "chat_typing_dropped_total",
		},
	})
	table("The gate", gates.Limits, []limit{
		{"header; body", "16 KiB; 16 KiB", "", "431; 413", "gate_requests_total"},
		{"time for the header; for the whole request", "5 s; 10 s from the accept, a handshake included", "", "1001, closed", "gate_requests_total"},
		{"a connection for files of the chat page; pause between two", "10 s from the accept, while at most half of `MaxConns` are open; 2 s", "", "closed", ""},
		{
			"connections", fmt.Sprintf("%d (`MaxConns` of `[GateServer]`)", gates.Gate.MaxConns), "", "the connection with the longest unfinished request is closed",
			"gate_connections_dropped_total",
		},
		{
			"connections from one address (an IPv6 /64)", fmt.Sprintf("%d; loopback exempt", gates.Limits.ConnsPerAddress), "ConnsPerAddress",
			"the connection with the longest unfinished request is closed", "gate_connections_dropped_total",
		},
		{
			"failed logins of one account", fmt.Sprintf("%d in %v", gates.Limits.AccountFailures, gates.Limits.AccountWindow), "AccountFailures AccountWindow",
			fmt.Sprintf("2003; locked for %v, then longer", gates.Limits.AccountLock), "gate_throttled_total",
		},
		{"failed logins from one address", fmt.Sprintf("%d per minute", gates.Limits.AddressFailures), "AddressFailures", "2003", "gate_throttled_total"},
		{
			"codes to one mailbox; requested from one address", fmt.Sprintf("%d; %d per hour", gates.Limits.CodesPerMailbox, gates.Limits.CodesPerAddress),
			"CodesPerMailbox CodesPerAddress", "2003", "gate_throttled_total",
		},
		{"requests that wait for a password hash; how long", fmt.Sprintf("%d; %v (`[Hash]`)", gates.Hash.Waiting, gates.Hash.Patience), "", "2001", "gate_hash_refused_total"},
	})
	table("Inside a chat node", l, []limit{
		{"texts that wait for SQL", fmt.Sprintf("%d, %s", c.MaxTexts, size(c.MaxBytes)), "", "2001 for these texts", "commit_requests_refused_total"},
		{"wait of a text, from its arrival to its answer", c.MaxWait.String(), "", "2001 for the text", "commit_requests_late_total"},
		{"texts per transaction; transactions at once", fmt.Sprintf("%d; %d", l.CommitBatch, l.CommitShards), "CommitBatch CommitShards", "the others wait", ""},
		{"read marks that wait; of one transaction", fmt.Sprintf("%d; %d", m.Waiting, m.Batch), "", "2001 for the mark", "mark_requests_refused_total"},
		{"pushes of marks to a client that reads slowly", "half of what may be queued for it", "", "dropped: 1026 has them", "chat_pushes_passed_total"},
		{
			"pushes that wait in a router lane", fmt.Sprintf("%d, %s; %d lanes", r.LanePushes, size(r.LaneBytes), r.Lanes), "",
			"the user gets a gap notice", "router_pushes_dropped_total",
		},
		{"gap notices that wait for a node", fmt.Sprint(r.OwedThreads), "", "all sessions of that node get one", "router_owed_overflows_total"},
		{"pushes that wait for a peer, in one of its lanes", fmt.Sprintf("%d, %s; %d lanes", p.LanePushes, size(p.LaneBytes), p.Lanes), "", "the user gets a gap notice", "peer_queue_full_total"},
		{"calls that wait for Redis", "8192", "", "2001 or 2002 for the request", "presence_queue_full_total"},
		{"kicks left for a node that does not answer", "8192", "", "that node compares all its sessions", "presence_kicks_full_total"},
	})
	if *update {
		require.NoError(t, os.WriteFile(limitsPage, []byte(b.String()), 0o644))
		return
	}
	got, err := os.ReadFile(limitsPage)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(got), `docs/LIMITS.md is not what the code says: run "make docs" and commit the result`)
}

func quoted(prefix, words string) string {
	list := strings.Fields(words)
	for i := range list {
		list[i] = "`" + prefix + list[i] + "`"
	}
	return strings.Join(list, ", ")
}

// size formats a number of bytes.
func size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

const limitsIntro = `# Limits

<!-- Written by "make docs" from test/docs/limits_test.go, which takes the figures from the code; change that. -->

Every queue, frame, rate and wait has a bound. The second column is the default; a key is one of ` + "`[Limits]`" + ` in
[CONFIG.md](CONFIG.md). The numbers in the fourth column are codes and messages of [PROTOCOL.md](PROTOCOL.md#codes). A rising counter
says that a bound was reached; [OPERATIONS.md](OPERATIONS.md) says which of them need somebody's attention.
`
