package wire

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/bytedance/sonic"
)

// api is the one JSON configuration of the wire. Strings are copied out of the input, because the input is a read
// buffer that is reused as soon as the handler returns; ValidateString refuses raw control characters.
var api = sonic.Config{CopyString: true, ValidateString: true, EscapeHTML: false, NoEncoderNewline: true}.Froze()

// Decode reads a request body into v, which must be a pointer to one of this package's structs. It copies what it
// keeps: body may be reused at once. The error is an *Error with CodeJSON.
func Decode(body []byte, v any) error {
	// Checked here because sonic would replace each wrong byte by three, and pass.
	if !utf8.Valid(body) {
		return &Error{Code: CodeJSON, Err: errNotUTF8}
	}
	if err := api.Unmarshal(body, v); err != nil {
		// sonic's message quotes the input, and the input may hold a token or a text: never keep it.
		return &Error{Code: CodeJSON, Err: errNotJSON}
	}
	return nil
}

// Encode returns v as JSON. It is for replies off the hot path; the hot ones have append functions.
func Encode(v any) ([]byte, error) { return api.Marshal(v) }

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD, so the result is always valid. What
// it appends is never longer than what a client had to send for s: with a longer escape for any character, the answer to
// a text would outgrow the request, and the frame.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// StringLen returns how many bytes Encode adds for s; AppendString adds as many or fewer.
func StringLen(s string) int {
	n := len(s) + 2
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\' || c == '\n' || c == '\t' || c == '\r':
			n++
		case c < ' ':
			n += 5
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				n += 5 // \ufffd
			}
			i += size - 1
		}
	}
	return n
}

// appendInt appends `"key":n,`; key includes its quotes and colon.
func appendInt(dst []byte, key string, n int64) []byte {
	return append(strconv.AppendInt(append(dst, key...), n, 10), ',')
}

// AppendChatTime appends a time, given in milliseconds since 1970, in the form the stock client stores:
// `YYYY-MM-DD HH:MM:SS`. We write UTC, so that it does not depend on the node.
func AppendChatTime(dst []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(dst, time.DateTime)
}

// EncodeFrame returns v as the body of a frame.
func EncodeFrame(id MsgID, v any) ([]byte, error) {
	body, err := Encode(v)
	if err != nil {
		return nil, err
	}
	return AppendFrame(make([]byte, 0, len(body)+HeaderLen), id, body)
}
