package config

import (
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// Self is [SelfServer], a chat node's own names and addresses.
type Self struct {
	Name         string `help:"name of this node in Redis and for its peers, unique in the cluster"`
	Host         string `help:"address to listen on for clients and peers; empty or 0.0.0.0 means all"`
	Port         string `help:"TCP port for clients; 0 means a free port, empty means none, and so no stock clients"`
	RPCPort      int    `help:"RPC port for peers and foreign callers; 0 means a free port" min:"0" max:"65535"`
	Advertise    string `help:"HOST or HOST:PORT that clients connect to; empty means Host and Port, or this machine's first address if Host means all"`
	AdvertiseRPC string `help:"HOST or HOST:PORT that peers connect to; empty means the host of Advertise, else as for Advertise"`
	WSPort       string `help:"WebSocket port for clients; 0 means a free port, empty means none"`
	AdvertiseWS  string `help:"HOST, HOST:PORT or a whole URL such as wss://chat.example.com/node1 (of a proxy) that WebSocket clients connect to; empty means the host of Advertise"`
	TLSPort      string `help:"port for TCP clients that use TLS; 0 means a free port, empty means none; needs [TLS]"`
	AdvertiseTLS string `help:"HOST or HOST:PORT that TLS clients connect to; empty means the host of Advertise"`
	WSSPort      string `help:"WebSocket port for clients that use TLS; 0 means a free port, empty means none; needs [TLS]"`
	AdvertiseWSS string `help:"as AdvertiseWS, for WSSPort"`

	ProxyFrom []string `help:"networks (CIDR) of proxies that begin each connection to a client port with a header of the PROXY protocol, version 1 or 2, which says the client's address; other connections from there are closed; none by default"`
}

// Validate checks the name, which becomes part of Redis keys, and the addresses.
func (s Self) Validate() error {
	var faults []error
	switch {
	case s.Name == "":
		faults = append(faults, Faultf("Name", "must not be empty"))
	case len(s.Name) > 64 || strings.ContainsFunc(s.Name, func(r rune) bool { return !strings.ContainsRune(nameLetters, r) }):
		faults = append(faults, Faultf("Name", "is %q, want 1 to 64 of A-Z a-z 0-9 . _ -", s.Name))
	}
	if _, err := Networks(s.ProxyFrom); err != nil {
		faults = append(faults, Faultf("ProxyFrom", "%v", err))
	}
	return errors.Join(append(faults, hostFault("Host", s.Host),
		advertiseFault("Advertise", s.Advertise), advertiseFault("AdvertiseRPC", s.AdvertiseRPC),
		OptionalPort("Port", s.Port), OptionalPort("WSPort", s.WSPort), webFault("AdvertiseWS", s.AdvertiseWS),
		OptionalPort("TLSPort", s.TLSPort), advertiseFault("AdvertiseTLS", s.AdvertiseTLS),
		OptionalPort("WSSPort", s.WSSPort), webFault("AdvertiseWSS", s.AdvertiseWSS))...)
}

const nameLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// TLS is [TLS], a server's certificate.
type TLS struct {
	Cert string `help:"file of the certificate chain in PEM, the server's own first; it is read again when it changes and on SIGHUP"`
	Key  string `help:"file of the certificate's key in PEM; the same"`
}

// Validate checks that there are both or none.
func (t TLS) Validate() error {
	if (t.Cert == "") != (t.Key == "") {
		return Faultf("Key", "and Cert must both be set, or none")
	}
	return nil
}

// WebSocket is [WebSocket].
type WebSocket struct {
	Origins []string `help:"web pages that may connect: host names, or SCHEME://HOST[:PORT] as browsers write it; * for all; empty means pages of the host that they connect to, from any port"`
}

// Validate checks that each origin is one that a browser could send, or a host.
func (w WebSocket) Validate() error {
	var faults []error
	for _, origin := range w.Origins {
		if origin != "*" && !isHost(origin) && !IsOrigin(origin) {
			faults = append(faults, Faultf("Origins", "has %q, which is neither * nor a host nor SCHEME://HOST[:PORT]", origin))
		}
	}
	return errors.Join(faults...)
}

// Peers is [PeerServer], llfcchat's static list of other chat nodes. Parley's own nodes find each other by their leases
// and do not need it.
type Peers struct {
	Servers []string `help:"names of foreign chat nodes to call; Parley's chat nodes find each other without it"`
	Nodes   []Peer   `each:"Servers" help:"A chat node that has no lease in Parley's Redis."`
}

// Peer is a section that [PeerServer] Servers names.
type Peer struct {
	Name string `help:"the node's name in Redis; the section's name by default"`
	Host string `help:"host of its RPC port"`
	Port int    `help:"its RPC port" min:"1" max:"65535"`
}

// Validate checks what a caller of the peer needs.
func (p Peer) Validate() error {
	if p.Host == "" {
		return Faultf("Host", "must not be empty")
	}
	return hostFault("Host", p.Host)
}

// Addr is the peer's RPC address, host:port.
func (p Peer) Addr() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// Endpoint is a seed section that is an address alone: [StatusServer], [GateServer], [VarifyServer]. The node it is
// about listens there, the others call it there.
type Endpoint struct {
	Host string `help:"address of the server; empty or 0.0.0.0 listens on all"`
	Port int    `help:"its port; 0 means a free port" min:"0" max:"65535"`
}

// Validate checks the form of the host.
func (e Endpoint) Validate() error { return hostFault("Host", e.Host) }

// Addr is host:port.
func (e Endpoint) Addr() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// Redis is [Redis]. The zero value with a Host and Port is a single server without a password.
type Redis struct {
	Host        string        `help:"host of a single server"`
	Port        int           `help:"its port" min:"1" max:"65535"`
	User        string        `help:"ACL user; empty to send only the password"`
	Passwd      string        `help:"password; empty for none" secret:"true"`
	Addr        []string      `help:"HOST:PORT list in place of Host and Port: seed nodes of a cluster, or sentinels"`
	Master      string        `help:"name of the sentinels' master; set it if Addr lists sentinels"`
	DB          int           `help:"database number; a cluster has only 0" min:"0"`
	Cluster     bool          `help:"Addr is a Redis Cluster; keys of one user then share a slot"`
	TLS         bool          `help:"connect with TLS"`
	PoolSize    int           `help:"connections per server; calls are pipelined, so more rarely help" min:"1" max:"1000"`
	DialTimeout time.Duration `help:"longest wait for a connection" min:"10ms"`
	Timeout     time.Duration `help:"longest wait for a reply" min:"10ms"`
}

// DefaultRedis is a server on the loopback.
func DefaultRedis() Redis {
	return Redis{Host: "127.0.0.1", Port: 6379, PoolSize: 32, DialTimeout: 2 * time.Second, Timeout: 2 * time.Second}
}

// Validate checks that the addresses and the mode agree.
func (r Redis) Validate() error {
	var faults []error
	if len(r.Addr) == 0 && r.Host == "" {
		faults = append(faults, Faultf("Host", "must not be empty when Addr is"))
	}
	faults = append(faults, hostFault("Host", r.Host))
	for _, a := range r.Addr {
		faults = append(faults, DialAddress("Addr", a))
	}
	switch {
	case r.Cluster && r.Master != "":
		faults = append(faults, Faultf("Master", "means sentinels and excludes Cluster"))
	case r.Master != "" && len(r.Addr) == 0:
		faults = append(faults, Faultf("Master", "needs the sentinels in Addr"))
	case len(r.Addr) > 1 && !r.Cluster && r.Master == "":
		faults = append(faults, Faultf("Addr", "lists several servers, which needs Cluster or Master"))
	}
	if r.Cluster && r.DB != 0 {
		faults = append(faults, Faultf("DB", "must be 0 with Cluster"))
	}
	return errors.Join(faults...)
}

var quietRedis sync.Once // it sets a variable that clients read

// slotsReload bounds how long a client of a Redis Cluster goes on asking a master that is dead: a replica takes over within
// seconds, but the dead master cannot say so, and go-redis reads the map of slots again once per minute by default.
const slotsReload = 2 * time.Second

// NewClient returns a client: RESP2 and no CLIENT SETINFO, which save a round trip per connection, and one retry, because
// every caller has a deadline of its own. It also silences the client library in this process, which writes lines of its
// own to standard error for each dial that fails; callers get the errors.
func (r Redis) NewClient() redis.UniversalClient {
	o := r.options()
	if !r.Cluster {
		return redis.NewUniversalClient(o)
	}
	cluster := o.Cluster()
	cluster.ClusterStateReloadInterval = slotsReload
	return redis.NewClusterClient(cluster)
}

func (r Redis) options() *redis.UniversalOptions {
	quietRedis.Do(logging.Disable)
	addrs := r.Addr
	if len(addrs) == 0 {
		addrs = []string{net.JoinHostPort(r.Host, strconv.Itoa(r.Port))}
	}
	o := &redis.UniversalOptions{
		Addrs: addrs, MasterName: r.Master, DB: r.DB, Username: r.User, Password: r.Passwd, IsClusterMode: r.Cluster,
		Protocol: 2, DisableIdentity: true, MaxRetries: 1,
		PoolSize: r.PoolSize, DialTimeout: r.DialTimeout, ReadTimeout: r.Timeout, WriteTimeout: r.Timeout,
		ContextTimeoutEnabled: true,
	}
	if r.TLS {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return o
}

// MySQL is [Mysql]: MySQL, MariaDB, or anything that speaks their protocol.
type MySQL struct {
	Host        string        `help:"host of the server"`
	Port        int           `help:"its port" min:"1" max:"65535"`
	User        string        `help:"user"`
	Passwd      string        `help:"password; empty for none" secret:"true"`
	Schema      string        `help:"database; it must exist; nodes create its tables at start"`
	MaxOpen     int           `help:"maximum number of connections; each costs the server memory" min:"2" max:"10000"`
	DialTimeout time.Duration `help:"longest wait for a connection" min:"10ms"`
	Timeout     time.Duration `help:"longest wait for a reply; must exceed the longest lock wait, 2s" min:"3s"`
	TLS         string        `help:"TLS to the server" oneof:"false true skip-verify preferred"`

	RequireDurable bool   `help:"refuse to start, instead of warning, if a setting of the server could lose acknowledged texts"`
	FenceCheck     string `help:"what to do at start if shared row locks, which the fence needs, do not hold until COMMIT" oneof:"refuse warn"`
}

// DefaultMySQL is a server on the loopback.
func DefaultMySQL() MySQL {
	return MySQL{
		Host: "127.0.0.1", Port: 3306, User: "parley", Schema: "parley", MaxOpen: 32,
		DialTimeout: 3 * time.Second, Timeout: 10 * time.Second, TLS: "false", FenceCheck: "refuse",
	}
}

// Validate checks what a connection needs.
func (m MySQL) Validate() error {
	var faults []error
	for _, k := range []struct{ key, value string }{{"Host", m.Host}, {"User", m.User}, {"Schema", m.Schema}} {
		if k.value == "" {
			faults = append(faults, Faultf(k.key, "must not be empty"))
		}
	}
	return errors.Join(append(faults, hostFault("Host", m.Host))...)
}

// DSN returns the data source name for github.com/go-sql-driver/mysql. It holds the password: never log it. Session
// variables are the store's to add.
func (m MySQL) DSN() string {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.DBName = m.User, m.Passwd, m.Schema
	c.Net, c.Addr = "tcp", net.JoinHostPort(m.Host, strconv.Itoa(m.Port))
	c.Timeout, c.ReadTimeout, c.WriteTimeout = m.DialTimeout, m.Timeout, m.Timeout
	if m.TLS != "false" {
		c.TLSConfig = m.TLS
	}
	return c.FormatDSN()
}

// Log is [Log].
type Log struct {
	Level  string `help:"lowest level that is logged" oneof:"debug info warn error"`
	Format string `help:"auto means coloured text on a terminal, else JSON" oneof:"auto json text"`
}

// DefaultLog writes Info and above, in the form the reader can use.
func DefaultLog() Log { return Log{Level: "info", Format: "auto"} }

// Ops is [Ops], the operations listener: metrics, health, profiles.
type Ops struct {
	Addr  string `help:"HOST:PORT of /metrics, /healthz, /readyz, /api and /debug/pprof; keep it on loopback or a private network; empty means none"`
	Token string `help:"allows /api, and /debug/pprof from other machines; sent as Authorization: Bearer TOKEN; empty means this machine only, and for /api only if Addr is loopback" secret:"true"`
}

// DefaultOps takes a free port on the loopback; the log says which.
func DefaultOps() Ops { return Ops{Addr: "127.0.0.1:0"} }

// Validate checks the form of the address and refuses a token that can be guessed.
func (o Ops) Validate() error {
	var faults []error
	if o.Addr != "" {
		faults = append(faults, ListenAddress("Addr", o.Addr))
	}
	if o.Token != "" && len(o.Token) < 16 {
		faults = append(faults, Faultf("Token", "is shorter than 16 bytes"))
	}
	return errors.Join(faults...)
}

// Cluster is [Cluster], what all nodes of a cluster share.
type Cluster struct {
	Secret string `help:"secret of all nodes; authenticates RPC between them; leave it empty, without authentication, only on a single machine" secret:"true"`
}

// Validate refuses a secret that can be guessed.
func (c Cluster) Validate() error {
	if c.Secret != "" && len(c.Secret) < 16 {
		return Faultf("Secret", "is shorter than 16 bytes")
	}
	return nil
}
