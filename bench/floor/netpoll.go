package floor

import (
	"context"
	"net"
	"time"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// serveNetpoll reads all complete frames of a wake-up and answers them with one write(2) on the descriptor, the
// fastest way to use netpoll.
func serveNetpoll(ctx context.Context, ready func(string)) error {
	// The same setting as in the chat node: buffers of idle connections return to the pool.
	if err := netpoll.Configure(netpoll.Config{BufferSize: 8193}); err != nil {
		return err
	}
	ln, err := netpoll.CreateListener("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	loop, err := netpoll.NewEventLoop(func(_ context.Context, conn netpoll.Connection) error {
		r := conn.Reader()
		data, err := r.Peek(r.Len())
		if err != nil {
			return err
		}
		out, rest := answerAlone(make([]byte, 0, 64), data)
		if err := r.Skip(len(data) - len(rest)); err != nil {
			return err
		}
		if err := r.Release(); err != nil {
			return err
		}
		if len(out) == 0 {
			return nil
		}
		// The replies always fit into the socket's buffer.
		_, err = unix.Write(conn.(netpoll.Conn).Fd(), out)
		return err
	}, netpoll.WithOnPrepare(func(conn netpoll.Connection) context.Context {
		_ = conn.SetIdleTimeout(time.Minute) // an optimisation only; the measurement does not depend on it
		return context.Background()
	}))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- loop.Serve(ln) }()
	ready(ln.(net.Listener).Addr().String())
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = loop.Shutdown(stop) // on an error it ends with the process
		return nil
	}
}
