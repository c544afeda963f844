// Package lab runs a verb of bench: it starts or finds a cluster, connects users, runs the verb's load, compares the
// ledger with the history, and writes the report.
package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"parley/bench/assert"
	"parley/bench/local"
	"parley/bench/seed"
	"parley/internal/wire"
)

// Options are the flags common to all verbs.
type Options struct {
	Standalone bool              `help:"start the cluster in one process; needs no other servers (the default)" group:"Cluster"`
	Local      int               `help:"start redis-server, mariadbd, a gate, a status node and N chat nodes" placeholder:"N" group:"Cluster"`
	Nodes      int               `help:"chat nodes of --standalone" default:"2" group:"Cluster"`
	Bin        string            `help:"directory of the programs to start; default: the directory of bench if it has them, else they are built" type:"path" placeholder:"DIR" group:"Cluster"`
	Gate       string            `help:"use a running cluster; needs --status too" placeholder:"URL" group:"Cluster"`
	Status     []string          `help:"status nodes of the running cluster" placeholder:"HOST:PORT" group:"Cluster"`
	Secret     string            `help:"cluster secret of the running cluster" env:"PARLEY_CLUSTER_SECRET" group:"Cluster"`
	Config     string            `help:"a chat node's configuration file; gives the secret and the stores in which history and presence are checked" placeholder:"FILE" group:"Cluster"`
	Via        map[string]string `help:"connect to another address in place of a chat node's, for NAT or a proxy" placeholder:"HOST:PORT=HOST:PORT" group:"Cluster"`
	Ops        []string          `help:"operations listeners to scrape" placeholder:"NAME=HOST:PORT" group:"Cluster"`

	Transport []string      `help:"how users connect: tcp, tls, ws (WebSocket) or wss. A list, for idle, login, ping and chat, measures each in turn on one cluster and compares it with the first; each has --users users then" default:"tcp" group:"Load"`
	Rounds    int           `help:"turns of each transport of a list, or of each server of floor" default:"5" group:"Load"`
	CA        string        `name:"ca" help:"certificates, in PEM, of the authorities that the users trust; default: those of the system, or that of the cluster bench starts" type:"path" placeholder:"FILE" group:"Cluster"`
	Users     int           `help:"number of users; 0 means the verb's default" short:"u" group:"Load"`
	FirstUID  int32         `name:"first-uid" help:"uid of the first user; 0 means the first of bench seed" group:"Load"`
	Workers   int           `help:"generator processes that share the users" default:"1" group:"Load"`
	Agents    []string      `help:"generator processes on other hosts (bench agent)" placeholder:"HOST:PORT" group:"Load"`
	AgentKey  string        `help:"key of the agents" env:"PARLEY_BENCH_KEY" group:"Load"`
	KeepTo    int           `help:"number of nodes that each generator process connects to; 0 means the status node's choice. With many processes on few cores a small number saves wake-ups" group:"Load"`
	Loops     int           `help:"event loops per generator process" default:"1" group:"Load"`
	Seed      uint64        `help:"seed of schedules and choices; 0 means one from the clock, named in the report" group:"Load"`
	Heartbeat time.Duration `help:"period of the users' heartbeats" default:"30s" group:"Load"`

	TimerSlack time.Duration `help:"timer slack of the processes that bench starts: how late the kernel may wake sleeping threads; 0 means Linux's 50 us. With tens of processes per core, 2ms saves an eighth of the machine" group:"Load"`

	Fault   string        `help:"faults during the load, as in 'kill chat2 at 10s, restart at 14s' or 'slow:50ms chat1-mariadb at 5s, heal at 8s'" group:"Load"`
	Assert  string        `help:"conditions, as in 'p99<50ms,lost==0'" group:"Verdict"`
	Budgets bool          `help:"check the figures against Parley's budgets; a missed one exits with 1" default:"true" negatable:"" group:"Verdict"`
	MaxLag  time.Duration `help:"the run is invalid if the generator is later than this (p99) and that affects the result" default:"10ms" group:"Verdict"`

	Out    string `help:"directory of the reports; empty means no reports" default:"bench-reports" group:"Output"`
	Name   string `help:"file name of the reports; empty means verb and time" group:"Output"`
	HGRM   bool   `name:"hgrm" help:"write .hgrm files as well" group:"Output"`
	Quiet  bool   `help:"no live status line" short:"q" group:"Output"`
	Keep   bool   `help:"keep the logs of the started nodes" group:"Output" hidden:""`
	stdout io.Writer
	stderr io.Writer
	argv   []string
	shared bool
}

// maxNodes bounds the chat nodes on this machine; a million connections need 57.
const maxNodes = 64

// plan is the result of checking Options.
type plan struct {
	Options
	checks []assert.Check
	faults []local.Fault
	stores *seed.Place // of --config
	drawn  bool        // the seed was chosen at random

	transports []wire.Transport // one or more, none twice
	ca         []byte           // of --ca
}

// check finds errors before anything is started.
func (o Options) check(figures []string) (p plan, err error) {
	p.Options = o
	if o.Seed == 0 {
		p.drawn = true
		p.Seed = uint64(time.Now().UnixNano())%1_000_000 + 1
	}
	if p.FirstUID == 0 {
		p.FirstUID = seed.FirstUID
	}
	if err = p.readTransports(); err != nil {
		return p, err
	}
	if p.Users%2 != 0 {
		p.Users++
	}
	chosen := 0
	for _, b := range []bool{o.Standalone, o.Local > 0, o.Gate != "" || len(o.Status) > 0} {
		if b {
			chosen++
		}
	}
	switch {
	case runtime.GOOS != "linux":
		return p, errors.New("the generator needs Linux")
	case chosen > 1:
		return p, errors.New("--standalone, --local and --gate exclude each other")
	case chosen == 0:
		p.Standalone = true
	case o.Gate != "" && len(o.Status) == 0:
		return p, errors.New("--gate needs --status: tokens come from the status node, because passwords are hashed too slowly for a load")
	}
	if o.Heartbeat < 5*time.Second || o.Heartbeat > 300*time.Second || o.Heartbeat%time.Second != 0 {
		return p, errors.New("--heartbeat must be whole seconds, 5s to 300s")
	}
	if len(p.transports) > 1 && (len(p.Fault) > 0 || p.Rounds < 1) {
		return p, errors.New("several transports need --rounds of at least 1, and no --fault")
	}
	if p.Standalone && slices.ContainsFunc(p.transports, wire.Transport.Encrypted) {
		return p, errors.New("--standalone has no TLS: use --local")
	}
	if o.Local < 0 || o.Local > maxNodes || o.Nodes < 1 || o.Nodes > 16 {
		return p, fmt.Errorf("--local must be 1 to %d, and --nodes 1 to 16", maxNodes)
	}
	if o.Workers < 1 || o.Loops < 1 || o.Loops > 64 {
		return p, errors.New("--workers must be at least 1, and --loops 1 to 64")
	}
	if o.KeepTo < 0 || o.TimerSlack < 0 || o.TimerSlack > time.Second {
		return p, errors.New("--keep-to must be at least 0 and --timer-slack 0 to 1s")
	}
	if p.checks, err = assert.Parse(o.Assert); err != nil {
		return p, err
	}
	if err = assert.Unknown(p.checks, figures); err != nil {
		return p, err
	}
	if p.faults, err = local.ParseFaults(o.Fault); err != nil {
		return p, err
	}
	if len(p.faults) > 0 {
		if !p.Standalone && o.Local == 0 {
			return p, errors.New("--fault needs --local or --standalone: only processes that this tool started are its to break")
		}
		if err = local.CheckFaults(p.faults, o.Local); err != nil {
			return p, err
		}
	}
	if o.Config != "" {
		c, err := seed.FromConfig(o.Config, os.Environ())
		if err != nil {
			return p, err
		}
		if p.Secret == "" {
			p.Secret = c.Cluster.Secret
		}
		p.stores = &seed.Place{DSN: c.Mysql.DSN(), Redis: c.Redis}
	}
	return p, nil
}

// readTransports reads --transport and --ca.
func (p *plan) readTransports() (err error) {
	for _, name := range p.Transport {
		t, ok := wire.ParseTransport(name)
		if !ok || slices.Contains(p.transports, t) {
			return fmt.Errorf("--transport %s: want one of tcp, tls, ws and wss, or several, none twice", strings.Join(p.Transport, ","))
		}
		p.transports = append(p.transports, t)
	}
	if len(p.transports) == 0 {
		p.transports = []wire.Transport{wire.TCP}
	}
	if p.CA != "" {
		if p.ca, err = os.ReadFile(p.CA); err != nil {
			return fmt.Errorf("--ca: %w", err)
		}
	}
	return nil
}
