package status

import (
	"time"

	"parley/internal/config"
)

// Config is all that a status node can be told. Its zero value is of no use: start from DefaultConfig or LocalConfig.
type Config struct {
	Status  Listen `ini:"StatusServer"`
	Redis   config.Redis
	Cluster config.Cluster
	Log     config.Log
	Ops     config.Ops
}

// Listen is [StatusServer].
type Listen struct {
	Name string `help:"name of this node in its logs"`
	config.Endpoint
	StartTimeout time.Duration `help:"longest wait for Redis at start; then the node exits with status 69" min:"0s" max:"5m"`
	DrainTimeout time.Duration `help:"longest wait for calls in flight when the node stops" min:"100ms" max:"5m"`
}

// DefaultConfig is a status node on the loopback. llfcchat's port, 50052, lies among those of outgoing connections.
func DefaultConfig() Config {
	return Config{
		Status: Listen{
			Name: "status", Endpoint: config.Endpoint{Host: "127.0.0.1", Port: 15052},
			StartTimeout: 5 * time.Second, DrainTimeout: 5 * time.Second,
		},
		Redis: config.DefaultRedis(),
		Log:   config.DefaultLog(),
		Ops:   config.DefaultOps(),
	}
}

// LocalConfig is DefaultConfig on a free port, so that many status nodes can live in one process.
func LocalConfig() Config {
	c := DefaultConfig()
	c.Status.Port = 0
	return c
}

// Validate joins every fault found.
func (c Config) Validate() error { return config.ValidateSections(c) }
