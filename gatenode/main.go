// Command gatenode runs one gate: registration, codes by mail, password reset and login over HTTP.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"parley/internal/config"
	"parley/internal/gate"
	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/store/mysql"
)

func main() { config.Main("gatenode", obs.Version(), run) }

func run(ctx context.Context, p config.Process) error {
	cfg := gate.DefaultConfig()
	loaded, err := config.Load(p, &cfg)
	if err != nil {
		return err
	}
	log := obs.NewLogger(p.Stderr, cfg.Log.Level, cfg.Log.Format, p.Name)
	log.Info("starting", "version", p.Version)
	loaded.Log(log)
	reg := obs.NewRegistry("gate")

	st, err := mysql.Open(ctx, cfg.MySQL.DSN(), mysql.Options{MaxOpen: cfg.MySQL.MaxOpen, Metrics: reg})
	if err != nil {
		return config.Dependency(err)
	}
	defer func() { _ = st.Close() }() // nothing is pending
	demands := store.Demands{Durable: cfg.MySQL.RequireDurable, FenceWarnOnly: cfg.MySQL.FenceCheck == "warn"}
	switch err := st.Prepare(ctx, log, demands); {
	case errors.Is(err, store.ErrSettings):
		return config.Invalid(err)
	case err != nil:
		return config.Dependency(err)
	}
	rdb := cfg.Redis.NewClient()
	defer func() { _ = rdb.Close() }() // nothing is pending
	if err := rdb.Ping(ctx).Err(); err != nil {
		return config.Dependency(fmt.Errorf("redis: %w", err))
	}
	pr := presence.New(rdb, presence.Options{Cluster: cfg.Redis.Cluster, Timeout: cfg.Redis.Timeout, Metrics: reg})
	defer pr.Close()

	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	node, err := gate.New(cfg, gate.Deps{Log: log, Metrics: reg, Store: st, Presence: pr, Redis: rdb, Reread: hup})
	if err != nil {
		return err
	}
	ops, err := obs.ListenOps(cfg.Ops.Addr, log, reg, node.Checks())
	if err != nil {
		_ = node.Close() // the port that is taken is what matters
		return config.Dependency(err)
	}
	ops.SetToken(cfg.Ops.Token)
	return ops.While(ctx, node.Run)
}
