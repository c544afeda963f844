package chat

import (
	"context"
	"errors"

	"parley/internal/obs"
	"parley/internal/wire"
)

var errNotAdmitting = errors.New("chat: node is not sure of its lease")

// Checks are what the node depends on, for its operations listener. "lease" fails while the node may not log anybody in:
// before it has joined, in doubt, fenced off, or while Redis' data is too young. "peers" fails while most of the other
// nodes refuse this node's signature.
func (s *Server) Checks() []obs.Check {
	sql, redis := s.store.NewWriteProbe(), s.presence.NewWriteProbe()
	return []obs.Check{
		{Name: "redis", Probe: redis.Check},
		{Name: "sql", Probe: sql.Check},
		{Name: "lease", Probe: func(context.Context) error {
			if _, code := s.lease.Admits(); code != wire.CodeOK {
				return errNotAdmitting
			}
			return nil
		}},
		{Name: "peers", Probe: func(context.Context) error { return s.standing.Err() }},
		obs.Descriptors(),
	}
}
