package engine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Send queues a copy of whole frames. All frames queued in a turn are written together at its end. After Close it
// does nothing.
func (c *Conn) Send(frames []byte) {
	if c.gone {
		return
	}
	if c.out == nil {
		c.out = c.loop.takeBuffer()
	}
	c.out = append(c.out, frames...)
	if !c.isDirty {
		c.isDirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// Queued returns the number of bytes waiting to be written.
func (c *Conn) Queued() int { return len(c.out) - c.sent }

// Up reports whether the connection is established and not closed.
func (c *Conn) Up() bool { return c.up && !c.gone }

// Mute stops reading, as a client that does not receive would. It cannot be undone.
func (c *Conn) Mute() {
	c.wasMuted = true
	c.setEvents()
}

// Close ends the connection. It calls the handler's Closed with ErrClosed before it returns. With abort the peer
// receives a reset, as from a killed process, and no TIME_WAIT remains.
func (c *Conn) Close(abort bool) {
	if c.gone {
		return
	}
	if abort {
		_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // on an error the peer gets a FIN
	}
	c.end(ErrClosed)
}

func (c *Conn) end(err error) {
	if c.gone {
		return
	}
	c.gone = true
	l := c.loop
	if c.fd >= 0 {
		unix.Close(int(c.fd)) // also removes it from the epoll set
	}
	l.slots[c.slot] = nil
	l.free = append(l.free, c.slot)
	l.open--
	l.giveBuffer(c)
	l.handler.Closed(c, err)
}

func (c *Conn) flush() {
	for c.sent < len(c.out) {
		n, err := unix.Write(int(c.fd), c.out[c.sent:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			c.setOut(true)
			return
		}
		if err != nil {
			c.end(fmt.Errorf("engine: write: %w", err))
			return
		}
		c.sent += n
	}
	c.loop.giveBuffer(c)
	c.setOut(false)
}

func (c *Conn) setOut(on bool) {
	if c.wantOut == on {
		return
	}
	c.wantOut = on
	c.setEvents()
}

func (c *Conn) setEvents() {
	ev := unix.EpollEvent{Fd: c.slot, Pad: c.gen}
	if !c.wasMuted {
		ev.Events = unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if c.wantOut {
		ev.Events |= unix.EPOLLOUT
	}
	_ = unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, int(c.fd), &ev) // cannot fail: the descriptor is in the set until end
}
