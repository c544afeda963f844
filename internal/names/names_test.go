package names

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
)

// D6: real names in the scripts of their languages, composed or not.
func TestNamesOfPeopleAreAccepted(t *testing.T) {
	for _, name := range []string{
		"alice", "Alice_B.2-x", "O.Brien", "1alice", "张伟", "田中さくら", "サトウ", "Li李雷", "김철수", "Kim김", "José", "Zoë", "Ångström", "Nguyễn",
		"Đặng", "Łukasz", "Şükrü", "Иван", "Ѓорѓи", "Γιώργος", "Αλέξανδρος", "Հայկ", "გიორგი", "דוד", "שָׁלוֹם",
		"हिन्दी", "राहुल", "मुंबई", "क्षत्रिय", "বাংলা", "রাহুল", "ਪੰਜਾਬੀ", "ગુજરાતી", "ଓଡ଼ିଆ", "தமிழ்", "தமிழ்ச்செல்வன்", "తెలుగు", "ಕನ್ನಡ",
		"മലയാളം", "සිංහල", "ไทย", "สมชาย", "น้ำผึ้ง", "ลาว", "ລາວ", "ဗမာ", "မြန်မာ", "ខ្មែរ", "བོད", "አማርኛ",
		"محمد", "عَلِيّ", "مُحَمَّد", "علی٢", "नमस्ते२", "ɖekpé", "Ọlá", "Hawaiʻi", "Дерʼян",
	} {
		clean, err := Clean(name)
		require.NoError(t, err, "%q", name)
		require.Equal(t, norm.NFC.String(name), clean)
		decomposed, err := Clean(norm.NFD.String(name))
		require.NoError(t, err, "%q in NFD", name)
		require.Equal(t, clean, decomposed, "NFC and NFD are one name")
		require.Equal(t, Key(clean), Key(norm.NFD.String(name)))
		require.Equal(t, Look(clean), Look(norm.NFD.String(name)))
	}
}

// D5: characters that are invisible, or displayed as something else.
func TestNamesThatHideSomethingAreRefused(t *testing.T) {
	for name, why := range map[string]error{
		"": ErrLength, strings.Repeat("x", 33): ErrLength, strings.Repeat("e\u0301", 33): ErrLength,
		strings.Repeat("x", maxInput+1): ErrLength,
		"\u3164":                        ErrForm, "Alice\u3164": ErrForm, "Alice\uffa0": ErrForm, "Alice\u115f": ErrForm, "Alice\u1160": ErrForm,
		"Alice\u200b": ErrForm, "Alice\u00ad": ErrForm, "Alice\u034f": ErrForm, "Alice\ufe0f": ErrForm, "Alice\u2060": ErrForm,
		"Alice\u180b": ErrForm, "Alice\U000e0041": ErrForm, "Alice\u17b4": ErrForm, "Alice\u2800": ErrForm, "Alice\u00a0": ErrForm,
		"Alice\u200c": ErrForm, "Alice\u200d": ErrForm, "Alice\u200e": ErrForm, "Alice\u202e": ErrForm, "\ufeffAlice": ErrForm,
		"bob smith": ErrForm, "bob!": ErrForm, "bob@x": ErrForm, "bob/": ErrForm, "a\x00": ErrForm, "a\xff": ErrForm, "\U0001f600": ErrForm,
		"\U0001d400lice": ErrForm, "ⓐlice": ErrForm, "ﬁn": ErrForm, "ᴀlice": ErrForm, "ꞵob": ErrForm, "ɑlice": ErrForm, "²": ErrForm, "⼀": ErrForm,
		"1005": ErrDigits, "२३": ErrDigits, "٣٤": ErrForm, "１００５": ErrDigits, "0": ErrDigits,
		"Аlice": ErrScripts, "Αlice": ErrScripts, "Alicе": ErrScripts, "김さ": ErrScripts, "राहুল": ErrScripts, "ᎪᏞᎥᏟᎬ": ErrScripts, "ꓐꓰꓠ": ErrScripts,
		"aनm": ErrScripts, "a४৪": ErrNumerals, "न1२": ErrNumerals,
		"\u0301alice": ErrForm, "ali\u0323\u0323ce": ErrMarks, "a" + strings.Repeat("\u0301\u0302", 3): ErrMarks,
	} {
		clean, err := Clean(name)
		require.ErrorIs(t, err, why, "%+q became %+q", name, clean)
	}
}

// D5: wide and narrow forms are equal to the usual ones.
func TestWidthAndCaseMakeNoOtherName(t *testing.T) {
	for name, want := range map[string]string{"Ａｌｉｃｅ": "Alice", "ｻﾄｳ": "サトウ", "ﾀﾞｲｷ": "ダイキ", "_Ａ．１－": "_A.1-"} {
		clean, err := Clean(name)
		require.NoError(t, err, name)
		require.Equal(t, want, clean)
		require.Equal(t, Key(want), Key(name))
	}
	require.Equal(t, "alice", Key("ALICE"))
	require.Equal(t, Key("José"), Key("JOSE\u0301"))
	require.NotEqual(t, Key("jose"), Key("José"))
	require.Equal(t, "what ever \u3164", Key("What Ever \u3164"), "any text has a key")
}

// D5: names that look alike.
func TestLook(t *testing.T) {
	for _, pair := range [][2]string{
		{"Alice", "AIice"},
		{"Alice", "A1ice"},
		{"Bob", "B0b"},
		{"bob", "BOB"},
		{"paypal", "раураӏ"},
		{"cop", "сор"},
		{"BOB", "ВОВ"},
		{"TOM", "ТОМ"},
		{"NIKH", "ΝΙΚΗ"},
		{"modern", "modem"},
		{"vvill", "will"},
		{"力", "カ"},
		{"ニ口", "二ロ"},
		{"ヘリ", "へり"},
		{"Alice", "Alice\u3164"},
		{"Alice", "\u200bAlice\u115f"},
		{"Alice", "Ａｌｉｃｅ"},
		{"oO", "օօ"},
		{"José", "Jose\u0301"},
		{"uos", "սօՏ"},
		{"क्ष", "क्\u200dष"},
		{"diya", "dıya"},
		{"น้ำ", "นํ้า"},
		{"น้ำ", "น้ํา"},
	} {
		require.Equal(t, Look(pair[0]), Look(pair[1]), "%s and %s", pair[0], pair[1])
	}
	for _, pair := range [][2]string{
		{"alice", "alicia"}, {"bob", "вов"}, {"jose", "josé"}, {"a.b", "ab"}, {"张", "弓"}, {"милана", "milana"}, {"user1", "user2"}, {"ali", "all"},
	} {
		require.NotEqual(t, Look(pair[0]), Look(pair[1]), "%s and %s", pair[0], pair[1])
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"alice", "Ａ", "e\u0301", "क्\u200dष", "\u3164", "1", "ﾀﾞ", "İ", "\xff", "ß", "Σς"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = Key(s), Look(s)
		clean, err := Clean(s)
		if err != nil {
			return
		}
		again, err := Clean(clean)
		require.NoError(t, err, "%+q", clean)
		require.Equal(t, clean, again)
		require.Equal(t, Key(s), Key(clean), "%+q %+q", s, clean)
		require.Equal(t, Key(Key(s)), Key(s), "%+q", s)
		require.Equal(t, Look(s), Look(clean), "%+q %+q", s, clean)
	})
}
