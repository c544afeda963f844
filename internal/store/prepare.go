package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Demands are a node's requirements on the SQL server. The zero value asks for all that the fence needs and
// warns of the rest.
type Demands struct {
	// Durable refuses settings under which a stored text could be lost, instead of warning of them.
	Durable bool
	// FenceWarnOnly warns, instead of refusing, when shared row locks do not hold as the fence needs it.
	FenceWarnOnly bool
}

// Prepare is what every node does with a store before it serves: it brings the schema up to date and looks at the
// settings of the server. It returns ErrSettings for those that it must not serve with, and warns of others.
func (s *Store) Prepare(ctx context.Context, log *slog.Logger, d Demands) error {
	if s.db.d.Dialect == MySQL {
		if err := s.checkBinlog(ctx); err != nil {
			return err
		}
	}
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	unsafe, err := s.DurabilityWarnings(ctx)
	if err != nil {
		return err
	}
	if d.Durable && len(unsafe) > 0 {
		return fmt.Errorf("store: %w: %s", ErrSettings, strings.Join(unsafe, "; "))
	}
	for _, w := range unsafe {
		log.Warn("unsafe SQL setting", "setting", w)
	}
	if s.db.d.Dialect != MySQL {
		return nil
	}
	w, err := s.charsetWarning(ctx)
	if err != nil {
		return err
	}
	if w != "" {
		log.Warn("unsuitable SQL setting", "setting", w)
	}
	if err := s.prepareAlone(ctx, log); err != nil {
		return err
	}
	err = s.checkFenceHolds(ctx)
	if d.FenceWarnOnly && errors.Is(err, ErrSettings) {
		log.Warn("the fence does not work on this SQL server", "err", err)
		return nil
	}
	return err
}
