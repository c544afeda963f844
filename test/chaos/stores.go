//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"parley/internal/cluster"
	"parley/internal/presence"
)

func mkdir(dir string) error { return os.MkdirAll(dir, 0o755) }

func join(list []string) string { return strings.Join(list, ",") }

func contains(s, part string) bool { return strings.Contains(s, part) }

// seedIn is seedGeneration for a Redis that is open already.
func seedIn(ctx context.Context, rdb redis.UniversalClient) error {
	return presence.SeedGeneration(ctx, rdb)
}

// startSentinel starts a sentinel that watches a master: redis-server itself, told to be one.
func (s *redisSet) startSentinel(ctx context.Context, w *World, host, port string) (*cluster.Redis, error) {
	dir := filepath.Join(w.Dir, "sentinel"+strconv.Itoa(len(*s)+1))
	if err := mkdir(dir); err != nil {
		return nil, err
	}
	// A sentinel writes what it learns into its configuration file.
	file := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor parley %s %s 2\nsentinel down-after-milliseconds parley 2000\nsentinel failover-timeout parley 10000\n", host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	r, err := cluster.StartRedis(ctx, cluster.RedisOptions{Dir: dir, Sentinel: file})
	if err == nil {
		*s = append(*s, r)
	}
	return r, err
}
