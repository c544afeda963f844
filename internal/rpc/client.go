package rpc

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/connpool"
	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/codec"
	longpool "github.com/cloudwego/kitex/pkg/remote/connpool"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/stats"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/transport"
	"github.com/cloudwego/netpoll"
)

const (
	// DefaultTimeout bounds a call, including the connect.
	DefaultTimeout = 2 * time.Second
	// DefaultConnectTimeout bounds a connect; Kitex's own 50 ms is too short for a machine under load.
	DefaultConnectTimeout = time.Second
	// DefaultMaxIdle is the number of idle connections kept to one address.
	DefaultMaxIdle = 8
)

// ClientConfig configures a Client. The zero value makes calls without authentication and metrics.
type ClientConfig struct {
	Auth           *Auth
	Metrics        *Metrics
	Standing       *Standing     // records whether each call's signature was accepted; may be nil
	Timeout        time.Duration // of a call; 0: DefaultTimeout. The call's context may end earlier.
	ConnectTimeout time.Duration // 0: DefaultConnectTimeout
	MaxIdle        int           // idle connections kept to one address; 0: DefaultMaxIdle
	GRPC           bool          // for foreign callees; Parley's nodes also speak TTHeader, which is cheaper
}

// A Client is the transport below a generated Kitex client. Its calls have a timeout and are never retried. Generated
// clients have no Close; Client.Close closes their connections.
//
//	c := rpc.NewClient(rpc.ClientConfig{Auth: auth}, "127.0.0.1:50052")
//	status, err := statusservice.NewClient("statusnode", c.Options()...)
//	defer c.Close()
type Client struct {
	config ClientConfig
	addrs  []string
	pool   *longpool.LongPool // nil for gRPC, where Kitex makes the pool
	dialer dialer
}

// NewClient returns a Client that spreads its calls over addrs, at least one host:port. A host name is resolved every
// few seconds and may have several addresses. The Client connects at the first call.
func NewClient(c ClientConfig, addrs ...string) *Client {
	silence()
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = DefaultConnectTimeout
	}
	if c.MaxIdle == 0 {
		c.MaxIdle = DefaultMaxIdle
	}
	cl := &Client{config: c, addrs: addrs}
	cl.dialer.grpc, cl.dialer.conns = c.GRPC, map[net.Conn]string{}
	if !c.GRPC {
		cl.pool = longpool.NewLongPool("parley", *connpool.CheckPoolConfig(connpool.IdleConfig{
			MaxIdlePerAddress: c.MaxIdle, MaxIdleGlobal: 1024, MaxIdleTimeout: time.Minute,
		}))
	}
	return cl
}

// Options returns the options for a generated NewClient. Use them for one client only: Kitex closes the pool together
// with the client.
func (c *Client) Options() []client.Option {
	opts := []client.Option{
		client.WithResolver(resolver),
		client.WithTag(addrTag, strings.Join(c.addrs, ",")),
		client.WithDialer(&c.dialer),
		client.WithRPCTimeout(c.config.Timeout),
		client.WithConnectTimeout(c.config.ConnectTimeout),
		client.WithInstanceMW(c.sign),
		client.WithMetaHandler(transmeta.ClientTTHeaderHandler),
		client.WithCodec(codec.NewDefaultCodecWithSizeLimit(MaxMessageBytes)),
	}
	if c.config.GRPC {
		opts = append(opts, client.WithTransportProtocol(transport.GRPC))
	} else {
		opts = append(opts, client.WithTransportProtocol(transport.TTHeaderFramed), client.WithConnPool(c.pool),
			client.WithBoundHandler(stamper{}))
	}
	if c.config.Metrics != nil {
		opts = append(opts, client.WithStatsLevel(stats.LevelBase),
			client.WithTracer(tracer{c.config.Metrics.called, c.config.Metrics.calledSec}))
	}
	return opts
}

// Close closes all connections. Calls in flight and later calls fail. Close may be called more than once.
func (c *Client) Close() {
	if c.pool != nil {
		_ = c.pool.Close() // fails only if it is already closed
	}
	c.dialer.close()
}

// addrTag carries a client's addresses to the resolver.
const addrTag = "parley-addrs"

// resolver is shared by all clients of the process. For each resolver name, Kitex keeps a balancer with goroutines
// that never end, and asks the first resolver of that name for all of them. client.WithHostPorts is no alternative:
// it has a name for each address list, panics on a host that cannot be resolved yet, and resolves only when
// connecting.
var resolver = &discovery.SynthesizedResolver{
	NameFunc: func() string { return "parley" },
	TargetFunc: func(_ context.Context, to rpcinfo.EndpointInfo) string {
		addrs, _ := to.Tag(addrTag)
		return addrs
	},
	ResolveFunc: resolve,
}

// resolve returns one instance for each address of each host in addrs, a comma-separated list. Kitex calls it every 5
// s. A host that cannot be resolved is skipped as long as another one can.
func resolve(ctx context.Context, addrs string) (discovery.Result, error) {
	result := discovery.Result{Cacheable: true, CacheKey: addrs}
	var failed error
	for addr := range strings.SplitSeq(addrs, ",") {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return discovery.Result{}, fmt.Errorf("rpc: address %q: %w", addr, err)
		}
		ips := []string{host}
		if host != "" && net.ParseIP(host) == nil {
			if ips, err = net.DefaultResolver.LookupHost(ctx, host); err != nil {
				failed = fmt.Errorf("rpc: look up %s: %w", host, err)
				continue
			}
		}
		for _, ip := range ips {
			result.Instances = append(result.Instances, discovery.NewInstance("tcp", net.JoinHostPort(ip, port), discovery.DefaultWeight, nil))
		}
	}
	if len(result.Instances) == 0 {
		return discovery.Result{}, failed
	}
	return result, nil
}

// A dialer tracks its connections, because Kitex cannot close those in use.
type dialer struct {
	grpc bool

	mu     sync.Mutex          // guards the following
	conns  map[net.Conn]string // name of the callee on each connection; "" until it is known
	closed bool
}

var _ remote.Dialer = (*dialer)(nil)

// DialTimeout returns a netpoll connection for TTHeader and a connection of package net for gRPC. Over netpoll,
// Kitex's gRPC client starts reading only when the first bytes arrive, so calls on a connection that closes before
// would hang until their timeout.
func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	if d.grpc {
		conn, err := net.DialTimeout(network, address, timeout)
		if err != nil {
			return nil, err
		}
		tracked := &trackedConn{conn, d}
		if err := d.track(tracked); err != nil {
			return nil, err
		}
		return tracked, nil
	}
	conn, err := netpoll.DialConnection(network, address, timeout)
	if err != nil {
		return nil, err
	}
	if err := d.track(conn); err != nil {
		return nil, err
	}
	if err := conn.AddCloseCallback(func(netpoll.Connection) error { d.forget(conn); return nil }); err != nil {
		_ = conn.Close() // the connection is unusable
		d.forget(conn)
		return nil, err
	}
	if !conn.IsActive() { // it may have closed before the callback was registered
		d.forget(conn)
	}
	return conn, nil
}

// track records conn. If the dialer is closed, it closes conn and returns an error.
func (d *dialer) track(conn net.Conn) error {
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.conns[conn] = ""
	}
	d.mu.Unlock()
	if closed {
		_ = conn.Close() // the returned error says so
		return net.ErrClosed
	}
	return nil
}

func (d *dialer) forget(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, conn)
}

// learn records the callee on conn, as long as conn is open.
func (d *dialer) learn(conn net.Conn, callee string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, open := d.conns[conn]; open {
		d.conns[conn] = callee
	}
}

func (d *dialer) calleeOn(conn net.Conn) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conns[conn]
}

func (d *dialer) close() {
	d.mu.Lock()
	d.closed = true
	conns := slices.Collect(maps.Keys(d.conns))
	d.mu.Unlock()
	for _, c := range conns { // without the lock, which forget takes
		_ = c.Close() // an error changes nothing: the connection is closed
	}
}

// trackedConn is a connection that removes itself from its dialer when closed.
type trackedConn struct {
	net.Conn
	dialer *dialer
}

func (c *trackedConn) Close() error {
	c.dialer.forget(c)
	return c.Conn.Close()
}
