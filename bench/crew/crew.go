// Package crew runs one or more fleets as one, in this process or in worker processes on this or other hosts. The
// fleets share users and load, and their outcomes are merged without loss.
package crew

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"parley/bench/engine"
	"parley/bench/foreign"
	"parley/bench/swarm"
	"parley/bench/watch"
	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
)

// Spec describes a fleet in a form that can be sent to another process.
type Spec struct {
	FirstUID     int32
	Users        int
	Rooms        swarm.Rooms
	Status       []string // status nodes, host:port
	Secret       string   // cluster secret
	Foreign      string   // kind of a server that is not Parley's, with Address instead of Status
	Address      string
	Fixed        []string // host:port of servers without tokens, instead of Status; groups take turns
	Loops        int
	Index        int
	Heartbeat    time.Duration
	Run          uint32
	Seed         uint64
	Cross        float64
	KeepTo       int
	Together     bool
	Resume       bool
	Reconnect    bool
	TextBytes    int
	Marks        float64
	LoginTimeout time.Duration
	Via          map[string]string // address to connect to, by address of a chat node
	Transport    wire.Transport
	CA           []byte // certificates, in PEM, of the authorities that sign those of nodes with TLS; empty: the system's
}

// Crew is a set of users that carry out phases. Call Prepare first. Calls of Run must not overlap.
type Crew interface {
	Prepare(ctx context.Context) error
	// Run returns the outcome of the phase. If ctx ends early, it returns the outcome so far and ctx's error.
	Run(ctx context.Context, p swarm.Phase) (*swarm.Outcome, error)
	// ReadHistory reads the stored history of all conversations and enters it into the books. A Run of the phase
	// "verify" with Entered set then closes the books.
	ReadHistory(ctx context.Context, read History) error
	Live() swarm.Live
	Nodes() []string
	// Self returns the resource use of the generator processes since the crew was made.
	Self() watch.Self
	Close()
}

// History reads the stored messages of conversations and passes them on in parts, the parts of a conversation in
// order. It runs in the coordinator, so workers on other hosts need neither access to the store nor its password. It
// may be called for several workers at once.
type History func(ctx context.Context, of []swarm.Conversation, enter func([]swarm.Stored) error) error

// own is a fleet in this process.
type own struct {
	*swarm.Fleet
	foreign   foreign.Server // nil: Parley
	transport *rpc.Client
	watch     *watch.SelfWatch
}

// New makes a crew that consists of this process.
func New(s Spec) (Crew, error) {
	o, err := newOwn(s)
	if err != nil {
		return nil, err
	}
	return o, nil
}

func newOwn(s Spec) (*own, error) {
	o := &own{watch: watch.StartSelf()}
	if s.Foreign != "" {
		var err error
		if o.foreign, err = foreign.New(s.Foreign, s.Address, s.Run); err != nil {
			return nil, err
		}
		s.Fixed = []string{o.foreign.Address()}
	}
	place, err := o.placer(s)
	if err != nil {
		return nil, err
	}
	roots, err := s.roots()
	if err != nil {
		o.closeTransport()
		return nil, err
	}
	o.Fleet, err = swarm.New(swarm.Config{
		Roots: roots, Foreign: o.foreign,
		FirstUID: s.FirstUID, Users: s.Users, Rooms: s.Rooms, Place: place, Loops: s.Loops, Index: s.Index, Heartbeat: s.Heartbeat, Run: s.Run,
		Seed: s.Seed, Cross: s.Cross, KeepTo: s.KeepTo, Together: s.Together, Resume: s.Resume, Reconnect: s.Reconnect, TextBytes: s.TextBytes, Marks: s.Marks, LoginTimeout: s.LoginTimeout,
	})
	if err != nil {
		o.closeTransport()
		return nil, err
	}
	return o, nil
}

// Placer returns a function that asks the status nodes of s where users may log in. close releases its resources.
func Placer(s Spec) (place swarm.Placer, close func(), err error) {
	o := &own{}
	place, err = o.placer(s)
	return place, o.closeTransport, err
}

// fixed places all users of a group at one server without tokens.
func (s Spec) fixed() (swarm.Placer, error) {
	servers := make([]swarm.Place, len(s.Fixed))
	for i, at := range s.Fixed {
		to, err := resolve(context.Background(), &sync.Map{}, at)
		if err != nil {
			return nil, err
		}
		servers[i] = swarm.Place{Target: engine.Target{Addr: to, Raw: s.Foreign != ""}, Node: at, Token: "-------------------------------------------"}
	}
	return func(_ context.Context, uids []int32) ([]swarm.Place, error) {
		places := make([]swarm.Place, len(uids))
		for i, uid := range uids {
			places[i] = servers[int(uid-s.FirstUID)/max(s.Rooms.Members, 1)%len(servers)]
		}
		return places, nil
	}, nil
}

// placer asks the status nodes for many users at once, as the gate would.
func (o *own) placer(s Spec) (swarm.Placer, error) {
	if len(s.Fixed) > 0 {
		return s.fixed()
	}
	if len(s.Status) == 0 {
		return nil, errors.New("crew: no status node given")
	}
	rpc.RouteLogs(nil)
	o.transport = rpc.NewClient(rpc.ClientConfig{Auth: rpc.NewAuth(s.Secret), Timeout: 20 * time.Second}, s.Status...)
	status, err := statusservice.NewClient("statusnode", o.transport.Options()...)
	if err != nil {
		o.closeTransport()
		return nil, fmt.Errorf("crew: status client: %w", err)
	}
	var addrs sync.Map // host:port -> netip.AddrPort
	return func(ctx context.Context, uids []int32) ([]swarm.Place, error) {
		rsp, err := status.GetChatServers(ctx, &message.GetChatServersReq{Uids: uids})
		if err != nil {
			return nil, fmt.Errorf("crew: status node: %w", err)
		}
		if rsp.Error != 0 {
			return nil, fmt.Errorf("crew: status node: code %d", rsp.Error)
		}
		places := make([]swarm.Place, len(rsp.Replies))
		for i, r := range rsp.Replies {
			if r.Error != 0 {
				return nil, fmt.Errorf("crew: status node: code %d for user %d", r.Error, uids[i])
			}
			said := map[wire.Transport]string{wire.TCP: net.JoinHostPort(r.Host, r.Port), wire.TLS: r.Tls, wire.WS: r.Ws, wire.WSS: r.Wss}[s.Transport]
			to, err := s.target(said)
			if err != nil {
				return nil, fmt.Errorf("crew: %s: %w", r.Node, err)
			}
			at := to.Name
			if other, ok := s.Via[at]; ok {
				at = other
			}
			if to.Addr, err = resolve(ctx, &addrs, at); err != nil {
				return nil, err
			}
			places[i] = swarm.Place{Target: to, Said: said, Node: r.Node, Token: r.Token}
		}
		return places, nil
	}, nil
}

// target returns where an address of a chat node leads, without the numeric address.
func (s Spec) target(said string) (engine.Target, error) {
	t := engine.Target{Via: s.Transport, Name: said}
	if said == "" {
		return t, fmt.Errorf("it has no address for clients that use %s", s.Transport)
	}
	if !s.Transport.Web() {
		return t, nil
	}
	u, err := url.Parse(said)
	if err != nil || u.Hostname() == "" {
		return t, fmt.Errorf("its address %q is no URL", said)
	}
	t.Name, t.Path = wire.HostPort(u), u.Path
	return t, nil
}

// roots returns the authorities that the users trust.
func (s Spec) roots() (*x509.CertPool, error) {
	if len(s.CA) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CA) {
		return nil, errors.New("crew: no certificate of an authority in PEM")
	}
	return pool, nil
}

func resolve(ctx context.Context, known *sync.Map, hostport string) (netip.AddrPort, error) {
	if a, ok := known.Load(hostport); ok {
		return a.(netip.AddrPort), nil
	}
	addr, err := netip.ParseAddrPort(hostport)
	if err != nil {
		host, port, _ := net.SplitHostPort(hostport)
		ips, lookupErr := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		if lookupErr != nil || len(ips) == 0 {
			return addr, fmt.Errorf("crew: address %q: %w", hostport, errors.Join(err, lookupErr))
		}
		if addr, err = netip.ParseAddrPort(ips[0].String() + ":" + port); err != nil {
			return addr, fmt.Errorf("crew: address %q: %w", hostport, err)
		}
	}
	known.Store(hostport, addr)
	return addr, nil
}

func (o *own) ReadHistory(ctx context.Context, read History) error {
	of, err := o.Conversations(ctx)
	if err != nil {
		return err
	}
	return read(ctx, of, func(parts []swarm.Stored) error { return o.Enter(ctx, parts) })
}

func (o *own) Self() watch.Self { return o.watch.Read() }

func (o *own) Run(ctx context.Context, p swarm.Phase) (*swarm.Outcome, error) {
	// Ignore the time in which it only waits for the last answers; it would hide the use under load.
	var used float64
	var once sync.Once
	during := watch.StartSelf()
	note := func() { once.Do(func() { used = during.Read().CPU }) }
	if load := p.Warmup + max(p.Load.For, p.For); load > 0 {
		t := time.AfterFunc(load, note)
		defer t.Stop()
	}
	out, err := o.Fleet.Run(ctx, p)
	note()
	if out != nil {
		out.Cores = append(out.Cores, used)
	}
	return out, err
}

// forgetTime bounds the clean-up on a foreign server.
const forgetTime = 5 * time.Second

func (o *own) Close() {
	o.Fleet.Close()
	if o.foreign != nil {
		ctx, cancel := context.WithTimeout(context.Background(), forgetTime)
		_ = o.foreign.Forget(ctx) // what is left is named after the run
		cancel()
	}
	o.closeTransport()
}

func (o *own) closeTransport() {
	if o.transport != nil {
		o.transport.Close()
	}
}
