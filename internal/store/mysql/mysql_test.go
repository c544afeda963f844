package mysql_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store/mysql"
)

// What a server answers is tested with the store; these need none.

func TestOpenFails(t *testing.T) {
	_, err := mysql.Open(t.Context(), "user:secret@tcp(127.0.0.1:1)no slash", mysql.Options{})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")

	_, err = mysql.Open(t.Context(), "user:secret@tcp(127.0.0.1:1)/parley", mysql.Options{})
	require.ErrorContains(t, err, "127.0.0.1:1")
	require.NotContains(t, err.Error(), "secret")
}

// A server that takes the connection and says nothing.
func TestOpenHonoursContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = mysql.Open(ctx, "user:secret@tcp("+l.Addr().String()+")/parley", mysql.Options{MaxOpen: 1})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
