package gate

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"parley/internal/names"
)

// cleanEmail returns the form under which an address is known: trimmed of nothing, in lower case. It accepts what can
// be mailed to without quoting: ASCII alone, because a letter beyond it may turn into an ASCII one in lower case and
// then name somebody else's mailbox; no braces, which mean something in Redis keys.
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

// validNick accepts any text that shows something; others see it beside the name.
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

// validIcon accepts any printable path: clients take it for the name of a picture they have.
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

// validPasswd bounds what is newly set. What was set before is only bounded from above, see passwdTooLong. U+FFFD stands
// for what is not Unicode, such as an escaped half of a surrogate pair: many passwords would be the same.
func validPasswd(s string) bool {
	n := utf8.RuneCountInString(s)
	return n >= minPasswd && n <= maxPasswd && !strings.ContainsRune(s, utf8.RuneError)
}

func passwdTooLong(s string) bool { return utf8.RuneCountInString(s) > maxPasswd }
