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
	// stallLate is how late a byte may be read before frames that were sent 20 ms apart may be read together: somewhat less
	// than that, as this connection is not the model's.
	stallLate = 5 * time.Millisecond
)

// Stalls measures how late this process reads its sockets. A model whose reader was not woken in time reads two frames at
// once that were sent with the proper spacing; the real client has a machine to itself. A nil Stalls has never seen a
// stall.
type Stalls struct {
	began time.Time
	stop  chan struct{}
	ended sync.WaitGroup

	mu    sync.Mutex // guards the following
	pairs []*echo
	late  time.Time // when a late read was last noticed
}

// echo is a connection of this process to itself, and what was written and not read yet.
type echo struct {
	wr, rd net.Conn
	unread []time.Duration
}

// pairs is how many connections are watched: each is read by a goroutine that waits for its turn where the others do not.
const pairs = 4

// WatchStalls begins to watch, over connections to itself. Stop ends it.
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
				_ = c.Close() // nothing of value is in it
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

// Since reports whether something was read late at some time after t.
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
