package wire

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bytedance/sonic"
	"github.com/stretchr/testify/require"
)

// sonic falls back to encoding/json, four times slower, without a word.
func TestSonicIsTheJIT(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("sonic has a JIT of this kind on amd64 only")
	}
	require.Equal(t, sonic.UseSonicJSON, sonic.APIKind)
}

func TestPretouch(t *testing.T) {
	require.NoError(t, compile())
	require.NoError(t, compile())
}

func TestDecodeIsStrict(t *testing.T) {
	for _, tc := range []struct{ name, body string }{
		{"empty", ""},
		{"array", "[]"},
		{"string", `"x"`},
		{"number", "1"},
		{"half", `{"content":"x"`},
		{"trailing", `{} {}`},
		{"raw control character", "{\"content\":\"a\x01\"}"},
		{"raw line feed", "{\"content\":\"a\nb\"}"},
		{"not UTF-8 in a value", "{\"content\":\"\xff\"}"},
		{"not UTF-8 in a key", "{\"\xff\":1}"},
		{"overlong NUL", "{\"content\":\"\xc0\x80\"}"},
		{"encoded surrogate", "{\"content\":\"\xed\xa0\x80\"}"},
		{"wrong type", `{"content":5}`},
		{"bad escape", `{"content":"\x"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var v Text
			err := Decode([]byte(tc.body), &v)
			require.Equal(t, CodeJSON, CodeOf(err))
			if len(tc.body) > 4 {
				require.NotContains(t, err.Error(), tc.body, "a body is never quoted: it may hold a token or a text")
			}
		})
	}
	var v Text
	require.NoError(t, Decode([]byte(`null`), &v))
	require.NoError(t, Decode([]byte(`{"other":1}`), &v))
	require.Zero(t, v)
	require.NoError(t, Decode([]byte(`{"content":"\ud800x"}`), &v))
	require.Equal(t, "\ufffdx", v.Content, "half a surrogate pair")
}

func TestDecodeKeepsNothingOfTheBody(t *testing.T) {
	body := []byte(`{"touid":7,"thread_id":8,"text_array":[{"content":"hello there","unique_id":"{6f1c}"}]}`)
	r, err := DecodeText(body)
	require.NoError(t, err)
	for i := range body {
		body[i] = 'x'
	}
	require.Equal(t, &TextRequest{ToUID: 7, ThreadID: 8, Texts: []Text{{Content: "hello there", UniqueID: "{6f1c}"}}}, r)
}

func checkString(t *testing.T, s string) {
	t.Helper()
	got := AppendString(nil, s)
	var back, want string
	require.NoError(t, json.Unmarshal(got, &back), "%q", s)
	std, err := json.Marshal(s)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(std, &want))
	require.Equal(t, want, back)
	require.True(t, utf8.Valid(got))
	encoded, err := Encode(s)
	require.NoError(t, err)
	require.GreaterOrEqual(t, StringLen(s), len(got), "%q", s)
	require.Equal(t, len(encoded), StringLen(s), "%q", s)
	if utf8.ValidString(s) {
		require.LessOrEqual(t, len(got), len(std), "%q", s)
	}
}

func TestStrings(t *testing.T) {
	for r := range rune(0x800) {
		checkString(t, string(r))
	}
	for _, s := range []string{
		"", "plain", `quote " and \ backslash`, "a\x00b", "\b\f\n\r\t\x1f\x7f", "\u2028\u2029", "<script>&", "\xff", "a\xffb\xfe",
		"\xed\xa0\x80", "\xc0\x80", "日本語", "😀", "\U0010ffff", "cut \xf0\x9f\x98", "\ufffd", strings.Repeat("\x01", 4096),
	} {
		checkString(t, s)
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("plain \"quoted\" \\ \x00\x1f\x7f")
	f.Add("cut \xf0\x9f\x98")
	f.Add("日本語😀\u2028")
	f.Fuzz(checkString)
}

func TestAppendStringOfWhatAClientSentIsNoLongerThanWhatItSent(t *testing.T) {
	// The shortest way to write each character in JSON; the answer to a text repeats it.
	shortest := func(r rune) string {
		switch r {
		case '\b':
			return `\b`
		case '\f':
			return `\f`
		case '\n':
			return `\n`
		case '\r':
			return `\r`
		case '\t':
			return `\t`
		case '"', '\\':
			return `\` + string(r)
		}
		if r < ' ' {
			b, _ := json.Marshal(string(r))
			return string(b[1 : len(b)-1])
		}
		return string(r)
	}
	for r := range rune(utf8.MaxRune + 1) {
		if utf8.ValidRune(r) {
			require.LessOrEqual(t, len(AppendString(nil, string(r)))-2, len(shortest(r)), "%U", r)
		}
	}
}

func TestChatTimeIsUTC(t *testing.T) {
	require.Equal(t, "2026-01-05 09:31:12", string(AppendChatTime(nil, 1767605472999)))
	require.Equal(t, "1970-01-01 00:00:00", string(AppendChatTime(nil, 0)))
}
