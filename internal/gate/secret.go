package gate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// mac returns the HMAC-SHA256 of parts, each preceded by its length so that different lists cannot form the same
// input.
func mac(key []byte, parts ...string) (sum [32]byte) {
	h := hmac.New(sha256.New, key)
	var size [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	h.Sum(sum[:0])
	return sum
}

func macHex(key []byte, parts ...string) string {
	sum := mac(key, parts...)
	return hex.EncodeToString(sum[:])
}
