// Command standalone runs a whole Parley cluster in one process, without other servers: gate, status node and two chat
// nodes with an embedded Redis and an SQLite file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	_ "modernc.org/sqlite" // imported here too so that a build begins with it: else it is compiled last, with a processor idle

	"parley/internal/config"
	"parley/internal/obs"
	"parley/internal/standalone"
	"parley/internal/wire"
)

func main() { config.Main("standalone", obs.Version(), run) }

// cli is the command line. Kong reads the struct tags.
type cli struct {
	Data      string           `help:"Directory of the database; '' for a temporary one, deleted at exit." default:"data"`
	Host      string           `help:"Address of every listener." default:"127.0.0.1"`
	Nodes     int              `help:"Chat nodes, 1 to 16." default:"2"`
	Demo      bool             `help:"Create the demo users alice and bob." default:"true" negatable:""`
	Crowd     int              `help:"Create this many users for load tests, friends in pairs." default:"0"`
	WSPort    int              `name:"ws-port" help:"WebSocket port of the first chat node; the others count up." default:"8110"`
	TLSCert   string           `name:"tls-cert" help:"Certificate in PEM: take clients by HTTPS and TLS too. parleyctl mkcerts makes one." placeholder:"FILE"`
	TLSKey    string           `name:"tls-key" help:"Its key." placeholder:"FILE"`
	HTTPSPort int              `name:"https-port" help:"HTTPS port of the gate." default:"8443"`
	TLSPort   int              `name:"tls-port" help:"TLS port of the first chat node; the others count up." default:"8130"`
	WSSPort   int              `name:"wss-port" help:"WebSocket port over TLS; the same." default:"8150"`
	Log       string           `help:"Lowest level that is logged: ${enum}." enum:"debug,info,warn,error" default:"warn"`
	FreePorts bool             `help:"Take free ports instead of 8080, 8090 and so on."`
	Version   kong.VersionFlag `help:"Print the version."`
}

// startTimeout is how long the cluster may take to start; it takes a fraction of a second.
const startTimeout = 30 * time.Second

func run(ctx context.Context, p config.Process) error {
	var flags cli
	if err := parse(&flags, p); err != nil {
		return err
	}
	o := standalone.DefaultOptions()
	o.WSPort, o.GateTLSPort, o.TLSPort, o.WSSPort = flags.WSPort, flags.HTTPSPort, flags.TLSPort, flags.WSSPort
	if flags.FreePorts {
		o = standalone.LocalOptions()
	}
	o.Data, o.Host, o.Nodes, o.Demo, o.Crowd = flags.Data, flags.Host, flags.Nodes, flags.Demo, flags.Crowd
	o.Cert, o.Key = flags.TLSCert, flags.TLSKey
	o.Reread = func() <-chan os.Signal {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP) // until the process ends
		return hup
	}
	o.Log, o.Codes = obs.NewLogger(p.Stderr, flags.Log, "auto", ""), p.Stdout

	began := time.Now()
	start, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c, err := standalone.Start(start, o)
	switch {
	case err == nil:
	case errors.Is(err, syscall.EADDRINUSE):
		return config.Dependency(fmt.Errorf("%w\nAnother program uses this port, perhaps another cluster: stop it, or use --free-ports", err))
	case config.ExitCode(err) == config.ExitFailure:
		return config.Dependency(err)
	default:
		return err
	}
	greet(p.Stdout, c, o, time.Since(began))
	err = errors.Join(c.Wait(ctx), c.Close())
	if o.Data == "" {
		fmt.Fprintln(p.Stdout, "stopped; the data was thrown away")
	} else {
		fmt.Fprintf(p.Stdout, "stopped; users and messages are kept in %s\n", o.Data)
	}
	return err
}

// parse reads the command line. It returns config.ErrDone after --help and --version.
func parse(flags *cli, p config.Process) error {
	exited := false
	parser, err := kong.New(flags, kong.Name("standalone"), kong.Writers(p.Stdout, p.Stderr), kong.Vars{"version": "standalone " + p.Version},
		kong.Description("A whole Parley cluster in one process, over an embedded Redis and SQLite."),
		kong.Exit(func(int) { exited = true }))
	if err != nil {
		return err
	}
	_, err = parser.Parse(p.Args)
	if exited {
		return config.ErrDone
	}
	return config.Usage(err)
}

// greet says where everything is and what to paste next.
func greet(w io.Writer, c *standalone.Cluster, o standalone.Options, took time.Duration) {
	gate := "http://" + reachable(c.GateAddr())
	page, gates := gate, gate
	if o.Cert != "" {
		page = "https://" + reachable(c.GateTLSAddr())
		gates += ", " + page
	}
	what := "Open the chat page"
	if o.Demo {
		what += fmt.Sprintf("; one click there has %s and %s talk", standalone.Demo[0].Name, standalone.Demo[1].Name)
	}
	fmt.Fprintf(w, "Parley is up after %d ms. %s:\n\n  %s\n\n", took.Milliseconds(), what, page)
	fmt.Fprintf(w, "  gate        %s\n", gates)
	fmt.Fprintf(w, "  status      %s (RPC)\n", reachable(c.StatusAddr()))
	for i, n := range c.Chats() {
		fmt.Fprintf(w, "  chat node %d %s (clients), %s (WebSocket), %s (RPC)\n",
			i+1, reachable(n.ClientAddr()), n.Address(wire.WS), reachable(n.RPCAddr()))
		if o.Cert != "" {
			fmt.Fprintf(w, "              %s (clients by TLS), %s\n", reachable(n.Address(wire.TLS)), n.Address(wire.WSS))
		}
	}
	fmt.Fprintf(w, "  operations  http://%s/ (the live cluster; also /metrics, /healthz, /readyz, /debug/pprof)\n", reachable(c.OpsAddr()))
	if o.Data == "" {
		fmt.Fprintf(w, "  data        thrown away at exit\n")
	} else {
		fmt.Fprintf(w, "  data        %s\n", c.DataDir())
	}
	if o.Demo {
		a, b := standalone.Demo[0], standalone.Demo[1]
		fmt.Fprintf(w, "\n%s and %s are friends. They can talk in terminals too:\n\n", a.Name, b.Name)
		for _, pair := range [][2]standalone.DemoUser{{a, b}, {b, a}} {
			fmt.Fprintf(w, "  bin/parleyctl chat --gate %s --email %s --password %s --to %s\n", gate, pair[0].Email, pair[0].Password, pair[1].Name)
		}
	}
	fmt.Fprintf(w, "\nCtrl-C stops it.\n")
}

// reachable returns an address of this machine for a listener on all addresses, and other addresses as they are.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
