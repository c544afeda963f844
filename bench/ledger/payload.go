package ledger

import (
	"encoding/hex"
	"hash/crc32"
	"strconv"
)

// MinText is the length in bytes of the shortest text that contains all that a receiver checks.
const MinText = 72

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Text is the information in every text of a run. Planned is in nanoseconds by the sender's clock.
type Text struct {
	Run      uint32
	From, To int32
	Counter  uint32
	Planned  int64
}

// AppendText appends the text, padded to size bytes (at least MinText). It consists of ASCII characters that JSON
// does not escape, and ends with its checksum.
func (t Text) AppendText(dst []byte, size int) []byte {
	at := len(dst)
	dst = append(dst, "b1."...)
	dst = appendHex(dst, t.Run)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, int64(t.From), 10)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, int64(t.To), 10)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, uint64(t.Counter), 10)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, t.Planned, 10)
	dst = append(dst, '.')
	for i := len(dst) - at; i < max(size, MinText)-9; i++ {
		dst = append(dst, 'a'+byte((uint32(i)+t.Counter)%26))
	}
	dst = append(dst, '.')
	return appendHex(dst, crc32.Checksum(dst[at:len(dst)-1], castagnoli))
}

// ParseText parses a text. known is false if it is not a text of any run, intact is false if its checksum does not
// match.
func ParseText(b []byte) (t Text, known, intact bool) {
	if len(b) < 12 || string(b[:3]) != "b1." || b[11] != '.' {
		return t, false, false
	}
	var ok bool
	if t.Run, ok = parseHex(b[3:11]); !ok {
		return t, true, false
	}
	if len(b) < MinText || b[len(b)-9] != '.' {
		return t, true, false
	}
	sum, ok := parseHex(b[len(b)-8:])
	if !ok || sum != crc32.Checksum(b[:len(b)-9], castagnoli) {
		return t, true, false
	}
	var n [4]int64
	rest := b[12:]
	for i := range n {
		k, v := 0, int64(0)
		for k < len(rest) && rest[k] >= '0' && rest[k] <= '9' {
			v = v*10 + int64(rest[k]-'0')
			k++
		}
		if k == 0 || k == len(rest) || rest[k] != '.' {
			return t, true, false
		}
		n[i], rest = v, rest[k+1:]
	}
	t.From, t.To, t.Counter, t.Planned = int32(n[0]), int32(n[1]), uint32(n[2]), n[3]
	return t, true, true
}

// UniqueIDLen is the length of a unique id.
const UniqueIDLen = 28

// AppendUniqueID appends the text's unique id, which is the same in every resend and different for all other texts.
func (t Text) AppendUniqueID(dst []byte) []byte {
	dst = append(appendHex(append(dst, '{'), t.Run), '-')
	dst = append(appendHex(dst, uint32(t.From)), '-')
	return append(appendHex(dst, t.Counter), '}')
}

// ParseUniqueID parses the result of AppendUniqueID; ok is false for other ids.
func ParseUniqueID(b []byte) (run uint32, from int32, counter uint32, ok bool) {
	if len(b) != UniqueIDLen || b[0] != '{' || b[9] != '-' || b[18] != '-' || b[27] != '}' {
		return 0, 0, 0, false
	}
	run, ok1 := parseHex(b[1:9])
	f, ok2 := parseHex(b[10:18])
	counter, ok3 := parseHex(b[19:27])
	return run, int32(f), counter, ok1 && ok2 && ok3
}

func appendHex(dst []byte, v uint32) []byte {
	return hex.AppendEncode(dst, []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

func parseHex(b []byte) (uint32, bool) {
	var raw [4]byte
	if len(b) != 8 {
		return 0, false
	}
	if _, err := hex.Decode(raw[:], b); err != nil {
		return 0, false
	}
	return uint32(raw[0])<<24 | uint32(raw[1])<<16 | uint32(raw[2])<<8 | uint32(raw[3]), true
}
