package engine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Send queues a copy of whole frames. All frames queued in a turn are written together at its end. Before Opened and
// after Close it does nothing.
func (c *Conn) Send(frames []byte) {
	if c.gone || !c.open {
		return
	}
	if c.via != nil {
		c.via.plain = append(c.via.plain, frames...)
	} else {
		if c.out == nil {
			c.out = c.loop.takeBuffer()
		}
		c.out = append(c.out, frames...)
	}
	c.stain()
}

// stain has the connection flushed at the end of the turn.
func (c *Conn) stain() {
	if !c.isDirty {
		c.isDirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

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
	} else if c.via != nil && c.open && len(c.out) == 0 {
		c.via.bye()
		if b, err := c.via.seal(nil); err == nil {
			_, _ = unix.Write(int(c.fd), b) // the end of the stream follows in any case
		}
	}
	c.end(ErrClosed)
}

func (c *Conn) end(err error) {
	if c.gone {
		return
	}
	c.gone = true
	l := c.loop
	if c.via != nil {
		c.via.end()
	}
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
	if c.via != nil {
		if c.out == nil {
			c.out = c.loop.takeBuffer()
		}
		var err error
		if c.out, err = c.via.seal(c.out); err != nil {
			c.end(err)
			return
		}
	}
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
