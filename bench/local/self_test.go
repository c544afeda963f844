package local

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// It would run the tests once more, which would do the same.
func TestATestIsNotStartedAsAPartOfBench(t *testing.T) {
	_, err := Program(t.Context(), "echo", t.TempDir()+"/log", "listening", "floor-server")
	require.ErrorContains(t, err, "run a built bench")
}
