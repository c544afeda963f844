package gate

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"parley/internal/names"
)

// cleanEmail returns the canonical form of an address, in lower case. It accepts addresses that need no quoting. It
// accepts only ASCII, because other letters may become ASCII in lower case and then name another user's mailbox, and
// no braces, which have a meaning in Redis keys.
func cleanEmail(s string) (string, bool) {
	if len(s) < 3 || len(s) > maxEmailBytes {
		return "", false
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || len(local) > 64 || domain == "" || strings.Contains(domain, "@") {
		return "", false
	}
	for _, r := range []byte(local) {
		if !isAlnum(r) && !strings.ContainsRune("!#$%&'*+-/=?^_`|~.", rune(r)) {
			return "", false
		}
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for _, r := range []byte(label) {
			if !isAlnum(r) && r != '-' && r != '_' {
				return "", false
			}
		}
	}
	if local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") {
		return "", false
	}
	return strings.ToLower(s), true
}

func isAlnum(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// validNick accepts any text that is visible; other users see it beside the name.
func validNick(s string) bool {
	if s == "" || utf8.RuneCountInString(s) > maxNickChars {
		return false
	}
	shows := false
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) && !unicode.In(r, unicode.Cf) {
			return false
		}
		shows = shows || names.Look(string(r)) != ""
	}
	return shows
}

// validIcon accepts any printable path: clients interpret it as the name of a picture they have.
func validIcon(s string) bool {
	if len(s) > maxIconBytes {
		return false
	}
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// validPasswd checks a new password. Old passwords are checked only by passwdTooLong. U+FFFD is refused because it
// replaces invalid Unicode, such as half a surrogate pair: many different passwords would become the same.
func validPasswd(s string) bool {
	n := utf8.RuneCountInString(s)
	return n >= minPasswd && n <= maxPasswd && !strings.ContainsRune(s, utf8.RuneError)
}

func passwdTooLong(s string) bool { return utf8.RuneCountInString(s) > maxPasswd }
