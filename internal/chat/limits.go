package chat

import (
	"crypto/tls"
	"net/netip"
	"time"

	"parley/internal/admission"
	"parley/internal/certs"
	"parley/internal/clientconn"
	"parley/internal/commit"
	"parley/internal/history"
	"parley/internal/transport"
	"parley/internal/watch"
	"parley/internal/websocket"
	"parley/internal/wire"
)

// Limits bound what one client, one address or all of them can make a node hold. docs/CONFIG.md lists them.
type Limits struct {
	MaxFrameBytes      int           `help:"largest body of a logged-in client's frame" min:"2048" max:"65535"`
	OutboxBytes        int           `help:"bytes that may be queued for one client when a push comes, answers to its requests not counted; beyond it the client is closed as a slow consumer" min:"65540"`
	SendBufferBytes    int           `help:"kernel send buffer of one client, half of which may be unsent; 0 leaves it to the kernel" min:"0"`
	ReceiveBufferBytes int           `help:"kernel receive buffer of one client, in bytes; 0 leaves it to the kernel, which may take megabytes" min:"0"`
	UnreadBytes        int           `help:"bytes received from one client and not read yet; beyond it the client is closed; a client that waits for answers cannot reach it" min:"65540" max:"67108864"`
	WriteTimeout       time.Duration `help:"how long a full socket may take to accept more" min:"100ms"`
	LoginTimeout       time.Duration `help:"longest time from accept to a successful login" min:"100ms"`
	MinLoginTimeout    time.Duration `help:"login time-out of silent connections when Unauthenticated connections wait; LoginTimeout shrinks evenly to it from half of Unauthenticated on" min:"100ms"`
	Heartbeat          time.Duration `help:"heartbeat period of native clients that do not request another; a session ends after 2.5 silent periods" min:"5s" max:"300s"`
	StockTimeout       time.Duration `help:"a stock client's session ends after this time without a frame" min:"1s"`
	StockSpacing       time.Duration `help:"frame spacing: least time between two frames to a stock client, which cannot read two at once" min:"10ms" max:"1s"`
	StockTextSpacing   time.Duration `help:"added spacing after a frame for each text that it pushes; a stock client may take 100ms to draw a text beside an avatar of 2480 x 2480" min:"0s" max:"1s"`
	QuietTimeout       time.Duration `help:"the same as StockTimeout for a first-generation client, which sends no heartbeats" min:"1m"`
	LoginsAtOnce       int           `help:"logins handled at once; others wait for their turn" min:"1"`
	Unauthenticated    int           `help:"connections that have not logged in; beyond it the network with most silent ones loses its oldest" min:"1"`
	Connections        int           `help:"maximum number of client connections; 0 means nine tenths of the descriptor limit" min:"0"`
	PerAddress         int           `help:"connections from one address (an IPv6 /64); 0 means no limit" min:"0"`
	AddressRate        int           `help:"new connections per second from one address; 0 means no limit" min:"0"`
	LimitLoopback      bool          `help:"apply the per-address limits to loopback too"`
	AcceptRate         int           `help:"new connections per second in all; 0 means no limit" min:"0"`
	TextRate           int           `help:"texts per second of one user, over all devices, connections and nodes; 0 means no limit" min:"0"`
	TextBurst          int           `help:"texts of one user at once; a tenth is reserved for the time after a move to another node" min:"1"`
	RequestRate        int           `help:"requests other than texts and heartbeats, per second per connection; 0 means no limit" min:"0"`
	RequestBurst       int           `help:"such requests of one connection at once" min:"1"`
	HeartbeatRate      int           `help:"heartbeats per second per connection, four times as many at once; a frame refused for TextRate or RequestRate counts as ten; beyond it the connection is closed; 0 means no limit" min:"0"`
	InFlightTexts      int           `help:"unanswered texts of one connection, and a native client's default window" min:"1" max:"1024"`
	InFlightBytes      int           `help:"bytes of unanswered text requests of one connection" min:"65536"`
	QueuedFrames       int           `help:"queued requests of one connection" min:"1"`
	QueuedBytes        int           `help:"bytes of the queued requests' bodies" min:"65536"`
	RequestTimeout     time.Duration `help:"longest time of one request, from its turn to its answer" min:"100ms"`
	Linger             time.Duration `help:"how long a closing connection waits for the client to hang up" min:"10ms"`
	DrainTimeout       time.Duration `help:"time over which a stopping node spreads the goodbyes to its clients" min:"0s"`
	GroupMembers       int           `help:"members of one group" min:"2" max:"10000"`
	WatchedUsers       int           `help:"pairs of a session and a user whose presence it watches; beyond it requests to watch users are refused" min:"500"`
	RecallWindow       time.Duration `help:"how long a user may recall its own text" min:"0s"`
	EditWindow         time.Duration `help:"how long a user may edit its own text" min:"0s"`
	CommitShards       int           `help:"SQL transactions of texts at once" min:"1" max:"64"`
	CommitBatch        int           `help:"texts per transaction" min:"64" max:"4096"`
}

func commitConfig(l Limits) commit.Config {
	c := commit.DefaultConfig()
	c.Shards, c.Batch, c.MaxWait = l.CommitShards, l.CommitBatch, l.RequestTimeout
	return c
}

func watchConfig(l *Limits) watch.Config {
	c := watch.DefaultConfig()
	c.Pairs = l.WatchedUsers
	return c
}

func admissionLimits(l *Limits) admission.Limits {
	a := admission.Limits{
		Connections: maxConnections(l), Waiting: l.Unauthenticated, PerNetwork: l.PerAddress, NetworkRate: l.AddressRate,
		Rate: l.AcceptRate, Timeout: l.LoginTimeout, MinTimeout: l.MinLoginTimeout,
	}
	if !l.LimitLoopback {
		a.Exempt = netip.Addr.IsLoopback
	}
	return a
}

// replyBytes is what the answers to all that a client may have unanswered take at most: to its texts, which come back with
// some numbers each, and to one request of the serial queue, which rests while more than that waits.
func replyBytes(l *Limits) int {
	return l.InFlightBytes + l.InFlightTexts*history.ElementBytes + wire.MaxBody
}

func connConfig(c *Config, files *certs.Files, proxies []netip.Prefix) clientconn.Config {
	l := &c.Limits
	var encrypted map[wire.Transport]*tls.Config
	if files != nil {
		encrypted = map[wire.Transport]*tls.Config{wire.TLS: files.Config(websocket.Protocol), wire.WSS: files.Config("http/1.1")}
	}
	return clientconn.Config{
		TLS:           encrypted,
		Origins:       c.WebSocket.Origins,
		ProxyFrom:     proxies,
		MaxFrameBytes: l.MaxFrameBytes, UnreadBytes: l.UnreadBytes, OutboxBytes: l.OutboxBytes,
		QueuedFrames: l.QueuedFrames, QueuedBytes: l.QueuedBytes, InFlightBytes: l.InFlightBytes,
		RequestRate: l.RequestRate, RequestBurst: l.RequestBurst, HeartbeatRate: l.HeartbeatRate,
		WriteTimeout: l.WriteTimeout, RequestTimeout: l.RequestTimeout, QuietTimeout: l.QuietTimeout,
	}
}

// maxConnections is the configured bound, or nine tenths of the descriptors: the rest is for Redis, SQL and peers.
func maxConnections(l *Limits) int {
	if l.Connections > 0 {
		return l.Connections
	}
	return transport.DescriptorLimit() / 10 * 9
}
