package faultproxy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds each wait of a successful test.
const patience = 20 * time.Second

// server accepts connections on the loopback and returns them on a channel.
func server(t *testing.T) (addr string, accepted <-chan net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	conns := make(chan net.Conn, 64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	})
	t.Cleanup(func() {
		require.NoError(t, ln.Close())
		wg.Wait()
		close(conns)
		for c := range conns {
			c.Close()
		}
	})
	return ln.Addr().String(), conns
}

// pair returns both ends of a connection through a new proxy.
func pair(t *testing.T, seed uint64) (p *Proxy, client, srv *net.TCPConn) {
	t.Helper()
	addr, accepted := server(t)
	p, err := Listen(addr, Options{Seed: seed})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	client, srv = join(t, p, accepted)
	return p, client, srv
}

func join(t *testing.T, p *Proxy, accepted <-chan net.Conn) (client, srv *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	s := <-accepted
	for _, conn := range []net.Conn{c, s} {
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		t.Cleanup(func() { conn.Close() })
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// requireReset dials and asserts that the connection is reset, during or after the handshake.
func requireReset(t *testing.T, p *Proxy) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		require.NoError(t, c.Close())
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func send(t *testing.T, c net.Conn, data []byte) {
	t.Helper()
	_, err := c.Write(data)
	require.NoError(t, err)
}

func receive(t *testing.T, c net.Conn, n int) []byte {
	t.Helper()
	buf := make([]byte, n)
	_, err := io.ReadFull(c, buf)
	require.NoError(t, err)
	return buf
}

// silence asserts that nothing arrives for a moment.
func silence(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(60*time.Millisecond)))
	n, err := c.Read(make([]byte, 1))
	require.Zero(t, n)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
}

func noise(t *testing.T, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	_, err := rand.Read(data)
	require.NoError(t, err)
	return data
}

func TestBytesPassUnchanged(t *testing.T) {
	tests := []struct {
		name   string
		faults Faults
		n      int
	}{
		{"nothing wrong", Faults{}, 1 << 20},
		{"slow", Faults{Latency: 5 * time.Millisecond, Jitter: 5 * time.Millisecond}, 1 << 20},
		{"narrow", Faults{BytesPerSecond: 4 << 20}, 1 << 19},
		{"sliced", Faults{Slice: 1}, 5000},
		{"all of it", Faults{Latency: time.Millisecond, BytesPerSecond: 1 << 20, Slice: 100}, 50_000},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p, client, srv := pair(t, 1)
			p.SetBoth(tc.faults)
			up, down := noise(t, tc.n), noise(t, tc.n)
			var wg sync.WaitGroup
			for _, way := range []struct {
				conn *net.TCPConn
				data []byte
			}{{client, up}, {srv, down}} {
				wg.Go(func() {
					_, err := way.conn.Write(way.data)
					if err := errors.Join(err, way.conn.CloseWrite()); err != nil {
						t.Error(err)
					}
				})
			}
			var gotDown []byte
			wg.Go(func() { gotDown, _ = io.ReadAll(client) })
			gotUp, err := io.ReadAll(srv)
			require.NoError(t, err)
			wg.Wait()
			require.True(t, bytes.Equal(up, gotUp))
			require.True(t, bytes.Equal(down, gotDown))
			require.EqualValues(t, tc.n, p.Passed(ToServer))
			require.EqualValues(t, tc.n, p.Passed(ToClient))
		})
	}
}

func TestLatencyIsOneWay(t *testing.T) {
	p, client, srv := pair(t, 1)
	p.Set(ToServer, Faults{Latency: 80 * time.Millisecond})
	begin := time.Now()
	send(t, srv, []byte("x"))
	receive(t, client, 1)
	send(t, client, []byte("y"))
	receive(t, srv, 1)
	require.GreaterOrEqual(t, time.Since(begin), 80*time.Millisecond)
	p.Heal()
	send(t, client, []byte("z"))
	receive(t, srv, 1)
}

func TestRateBoundsThroughput(t *testing.T) {
	p, client, srv := pair(t, 1)
	p.Set(ToServer, Faults{BytesPerSecond: 100_000})
	begin := time.Now()
	send(t, client, make([]byte, 30_000))
	receive(t, srv, 30_000)
	// The first piece is not delayed, and the last delay is not waited for.
	require.GreaterOrEqual(t, time.Since(begin), 280*time.Millisecond)
}

func TestSliceSplitsReads(t *testing.T) {
	p, client, srv := pair(t, 1)
	p.Set(ToServer, Faults{Slice: 3, SliceGap: 2 * time.Millisecond})
	send(t, client, []byte("0123456789"))
	var got []byte
	reads := 0
	for buf := make([]byte, 100); len(got) < 10; reads++ {
		n, err := srv.Read(buf)
		require.NoError(t, err)
		got = append(got, buf[:n]...)
	}
	require.Equal(t, "0123456789", string(got))
	require.Greater(t, reads, 1)
}

func TestSilentHoldsOneWayAndHeals(t *testing.T) {
	p, client, srv := pair(t, 1)
	p.Set(ToServer, Faults{Silent: true})
	send(t, client, []byte("held"))
	silence(t, srv)
	send(t, srv, []byte("goes on"))
	require.Equal(t, "goes on", string(receive(t, client, 7)))
	require.NoError(t, client.CloseWrite())
	silence(t, srv) // the end of the stream is held back too
	p.Heal()
	got, err := io.ReadAll(srv)
	require.NoError(t, err)
	require.Equal(t, "held", string(got), "late, not lost")
}

func TestResetAfterExactBytes(t *testing.T) {
	p, client, srv := pair(t, 1)
	p.Set(ToServer, Faults{ResetAfter: 1000})
	send(t, client, make([]byte, 999))
	receive(t, srv, 999)
	send(t, srv, []byte("x"))
	receive(t, client, 1)
	require.Equal(t, 1, p.Living())

	send(t, client, make([]byte, 500))
	got, err := io.ReadAll(srv)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.LessOrEqual(t, len(got), 1)
	_, err = client.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.EqualValues(t, 1000, p.Passed(ToServer))
}

func TestResetSpreadFollowsSeed(t *testing.T) {
	// passed returns where each of a few connections was reset.
	passed := func(seed uint64) (at []int64) {
		addr, accepted := server(t)
		p, err := Listen(addr, Options{Seed: seed})
		require.NoError(t, err)
		defer func() { require.NoError(t, p.Close()) }()
		p.Set(ToServer, Faults{ResetAfter: 100, ResetSpread: 10_000})
		var before int64
		for range 4 {
			client, srv := join(t, p, accepted)
			_, err := client.Write(make([]byte, 20_000)) // may be reset during the write
			if err != nil {
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
			_, err = io.Copy(io.Discard, srv)
			require.ErrorIs(t, err, syscall.ECONNRESET)
			now := p.Passed(ToServer)
			at = append(at, now-before)
			before = now
		}
		return at
	}
	first := passed(7)
	require.Equal(t, first, passed(7))
	require.NotEqual(t, first, passed(8))
	for _, n := range first {
		require.GreaterOrEqual(t, n, int64(100))
		require.LessOrEqual(t, n, int64(10_100))
	}
	require.NotEqual(t, first[0], first[1], "drawn for each connection")
}

func TestHalfClose(t *testing.T) {
	p, client, srv := pair(t, 1)
	send(t, client, []byte("before"))
	require.Equal(t, "before", string(receive(t, srv, 6)))
	p.HalfClose(ToServer)
	_, err := srv.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	send(t, client, []byte("vanishes"))
	send(t, srv, []byte("still here"))
	require.Equal(t, "still here", string(receive(t, client, 10)))
	p.HalfClose(ToServer)
	require.NoError(t, srv.Close())
	_, err = client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestCutAndRefuse(t *testing.T) {
	addr, accepted := server(t)
	p, err := Listen(addr, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	client, srv := join(t, p, accepted)
	p.Cut()
	for _, c := range []net.Conn{client, srv} {
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}

	p.Refuse(true)
	requireReset(t, p)
	p.Heal()
	client, srv = join(t, p, accepted)
	send(t, client, []byte("again"))
	receive(t, srv, 5)
	require.EqualValues(t, 3, p.Accepted())
}

// The target can accept a connection before the proxy knows that its dial has succeeded.
func TestCutAndHalfCloseReachConnectionsThatHaveJustComeIn(t *testing.T) {
	addr, accepted := server(t)
	p, err := Listen(addr, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	for range 300 {
		client, srv := join(t, p, accepted)
		p.Cut()
		for _, c := range []net.Conn{client, srv} {
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}

		client, srv = join(t, p, accepted)
		p.HalfClose(ToServer)
		_, err := srv.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, client.SetLinger(0))
		require.NoError(t, client.Close())
		require.NoError(t, srv.Close())
	}
}

func TestResetOfOneEndReachesTheOther(t *testing.T) {
	_, client, srv := pair(t, 1)
	require.NoError(t, client.SetLinger(0))
	require.NoError(t, client.Close())
	_, err := srv.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestSlowReaderStillGetsTheEnd(t *testing.T) {
	_, client, srv := pair(t, 1)
	data := noise(t, 512<<10) // fits into the kernel's buffers, so that the sender is gone when the reader starts
	send(t, client, data)
	require.NoError(t, client.CloseWrite())
	require.NoError(t, srv.CloseWrite())
	_, err := client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, client.Close())
	got, err := io.ReadAll(srv)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}

func TestTargetMoves(t *testing.T) {
	first, atFirst := server(t)
	second, atSecond := server(t)
	p, err := Listen(first, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	oldClient, oldSrv := join(t, p, atFirst)
	p.SetTarget(second)
	client, srv := join(t, p, atSecond)
	send(t, client, []byte("new"))
	receive(t, srv, 3)
	send(t, oldClient, []byte("old"))
	receive(t, oldSrv, 3)
}

func TestDeadTargetResets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	p, err := Listen(ln.Addr().String(), Options{})
	require.NoError(t, err)
	requireReset(t, p)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
}

func TestCloseFreesStuckConnections(t *testing.T) {
	for name, f := range map[string]Faults{
		"silent": {Silent: true}, "late": {Latency: time.Hour}, "narrow": {BytesPerSecond: 1}, "reader asleep": {},
	} {
		t.Run(name, func(t *testing.T) {
			p, client, _ := pair(t, 1)
			p.SetBoth(f)
			require.NoError(t, client.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
			_, err := client.Write(make([]byte, 32<<20))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "backpressure reaches the sender")
			require.NoError(t, p.Close())
			require.Zero(t, p.Living())
		})
	}
}
