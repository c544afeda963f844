package foreign

import "errors"

// parts is a stream that is taken apart as it arrives. The zero value is its beginning.
type parts struct{ held []byte }

var errLongPart = errors.New("the server sends a part that has no end")

// take calls one with what has arrived, as long as one takes a part off it and returns the rest; nil says that there is no whole part.
// An unfinished part waits for its end, and may not be longer than most.
func (p *parts) take(data []byte, most int, one func(data []byte) (rest []byte, err error)) error {
	if len(p.held) > 0 {
		data = append(p.held, data...)
	}
	for {
		rest, err := one(data)
		if err != nil {
			return err
		}
		if rest == nil {
			break
		}
		data = rest
	}
	if len(data) > most {
		return errLongPart
	}
	p.held = append(p.held[:0], data...)
	return nil
}
