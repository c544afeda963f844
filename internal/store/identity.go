package store

import (
	"context"
	"fmt"
)

var qDataID = same("SELECT id FROM data_identity WHERE one=1")

// DataID returns the id of this body of data. It is made once, with the schema, and is in every backup.
func (s *Store) DataID(ctx context.Context) (id string, err error) {
	if err := s.db.one(ctx, qDataID, nil, &id); err != nil {
		return "", fmt.Errorf("store: read the id of the data: %w", err)
	}
	return id, nil
}
