package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/ledger"
	"parley/bench/report"
	"parley/bench/seed"
	"parley/lab/launch"
	"parley/lab/launchtest"
)

// TestSeededBugsAreCaught proves that the checks work. Chat nodes each make one kind of mistake, with one of a few
// hundred texts or with the rows of a group, and the exit code must be that of an incorrect run. Without a mistake,
// the run must pass.
func TestSeededBugsAreCaught(t *testing.T) {
	needServers(t)
	launchtest.Turn(t)
	const users = 20
	bin := t.TempDir()
	require.NoError(t, launch.BuildTagged(t.Context(), bin, false, "seededbugs", "chatnode", "statusnode"))
	free := make(chan *launch.Cluster, 3) // Redis and MariaDB for so many runs at once, which mostly wait
	for range cap(free) {
		free <- startServers(t, users)
	}
	start := func(t *testing.T, bug string) (nodes *launch.Cluster, o Options) {
		t.Parallel()
		servers := <-free
		t.Cleanup(func() { free <- servers }) // after the nodes have ended
		nodes = startNodes(t, servers, launch.Options{Bin: bin, Env: []string{"PARLEY_SEEDED_BUG=" + bug}})
		return nodes, Options{
			Status: []string{nodes.StatusAddr(0)}, Config: nodes.Chat[0].ConfigPath(), Users: users, Workers: 1, Loops: 1, Nodes: 2, Seed: 7,
			Heartbeat: 30 * time.Second, MaxLag: 10 * time.Second, Out: t.TempDir(), Name: "run", Quiet: true,
		}
	}
	for _, c := range []struct {
		bug     string
		code    int
		counter func(*ledger.Summary) int64
	}{
		{"", report.Pass, (*ledger.Summary).Wrong},
		{"drop", report.Incorrect, func(l *ledger.Summary) int64 { return l.Missed }},
		{"duplicate", report.Incorrect, func(l *ledger.Summary) int64 { return l.Duplicated }},
		{"swap", report.Incorrect, func(l *ledger.Summary) int64 { return l.Reordered }},
		{"corrupt", report.Incorrect, func(l *ledger.Summary) int64 { return l.Corrupt }},
		{"misroute", report.Incorrect, func(l *ledger.Summary) int64 { return l.Misrouted }},
		{"ack", report.Incorrect, func(l *ledger.Summary) int64 { return l.Unstored }},
		{"lose", report.Incorrect, func(l *ledger.Summary) int64 { return l.Lost }},
	} {
		t.Run("bug "+c.bug, func(t *testing.T) {
			nodes, o := start(t, c.bug)
			l, out := lab()
			code := l.Chat(t.Context(), o, chatFlags(300, time.Second))
			r := kept(t, o)
			require.Equal(t, c.code, code, out)
			require.Equal(t, c.code, r.Verdict.Code)
			want := int64(len(nodes.Chat)) // each node does it once
			if c.bug == "" {
				want = 0
			}
			require.Equal(t, want, c.counter(r.Ledger), "%+v", r.Ledger)
			require.True(t, r.Ledger.HistoryChecked)
			require.Equal(t, readFromSQL, r.HistoryBy)
			require.NotNil(t, r.Left)
			require.Zero(t, r.Left.Wrong(), r.Left)
		})
	}
	for bug, within := range map[string]time.Duration{"": 2 * time.Second, "presence": 200 * time.Millisecond} {
		t.Run("bug "+bug+" in presence", func(t *testing.T) {
			_, o := start(t, bug)
			o.Budgets = false
			l, out := lab()
			code := l.Presence(t.Context(), o, PresenceFlags{
				// So much that a busy machine, too, makes more frames than one per second.
				LoadFlags: LoadFlags{Rate: 40, Shape: "constant", For: 2 * time.Second}, Friends: 9, Away: 200 * time.Millisecond, Within: within,
			})
			r := kept(t, o)
			if bug == "" {
				require.Equal(t, report.Pass, code, out)
				require.Zero(t, r.Figures["presence_wrong"], r.Figures)
				require.Zero(t, r.Figures["presence_frames_extra"], r.Figures)
			} else {
				require.Equal(t, report.Incorrect, code, out)
				require.Positive(t, r.Figures["presence_wrong"], "a user is shown to nobody")
				require.Positive(t, r.Figures["presence_frames_extra"], "frames have no spacing")
			}
			require.EqualValues(t, users, r.Figures["online"])
			require.NotNil(t, r.Histogram("told"))
		})
	}
	for bug, counter := range map[string]func(*ledger.Summary) int64{
		"drop":      func(l *ledger.Summary) int64 { return l.Missed },
		"duplicate": func(l *ledger.Summary) int64 { return l.Duplicated },
		"swap":      func(l *ledger.Summary) int64 { return l.Reordered },
		"index":     func(l *ledger.Summary) int64 { return l.AfterRemoval },
	} {
		t.Run("bug "+bug+" in a group", func(t *testing.T) {
			_, o := start(t, bug)
			o.Users = 0 // the group has users of its own
			l, out := lab()
			f := RoomFlags{LoadFlags: LoadFlags{Rate: 60, Shape: "constant", For: time.Second}, Groups: 1, Members: 10, Online: 1, Senders: 2, Size: 100}
			if bug == "index" {
				f.Remove, f.For = .4, 3*time.Second
			}
			code := l.Room(t.Context(), o, f)
			r := kept(t, o)
			require.Equal(t, report.Incorrect, code, out)
			require.Positive(t, counter(r.Ledger), "%+v", r.Ledger)
			require.Equal(t, counter(r.Ledger), r.Ledger.Wrong(), "nothing else is wrong: %+v", r.Ledger)
			require.True(t, r.Ledger.HistoryChecked)
		})
	}
}

// startServers starts Redis and MariaDB with users in them.
func startServers(t *testing.T, users int) *launch.Cluster {
	t.Helper()
	servers := launchtest.Start(t, launch.Options{OnRedis: seed.Generation})
	redis, err := seed.RedisAt(servers.RedisAddr())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, seed.Run(ctx, seed.Options{DSN: servers.DSN(), Redis: redis, Users: users}))
	return servers
}

// startNodes starts a status node and two chat nodes with servers that are already running.
func startNodes(t *testing.T, servers *launch.Cluster, o launch.Options) *launch.Cluster {
	t.Helper()
	o.NoRedis, o.NoMariaDB, o.Chat, o.Status, o.LogLevel = true, true, 2, 1, "warn"
	o.Configure = func(n *launch.Node, _ int, f *launch.INI) error {
		set := func(section, addr string) error {
			host, port, err := net.SplitHostPort(addr)
			f.Set(section, "Host", host)
			f.Set(section, "Port", port)
			return err
		}
		if n.Role() == launch.Chat {
			m := servers.MariaDB
			f.Set("Mysql", "User", m.User)
			f.Set("Mysql", "Passwd", m.Password)
			f.Set("Mysql", "Schema", m.Schema)
			if err := set("Mysql", m.Addr()); err != nil {
				return err
			}
		}
		return set("Redis", servers.RedisAddr())
	}
	nodes := launchtest.Start(t, o)
	// A status node reads the leases once per second. Before that it may know only one chat node and place all users
	// there.
	want := fmt.Sprintf("parley_status_nodes{state=\"open\"} %d\n", o.Chat)
	require.Eventually(t, func() bool {
		rsp, err := http.Get("http://" + nodes.Status[0].OpsAddr() + "/metrics")
		if err != nil {
			return false
		}
		defer rsp.Body.Close()
		page, err := io.ReadAll(rsp.Body)
		return err == nil && strings.Contains(string(page), want)
	}, 30*time.Second, 20*time.Millisecond, "the status node knows all chat nodes")
	return nodes
}
