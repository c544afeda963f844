package wire

import (
	"bytes"
	"unicode/utf8"
)

// plainText reads the 1017 that clients really send: objects of known keys, plain numbers, strings without escapes.
// Whatever else JSON allows, and whatever it forbids, is left to sonic, which alone decides what is an error. That
// takes two allocations where sonic's way takes six (BenchmarkDecodeText), once for each text of a cluster.
//
// Its methods report whether what comes next is of that kind, and take it from rest, which is what is left to read.
type plainText struct{ rest string }

// decodePlainText returns nil for a body that plainText does not read. The strings of the result share one copy of body.
func decodePlainText(body []byte) *TextRequest {
	if len(body) > maxTextBody || bytes.IndexByte(body, '\\') >= 0 || !utf8.Valid(body) {
		return nil
	}
	r := new(struct {
		TextRequest
		one [1]Text // most requests have one text
	})
	b := plainText{string(body)}
	ok := b.object(func(key string) bool {
		var n int64
		switch key {
		case "fromuid":
			return b.number(&n, digits32)
		case "touid":
			ok := b.number(&n, digits32)
			r.ToUID = int32(n)
			return ok
		case "thread_id":
			return b.number(&r.ThreadID, digits64)
		case "text_array":
			if r.Texts != nil {
				return false // the last of two arrays counts, but not for elements that it leaves out
			}
			r.Texts = r.one[:0]
			return b.texts(&r.Texts)
		}
		return false
	})
	if b.space(); !ok || b.rest != "" {
		return nil
	}
	return &r.TextRequest
}

// A number of so many digits fits, whatever they are.
const (
	digits32 = 9
	digits64 = 18
)

func (b *plainText) texts(texts *[]Text) bool {
	if !b.take('[') {
		return false
	}
	for {
		var t Text
		if !b.object(func(key string) bool {
			switch key {
			case "content":
				return b.str(&t.Content)
			case "unique_id":
				return b.str(&t.UniqueID)
			case "msgid":
				return b.str(&t.MsgID)
			case "type":
				return b.str(&t.Type)
			}
			return false
		}) {
			return false
		}
		*texts = append(*texts, t)
		if !b.take(',') {
			return b.take(']')
		}
	}
}

// object calls member after each key, to read the value. Of equal keys the last one counts, as everywhere.
func (b *plainText) object(member func(key string) bool) bool {
	if !b.take('{') {
		return false
	}
	for {
		var key string
		if !b.str(&key) || !b.take(':') || !member(key) {
			return false
		}
		if !b.take(',') {
			return b.take('}')
		}
	}
}

func (b *plainText) str(s *string) bool {
	if !b.take('"') {
		return false
	}
	for i := range len(b.rest) {
		switch c := b.rest[i]; {
		case c == '"': // decodePlainText has seen that there are no escapes
			*s, b.rest = b.rest[:i], b.rest[i+1:]
			return true
		case c < ' ':
			return false
		}
	}
	return false
}

// number reads a whole number that is not negative; what may not follow one is not what comes after a value either.
func (b *plainText) number(n *int64, digits int) bool {
	b.space()
	*n = 0
	i := 0
	for ; i < len(b.rest) && b.rest[i] >= '0' && b.rest[i] <= '9'; i++ {
		if i == digits || i == 1 && b.rest[0] == '0' {
			return false
		}
		*n = *n*10 + int64(b.rest[i]-'0')
	}
	b.rest = b.rest[i:]
	return i > 0
}

// take takes c and white space before it.
func (b *plainText) take(c byte) bool {
	b.space()
	if b.rest == "" || b.rest[0] != c {
		return false
	}
	b.rest = b.rest[1:]
	return true
}

func (b *plainText) space() {
	for b.rest != "" && (b.rest[0] == ' ' || b.rest[0] == '\n' || b.rest[0] == '\r' || b.rest[0] == '\t') {
		b.rest = b.rest[1:]
	}
}
