package gate

import (
	"errors"
	"net"
	"strconv"
	"time"

	"parley/internal/config"
)

// Config is all of a gate's settings. Its zero value is of no use: start from DefaultConfig or LocalConfig.
type Config struct {
	Gate    Listen `ini:"GateServer"`
	TLS     config.TLS
	Status  Status   `ini:"StatusServer"`
	Varify  External `ini:"VarifyServer"`
	Mail    Mail
	Hash    Hash
	Limits  Limits
	MySQL   config.MySQL `ini:"Mysql"`
	Redis   config.Redis
	Cluster config.Cluster
	Log     config.Log
	Ops     config.Ops
}

// Listen is [GateServer].
type Listen struct {
	config.Endpoint
	TLSPort        string        `help:"port for HTTPS; 0 means a free port, empty means none; needs [TLS]"`
	VarifyAddr     string        `help:"HOST:PORT of VarifyService; keep it on loopback; with an empty value, or a Host in [VarifyServer], it is not served"`
	MaxConns       int           `help:"maximum number of connections, about 50 KiB each; beyond it, the network with most unfinished requests loses its oldest one" min:"1" max:"100000"`
	TrustedProxies []string      `help:"networks (CIDR) whose X-Forwarded-For is trusted; none by default"`
	ProxyFrom      []string      `help:"networks (CIDR) of proxies that begin each connection with a header of the PROXY protocol, version 1 or 2, which says the client's address; other connections from there are closed; none by default"`
	AllowedOrigins []string      `help:"web pages that may call the gate from a browser, as SCHEME://HOST[:PORT]; * allows all, empty none"`
	Page           bool          `help:"serve the chat page at /"`
	DrainTimeout   time.Duration `help:"longest wait for requests in flight when the gate stops" min:"100ms" max:"5m"`
}

// Validate checks the addresses to listen on.
func (l Listen) Validate() error {
	faults := []error{l.Endpoint.Validate(), config.OptionalPort("TLSPort", l.TLSPort)}
	for _, list := range []struct {
		key      string
		networks []string
	}{{"TrustedProxies", l.TrustedProxies}, {"ProxyFrom", l.ProxyFrom}} {
		if _, err := config.Networks(list.networks); err != nil {
			faults = append(faults, config.Faultf(list.key, "%v", err))
		}
	}
	return errors.Join(faults...)
}

// tlsAddr is where to listen for HTTPS, if TLSPort is set.
func (l Listen) tlsAddr() string { return net.JoinHostPort(l.Host, l.TLSPort) }

// Status is [StatusServer]: where placements are asked for.
type Status struct {
	config.Endpoint
	Addrs   []string      `help:"HOST:PORT list in place of Host and Port; if one does not answer, the gate asks the next"`
	Timeout time.Duration `help:"longest wait for one status server; a login waits for at most two" min:"10ms" max:"10s"`
}

func (s Status) addrs() []string {
	if len(s.Addrs) > 0 {
		return s.Addrs
	}
	return []string{s.Addr()}
}

// Validate checks the form of the addresses.
func (s Status) Validate() error {
	var faults []error
	for _, a := range s.Addrs {
		faults = append(faults, config.DialAddress("Addrs", a))
	}
	return errors.Join(append(faults, s.Endpoint.Validate())...)
}

// External is [VarifyServer]: another program that mails the codes, llfcchat's for one.
type External struct {
	Host string `help:"gRPC server that mails the codes; empty: this gate mails them, and serves VarifyService itself"`
	Port int    `help:"its port" min:"1" max:"65535"`
}

// Validate checks the form of the host.
func (e External) Validate() error { return config.Endpoint{Host: e.Host}.Validate() }

// Addr is host:port.
func (e External) Addr() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// Mail says how verification codes reach people.
type Mail struct {
	Mode     string        `help:"console prints codes on standard output, for development; smtp mails them" oneof:"console smtp"`
	Host     string        `help:"SMTP server"`
	Port     int           `help:"its port: 465 with implicit TLS, 587 with starttls" min:"1" max:"65535"`
	TLS      string        `help:"implicit speaks TLS from the first byte, starttls requires the upgrade, none is plain text for a relay on this machine" oneof:"implicit starttls none"`
	CAFile   string        `help:"PEM file of the authority that signed the server's certificate; empty means the system's"`
	User     string        `help:"user; if empty, the gate does not log in"`
	Passwd   string        `help:"password" secret:"true"`
	From     string        `help:"sender's address"`
	Timeout  time.Duration `help:"longest time one mail may take" min:"100ms" max:"1m"`
	Parallel int           `help:"mails sent at once; eight times as many may wait, more are refused as busy" min:"1" max:"1000"`
}

// Validate checks what the chosen mode needs.
func (m Mail) Validate() error {
	if m.Mode != "smtp" {
		return nil
	}
	var faults []error
	if m.Host == "" {
		faults = append(faults, config.Faultf("Host", "must not be empty with Mode = smtp"))
	}
	if _, ok := cleanEmail(m.From); !ok {
		faults = append(faults, config.Faultf("From", "must be an address with Mode = smtp"))
	}
	if m.TLS == "none" && m.User != "" {
		faults = append(faults, config.Faultf("TLS", "must not be none with a User: the password would travel in the clear"))
	}
	return errors.Join(faults...)
}

// Hash is the cost of passwords (argon2id) and the bounds on it.
type Hash struct {
	MemoryKiB int           `help:"memory of one hash in KiB; weaker hashes are replaced at the next login" min:"19456" max:"131072"`
	Passes    int           `help:"passes over it" min:"2" max:"16"`
	Parallel  int           `help:"hashes at once; 0 means one per core" min:"0" max:"256"`
	Waiting   int           `help:"requests waiting for a hash; more are refused as busy" min:"0" max:"4096"`
	Patience  time.Duration `help:"longest wait for a hash" min:"10ms" max:"30s"`
}

// Limits are the bounds on guessing.
type Limits struct {
	AccountFailures  int           `help:"failed logins of one account in AccountWindow before it is locked" min:"1"`
	AccountWindow    time.Duration `help:"how long failed logins are remembered" min:"1s"`
	AccountLock      time.Duration `help:"duration of the first lock; it doubles with each further failure" min:"1s"`
	AccountLockMax   time.Duration `help:"longest lock" min:"1s"`
	AddressFailures  int           `help:"failed logins per minute from one address (an IPv6 /64)" min:"1"`
	CodesPerMailbox  int           `help:"codes per hour to one mailbox" min:"1"`
	CodesPerAddress  int           `help:"codes per hour requested from one address" min:"1"`
	ConnsPerAddress  int           `help:"maximum number of connections from one address (an IPv6 /64), trusted proxies exempt; beyond it, the oldest unfinished request is closed; 0 means no limit" min:"0"`
	ThrottleLoopback bool          `help:"apply the per-address limits to loopback too"`
	Remember         time.Duration `help:"how long a verified password is remembered, so that it is not hashed again; 0 means not at all" min:"0s" max:"1h"`
}

// What protocol and storage fix.
const (
	maxHeaderBytes  = 16 << 10
	maxBodyBytes    = 16 << 10
	headerTimeout   = 5 * time.Second
	attemptTimeout  = time.Minute      // for a gate to say how a login attempt ended; longer than any takes
	readTimeout     = 10 * time.Second // the whole request, from the accept on, a handshake included
	pageTimeout     = 10 * time.Second // for a file of the page to be taken by the client
	keptTimeout     = 10 * time.Second // a connection is kept for files of the page, from the accept on
	idleTimeout     = 2 * time.Second  // between two files of the page
	lingerTimeout   = time.Second      // for the rest of a request that was answered before its end
	requestTimeout  = 20 * time.Second // everything behind one request, the mail included
	storeTimeout    = 3 * time.Second  // one SQL call
	kickTimeout     = time.Second      // one call to a chat node
	cutTimeout      = 2 * time.Second  // for handlers to notice that they are cut off
	externalTimeout = 12 * time.Second // an external VarifyServer, which mails before it answers

	codeTTL   = 10 * time.Minute
	codeTries = 5

	minPasswd, maxPasswd = 6, 128 // characters
	maxNickChars         = 64
	maxEmailBytes        = 254
	maxIconBytes         = 255
	trackedAddresses     = 1 << 16
	rememberedLogins     = 1 << 16
)

// DefaultConfig is a gate on the loopback that prints codes instead of mailing them.
func DefaultConfig() Config {
	return Config{
		Gate: Listen{
			Endpoint:   config.Endpoint{Host: "127.0.0.1", Port: 8080},
			VarifyAddr: "127.0.0.1:15051", MaxConns: 4096, AllowedOrigins: []string{"*"}, DrainTimeout: 10 * time.Second,
		},
		Status: Status{Endpoint: config.Endpoint{Host: "127.0.0.1", Port: 15052}, Timeout: time.Second},
		Varify: External{Port: 50051},
		Mail:   Mail{Mode: "console", Port: 465, TLS: "implicit", Timeout: 10 * time.Second, Parallel: 8},
		Hash:   Hash{MemoryKiB: 19456, Passes: 2, Waiting: 64, Patience: 2 * time.Second},
		Limits: Limits{
			AccountFailures: 5, AccountWindow: 15 * time.Minute, AccountLock: 5 * time.Minute, AccountLockMax: 15 * time.Minute,
			AddressFailures: 20, CodesPerMailbox: 5, CodesPerAddress: 20, ConnsPerAddress: 100, Remember: 10 * time.Minute,
		},
		MySQL: config.DefaultMySQL(),
		Redis: config.DefaultRedis(),
		Log:   config.DefaultLog(),
		Ops:   config.DefaultOps(),
	}
}

// LocalConfig is DefaultConfig on free ports, so that many gates can live in one process.
func LocalConfig() Config {
	c := DefaultConfig()
	c.Gate.Port = 0
	c.Gate.VarifyAddr = "127.0.0.1:0"
	return c
}

// Validate joins every fault found.
func (c Config) Validate() error {
	faults := []error{config.ValidateSections(c), origins(c.Gate.AllowedOrigins).validate()}
	if a := c.Gate.VarifyAddr; a != "" {
		faults = append(faults, config.ListenAddress("GateServer.VarifyAddr", a))
	}
	if c.Gate.TLSPort != "" && c.TLS.Cert == "" {
		faults = append(faults, config.Faultf("TLS.Cert", "must be set for TLSPort of [GateServer]"))
	}
	if c.Limits.AccountLockMax < c.Limits.AccountLock {
		faults = append(faults, config.Fault{Section: "Limits", Key: "AccountLockMax", Problem: "is below AccountLock"})
	}
	return errors.Join(faults...)
}

// external reports whether codes are mailed by another program, llfcchat's VarifyServer for one.
func (c Config) external() bool { return c.Varify.Host != "" }
