package store

import (
	"context"
	"log/slog"
)

// Prepare is what every node does with a store before it serves: it brings the schema up to date and warns of settings
// of the server under which a stored text could be lost.
func (s *Store) Prepare(ctx context.Context, log *slog.Logger) error {
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	warnings, err := s.DurabilityWarnings(ctx)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		log.Warn("unsafe SQL setting", "setting", w)
	}
	return nil
}
