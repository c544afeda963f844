package clientconn

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// The thread of a pair is kept in 32 bits: a larger number must not become that of another thread.
func TestOnlyAThreadThatFitsIsRememberedForAPair(t *testing.T) {
	to := func(uid int32) *wire.TextRequest {
		return &wire.TextRequest{ToUID: uid, Texts: make([]wire.Text, 1)}
	}
	var c texts
	require.False(t, c.named(to(7)))
	c.note(7, wire.MaxInt+5)
	require.False(t, c.named(to(7)))
	c.note(7, wire.MaxInt)
	req := to(7)
	require.True(t, c.named(req))
	require.EqualValues(t, wire.MaxInt, req.ThreadID)
	require.False(t, c.named(to(8)))
}
