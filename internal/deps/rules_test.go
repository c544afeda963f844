package deps

// rule says what one package of ours may import of ours. Paths are relative to the module; "x/..." is x and everything
// below it.
type rule struct {
	pkg string
	may []string
	why string
}

// rules is the layout: imports point down only. The rule with the longest matching path counts. A new package needs a
// line here before it may import anything of ours, or be imported.
var rules = []rule{
	// What knows nothing of ours.
	{"kitex_gen/...", []string{"kitex_gen/..."}, "generated from idl/, which is all it knows"},
	{"internal/wire", nil, "the client protocol stands alone: the public client links it, and next to nothing else of ours"},
	{"internal/names", nil, "which names may be had, and which are the same: rules about text"},
	{"internal/store", []string{"internal/names"}, "storage takes a *sql.DB: it knows neither the protocol nor a driver"},
	{"internal/store/...", []string{"internal/store"}, "opens a store on one engine: the only place that knows its driver"},
	{"internal/memredis", nil, "commands of Redis on a map, whatever the keys mean"},
	{"internal/presence", []string{"internal/batch", "internal/memredis"}, "Redis scripts and keys, opaque to them what the values mean"},
	{"internal/config", nil, "a loader that knows no node"},
	{"internal/certs", nil, "files of a certificate, whoever shows it"},
	{"internal/websocket", nil, "a protocol of bytes, for servers and clients alike"},
	{"internal/proxyproto", nil, "a header of bytes, whoever sends it"},
	{"internal/obs", nil, "what an operator sees of any process"},
	{"internal/recent", nil, "a map that remembers what was used lately, whatever that is"},
	{"internal/slots", nil, "a bound on what is done at once, whatever that is"},
	{"internal/workers", []string{"internal/batch"}, "goroutines that are used again, whatever they run"},
	{"internal/batch", nil, "a queue that is emptied in batches, whatever it holds"},
	{"internal/flight", nil, "attempts that callers share, whatever they are at"},
	{"internal/bucket", nil, "a token bucket, whatever the tokens are for"},
	{"internal/admission", []string{"internal/bucket"}, "which connections a listener keeps, whatever they speak"},
	{"internal/rpc", []string{"internal/recent", "kitex_gen/..."}, "how any node calls another, whatever it says"},

	// The layers of a chat node.
	{"internal/outbox", []string{"internal/wire"}, "bytes on their way to a socket, whatever kind it is: it knows no session"},
	{"internal/session", []string{"internal/outbox", "internal/wire"}, "one logged-in connection: it knows frames, not what they mean"},
	{"internal/router", []string{"internal/batch", "internal/recent", "internal/session", "internal/wire"}, "sees presence and peers through interfaces of its own"},
	{
		"internal/peer",
		[]string{"internal/batch", "internal/recent", "internal/session", "internal/wire", "internal/rpc", "kitex_gen/..."},
		"carries pushes between nodes: it neither stores nor locates",
	},
	{
		"internal/group",
		[]string{"internal/batch", "internal/presence", "internal/session", "internal/store", "internal/wire"},
		"rows of groups to their members: SQL, Redis and the other nodes through interfaces",
	},
	{
		"internal/watch",
		[]string{"internal/batch", "internal/bucket", "internal/presence", "internal/session", "internal/wire"},
		"who watches whom on a node: Redis, SQL and the other nodes through functions",
	},
	{
		"internal/commit",
		[]string{"internal/batch", "internal/group", "internal/recent", "internal/session", "internal/store", "internal/wire"},
		"texts in, one transaction, acks out: who gets the push is the router's business",
	},
	{
		"internal/mark",
		[]string{"internal/batch", "internal/session", "internal/store", "internal/wire"},
		"read marks into SQL and out as pushes: who gets one is the router's business",
	},
	{
		"internal/reconcile",
		[]string{"internal/flight", "internal/presence", "internal/recent", "internal/session"},
		"one live session of a user and device: it compares a registry with Redis, and reaches peers and SQL through interfaces",
	},
	{
		"internal/membership",
		[]string{"internal/presence", "internal/config", "internal/wire"},
		"a node's lease and fence: Redis and SQL through interfaces, sessions through functions",
	},
	{
		"internal/refill",
		[]string{"internal/history", "internal/legacy", "internal/session", "internal/slots", "internal/store", "internal/wire"},
		"what a session missed, read from the store through functions, as internal/history shows it",
	},
	{
		"internal/textrate",
		[]string{"internal/batch", "internal/bucket", "internal/presence", "internal/session"},
		"how much a user may store, whatever the texts and however the nodes talk",
	},
	{
		"internal/users",
		[]string{"internal/batch", "internal/presence", "internal/store", "internal/wire"},
		"what is known of users, in caches and SQL, whoever asks",
	},
	{"internal/history", []string{"internal/store", "internal/wire"}, "pages of a thread, whoever asks for them"},
	{
		"internal/handler",
		[]string{
			"internal/bucket", "internal/ending", "internal/group", "internal/history", "internal/legacy", "internal/mark", "internal/presence",
			"internal/recent", "internal/reconcile", "internal/session", "internal/store", "internal/users", "internal/watch", "internal/wire",
		},
		"answers requests of sessions: it knows neither connections nor how pushes travel",
	},
	{"internal/transport", []string{"internal/rpc"}, "accepts sockets, whatever is spoken on them; it binds them as internal/rpc does"},
	{
		"internal/clientconn",
		[]string{
			"internal/admission", "internal/bucket", "internal/commit", "internal/ending", "internal/legacy", "internal/outbox", "internal/proxyproto",
			"internal/session", "internal/store", "internal/textrate", "internal/websocket", "internal/wire",
		},
		"one connection: logins, handlers and the committer are functions to it",
	},
	{
		"internal/login",
		[]string{
			"internal/ending", "internal/history", "internal/legacy", "internal/presence", "internal/reconcile", "internal/session",
			"internal/slots", "internal/store", "internal/textrate", "internal/users", "internal/wire",
		},
		"from a connection to a live session: it sees the connection through an interface of its own",
	},
	{
		"internal/ending",
		[]string{"internal/legacy", "internal/presence", "internal/session", "internal/textrate", "internal/wire"},
		"ends sessions, which it knows by the registry: no connection and no handler",
	},
	{
		"internal/delivery",
		[]string{
			"internal/group", "internal/obs", "internal/peer", "internal/presence", "internal/refill", "internal/router", "internal/rpc", "internal/session",
			"internal/store", "internal/textrate", "internal/watch", "internal/wire", "kitex_gen/...",
		},
		"joins what takes a push to its user; it does not know where pushes come from",
	},
	{
		"internal/moving",
		[]string{"internal/ops", "internal/presence", "internal/session"},
		"paces goodbyes and sees where clients go: how they are said, and where to, are functions to it",
	},
	{
		"internal/operate",
		[]string{
			"internal/ending", "internal/moving", "internal/ops", "internal/presence", "internal/session", "internal/wire", "kitex_gen/...",
		},
		"answers operators of one node: it knows no other node",
	},
	{"internal/ops", []string{"internal/obs", "internal/wire", "kitex_gen/..."}, "what an operator sees of a node and may ask it, whoever answers"},
	{
		"internal/overview",
		[]string{"internal/obs", "internal/ops", "internal/presence", "internal/wire"},
		"all nodes as an operator sees them: how they are reached is a function to it",
	},
	{"internal/legacy", []string{"internal/session", "internal/wire"}, "what stock clients need, to be deleted as a unit one day"},

	// The nodes. They meet in idl/, never in Go.
	{
		"internal/chat",
		[]string{
			"internal/admission", "internal/batch", "internal/certs", "internal/clientconn", "internal/commit", "internal/delivery", "internal/ending", "internal/handler",
			"internal/history", "internal/legacy", "internal/login", "internal/mark", "internal/transport", "internal/websocket", "internal/moving", "internal/operate", "internal/ops",
			"internal/membership", "internal/outbox", "internal/reconcile", "internal/session", "internal/wire", "internal/store", "internal/presence",
			"internal/config", "internal/obs", "internal/rpc", "internal/slots", "internal/textrate", "internal/users", "internal/watch", "internal/workers", "kitex_gen/...",
		},
		"a node imports no other node",
	},
	{
		"internal/gate",
		[]string{
			"internal/store", "internal/presence", "internal/wire", "internal/rpc", "internal/certs", "internal/config", "internal/obs",
			"internal/slots", "internal/admission", "internal/flight", "internal/memredis", "internal/names", "internal/proxyproto", "internal/recent", "web", "kitex_gen/...",
		},
		"a node imports no other node, nor a chat node's layers",
	},
	{
		"internal/status",
		[]string{
			"internal/presence", "internal/wire", "internal/rpc", "internal/config", "internal/obs", "internal/ops", "internal/overview",
			"web", "kitex_gen/...",
		},
		"a node imports no other node, and status has no business with SQL",
	},
	{
		"internal/standalone",
		[]string{
			"internal/chat", "internal/gate", "internal/status", "internal/store", "internal/store/sqlite",
			"internal/memredis", "internal/presence", "internal/config", "internal/obs", "internal/wire", "client", "web",
		},
		"all nodes in one process, over memredis and SQLite",
	},

	// What browsers load.
	{"web/shared", nil, "files"},
	{"web", []string{"clients/js", "web/shared"}, "files and how they are served: it knows no node"},

	// What stands outside the nodes.
	{"client", []string{"internal/websocket", "internal/wire"}, "the public client: whoever imports it must not get a server with it"},
	{"clients/js", nil, "files for browsers: whoever serves them must not get anything else with them"},
	{"internal/deps", nil, "looks at imports"},

	// The lab: what tests, bench and parleyctl need and no node has.
	{"lab/launch", nil, "starts nodes as processes: it knows their command line, and its users may be anybody"},
	{"lab/launchtest", []string{"lab/launch"}, "gives a test what lab/launch starts"},
	{"lab/storetest", []string{"internal/store", "internal/store/sqlite"}, "gives a test a store; what is in it is the test's"},
	{"lab/certstest", []string{"internal/certs"}, "gives a test a certificate"},
	{"lab/faultproxy", nil, "makes any link bad, whatever is spoken on it"},
	{"lab/stockmodel", []string{"internal/wire"}, "a client: it must not borrow the servers' idea of what it is sent"},
	{
		"lab/conform",
		[]string{"client", "lab/stockmodel", "internal/websocket", "internal/wire", "internal/rpc", "kitex_gen/..."},
		"knows a cluster from outside only: its checks run against anybody's",
	},
	{
		"test/...",
		[]string{
			"client", "internal/standalone", "internal/wire", "internal/rpc", "internal/presence", "internal/store/...",
			"internal/config", "kitex_gen/...", "lab/...", "test/...", "bench/ledger",
		},
		"black-box tests come through the front door, and look into the stores; they keep the same books as bench",
	},

	// Programs.
	{
		"chatnode",
		[]string{"internal/chat", "internal/config", "internal/obs", "internal/presence", "internal/store", "internal/store/mysql"},
		"a main wires one node and has no logic",
	},
	{
		"gatenode",
		[]string{"internal/gate", "internal/config", "internal/obs", "internal/presence", "internal/store", "internal/store/mysql"},
		"a main wires one node and has no logic",
	},
	{
		"statusnode",
		[]string{"internal/status", "internal/config", "internal/obs", "internal/presence"},
		"a main wires one node and has no logic",
	},
	{"standalone", []string{"internal/standalone", "internal/config", "internal/obs", "internal/wire"}, "a main has no logic"},
	{
		"parleyctl/...",
		[]string{
			"client", "internal/certs", "internal/wire", "internal/config", "internal/obs", "internal/rpc", "kitex_gen/...", "lab/conform",
			"parleyctl/...",
		},
		"a tool that talks to nodes, not one that contains them",
	},
	{
		"bench/seed",
		[]string{"internal/store", "internal/store/mysql", "internal/presence", "internal/config", "internal/wire"},
		"the only part of bench that writes into the stores",
	},
	{"bench/engine", []string{"internal/websocket", "internal/wire"}, "moves bytes and frames, and does not know what is in them"},
	{"bench/foreign", []string{"bench/ledger", "bench/scan", "internal/websocket"}, "what foreign servers are told and say: it knows no connection"},
	{
		"bench/local",
		[]string{"lab/launch", "lab/faultproxy", "internal/certs", "internal/wire", "bench/seed"},
		"the only part of bench that starts processes",
	},
	{
		"bench/...",
		[]string{"client", "internal/wire", "internal/config", "internal/obs", "internal/rpc", "kitex_gen/...", "bench/..."},
		"a client like any other: only bench/seed opens the stores, only bench/local starts processes",
	},
}

// only says which packages of ours may import a package from outside, tests aside.
var only = []rule{
	{"os/exec", []string{"lab/launch"}, "processes are started by pid, with an owner, in one place"},
	{"modernc.org/sqlite", []string{"internal/store/sqlite", "standalone"}, "a driver is known where it is opened; standalone names it to build it early"},
	{"github.com/alicebob/miniredis/v2", nil, "a Redis for tests"},
	{
		"github.com/go-sql-driver/mysql",
		[]string{"internal/store/mysql", "internal/config", "internal/obs"},
		"a driver is known where it is opened, where its DSN is made, and where its errors are named",
	},
	{
		"github.com/stretchr/testify/require",
		nil,
		"assertions belong in tests",
	},
}

// programs are the main packages that are deployed, and what none of them may link.
var (
	programs  = []string{"chatnode", "gatenode", "statusnode", "parleyctl", "bench"}
	notLinked = map[string]string{
		"modernc.org/sqlite":               "SQLite is standalone's: it is the largest dependency of all",
		"github.com/alicebob/miniredis/v2": "a Redis for tests",
	}
)

// ownServers are packages whose tests start servers by themselves in spite of lab/launchtest, and why.
var ownServers = map[string]string{
	"internal/presence": "two redis-servers that form a cluster",
}
