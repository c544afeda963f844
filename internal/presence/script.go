package presence

import (
	"context"
	_ "embed" // the scripts
	"errors"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed claim.lua
	claimSource string
	//go:embed release.lua
	releaseSource string
	//go:embed logout.lua
	logoutSource string
	//go:embed kick.lua
	kickSource string
	//go:embed revoke.lua
	revokeSource string
	//go:embed placement.lua
	placeSource string
	//go:embed load.lua
	loadSource string
	//go:embed lease_take.lua
	leaseTakeSource string
	//go:embed lease_extend.lua
	leaseExtendSource string
	//go:embed lease_drop.lua
	leaseDropSource string
	//go:embed generation.lua
	generationSource string
	//go:embed group_drop.lua
	groupDropSource string
)

var (
	claimScript       = redis.NewScript(claimSource)
	releaseScript     = redis.NewScript(releaseSource)
	logoutScript      = redis.NewScript(logoutSource)
	kickScript        = redis.NewScript(kickSource)
	revokeScript      = redis.NewScript(revokeSource)
	placeScript       = redis.NewScript(placeSource)
	loadScript        = redis.NewScript(loadSource)
	leaseTakeScript   = redis.NewScript(leaseTakeSource)
	leaseExtendScript = redis.NewScript(leaseExtendSource)
	leaseDropScript   = redis.NewScript(leaseDropSource)
	generationScript  = redis.NewScript(generationSource)
	groupDropScript   = redis.NewScript(groupDropSource)

	// packedScripts run as EVALSHA inside pipelines, without a fallback to EVAL, so Redis must have loaded them. All
	// other scripts use Script.Run, which falls back.
	packedScripts = []*redis.Script{claimScript, releaseScript, kickScript, groupDropScript}
)

// loadScripts loads the packed scripts into Redis; on a cluster, into each master.
func (c *conn) loadScripts(ctx context.Context) error {
	for _, s := range packedScripts {
		if err := s.Load(ctx, c.rdb).Err(); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) loadScriptsAtStart() {
	ctx, cancel := c.bound(context.Background())
	defer cancel()
	_ = c.loadScripts(ctx) // if Redis is away, NOSCRIPT loads them later
}

// isNoScript reports whether a script did not run because Redis does not know it, as after a restart or SCRIPT FLUSH.
func isNoScript(err error) bool {
	return err != nil && (errors.Is(err, redis.ErrNoScript) || redis.HasErrorPrefix(err, "NOSCRIPT"))
}
