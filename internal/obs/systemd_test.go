package obs

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSystemdIsToldWhenANodeIsReadyAndWhenItDrains(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	told := func() string {
		require.NoError(t, systemd.SetReadDeadline(time.Now().Add(10*time.Second)))
		buf := make([]byte, 100)
		n, err := systemd.Read(buf)
		require.NoError(t, err)
		return string(buf[:n])
	}

	var there atomic.Bool
	asked := make(chan struct{}, 100)
	o, err := ListenOps("", quiet, NewRegistry("x"), []Check{{Name: "sql", Probe: func(context.Context) error {
		select {
		case asked <- struct{}{}:
		default:
		}
		if !there.Load() {
			return errors.New("not there yet")
		}
		return nil
	}}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, o.While(ctx, func(ctx context.Context) error {
		<-asked
		<-asked // the first answer has not made the node ready
		there.Store(true)
		require.Equal(t, "READY=1", told())
		cancel()
		require.Equal(t, "STOPPING=1", told())
		return nil
	}))
}

func TestANodeThatNeverGetsReadyStops(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	o, err := ListenOps("", quiet, NewRegistry("x"), []Check{{Name: "sql", Probe: func(context.Context) error { return errors.New("away") }}})
	require.NoError(t, err)
	require.EqualError(t, o.While(t.Context(), func(context.Context) error { return errors.New("node failed") }), "node failed")
}
