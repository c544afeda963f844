package floor

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

func TestEveryKindAnswersEveryFrame(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(kind, func(t *testing.T) {
			if kind == "epoll" && runtime.GOOS != "linux" {
				t.Skip("needs Linux")
			}
			ctx, cancel := context.WithCancel(t.Context())
			addr, done := make(chan string, 1), make(chan error, 1)
			go func() { done <- Serve(ctx, kind, 0, func(a string) { addr <- a }) }()
			conn, err := net.Dial("tcp", <-addr)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			login, err := wire.AppendFrame(nil, wire.MsgLogin, []byte(`{"uid":1}`))
			require.NoError(t, err)
			beat, err := wire.AppendFrame(nil, wire.MsgHeartbeat, []byte(`{"fromuid":1}`))
			require.NoError(t, err)
			all := append(append(append([]byte(nil), login...), beat...), beat...)
			for _, b := range [][]byte{all[:3], all[3 : len(all)-2], all[len(all)-2:]} { // in pieces
				_, err = conn.Write(b)
				require.NoError(t, err)
			}
			var in wire.Splitter
			var got []wire.MsgID
			for buf := make([]byte, 256); len(got) < 3; {
				n, err := conn.Read(buf)
				require.NoError(t, err)
				for data := buf[:n]; ; {
					id, _, rest, ok, err := in.Next(data, wire.MaxBody)
					require.NoError(t, err)
					if !ok {
						break
					}
					got, data = append(got, id), rest
				}
			}
			require.Equal(t, []wire.MsgID{wire.MsgLoginRsp, wire.MsgHeartbeatRsp, wire.MsgHeartbeatRsp}, got)
			cancel()
			require.NoError(t, conn.Close())
			require.NoError(t, <-done)
		})
	}
	require.Error(t, Serve(t.Context(), "magic", 0, nil))
}

func TestAFanWritesWhatOneSendsToItsGroup(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	ctx, cancel := context.WithCancel(t.Context())
	addr, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- Serve(ctx, Fan, 3, func(a string) { addr <- a }) }()
	at := <-addr
	var conns []net.Conn
	for uid := range 4 { // the last is in another group
		conn, err := net.Dial("tcp", at)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		login, err := wire.AppendFrame(nil, wire.MsgLogin, fmt.Appendf(nil, `{"uid":%d}`, 3+uid))
		require.NoError(t, err)
		_, err = conn.Write(login)
		require.NoError(t, err)
		_, err = io.ReadFull(conn, make([]byte, len(loginReply)))
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	frame, err := wire.AppendFrame(nil, wire.MsgGroupPush, []byte("hello"))
	require.NoError(t, err)
	two := append(append([]byte(nil), frame...), frame...)
	for _, b := range [][]byte{two[:7], two[7:]} { // in pieces
		_, err = conns[1].Write(b)
		require.NoError(t, err)
	}
	ask, err := wire.AppendFrame(nil, wire.MsgHeartbeat, nil)
	require.NoError(t, err)
	_, err = conns[3].Write(ask)
	require.NoError(t, err)
	answer := make([]byte, len(wire.HeartbeatFrame))
	_, err = io.ReadFull(conns[3], answer)
	require.NoError(t, err)
	require.Equal(t, wire.HeartbeatFrame, answer, "and nothing before it")
	for _, conn := range conns[:3] {
		got := make([]byte, len(two))
		_, err := io.ReadFull(conn, got)
		require.NoError(t, err)
		require.Equal(t, two, got)
	}
	cancel()
	require.NoError(t, <-done)
}
