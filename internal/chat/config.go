package chat

import (
	"errors"
	"time"

	"parley/internal/commit"
	"parley/internal/config"
	"parley/internal/legacy"
	"parley/internal/reconcile"
	"parley/internal/watch"
	"parley/internal/wire"
)

// Config is all a chat node can be told. DefaultConfig is the place to start from: the zero value is not usable.
type Config struct {
	SelfServer config.Self
	PeerServer config.Peers
	WebSocket  config.WebSocket
	TLS        config.TLS
	Redis      config.Redis
	Mysql      config.MySQL
	Cluster    config.Cluster
	Log        config.Log
	Ops        config.Ops
	Limits     Limits
}

// DefaultConfig returns a node on the loopback with the limits of docs/CONFIG.md.
func DefaultConfig() Config {
	commits := commit.DefaultConfig()
	return Config{
		SelfServer: config.Self{Name: "chat1", Host: "127.0.0.1", Port: "8090", RPCPort: 15055},
		Redis:      config.DefaultRedis(),
		Mysql:      config.DefaultMySQL(),
		Log:        config.DefaultLog(),
		Ops:        config.DefaultOps(),
		Limits: Limits{
			MaxFrameBytes:      wire.DefaultMaxBody,
			OutboxBytes:        128 << 10,
			SendBufferBytes:    32 << 10,
			ReceiveBufferBytes: 64 << 10,
			UnreadBytes:        256 << 10,
			WriteTimeout:       5 * time.Second,
			LoginTimeout:       10 * time.Second,
			MinLoginTimeout:    2 * time.Second,
			Heartbeat:          30 * time.Second,
			StockTimeout:       30 * time.Second,
			StockSpacing:       legacy.Gap,
			StockTextSpacing:   5 * time.Millisecond,
			QuietTimeout:       10 * time.Minute,
			LoginsAtOnce:       256,
			Unauthenticated:    4096,
			PerAddress:         100,
			AddressRate:        50,
			TextRate:           50,
			TextBurst:          100,
			RequestRate:        50,
			RequestBurst:       100,
			HeartbeatRate:      1000,
			InFlightTexts:      64,
			InFlightBytes:      128 << 10,
			QueuedFrames:       16,
			QueuedBytes:        64 << 10,
			RequestTimeout:     5 * time.Second,
			Linger:             3 * time.Second,
			DrainTimeout:       10 * time.Second,
			GroupMembers:       10000,
			WatchedUsers:       watch.DefaultConfig().Pairs,
			RecallWindow:       2 * time.Minute,
			EditWindow:         15 * time.Minute,
			CommitShards:       commits.Shards,
			CommitBatch:        commits.Batch,
		},
	}
}

// LocalConfig returns a node on free loopback ports, for tests and for all nodes in one process.
func LocalConfig(name string) Config {
	c := DefaultConfig()
	c.SelfServer.Name, c.SelfServer.Port, c.SelfServer.RPCPort, c.SelfServer.WSPort = name, "0", 0, "0"
	c.Ops.Addr = "127.0.0.1:0"
	return c
}

// Validate joins every fault of the sections and of how they fit together.
func (c *Config) Validate() error {
	errs := []error{config.ValidateSections(c)}
	if c.Limits.OutboxBytes < c.Limits.MaxFrameBytes {
		errs = append(errs, config.Faultf("Limits.OutboxBytes", "must hold at least one frame of MaxFrameBytes"))
	}
	if c.Limits.QueuedBytes < c.Limits.MaxFrameBytes {
		errs = append(errs, config.Faultf("Limits.QueuedBytes", "must hold at least one frame of MaxFrameBytes"))
	}
	if c.Limits.UnreadBytes < c.Limits.InFlightBytes+c.Limits.QueuedBytes {
		errs = append(errs, config.Faultf("Limits.UnreadBytes", "must hold what an honest client may have sent: InFlightBytes and QueuedBytes"))
	}
	if (c.SelfServer.TLSPort != "" || c.SelfServer.WSSPort != "") && c.TLS.Cert == "" {
		errs = append(errs, config.Faultf("TLS.Cert", "must be set for TLSPort and WSSPort"))
	}
	if s := &c.SelfServer; s.Port == "" && s.WSPort == "" && s.TLSPort == "" && s.WSSPort == "" {
		errs = append(errs, config.Faultf("SelfServer.Port", "and the other ports for clients are all empty"))
	}
	return errors.Join(errs...)
}

// tick is the period of sweeps.
const tick = time.Second

// viewEvery is how often the leases of the nodes are read: a node's users are shown as offline soon after its lease ends.
const viewEvery = tick / 2

// peerTimeout bounds a call to another chat node whose caller sets no shorter limit.
const peerTimeout = 3 * time.Second

// reconcileConfig has no keys of its own: docs/GUARANTEES.md builds on the values.
func (d Deps) reconcileConfig() reconcile.Config {
	if d.Reconcile == (reconcile.Config{}) {
		return reconcile.DefaultConfig()
	}
	return d.Reconcile
}
