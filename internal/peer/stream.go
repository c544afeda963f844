package peer

import "sync"

// maxStreams bounds each of two generations of streams that are remembered: four a link, of more nodes than a cluster has.
const maxStreams = 4096

// Streams remembers, for the node that is called, which calls of which stream were carried out, so that a caller can repeat
// one that was not answered. The zero value is ready; its methods are safe for concurrent use.
type Streams struct {
	mu         sync.Mutex // guards the following
	young, old map[uint64]*stream
}

// stream is one of a caller's lanes. Its mutex is held while a call is carried out: the one that repeats it waits.
type stream struct {
	mu   sync.Mutex
	last uint64
}

// Do calls f unless this call of the stream, or a later one, was carried out before, and reports whether it did. Calls of one
// stream are carried out one after the other. Stream 0 is none: f is called.
func (s *Streams) Do(id, call uint64, f func()) bool {
	if id == 0 {
		f()
		return true
	}
	st := s.of(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	if call <= st.last {
		return false
	}
	st.last = call
	f()
	return true
}

func (s *Streams) of(id uint64) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.young[id]; st != nil {
		return st
	}
	st := s.old[id]
	if st == nil {
		st = new(stream)
	}
	if len(s.young) >= maxStreams || s.young == nil {
		s.young, s.old = make(map[uint64]*stream), s.young
	}
	s.young[id] = st
	return st
}
