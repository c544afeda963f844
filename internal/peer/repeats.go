package peer

import (
	"sync"

	"parley/internal/recent"
)

// maxStreams is how many of the latest streams are remembered: four per link, of more nodes than a cluster has.
const maxStreams = 4096

// Streams remembers, for the node that is called, which calls of which stream were carried out and what the last one
// answered, so that a caller can repeat one that was not answered. The zero value is ready; its methods are safe for
// concurrent use.
type Streams struct {
	mu     sync.Mutex // guards latest
	latest *recent.Map[uint64, *stream]
}

// stream is one of a caller's lanes. Its mutex is held while a call is carried out: the one that repeats it waits.
type stream struct {
	mu    sync.Mutex
	last  uint64
	codes []int32 // what the last call answered; nil if that was all zeros
}

// Do calls f, which returns a code for each of n pushes, and returns what it returned. If this call of the stream was
// carried out before, it returns the codes of that time; of a call before the last one, which its caller has given up,
// it returns zeros. Calls of one stream are carried out one after the other. Stream 0 is none: f is called. The result
// must not be changed.
func (s *Streams) Do(id, call uint64, n int, f func() []int32) []int32 {
	if id == 0 {
		return f()
	}
	st := s.of(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case call == st.last && len(st.codes) == n:
		return st.codes
	case call <= st.last:
		return make([]int32, n)
	}
	st.last, st.codes = call, nil
	codes := f()
	for _, code := range codes {
		if code != 0 {
			st.codes = codes
			break
		}
	}
	return codes
}

func (s *Streams) of(id uint64) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == nil {
		s.latest = recent.New[uint64, *stream](maxStreams)
	}
	st, ok := s.latest.Get(id)
	if !ok {
		st = new(stream)
		s.latest.Put(id, st)
	}
	return st
}
