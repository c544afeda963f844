package peer

import (
	"sync"

	"parley/internal/recent"
)

// maxStreams is the number of recent streams remembered: four per link, for more nodes than a cluster has.
const maxStreams = 4096

// Streams lets callers repeat a call that was not answered. For each stream it remembers the number of the latest
// call carried out and its answer. The zero value is ready for use. Its methods are safe for concurrent use.
type Streams struct {
	mu     sync.Mutex // guards latest
	latest *recent.Map[uint64, *stream]
}

// A stream belongs to one lane of a caller. Its mutex is held while a call is carried out, so that a repetition waits
// for the answer.
type stream struct {
	mu    sync.Mutex
	last  uint64
	codes []int32 // answer to the latest call; nil if all codes were 0
}

// Do carries out a call with f, which returns a code for each of n pushes, and returns the codes. A repetition of the
// stream's latest call returns the codes of the first attempt without calling f. An older call, which its caller has
// given up, returns zeros. Calls of one stream run one at a time. For stream 0, which means none, Do always calls f.
// The caller must not modify the result.
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
	// Record the call before f runs: if f panics after it has delivered some pushes, a repetition must not deliver
	// them again.
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

// of returns the stream with an id, adding it if it is new. The lock of all streams is held only for this look-up, so
// a slow call delays its own stream and no other.
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
