// Package scan finds values in compact JSON by their keys, which is many times cheaper than decoding. It is for replies that a
// server makes in one known form, and for values without escapes.
package scan

import "bytes"

// Number returns the integer after a key, such as `"seq":`, or 0.
func Number(b []byte, key string) (n int64) {
	at := bytes.Index(b, []byte(key))
	if at < 0 {
		return 0
	}
	for _, c := range b[at+len(key):] {
		if c == ' ' && n == 0 {
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// Text returns the string after a key that ends with its opening quote, such as `"topic":"`, or nil.
func Text(b []byte, key string) []byte {
	at := bytes.Index(b, []byte(key))
	if at < 0 {
		return nil
	}
	b = b[at+len(key):]
	if end := bytes.IndexByte(b, '"'); end >= 0 {
		return b[:end]
	}
	return nil
}
