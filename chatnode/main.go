// Command chatnode is one chat server of a Parley cluster: clients on TCP, other nodes by RPC. docs/CONFIG.md
// and chatnode --help list its configuration.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"parley/internal/chat"
	"parley/internal/config"
	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/store/mysql"
)

func main() { config.Main("chatnode", obs.Version(), run) }

func run(ctx context.Context, p config.Process) error {
	cfg := chat.DefaultConfig()
	loaded, err := config.Load(p, &cfg)
	if err != nil {
		return err
	}
	log := obs.NewLogger(p.Stderr, cfg.Log.Level, cfg.Log.Format, cfg.SelfServer.Name)
	loaded.Log(log)
	log.Info("starting", "version", p.Version)
	reg := obs.NewRegistry("chatnode")

	st, err := mysql.Open(ctx, cfg.Mysql.DSN(), mysql.Options{
		MaxOpen: cfg.Mysql.MaxOpen, Metrics: reg,
		Writers: cfg.Limits.CommitShards + 4, // beside the committers: friendships, threads, the fence
	})
	if err != nil {
		return config.Dependency(err)
	}
	defer st.Close()
	st.Groups.SetMaxMembers(cfg.Limits.GroupMembers)
	demands := store.Demands{Durable: cfg.Mysql.RequireDurable, FenceWarnOnly: cfg.Mysql.FenceCheck == "warn"}
	switch err := st.Prepare(ctx, log, demands); {
	case errors.Is(err, store.ErrSettings):
		return config.Invalid(err)
	case err != nil:
		return config.Dependency(err)
	}
	rdb := cfg.Redis.NewClient()
	defer rdb.Close()
	pr := presence.New(rdb, presence.Options{Cluster: cfg.Redis.Cluster, Timeout: cfg.Redis.Timeout, Metrics: reg})
	defer pr.Close()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	node, err := chat.New(cfg, chat.Deps{Log: log, Metrics: reg, Store: st, Presence: pr, Reread: hup})
	if err != nil {
		return err
	}
	ops, err := obs.ListenOps(cfg.Ops.Addr, log, reg, node.Checks())
	if err != nil {
		_ = node.Close() // the port that is taken is what matters
		return config.Dependency(err)
	}
	ops.SetToken(cfg.Ops.Token)
	node.ServeOps(ops)
	err = ops.While(ctx, node.Run)
	log.Info("stopped")
	return err
}
