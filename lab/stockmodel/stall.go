package stockmodel

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	stallBeat = 2 * time.Millisecond
	// stallLate is the delay of a read that explains why frames sent 20 ms apart are read together. It is somewhat
	// shorter than that, because it is measured on another connection.
	stallLate = 5 * time.Millisecond
)

// Stalls measures how late this process reads its sockets. If the reader of a model is not woken in time, it reads
// two frames at once although they were sent with proper spacing; the real client has a machine of its own. A nil
// Stalls never reports a stall.
type Stalls struct {
	began time.Time
	stop  chan struct{}
	ended sync.WaitGroup

	mu    sync.Mutex // guards the following
	pairs []*echo
	late  time.Time // when a late read was last noticed
}

// echo is a connection of this process to itself, with what was written and not yet read.
type echo struct {
	wr, rd net.Conn
	unread []time.Duration
}

// pairs is the number of watched connections. Each is read by its own goroutine, so that a delay of single goroutines
// is noticed too.
const pairs = 4

// WatchStalls starts to watch, with connections to itself. Stop ends it.
func WatchStalls() (*Stalls, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("stockmodel: %w", err)
	}
	defer ln.Close()
	s := &Stalls{began: time.Now(), stop: make(chan struct{})}
	for range pairs {
		e := new(echo)
		if e.wr, err = net.Dial("tcp", ln.Addr().String()); err == nil {
			e.rd, err = ln.Accept()
		}
		s.pairs = append(s.pairs, e)
		if err != nil {
			s.closePairs()
			return nil, fmt.Errorf("stockmodel: %w", err)
		}
	}
	for _, e := range s.pairs {
		s.ended.Go(func() { s.write(e) })
		s.ended.Go(func() { s.read(e) })
	}
	return s, nil
}

// Stop ends the watch and waits for its goroutines.
func (s *Stalls) Stop() {
	close(s.stop)
	s.closePairs()
	s.ended.Wait()
}

func (s *Stalls) closePairs() {
	for _, e := range s.pairs {
		for _, c := range []net.Conn{e.wr, e.rd} {
			if c != nil {
				_ = c.Close() // it carries no data
			}
		}
	}
}

func (s *Stalls) write(e *echo) {
	tick := time.NewTicker(stallBeat)
	defer tick.Stop()
	last := time.Since(s.began)
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		now := time.Since(s.began)
		s.mu.Lock()
		if now-last > stallBeat+stallLate {
			s.late = time.Now()
		}
		last = now
		e.unread = append(e.unread, now)
		s.mu.Unlock()
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(now))
		if _, err := e.wr.Write(b[:]); err != nil {
			return
		}
	}
}

func (s *Stalls) read(e *echo) {
	var b [8]byte
	for {
		if _, err := io.ReadFull(e.rd, b[:]); err != nil {
			return
		}
		sent := time.Duration(binary.BigEndian.Uint64(b[:]))
		s.mu.Lock()
		if time.Since(s.began)-sent > stallLate {
			s.late = time.Now()
		}
		e.unread = e.unread[1:]
		s.mu.Unlock()
	}
}

// Since reports whether any read was late at some time after t.
func (s *Stalls) Since(t time.Time) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(s.began)
	for _, e := range s.pairs {
		if len(e.unread) > 0 && now-e.unread[0] > stallLate {
			return true
		}
	}
	return s.late.After(t)
}
