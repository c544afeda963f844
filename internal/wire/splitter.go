package wire

import "errors"

// ErrFrameTooLong is returned for a header that announces more than the limit; nothing after it can be read.
var ErrFrameTooLong = errors.New("wire: frame longer than allowed here")

// Splitter cuts the byte stream of one connection into frames. It holds back what is less than a frame, so that the
// caller can always consume all it was given. The zero value is ready; an idle Splitter holds no memory. It is not safe
// for concurrent use.
type Splitter struct {
	held []byte
}

// Held returns how many bytes of an unfinished frame wait, at most HeaderLen plus the limit.
func (s *Splitter) Held() int { return len(s.held) }

// Next returns the first frame of the stream and the rest of data, to be passed to the following call. ok is false when
// all of data went into an unfinished frame. body is borrowed: from data, or from a copy when the frame arrived in
// pieces; it is valid until data is.
//
// limit bounds the body, in bytes; past it the error is ErrFrameTooLong and the stream is lost.
func (s *Splitter) Next(data []byte, limit int) (id MsgID, body, rest []byte, ok bool, err error) {
	if len(s.held) > 0 {
		return s.nextHeld(data, limit)
	}
	if len(data) >= HeaderLen {
		id, n := ParseHeader(data)
		if n > limit {
			return id, nil, nil, false, ErrFrameTooLong
		}
		if len(data) >= HeaderLen+n {
			return id, data[HeaderLen : HeaderLen+n], data[HeaderLen+n:], true, nil
		}
	}
	if len(data) > 0 {
		s.held = append(s.held, data...)
	}
	return 0, nil, nil, false, nil
}

// nextHeld continues a frame of which a part is held.
func (s *Splitter) nextHeld(data []byte, limit int) (id MsgID, body, rest []byte, ok bool, err error) {
	if missing := HeaderLen - len(s.held); missing > 0 {
		k := min(missing, len(data))
		s.held = append(s.held, data[:k]...)
		data = data[k:]
		if len(s.held) < HeaderLen {
			return 0, nil, nil, false, nil
		}
	}
	id, n := ParseHeader(s.held)
	if n > limit {
		return id, nil, nil, false, ErrFrameTooLong
	}
	missing := HeaderLen + n - len(s.held)
	if missing > len(data) {
		s.held = append(s.held, data...)
		return 0, nil, nil, false, nil
	}
	whole := append(s.held, data[:missing]...)
	s.held = nil // not reused: the caller still reads it, and an idle connection should hold nothing
	return id, whole[HeaderLen:], data[missing:], true, nil
}
