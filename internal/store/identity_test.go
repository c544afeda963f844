package store_test

import (
	"os"
	"strings"
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

	_, err = d.sql(t).ExecContext(t.Context(), newIDStatement(t, d))
	require.NoError(t, err)
	again, err = s.DataID(t.Context())
	require.NoError(t, err)
	require.Regexp(t, "^[0-9a-f]{32}$", again)
	require.NotEqual(t, id, again)
	require.NoError(t, s.Migrate(t.Context()))
	kept, err := s.DataID(t.Context())
	require.NoError(t, err)
	require.Equal(t, again, kept)
}

// newIDStatement is what docs/OPERATIONS.md says to run after a backup was restored.
func newIDStatement(t *testing.T, d *database) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/OPERATIONS.md")
	require.NoError(t, err)
	var statements []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "UPDATE data_identity ") {
			statements = append(statements, strings.TrimSpace(line))
		}
	}
	require.Len(t, statements, 2)
	return d.on(statements[0], statements[1])
}
