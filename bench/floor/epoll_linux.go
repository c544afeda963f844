package floor

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"parley/internal/wire"
)

// serveEpoll uses one thread and one buffer, and only reads and writes: the minimum for a server in Go. With members it
// writes each received 2144 to all connections of the sender's group; see Serve.
func serveEpoll(ctx context.Context, members int, ready func(string)) error {
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
	held := map[int32][]byte{}     // unfinished frames
	groups := map[int32]*[]int32{} // by connection: those of its group, including those that have ended
	byUID := map[int32]*[]int32{}  // the same by uid divided by members
	join := func(fd int32, login []byte) {
		var req wire.LoginRequest
		if wire.Decode(login, &req) != nil {
			return
		}
		k := req.UID / int32(members)
		if byUID[k] == nil {
			byUID[k] = new([]int32)
		}
		groups[fd] = byUID[k]
		*groups[fd] = append(*groups[fd], fd)
	}
	for ctx.Err() == nil {
		n, err := unix.EpollWait(ep, events, 100)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("floor: wait: %w", err)
		}
		for _, ev := range events[:max(n, 0)] {
			if int(ev.Fd) == ln {
				acceptAll(ep, ln)
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
			var login func([]byte)
			if members > 0 {
				login = func(body []byte) { join(ev.Fd, body) }
				var frames []byte
				if frames, rest = fanned(in[:got]); len(frames) > 0 && groups[ev.Fd] != nil {
					for _, fd := range *groups[ev.Fd] {
						_, _ = unix.Write(int(fd), frames) // ignore connections that have ended or do not read
					}
					copy(in, rest)
					got = len(rest)
				}
			}
			out, rest = answer(out[:0], in[:got], login)
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

func acceptAll(ep, ln int) {
	for {
		fd, _, err := unix.Accept4(ln, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // EAGAIN: no more connections
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // without it, replies are only slower
		if unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}) != nil {
			unix.Close(fd)
		}
	}
}
