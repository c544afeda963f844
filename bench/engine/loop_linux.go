package engine

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"parley/internal/websocket"
	"parley/internal/wire"
)

const (
	readBytes = 256 << 10
	// recordBytes is how much of TLS is decrypted at once: a record.
	recordBytes = 16 << 10
	maxEvents   = 1024
	keepBuffer  = 64 << 10 // larger output buffers are given back to the garbage collector
	maxSpare    = 256      // output buffers kept for reuse
	idleWait    = time.Second
)

// began is the zero of the clock of all loops in the process.
var began = time.Now()

// Clock returns the nanoseconds since the process began, monotonic, the same for all loops of the process.
func Clock() int64 { return int64(time.Since(began)) }

// ClockAt returns the value of Clock at a wall-clock time.
func ClockAt(t time.Time) int64 { return int64(t.Sub(began)) }

// Loop serves the connections of one goroutine. Only Do and Stop may be called from other goroutines than Run's.
type Loop struct {
	handler Handler
	opts    Options

	epoll, timer, wake int
	file               *os.File        // of epoll
	parking            syscall.RawConn // likewise
	slots              []*Conn         // by index; nil where free
	free               []int32
	dirty              []*Conn // connections with output that has not been written yet
	spare              [][]byte
	buf, room          []byte                 // what was read; what of it was decrypted
	trust              map[string]*tls.Config // by the server's name and the protocol
	events             []unix.EpollEvent
	armed              int64
	dialed             int
	open               int
	now                int64

	mu      sync.Mutex // guards the following
	queue   []func()
	waking  bool
	stopped bool
}

// Conn is a connection of a Loop. It must be used only on the loop's goroutine.
type Conn struct {
	// Tag is for use by the handler.
	Tag int

	loop     *Loop
	via      *stream // nil for TCP
	out      []byte
	sent     int // bytes of out written so far
	in       wire.Splitter
	fd       int32
	slot     int32
	gen      int32
	up       bool // TCP is established
	open     bool // frames may be sent
	gone     bool
	raw      bool // Target.Raw
	wantOut  bool // EPOLLOUT is requested
	isDirty  bool
	wasMuted bool
}

// New returns a loop without connections. The caller must call Run, which releases its resources.
func New(h Handler, o Options) (*Loop, error) {
	l := &Loop{
		handler: h, opts: o, buf: make([]byte, readBytes), room: make([]byte, recordBytes), events: make([]unix.EpollEvent, maxEvents),
		trust: map[string]*tls.Config{},
	}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("engine: epoll: %w", err)
	}
	_ = unix.SetNonblock(l.epoll, true) // required for the runtime to poll the file
	l.file = os.NewFile(uintptr(l.epoll), "epoll")
	if l.parking, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, fmt.Errorf("engine: epoll: %w", err)
	}
	l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		l.file.Close()
		return nil, fmt.Errorf("engine: timer: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		l.file.Close()
		unix.Close(l.timer)
		return nil, fmt.Errorf("engine: eventfd: %w", err)
	}
	// Negative slots denote the loop's own descriptors.
	for slot, fd := range map[int32]int{-1: l.timer, -2: l.wake} {
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: slot}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			l.freeAll()
			return nil, fmt.Errorf("engine: epoll add: %w", err)
		}
	}
	return l, nil
}

// Do queues f to run on the loop's goroutine in its next turn. After Run has returned, it does nothing and returns
// false.
func (l *Loop) Do(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.queue = append(l.queue, f)
	l.wakeLocked()
	return true
}

func (l *Loop) wakeLocked() {
	if l.waking {
		return
	}
	l.waking = true
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(l.wake, one[:]) // fails only if the counter is full, and then the loop is awake
}

// Now returns the time of the current turn, by Clock. It is up to date when a frame or a tick is handled.
func (l *Loop) Now() int64 { return l.now }

// Open returns the number of connections, established or not.
func (l *Loop) Open() int { return l.open }

// Run serves the loop until ctx ends, then resets all connections without calling the handler, and releases the
// loop's resources. An error other than ctx's is a failure of the kernel interface.
func (l *Loop) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.Do(func() {}) })
	defer stop()
	defer l.freeAll()
	for ctx.Err() == nil {
		l.now = Clock()
		next := l.handler.Tick(l.now)
		l.flushAll()
		if err := l.wait(next); err != nil {
			return err
		}
		l.runQueue()
		l.flushAll()
	}
	return nil
}

func (l *Loop) freeAll() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	for _, c := range l.slots {
		if c != nil && !c.gone {
			_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			unix.Close(int(c.fd))
			c.gone = true
			if c.via != nil {
				c.via.end()
			}
		}
	}
	l.slots = nil
	l.file.Close()
	unix.Close(l.timer)
	unix.Close(l.wake)
}

func (l *Loop) runQueue() {
	l.mu.Lock()
	queue := l.queue
	l.queue = nil
	l.mu.Unlock()
	for _, f := range queue {
		l.now = Clock()
		f()
	}
}

// wait blocks until an event occurs or next is reached, and handles the events.
func (l *Loop) wait(next int64) error {
	wait := true
	if d := next - Clock(); d <= 0 {
		wait = false
	} else if err := l.arm(min(d, int64(idleWait)), next); err != nil {
		return err
	}
	n, err := l.poll(wait)
	if err != nil {
		return fmt.Errorf("engine: epoll wait: %w", err)
	}
	for i := range n {
		ev := &l.events[i]
		switch {
		case ev.Fd == -1:
			l.armed = 0
			var b [8]byte
			_, _ = unix.Read(l.timer, b[:]) // EAGAIN: the timer was set again meanwhile
		case ev.Fd == -2:
			l.mu.Lock()
			l.waking = false
			var b [8]byte
			_, _ = unix.Read(l.wake, b[:]) // as above
			l.mu.Unlock()
		default:
			if c := l.slots[ev.Fd]; c != nil && c.gen == ev.Pad {
				l.ready(c, ev.Events)
			}
		}
	}
	return nil
}

// poll returns the number of events; with wait, it waits for one first. It waits through the runtime's poller, as a
// goroutine reading from a socket does. Blocking in epoll_wait would hold a processor of the runtime, whose monitor
// then wakes up some sixty times per single event: with 57 generators that took an eighth of the machine.
func (l *Loop) poll(wait bool) (n int, err error) {
	look := func(uintptr) bool {
		n, err = unix.EpollWait(l.epoll, l.events, 0)
		return n != 0 || err != nil && err != unix.EINTR || !wait
	}
	if e := l.parking.Read(look); e != nil {
		return 0, e
	}
	if err == unix.EINTR {
		err = nil
	}
	return max(n, 0), err
}

// arm sets the timer, unless it is already set to that moment.
func (l *Loop) arm(d, next int64) error {
	if l.armed == next {
		return nil
	}
	l.armed = next
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(d, 1))}
	if err := unix.TimerfdSettime(l.timer, 0, &spec, nil); err != nil {
		return fmt.Errorf("engine: timer: %w", err)
	}
	return nil
}

// Dial starts a connection. The handler learns the outcome, but not before Dial has returned.
func (l *Loop) Dial(to Target, tag int) *Conn {
	c := &Conn{Tag: tag, loop: l, fd: -1, raw: to.Raw, via: newStream(to, l.config(to))}
	if k := len(l.free); k > 0 {
		c.slot = l.free[k-1]
		l.free = l.free[:k-1]
		l.slots[c.slot] = c
	} else {
		c.slot = int32(len(l.slots))
		l.slots = append(l.slots, c)
	}
	l.dialed++
	c.gen = int32(l.dialed)
	l.open++
	if err := l.dial(c, to.Addr); err != nil {
		l.Do(func() { c.end(err) })
	}
	return c
}

// config returns the configuration of TLS for a target. Connections to one server share it.
func (l *Loop) config(to Target) *tls.Config {
	if to.Raw || !to.Via.Encrypted() {
		return nil
	}
	protocol := websocket.Protocol
	if to.Via.Web() {
		protocol = "http/1.1"
	}
	name, _, err := net.SplitHostPort(to.Name)
	if err != nil {
		name = to.Name
	}
	key := protocol + " " + name
	config := l.trust[key]
	if config == nil {
		config = &tls.Config{
			RootCAs: l.opts.Roots, ServerName: name, NextProtos: []string{protocol}, MinVersion: tls.VersionTLS12,
			DynamicRecordSizingDisabled: true, // one record for what is written at once
		}
		l.trust[key] = config
	}
	return config
}

func (l *Loop) dial(c *Conn, to netip.AddrPort) error {
	addr := to.Addr().Unmap()
	if !addr.Is4() {
		return fmt.Errorf("engine: %v is not an IPv4 address", to)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("engine: socket: %w", err)
	}
	c.fd = int32(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("engine: nodelay: %w", err)
	}
	if addr.IsLoopback() {
		// Let connect choose the port, so that ports are shared between destinations.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("engine: bind without port: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: l.opts.sourceOf(l.dialed).As4()}); err != nil {
			return fmt.Errorf("engine: bind: %w", err)
		}
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: addr.As4()})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("engine: connect: %w", err)
	}
	c.wantOut = true
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP, Fd: c.slot, Pad: c.gen}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("engine: epoll add: %w", err)
	}
	return nil
}

func (l *Loop) ready(c *Conn, events uint32) {
	if !c.up {
		code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			c.end(fmt.Errorf("engine: connect: %w", err))
			return
		}
		if events&unix.EPOLLOUT == 0 {
			return
		}
		c.up = true
		l.now = Clock()
		if c.via == nil {
			c.open = true
			l.handler.Opened(c)
		} else if err := c.via.begin(); err != nil {
			c.end(err)
		} else {
			c.stain()
		}
		if c.gone {
			return
		}
		if len(c.out) == 0 {
			c.setOut(false)
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0 && !c.wasMuted {
		l.read(c)
	}
	if events&unix.EPOLLOUT != 0 && !c.gone && len(c.out) > 0 {
		c.flush()
	}
}

func (l *Loop) read(c *Conn) {
	n, err := unix.Read(int(c.fd), l.buf)
	l.now = Clock()
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		c.end(fmt.Errorf("engine: read: %w", err))
		return
	case n == 0:
		c.end(errHungUp)
		return
	}
	if data := l.buf[:n]; c.via == nil {
		err = c.take(data, false)
	} else {
		err = c.via.receive(data, l.room, c)
	}
	switch {
	case c.gone:
	case errors.Is(err, io.EOF):
		c.end(errHungUp)
	case err != nil:
		c.end(err)
	case c.via != nil && len(c.via.out) > 0:
		c.stain()
	}
}

// take implements sink: it hands frames to the handler.
func (c *Conn) take(frames []byte, end bool) error {
	h := c.loop.handler
	if !c.open {
		c.open = true
		if h.Opened(c); c.gone {
			return ErrClosed
		}
	}
	if c.raw {
		h.Frame(c, 0, frames)
		return nil
	}
	for {
		id, body, rest, ok, err := c.in.Next(frames, wire.MaxBody)
		if err != nil {
			return fmt.Errorf("engine: %w", err)
		}
		if !ok {
			break // the poller is level-triggered: it reports what is left in the socket again
		}
		if h.Frame(c, id, body); c.gone {
			return ErrClosed
		}
		frames = rest
	}
	if end && c.in.Held() > 0 {
		return errors.New("engine: a message ended within a frame")
	}
	return nil
}

var errHungUp = errors.New("engine: the server hung up")

func (l *Loop) flushAll() {
	for i := 0; i < len(l.dirty); i++ { // Closed may append
		c := l.dirty[i]
		c.isDirty = false
		if c.up && !c.gone && !c.wantOut {
			c.flush()
		}
	}
	clear(l.dirty)
	l.dirty = l.dirty[:0]
}

func (l *Loop) takeBuffer() []byte {
	if k := len(l.spare); k > 0 {
		b := l.spare[k-1]
		l.spare = l.spare[:k-1]
		return b
	}
	return make([]byte, 0, 512)
}

func (l *Loop) giveBuffer(c *Conn) {
	if c.out != nil && cap(c.out) <= keepBuffer && len(l.spare) < maxSpare {
		l.spare = append(l.spare, c.out[:0])
	}
	c.out, c.sent = nil, 0
}
