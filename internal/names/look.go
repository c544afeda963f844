package names

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Look returns a key that is equal for names that look alike; of such names only one can be registered. It compares
// letters as they are displayed, so case matters: I looks like l, i does not. Look accepts any name, including those
// that Clean refuses.
func Look(name string) string {
	var b strings.Builder
	for _, r := range sayAm.Replace(usual(name)) {
		if invisible(r) {
			continue
		}
		if like, ok := looksLike[r]; ok {
			b.WriteRune(like)
			continue
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return norm.NFC.String(sameStrokes.Replace(b.String()))
}

// sameStrokes replaces sequences that look like others: pairs of letters that look like one, and tone marks whose
// order relative to the ring of am does not show.
var sameStrokes = strings.NewReplacer(append([]string{"rn", "m", "vv", "w"}, amBeforeTone()...)...)

func amBeforeTone() (pairs []string) {
	for _, script := range []struct{ tones, ring string }{
		{"\u0e48\u0e49\u0e4a\u0e4b", "\u0e4d"},
		{"\u0ec8\u0ec9\u0eca\u0ecb", "\u0ecd"},
	} {
		for _, tone := range script.tones {
			pairs = append(pairs, string(tone)+script.ring, script.ring+string(tone))
		}
	}
	return pairs
}

// invisible reports whether r is displayed as nothing or as a blank.
func invisible(r rune) bool {
	switch {
	case r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0: // the fillers of Hangul
		return true
	case r == 0x2800: // the empty pattern of Braille
		return true
	}
	return unicode.In(r, unicode.Cf, unicode.Cc, unicode.Z, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// looksLike maps letters, as displayed, to the Latin or Han letter that most typefaces draw the same way. It is a
// selection: checkScripts keeps scripts apart within a name, so the table matters only for names that consist of such
// letters alone.
var looksLike = alike(map[string]string{
	// Digits, and Latin itself.
	"0O": "o", "1I|": "l", "ıİ": "i", "ȷ": "j", "ɩ": "i", "ʋ": "u", "ǀ": "l", "ʻ": "ʼ",
	// Cyrillic: capitals often resemble a Latin letter where their small forms do not.
	"аА": "a", "В": "b", "сС": "c", "ԁ": "d", "еЕ": "e", "һ": "h", "Н": "h", "і": "i", "јЈ": "j", "К": "k", "ӏӀІ": "l",
	"М": "m", "оО": "o", "рР": "p", "ԛԚ": "q", "ѕЅ": "s", "Т": "t", "ѵѴ": "v", "ԝԜ": "w", "хХ": "x", "уУүҮ": "y", "зЗ": "3",
	"ӡӠ": "3",
	// Greek.
	"αΑ": "a", "βΒ": "b", "Ε": "e", "Η": "h", "ι": "i", "Ι": "l", "κΚ": "k", "Μ": "m", "Ν": "n", "ν": "v", "οΟσ": "o", "ρΡ": "p",
	"Τ": "t", "υ": "u", "χΧ": "x", "γΥ": "y", "Ζ": "z", "ω": "w", "η": "n", "ϲϹ": "c", "ϳ": "j",
	// Armenian.
	"օՕ": "o", "հ": "h", "ո": "n", "սՍ": "u", "ց": "g", "զ": "q", "յ": "j", "Լ": "l", "Տ": "s",
	// Round letters of other scripts.
	"סဝഠଠዐ": "o",
	// Kana and the Han letter they resemble; both may stand in one name.
	"カ": "力", "ロ": "口", "ニ": "二", "ハ": "八", "エ": "工", "タ": "夕", "ト": "卜", "チ": "千", "オ": "才", "ム": "厶", "ノ": "丿",
	"メ": "乂", "ー": "一", "ヘ": "へ", "ベ": "べ", "ペ": "ぺ", "リ": "り",
})

func alike(groups map[string]string) map[rune]rune {
	out := make(map[rune]rune)
	for from, to := range groups {
		for _, r := range from {
			out[r] = []rune(to)[0]
		}
	}
	return out
}
