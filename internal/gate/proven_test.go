package gate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLoginsAreForgotten(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newProofs([]byte("k"), time.Minute, 10)
	l.now = func() time.Time { return now }
	l.note(7, "a@b", "pw", "stored")
	require.True(t, l.proven(7, "a@b", "pw", "stored"))
	require.False(t, l.proven(8, "a@b", "pw", "stored"))
	require.False(t, l.proven(7, "a@bp", "w", "stored"), "parts do not run together")
	require.False(t, l.proven(7, "a@b", "pw", "other"))
	now = now.Add(time.Minute + time.Second)
	require.False(t, l.proven(7, "a@b", "pw", "stored"))
	l.note(7, "a@b", "pw", "stored")
	l.note(7, "a@b", "pw2", "stored")
	l.note(8, "c@d", "pw", "stored")
	l.forget(7)
	require.False(t, l.proven(7, "a@b", "pw", "stored"))
	require.True(t, l.proven(8, "c@d", "pw", "stored"))
	require.Equal(t, 1, l.seen.Len())
}
