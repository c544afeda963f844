// Command statusnode places users on the chat nodes of a Parley cluster. docs/CONFIG.md and statusnode
// --help list its configuration.
package main

import (
	"context"

	"parley/internal/config"
	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/status"
)

func main() { config.Main("statusnode", obs.Version(), run) }

func run(ctx context.Context, p config.Process) error {
	cfg := status.DefaultConfig()
	loaded, err := config.Load(p, &cfg)
	if err != nil {
		return err
	}
	log := obs.NewLogger(p.Stderr, cfg.Log.Level, cfg.Log.Format, cfg.Status.Name)
	loaded.Log(log)
	log.Info("starting", "version", p.Version)
	reg := obs.NewRegistry("statusnode")

	rdb := cfg.Redis.NewClient()
	defer rdb.Close()
	pr := presence.New(rdb, presence.Options{Cluster: cfg.Redis.Cluster, Timeout: cfg.Redis.Timeout, Metrics: reg})
	defer pr.Close()
	node, err := status.New(cfg, status.Deps{Log: log, Metrics: reg, Presence: pr})
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
