package proxyproto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// v2 makes a binary header.
func v2(command, family byte, body string) string {
	head := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	return string(binary.BigEndian.AppendUint16(head, uint16(len(body)))) + body
}

var (
	four = "\xc0\x00\x02\x01" + "\xc6\x33\x64\x01" + "\x9c\x40\x1f\x9a"
	six  = "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01" + strings.Repeat("\x00", 15) + "\x01" + "\x9c\x40\x1f\x9a"
	tlvs = "\x03\x00\x04abcd" + "\x05\x00\x80" + strings.Repeat("u", 128)
)

// headers are what proxies may send, with the source in it, "" for none.
var headers = []struct{ header, source string }{
	{"PROXY TCP4 192.0.2.1 198.51.100.1 40000 8090\r\n", "192.0.2.1"},
	{"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"},
	{"PROXY TCP6 2001:db8::1 ::1 40000 8090\r\n", "2001:db8::1"},
	{"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 1 2\r\n", "192.0.2.1"},
	{"PROXY UNKNOWN\r\n", ""},
	{"PROXY UNKNOWN 2001:db8::1 ::1 what ever\r\n", ""},
	{"PROXY UNKNOWN " + strings.Repeat("f", maxV1-len("PROXY UNKNOWN \r\n")) + "\r\n", ""},
	{v2(0x21, 0x11, four), "192.0.2.1"},
	{v2(0x21, 0x12, four), "192.0.2.1"},
	{v2(0x21, 0x11, four+tlvs), "192.0.2.1"},
	{v2(0x21, 0x11, four+strings.Repeat("t", 2<<10-len(four))), "192.0.2.1"},
	{v2(0x21, 0x21, six), "2001:db8::1"},
	{v2(0x21, 0x21, six+tlvs), "2001:db8::1"},
	{v2(0x21, 0x21, strings.Repeat("\x00", 10)+"\xff\xff\xc0\x00\x02\x01"+six[16:]), "192.0.2.1"},
	{v2(0x21, 0x00, ""), ""},
	{v2(0x21, 0x00, tlvs), ""},
	{v2(0x21, 0x31, strings.Repeat("/", 216)), ""},
	{v2(0x20, 0x00, ""), ""},
	{v2(0x20, 0x11, four), ""},
	{v2(0x20, 0xff, "x"), ""},
}

func TestAHeaderIsReadHoweverItIsCut(t *testing.T) {
	for _, h := range headers {
		for _, behind := range []string{"", "x", "\r\n", h.header} {
			source, rest, done, err := Parse([]byte(h.header + behind))
			require.NoError(t, err, "%q", h.header)
			require.True(t, done, "%q", h.header)
			require.Equal(t, behind, string(rest), "%q", h.header)
			require.Equal(t, h.source != "", source.IsValid(), "%q", h.header)
			if h.source != "" {
				require.Equal(t, netip.MustParseAddr(h.source), source)
			}
		}
		for n := range len(h.header) {
			_, _, done, err := Parse([]byte(h.header[:n]))
			require.NoError(t, err, "%d bytes of %q", n, h.header)
			require.False(t, done, "%d bytes of %q", n, h.header)
		}
	}
}

func TestWhatIsNoHeaderIsRefused(t *testing.T) {
	for _, bad := range []string{
		"x", "\x03\xed\x00\x02{}", "GET / HTTP/1.1\r\n", "\x16\x03\x01", "PROXX", "proxy TCP4", "PROXY\r\n", "\r\n\r\n\x01",
		"PROXY \r\n", "PROXY \n", "PROXY TCP4\r\n", "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY UNKNOWNS\r\n", "PROXY UNKNOWN\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
		"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", "PROXY TCP4 192.0.2.1 what 1 2\r\n",
		"PROXY TCP4 2001:db8::1 ::1 1 2\r\n", "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
		"PROXY UNKNOWN " + strings.Repeat("f", maxV1),
		v2(0x11, 0x11, four), v2(0x22, 0x11, four), v2(0x31, 0x11, four), v2(0x21, 0x11, four[1:]), v2(0x21, 0x21, six[1:]), v2(0x21, 0x11, ""),
		v2(0x21, 0x10, four), v2(0x21, 0x41, four), v2(0x21, 0x23, six), v2(0x21, 0x11, four+strings.Repeat("t", 2<<10)),
	} {
		_, _, done, err := Parse([]byte(bad))
		require.ErrorIs(t, err, ErrMalformed, "%q", bad)
		require.False(t, done, "%q", bad)
	}
}

func TestTheLongestHeadersAreDecidedInTime(t *testing.T) {
	for _, begin := range []string{"PROXY ", "PROXY UNKNOWN ", v2(0x21, 0x11, "")[:14], v2(0x20, 0x00, "")[:14]} {
		for _, fill := range []string{"\x00", "\x01", "x", "\r", "\xff"} {
			_, _, done, err := Parse([]byte(begin + strings.Repeat(fill, MaxBytes-len(begin))))
			require.True(t, done || err != nil, "%q and %q", begin, fill)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, h := range headers {
		f.Add([]byte(h.header+"rest"), 7)
	}
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		source, rest, done, err := Parse(data)
		switch {
		case err != nil:
			require.False(t, done)
			return
		case !done:
			require.Less(t, len(data), MaxBytes, "undecided")
			return
		}
		require.True(t, bytes.HasSuffix(data, rest))
		require.Empty(t, source.Zone())
		require.False(t, source.Is4In6())
		// The same header in two pieces is the same.
		head := data[:len(data)-len(rest)]
		require.LessOrEqual(t, len(head), MaxBytes)
		if n := cut; n >= 0 && n < len(head) {
			_, _, done, err := Parse(head[:n])
			require.NoError(t, err)
			require.False(t, done)
		}
		again, rest, done, err := Parse(head)
		require.Equal(t, fmt.Sprint(source, "", true, nil), fmt.Sprint(again, string(rest), done, err))
	})
}
