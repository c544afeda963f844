package gate

import "unicode/utf16"

// Transform applies the transformation of llfcchat's client to a password: it XORs every UTF-16 unit with the number
// of units modulo 255. The result is the credential that is compared and hashed. The transformation is its own
// inverse and hides nothing. The key is below 256, so only the low byte of a unit changes: surrogate pairs stay
// pairs, and different passwords stay different.
func Transform(passwd string) string {
	units := utf16.Encode([]rune(passwd))
	key := uint16(len(units) % 255)
	for i := range units {
		units[i] ^= key
	}
	return string(utf16.Decode(units))
}
