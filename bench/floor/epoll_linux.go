package floor

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// serveEpoll uses one thread and one buffer, and only reads and writes: the minimum for a server in Go. With fan it
// writes each received 2144 to all connections.
func serveEpoll(ctx context.Context, fan bool, ready func(string)) error {
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("floor: socket: %w", err)
	}
	defer unix.Close(ln)
	if err := unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("floor: bind: %w", err)
	}
	if err := unix.Listen(ln, 4096); err != nil {
		return fmt.Errorf("floor: listen: %w", err)
	}
	at, err := unix.Getsockname(ln)
	if err != nil {
		return fmt.Errorf("floor: name: %w", err)
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("floor: epoll: %w", err)
	}
	defer unix.Close(ep)
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ln, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(ln)}); err != nil {
		return fmt.Errorf("floor: epoll: %w", err)
	}
	ready(fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port))
	events, in, out := make([]unix.EpollEvent, 1024), make([]byte, 64<<10), []byte(nil)
	held := map[int32][]byte{} // unfinished frames
	var all []int32            // connections, including those that have ended
	for ctx.Err() == nil {
		n, err := unix.EpollWait(ep, events, 100)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("floor: wait: %w", err)
		}
		for _, ev := range events[:max(n, 0)] {
			if int(ev.Fd) == ln {
				all = acceptAll(ep, ln, all)
				continue
			}
			k := copy(in, held[ev.Fd])
			got, err := unix.Read(int(ev.Fd), in[k:])
			if err == unix.EAGAIN {
				continue
			}
			if err != nil || got == 0 {
				delete(held, ev.Fd)
				unix.Close(int(ev.Fd))
				continue
			}
			var rest []byte
			got += k
			if fan {
				var frames []byte
				if frames, rest = fanned(in[:got]); len(frames) > 0 {
					for _, fd := range all {
						_, _ = unix.Write(int(fd), frames) // ignore connections that have ended or do not read
					}
					copy(in, rest)
					got = len(rest)
				}
			}
			out, rest = answer(out[:0], in[:got])
			if len(rest) > 0 {
				held[ev.Fd] = append([]byte(nil), rest...)
			} else if k > 0 {
				delete(held, ev.Fd)
			}
			if len(out) > 0 {
				if _, err := unix.Write(int(ev.Fd), out); err != nil { // the replies always fit into the socket's buffer
					delete(held, ev.Fd)
					unix.Close(int(ev.Fd))
				}
			}
		}
	}
	return nil
}

func acceptAll(ep, ln int, all []int32) []int32 {
	for {
		fd, _, err := unix.Accept4(ln, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return all // EAGAIN: no more connections
		}
		all = append(all, int32(fd))
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // without it, replies are only slower
		if unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}) != nil {
			unix.Close(fd)
		}
	}
}
