package watch

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTheKernelTellsWhatItHoldsForASocket leaves bytes unread and looks for them.
func TestTheKernelTellsWhatItHoldsForASocket(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	port := netip.MustParseAddrPort(ln.Addr().String()).Port()
	if _, err := Sockets(port); err != nil {
		t.Skip("this kernel does not tell: ", err)
	}
	ours, err := net.Dial("tcp4", ln.Addr().String())
	require.NoError(t, err)
	defer ours.Close()
	theirs, err := ln.Accept()
	require.NoError(t, err)
	defer theirs.Close()
	held := func() int64 {
		all, err := Sockets(port)
		require.NoError(t, err)
		for _, s := range all {
			if s.Peer.String() == ours.LocalAddr().String() {
				return s.Bytes
			}
		}
		t.Fatalf("%v is not among %v", ours.LocalAddr(), all)
		return 0
	}
	require.Less(t, held(), int64(20_000))
	_, err = ours.Write(make([]byte, 20_000))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return held() >= 20_000 }, time.Minute, 5*time.Millisecond)
}
