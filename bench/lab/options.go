// Package lab is the load lab itself: it starts or finds a cluster, puts users in front of it, lets them do what a verb
// says, holds the books against the history, and writes the report.
package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"parley/bench/assert"
	"parley/bench/local"
	"parley/bench/seed"
)

// Options are what all verbs have in common. The help texts are the command line's.
type Options struct {
	Standalone bool              `help:"start the whole cluster in one process, with nothing to install (the default)" group:"Cluster"`
	Local      int               `help:"start redis-server, mariadbd, a gate, a status node and so many chat nodes" placeholder:"N" group:"Cluster"`
	Nodes      int               `help:"chat nodes of --standalone" default:"2" group:"Cluster"`
	Bin        string            `help:"directory of the programs to start; default: that of bench if they are there, else they are built from the sources" type:"path" placeholder:"DIR" group:"Cluster"`
	Gate       string            `help:"use a cluster that runs already; needs --status as well" placeholder:"URL" group:"Cluster"`
	Status     []string          `help:"its status nodes" placeholder:"HOST:PORT" group:"Cluster"`
	Secret     string            `help:"its cluster secret" env:"PARLEY_CLUSTER_SECRET" group:"Cluster"`
	Config     string            `help:"a chat node's configuration file: the secret, and the stores, in which history and presence are then checked" placeholder:"FILE" group:"Cluster"`
	Via        map[string]string `help:"connect to another address in place of a chat node's, as behind NAT or a proxy" placeholder:"HOST:PORT=HOST:PORT" group:"Cluster"`
	Ops        []string          `help:"operations listeners to scrape" placeholder:"NAME=HOST:PORT" group:"Cluster"`

	Users     int           `help:"virtual users; 0: what the verb needs" short:"u" group:"Load"`
	FirstUID  int32         `name:"first-uid" help:"uid of the first user; 0: where bench seed begins" group:"Load"`
	Workers   int           `help:"generator processes that share the users" default:"1" group:"Load"`
	Agents    []string      `help:"generator processes on other hosts (bench agent)" placeholder:"HOST:PORT" group:"Load"`
	AgentKey  string        `help:"what agents want to hear" env:"PARLEY_BENCH_KEY" group:"Load"`
	KeepTo    int           `help:"nodes that each generator process connects to; 0: those that the status node says. Many processes on few cores are woken up less often when each knows few others" group:"Load"`
	Loops     int           `help:"event loops a generator process" default:"1" group:"Load"`
	Seed      uint64        `help:"of schedules and choices; 0: from the clock, told in the report" group:"Load"`
	Heartbeat time.Duration `help:"period of the users' heartbeats" default:"30s" group:"Load"`

	TimerSlack time.Duration `help:"how late sleeping threads of the processes that bench starts may be woken up; 0: 50 us, as Linux has it. Go's runtime looks after itself every 20 us while it has something to do: with tens of processes a core, 2ms saves an eighth of the machine" group:"Load"`

	Fault   string        `help:"what to break while the load runs, as in 'kill chat2 at 10s, restart at 14s' or 'slow:50ms chat1-mariadb at 5s, heal at 8s'" group:"Load"`
	Assert  string        `help:"what must hold, as in 'p99<50ms,lost==0'" group:"Verdict"`
	Budgets bool          `help:"hold the figures against Parley's own budgets; one that is missed ends with 1" default:"true" negatable:"" group:"Verdict"`
	MaxLag  time.Duration `help:"the run is invalid when the generator itself is later than this (p99), and that matters" default:"10ms" group:"Verdict"`

	Out    string `help:"directory of the reports; empty: none" default:"bench-reports" group:"Output"`
	Name   string `help:"file name of the reports; empty: verb and time" group:"Output"`
	HGRM   bool   `name:"hgrm" help:"write .hgrm files as well" group:"Output"`
	Quiet  bool   `help:"no live line" short:"q" group:"Output"`
	Keep   bool   `help:"keep the logs of the nodes that were started" group:"Output" hidden:""`
	stdout io.Writer
	stderr io.Writer
	argv   []string
}

// maxNodes bounds the chat nodes on this machine; a million connections take 57.
const maxNodes = 64

// plan is Options after checking.
type plan struct {
	Options
	checks []assert.Check
	faults []local.Fault
	stores *seed.Place // of --config
	drawn  bool        // the seed was not given
}

// check finds what is wrong before anything is started.
func (o Options) check(figures []string) (p plan, err error) {
	p.Options = o
	if o.Seed == 0 {
		p.drawn = true
		p.Seed = uint64(time.Now().UnixNano())%1_000_000 + 1
	}
	if p.FirstUID == 0 {
		p.FirstUID = seed.FirstUID
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
