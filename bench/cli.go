package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/alecthomas/kong"

	"parley/bench/lab"
	"parley/bench/report"
	"parley/internal/obs"
)

// cli is the command line of bench.
type cli struct {
	Doctor struct {
		Users   int `help:"connections wanted" default:"10000" short:"u"`
		Workers int `help:"generator processes" default:"1"`
		Servers int `help:"chat nodes on this machine" default:"0"`
	} `cmd:"" help:"Check how many connections this machine can hold, and how to raise each limit."`
	Seed struct {
		Config   string `help:"a chat node's configuration file" placeholder:"FILE"`
		DSN      string `help:"data source name of the SQL server" env:"PARLEY_BENCH_DSN"`
		Redis    string `help:"address of a Redis without a password" placeholder:"HOST:PORT"`
		Users    int    `help:"number of users" default:"100000" short:"u"`
		FirstUID int32  `name:"first-uid" help:"uid of the first user; 0 means 1000001"`
	} `cmd:"" help:"Put users into a cluster's SQL and Redis, friends in pairs."`
	Quick struct {
		Common lab.Options `embed:""`
	} `cmd:"" help:"Measure a little of everything in 15 seconds, with a report. Start here."`
	Connect struct {
		Common      lab.Options `embed:""`
		Concurrency int         `help:"connects under way" default:"256"`
	} `cmd:"" help:"Measure connections per second, without logins."`
	Login struct {
		Common      lab.Options   `embed:""`
		Load        lab.LoadFlags `embed:""`
		Concurrency int           `help:"logins under way (closed loop), unless --rate is given" default:"256"`
		Again       bool          `help:"users leave and log in again until --for has passed"`
		Cold        bool          `help:"start with cold caches: each login reads profile and lists from SQL (--local)"`
	} `cmd:"" help:"Measure logins per second."`
	Idle struct {
		Common   lab.Options   `embed:""`
		Plateaus int           `help:"number of plateaus" default:"5"`
		Hold     time.Duration `help:"how long to hold each plateau; all but the last at most 40 s" default:"3s"`
		Texts    float64       `help:"texts per second during the last plateau, by at most 2,000 of the users" default:"0"`
	} `cmd:"" help:"Measure the memory per session, with heartbeats."`
	Ping struct {
		Common lab.Options   `embed:""`
		Load   lab.LoadFlags `embed:""`
	} `cmd:"" help:"Measure heartbeat round trips."`
	Chat struct {
		Common lab.Options   `embed:""`
		Load   lab.ChatFlags `embed:""`
	} `cmd:"" help:"Measure texts between pairs of users, and check each one."`
	Room struct {
		Common lab.Options   `embed:""`
		Load   lab.RoomFlags `embed:""`
	} `cmd:"" help:"Measure texts to groups, check each member's copy, and compare with a bare loop of writes."`
	Storm struct {
		Common lab.Options   `embed:""`
		Spread time.Duration `help:"each user comes back at a random moment within this time, as clients do; 0 means at once" default:"0s"`
		Limit  time.Duration `help:"longest wait for the last user" default:"60s"`
	} `cmd:"" help:"Drop all users at once; measure the time until 50, 90, 99 and 100 % are back."`
	Churn struct {
		Common lab.Options   `embed:""`
		Load   lab.LoadFlags `embed:""`
	} `cmd:"" help:"Let users leave and come back at a steady rate."`
	Presence struct {
		Common lab.Options       `embed:""`
		Load   lab.PresenceFlags `embed:""`
	} `cmd:"" help:"Let friends who watch one another come and go, then all at once; check what each was told."`
	Mixed struct {
		Common lab.Options   `embed:""`
		Load   lab.ChatFlags `embed:""`
		Churn  float64       `help:"users per second that leave and come back" default:"20"`
	} `cmd:"" help:"Mix idle users, churn and texts."`
	Drain struct {
		Common lab.Options    `embed:""`
		Drain  lab.DrainFlags `embed:""`
	} `cmd:"" help:"Drain a node that holds all users while they chat; measure the gap that each sees."`
	Hogs struct {
		Common lab.Options  `embed:""`
		Hogs   lab.HogFlags `embed:""`
	} `cmd:"" help:"Measure what one hostile peer makes a node hold, and whether others notice."`
	Floor struct {
		Common      lab.Options   `embed:""`
		Concurrency int           `help:"unanswered heartbeats" default:"256"`
		Turn        time.Duration `help:"length of a turn" default:"1s"`
	} `cmd:"" help:"Compare heartbeats on a chat node with bare echo servers, in turns."`
	Compare struct {
		Common  lab.Options      `embed:""`
		Load    lab.CompareFlags `embed:""`
		Servers []string         `arg:"" optional:"" help:"servers that run already, as NAME=ADDRESS; NAME is centrifugo, echo, nats, tinode or wukongim, or one of them and a hyphen and anything; echo alone starts one" placeholder:"NAME=ADDRESS"`
	} `cmd:"" help:"Compare Parley with other servers, in turns: logins, texts, what was lost. See docs/COMPARE.md."`
	FindMax struct {
		Common lab.Options   `embed:""`
		Load   lab.ChatFlags `embed:""`
		SLO    string        `name:"slo" help:"condition for each rate" default:"p99<50ms"`
		From   float64       `help:"first rate" default:"1000"`
		To     float64       `help:"highest rate" default:"100000"`
		Steps  int           `help:"maximum number of tries" default:"12"`
	} `cmd:"" help:"Find the highest rate of texts that meets a condition."`
	Report struct {
		File string `arg:"" help:"JSON of a run" type:"existingfile"`
		HTML string `name:"html" help:"write the HTML page again" placeholder:"FILE"`
	} `cmd:"" help:"Show a saved report."`
	Diff struct {
		A string `arg:"" help:"JSON of a run" type:"existingfile"`
		B string `arg:"" help:"JSON of another" type:"existingfile"`
	} `cmd:"" help:"Compare the figures of two reports."`
	FloorServer struct {
		Kind    string `required:""`
		Members int
	} `cmd:"" hidden:""`
	Worker struct {
		Join    string `required:""`
		KeyFile string `required:""`
	} `cmd:"" hidden:""`
	Agent struct {
		Listen string `help:"address to listen on for the coordinator" default:"127.0.0.1:7070"`
		Key    string `help:"key that the coordinator must send" env:"PARLEY_BENCH_KEY"`
	} `cmd:"" help:"Run a generator for a coordinator on another host."`

	Version kong.VersionFlag `help:"Print the version."`
}

// run runs the program and returns the exit code: 0 pass, 1 missed assertion or budget, 2 incorrect, 3 invalid run, 4
// set-up error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c, kong.Name("bench"), kong.Writers(stdout, stderr), kong.Vars{"version": obs.Version()},
		kong.Description("Measures a Parley cluster and checks that no text was lost. See docs/BENCHMARKS.md."),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Exit(func(code int) { exited = code }))
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return report.Setup
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // --help and --version have already exited
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return report.Setup
	}
	l := lab.Lab{Stdout: stdout, Stderr: stderr, Args: args}
	fail := func(err error) int {
		if err != nil {
			fmt.Fprintf(stderr, "bench: %v\n", err)
			return report.Setup
		}
		return report.Pass
	}
	switch parsed.Command() {
	case "doctor":
		return l.Doctor(c.Doctor.Users, c.Doctor.Workers, c.Doctor.Servers)
	case "seed":
		return l.Seed(ctx, c.Seed.Config, c.Seed.DSN, c.Seed.Redis, c.Seed.Users, c.Seed.FirstUID)
	case "quick":
		return l.Quick(ctx, c.Quick.Common)
	case "drain":
		return l.Drain(ctx, c.Drain.Common, c.Drain.Drain)
	case "hogs":
		return l.Hogs(ctx, c.Hogs.Common, c.Hogs.Hogs)
	case "floor":
		return l.Floor(ctx, c.Floor.Common, c.Floor.Concurrency, c.Floor.Turn)
	case "compare", "compare <servers>":
		return l.Compare(ctx, c.Compare.Common, c.Compare.Load, c.Compare.Servers)
	case "find-max":
		f := c.FindMax
		return l.FindMax(ctx, f.Common, f.Load, f.SLO, f.From, f.To, f.Steps)
	case "report <file>":
		return l.Render(c.Report.File, c.Report.HTML)
	case "diff <a> <b>":
		return l.Diff(c.Diff.A, c.Diff.B)
	case "floor-server":
		return fail(lab.FloorServer(ctx, c.FloorServer.Kind, c.FloorServer.Members, func(s string) { fmt.Fprintln(stdout, s) }))
	case "connect":
		return l.Connect(ctx, c.Connect.Common, c.Connect.Concurrency)
	case "login":
		return l.Login(ctx, c.Login.Common, c.Login.Load, c.Login.Concurrency, c.Login.Again, c.Login.Cold)
	case "idle":
		return l.Idle(ctx, c.Idle.Common, c.Idle.Plateaus, c.Idle.Hold, c.Idle.Texts)
	case "ping":
		return l.Ping(ctx, c.Ping.Common, c.Ping.Load)
	case "chat":
		return l.Chat(ctx, c.Chat.Common, c.Chat.Load)
	case "room":
		return l.Room(ctx, c.Room.Common, c.Room.Load)
	case "storm":
		return l.Storm(ctx, c.Storm.Common, c.Storm.Spread, c.Storm.Limit)
	case "churn":
		return l.Churn(ctx, c.Churn.Common, c.Churn.Load)
	case "presence":
		return l.Presence(ctx, c.Presence.Common, c.Presence.Load)
	case "mixed":
		return l.Mixed(ctx, c.Mixed.Common, c.Mixed.Load, c.Mixed.Churn)
	case "worker":
		return fail(lab.Worker(ctx, c.Worker.Join, c.Worker.KeyFile))
	case "agent":
		return fail(lab.Agent(ctx, c.Agent.Listen, c.Agent.Key, stdout))
	}
	fmt.Fprintf(stderr, "bench: no such verb: %s\n", parsed.Command())
	return report.Setup
}
