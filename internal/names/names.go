// Package names decides which user names are valid, and which names are equal or look alike.
//
// A new name follows the PRECIS profile UsernameCasePreserved (RFC 8265): letters, marks and digits of any script in
// NFC, with wide and narrow forms replaced by the usual ones, and no invisible characters. In addition, Clean
// restricts a name to one script, or to a combination that is written together, because letters of one script can
// look like those of another. Existing names are not checked, so names stored before these rules keep working.
package names

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"
)

// MaxChars bounds a name, in characters of its stored form. maxInput bounds the input of Clean, in bytes.
const (
	MaxChars = 32
	maxInput = 16 * MaxChars
)

// Reasons for refusing a name.
var (
	ErrLength   = errors.New("names: a name has 1 to 32 characters")
	ErrForm     = errors.New("names: a name has letters, digits and . _ - only")
	ErrDigits   = errors.New("names: a name of digits alone would be taken for a user id")
	ErrScripts  = errors.New("names: letters of scripts that are not written together, or not in use")
	ErrNumerals = errors.New("names: digits of more than one script")
	ErrMarks    = errors.New("names: marks that do not show, or too many on one letter")
)

// Clean returns the form in which a new name is stored. It preserves case.
func Clean(name string) (string, error) {
	if name == "" || len(name) > maxInput {
		return "", ErrLength
	}
	clean := usual(name)
	if _, err := precis.UsernameCasePreserved.String(sayAm.Replace(clean)); err != nil {
		return "", ErrForm // the library's text may quote the name
	}
	if utf8.RuneCountInString(clean) > MaxChars {
		return "", ErrLength
	}
	for _, check := range []func(string) error{checkForm, checkNumerals, checkMarks, checkScripts} {
		if err := check(clean); err != nil {
			return "", err
		}
	}
	return clean, nil
}

// usual replaces wide and narrow forms and composes the rest.
func usual(name string) string { return norm.NFC.String(width.Fold.String(norm.NFC.String(name))) }

// sayAm decomposes the vowel am of Thai and Lao. Every Thai keyboard writes the composed form, but PRECIS refuses it
// because it has a compatibility decomposition.
var sayAm = strings.NewReplacer("\u0e33", "\u0e4d\u0e32", "\u0eb3", "\u0ecd\u0eb2")

// Key returns a key that is equal for names that count as the same: NFC and NFD, wide and usual forms, upper and
// lower case. It accepts any text, so that users can search for names that could not be registered.
func Key(name string) string {
	if ascii(name) {
		return strings.ToLower(name) // fast path for nearly all names
	}
	return norm.NFC.String(strings.ToLower(usual(name)))
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// checkForm accepts letters, marks, digits, the characters . _ - and the joiners, which PRECIS accepts only where
// they change how letters are written.
func checkForm(name string) error {
	digits := true
	for _, r := range name {
		switch {
		case unicode.IsLetter(r):
			if technical(r) {
				return ErrForm
			}
			digits = false
		case unicode.IsMark(r): // PRECIS refuses a leading mark
		case unicode.Is(unicode.Nd, r):
		case r == zeroWidthJoiner, r == zeroWidthNonJoiner, strings.ContainsRune("._-", r):
			digits = false
		default:
			return ErrForm
		}
	}
	if digits {
		return ErrDigits
	}
	return nil
}

const (
	zeroWidthNonJoiner = '\u200c'
	zeroWidthJoiner    = '\u200d'
)

// technical reports whether r is a letter of phonetic or historic notation, which can look like an everyday letter.
// In the IPA block, letters that are also used by living alphabets are accepted.
func technical(r rune) bool {
	switch {
	case r < 0x250:
		return false
	case r <= 0x2af:
		return !strings.ContainsRune("ɓɔɖɗəɛɣɨɩɯɲʃʉʊʋʒ", r)
	case r <= 0x2ff: // small raised letters; two of them are the apostrophes of Hawaiian and Ukrainian
		return r != 'ʻ' && r != 'ʼ'
	}
	return r >= 0x1d00 && r <= 0x1dbf || r >= 0x2c60 && r <= 0x2c7f || r >= 0xa720 && r <= 0xa7ff ||
		r >= 0xab30 && r <= 0xab6f || r >= 0x10780 && r <= 0x107bf || r >= 0x1df00 && r <= 0x1dfff
}

// checkNumerals refuses digits of two scripts, because some look like digits of another value.
func checkNumerals(name string) error {
	zero := rune(-1)
	for _, r := range name {
		z, ok := zeroOf(r)
		if !ok {
			continue
		}
		if zero >= 0 && z != zero {
			return ErrNumerals
		}
		zero = z
	}
	return nil
}

// zeroOf returns the zero of the decimal digits that r belongs to. It relies on Unicode encoding each set of ten
// contiguously.
func zeroOf(r rune) (zero rune, ok bool) {
	for _, t := range unicode.Nd.R16 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return r - (r-rune(t.Lo))%10, true
		}
	}
	for _, t := range unicode.Nd.R32 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return r - (r-rune(t.Lo))%10, true
		}
	}
	return 0, false
}

// maxMarks bounds the non-spacing marks on one letter. Thai, Tibetan and Vietnamese need three.
const maxMarks = 4

// checkMarks refuses marks that hide others: the same mark twice in a row, or a stack of them.
func checkMarks(name string) error {
	n, last := 0, rune(0)
	for _, r := range norm.NFD.String(name) {
		if !unicode.Is(unicode.Mn, r) {
			n, last = 0, 0
			continue
		}
		if n++; n > maxMarks || r == last {
			return ErrMarks
		}
		last = r
	}
	return nil
}

// inUse lists the scripts in everyday use that Unicode's UAX 31 recommends for identifiers. Other scripts are
// refused, because many have letters that look Latin.
var inUse = []string{
	"Arabic", "Armenian", "Bengali", "Bopomofo", "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek", "Gujarati",
	"Gurmukhi", "Han", "Hangul", "Hebrew", "Hiragana", "Kannada", "Katakana", "Khmer", "Lao", "Latin", "Malayalam",
	"Myanmar", "Oriya", "Sinhala", "Tamil", "Telugu", "Thaana", "Thai", "Tibetan",
}

// together lists the scripts that are written together.
var together = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
}

func checkScripts(name string) error {
	var found []string
	for _, r := range name {
		if r < utf8.RuneSelf && !unicode.IsLetter(r) || unicode.Is(unicode.Common, r) || unicode.Is(unicode.Inherited, r) {
			continue
		}
		script := scriptOf(r)
		if script == "" {
			return ErrScripts
		}
		if !slices.Contains(found, script) {
			found = append(found, script)
		}
	}
	if len(found) <= 1 {
		return nil
	}
	for _, set := range together {
		if !slices.ContainsFunc(found, func(s string) bool { return !slices.Contains(set, s) }) {
			return nil
		}
	}
	return ErrScripts
}

func scriptOf(r rune) string {
	for _, s := range inUse {
		if unicode.Is(unicode.Scripts[s], r) {
			return s
		}
	}
	return ""
}
