package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func init() { bodies["data has an id of its own, made once"] = testDataID }

// C4
func testDataID(t *testing.T, d *database) {
	s := d.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	id, err := s.DataID(t.Context())
	require.NoError(t, err)
	require.Len(t, id, 32)
	require.NoError(t, s.Migrate(t.Context()))
	again, err := d.open(t).DataID(t.Context())
	require.NoError(t, err)
	require.Equal(t, id, again)
}
