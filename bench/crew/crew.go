// Package crew runs one or more fleets as one: in this process, or in worker processes here or on other hosts. They share
// users and load, and their outcomes are merged without loss.
package crew

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"parley/bench/swarm"
	"parley/bench/watch"
	"parley/internal/rpc"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
)

// Spec is a fleet as it can be told to another process.
type Spec struct {
	FirstUID     int32
	Users        int
	Rooms        swarm.Rooms
	Status       []string // status nodes, host:port
	Secret       string   // of the cluster
	Fixed        string   // host:port of a server that needs no token, instead of Status
	Loops        int
	Index        int
	Heartbeat    time.Duration
	Run          uint32
	Seed         uint64
	Cross        float64
	KeepTo       int
	Resume       bool
	Reconnect    bool
	TextBytes    int
	Marks        float64
	LoginTimeout time.Duration
	Via          map[string]string // address of a chat node -> address to connect to instead
}

// Crew is users that can be told what to do. Prepare comes first; Run must not be called twice at once.
type Crew interface {
	Prepare(ctx context.Context) error
	// Run returns what the phase came to; when ctx ends early, what it came to until then and ctx's error.
	Run(ctx context.Context, p swarm.Phase) (*swarm.Outcome, error)
	// ReadHistory has the stored history of all conversations read and puts it into the books. Run with a phase "verify" that
	// says Entered closes them.
	ReadHistory(ctx context.Context, read History) error
	Live() swarm.Live
	Nodes() []string
	// Self is how the generator processes fare, since they were made.
	Self() watch.Self
	Close()
}

// History reads what is stored of conversations and hands it over in parts; those of one conversation in order. It runs
// where the coordinator does: workers on other hosts need not reach the store, nor know its password. It may be called
// for several workers at once.
type History func(ctx context.Context, of []swarm.Conversation, enter func([]swarm.Stored) error) error

// own is a fleet of this process.
type own struct {
	*swarm.Fleet
	transport *rpc.Client
	watch     *watch.SelfWatch
}

// New makes a crew of this process alone.
func New(s Spec) (Crew, error) {
	o, err := newOwn(s)
	if err != nil {
		return nil, err
	}
	return o, nil
}

func newOwn(s Spec) (*own, error) {
	o := &own{watch: watch.StartSelf()}
	place, err := o.placer(s)
	if err != nil {
		return nil, err
	}
	o.Fleet, err = swarm.New(swarm.Config{
		FirstUID: s.FirstUID, Users: s.Users, Rooms: s.Rooms, Place: place, Loops: s.Loops, Index: s.Index, Heartbeat: s.Heartbeat, Run: s.Run,
		Seed: s.Seed, Cross: s.Cross, KeepTo: s.KeepTo, Resume: s.Resume, Reconnect: s.Reconnect, TextBytes: s.TextBytes, Marks: s.Marks, LoginTimeout: s.LoginTimeout,
	})
	if err != nil {
		o.closeTransport()
		return nil, err
	}
	return o, nil
}

// Placer asks the status nodes of s where users may log in. close ends what it holds.
func Placer(s Spec) (place swarm.Placer, close func(), err error) {
	o := &own{}
	place, err = o.placer(s)
	return place, o.closeTransport, err
}

// placer asks the status nodes, as the gate would, for many users at once.
func (o *own) placer(s Spec) (swarm.Placer, error) {
	if s.Fixed != "" {
		to, err := netip.ParseAddrPort(s.Fixed)
		if err != nil {
			return nil, fmt.Errorf("crew: server %q: %w", s.Fixed, err)
		}
		return func(_ context.Context, uids []int32) ([]swarm.Place, error) {
			places := make([]swarm.Place, len(uids))
			for i := range places {
				places[i] = swarm.Place{Addr: to, Node: s.Fixed, Token: "-------------------------------------------"}
			}
			return places, nil
		}, nil
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
			at := net.JoinHostPort(r.Host, r.Port)
			if other, ok := s.Via[at]; ok {
				at = other
			}
			addr, err := resolve(ctx, &addrs, at)
			if err != nil {
				return nil, err
			}
			places[i] = swarm.Place{Addr: addr, Node: r.Node, Token: r.Token}
		}
		return places, nil
	}, nil
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
			return addr, fmt.Errorf("crew: chat node address %q: %w", hostport, errors.Join(err, lookupErr))
		}
		if addr, err = netip.ParseAddrPort(ips[0].String() + ":" + port); err != nil {
			return addr, fmt.Errorf("crew: chat node address %q: %w", hostport, err)
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
	// What it uses while it only waits for the last answers would hide what it used under load.
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

func (o *own) Close() {
	o.Fleet.Close()
	o.closeTransport()
}

func (o *own) closeTransport() {
	if o.transport != nil {
		o.transport.Close()
	}
}
