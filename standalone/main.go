// Command standalone runs a whole Parley cluster in one process, with nothing to install: gate, status server and two chat
// nodes over an embedded Redis and an SQLite file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"parley/internal/config"
	"parley/internal/obs"
	"parley/internal/standalone"
)

func main() { config.Main("standalone", obs.Version(), run) }

func run(ctx context.Context, p config.Process) error {
	o := standalone.DefaultOptions()
	flags := flag.NewFlagSet("standalone", flag.ContinueOnError)
	flags.SetOutput(p.Stderr)
	flags.StringVar(&o.Data, "data", o.Data, "directory of the database; '' for one that is thrown away at exit")
	flags.StringVar(&o.Host, "host", o.Host, "address of every listener")
	flags.IntVar(&o.Nodes, "nodes", o.Nodes, "chat nodes, 1 to 16")
	flags.BoolVar(&o.Demo, "demo", o.Demo, "make the demo users alice and bob")
	flags.IntVar(&o.Crowd, "crowd", o.Crowd, "make so many users for load tests, friends in pairs")
	level := flags.String("log", "warn", "least severe level of the log: debug, info, warn or error")
	free := flags.Bool("free-ports", false, "take free ports instead of 8080, 8090 and so on")
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(p.Args); errors.Is(err, flag.ErrHelp) {
		return config.ErrDone
	} else if err != nil {
		return config.Usage(err)
	}
	if *version {
		fmt.Fprintln(p.Stdout, p.Version)
		return nil
	}
	if *free {
		local := standalone.LocalOptions()
		local.Data, local.Host, local.Nodes, local.Demo, local.Crowd = o.Data, o.Host, o.Nodes, o.Demo, o.Crowd
		o = local
	}
	o.Log, o.Codes = obs.NewLogger(p.Stderr, *level, "auto", ""), p.Stdout

	began := time.Now()
	start, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := standalone.Start(start, o)
	if err != nil {
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

// greet says where everything is and what to paste next.
func greet(w io.Writer, c *standalone.Cluster, o standalone.Options, took time.Duration) {
	fmt.Fprintf(w, "Parley is up after %d ms.\n\n", took.Milliseconds())
	fmt.Fprintf(w, "  gate        %s\n", c.GateURL())
	fmt.Fprintf(w, "  status      %s (RPC)\n", c.StatusAddr())
	for i, n := range c.Chats() {
		fmt.Fprintf(w, "  chat node %d %s (clients), %s (RPC)\n", i+1, n.ClientAddr(), n.RPCAddr())
	}
	fmt.Fprintf(w, "  operations  http://%s/metrics, /healthz, /readyz, /debug/pprof\n", c.OpsAddr())
	if o.Data == "" {
		fmt.Fprintf(w, "  data        thrown away at exit\n")
	} else {
		fmt.Fprintf(w, "  data        %s\n", c.DataDir())
	}
	if o.Demo {
		a, b := standalone.Demo[0], standalone.Demo[1]
		fmt.Fprintf(w, "\n%s and %s are friends. Let them talk, each in a terminal of its own:\n\n", a.Name, b.Name)
		for _, pair := range [][2]standalone.DemoUser{{a, b}, {b, a}} {
			fmt.Fprintf(w, "  go run ./parleyctl chat --gate %s --email %s --password %s --to %s\n", c.GateURL(), pair[0].Email, pair[0].Password, pair[1].Name)
		}
	}
	fmt.Fprintf(w, "\nCtrl-C stops it.\n")
}
