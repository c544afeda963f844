package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var testMask = [4]byte{0xa1, 0x00, 0xff, 0x37}

// fromClient returns a client's frame whose first byte is first.
func fromClient(first byte, payload string) []byte {
	b := appendMasked(nil, 0, testMask, []byte(payload))
	b[0] = first
	return b
}

// heard is what a Decoder made of a stream: the messages, what the control frames were, and the error.
type heard struct {
	messages []string
	open     string // of a message that has not ended
	control  []string
	status   Status // of the Close frame, or of the error
	failed   bool
}

// decode feeds a stream in pieces of n bytes.
func decode(d *Decoder, stream []byte, n int) (h heard) {
	message := []byte(nil)
	for piece := range slices.Chunk(bytes.Clone(stream), max(n, 1)) {
		for rest := piece; ; {
			p, left, ok, err := d.Next(rest)
			if err != nil {
				h.status, h.failed = StatusOf(err), true
				return h
			}
			if !ok {
				break
			}
			rest = left
			switch p.Kind {
			case Data:
				if message = append(message, p.Payload...); p.End {
					h.messages = append(h.messages, string(message))
					message = nil
				}
			case Ping:
				h.control = append(h.control, "ping "+string(p.Payload))
			case Pong:
				h.control = append(h.control, "pong "+string(p.Payload))
			case Close:
				h.control = append(h.control, "close "+string(p.Payload))
				h.status = p.Status
			}
		}
	}
	h.open = string(message)
	return h
}

// The cases of the Autobahn test suite that apply to binary messages, by its sections: framing, pings and pongs, reserved
// bits, opcodes, fragmentation, and the closing handshake. Its cases of text (6) and compression (12, 13) ask for what we
// refuse; those of limits (9) are sizes, and TestMessagesOfAllLengths.
func TestFramesAsAutobahnSendsThem(t *testing.T) {
	long := strings.Repeat("x", 126)
	closeWith := func(code uint16, reason string) string {
		return string(binary.BigEndian.AppendUint16(nil, code)) + reason
	}
	cat := func(frames ...[]byte) []byte { return slices.Concat(frames...) }
	for name, c := range map[string]struct {
		stream []byte
		want   heard
	}{
		"1.2.1 empty":                     {fromClient(0x82, ""), heard{messages: []string{""}}},
		"1.2.2 125 bytes":                 {fromClient(0x82, long[:125]), heard{messages: []string{long[:125]}}},
		"1.2.3 126 bytes":                 {fromClient(0x82, long), heard{messages: []string{long}}},
		"1.1 text":                        {fromClient(0x81, "text"), heard{failed: true, status: StatusUnsupported}},
		"2.1 empty ping":                  {fromClient(0x89, ""), heard{control: []string{"ping "}}},
		"2.2 ping":                        {fromClient(0x89, "hello"), heard{control: []string{"ping hello"}}},
		"2.4 ping of 125":                 {fromClient(0x89, long[:125]), heard{control: []string{"ping " + long[:125]}}},
		"2.5 ping of 126":                 {fromClient(0x89, long), heard{failed: true, status: StatusProtocol}},
		"2.7 unasked pong":                {cat(fromClient(0x8a, "x"), fromClient(0x82, "a")), heard{control: []string{"pong x"}, messages: []string{"a"}}},
		"2.10 ten pings":                  {bytes.Repeat(fromClient(0x89, "p"), 10), heard{control: slices.Repeat([]string{"ping p"}, 10)}},
		"3.1 reserved bit 1":              {fromClient(0xc2, "a"), heard{failed: true, status: StatusProtocol}},
		"3.2 reserved bit 2":              {fromClient(0xa2, "a"), heard{failed: true, status: StatusProtocol}},
		"3.3 reserved bit 3":              {cat(fromClient(0x82, "a"), fromClient(0x92, "b")), heard{messages: []string{"a"}, failed: true, status: StatusProtocol}},
		"3.6 reserved bit in a ping":      {fromClient(0xf9, ""), heard{failed: true, status: StatusProtocol}},
		"4.1 opcode 3":                    {fromClient(0x83, ""), heard{failed: true, status: StatusProtocol}},
		"4.1 opcode 7":                    {fromClient(0x87, "a"), heard{failed: true, status: StatusProtocol}},
		"4.2 opcode 11":                   {fromClient(0x8b, ""), heard{failed: true, status: StatusProtocol}},
		"4.2 opcode 15":                   {fromClient(0x8f, "a"), heard{failed: true, status: StatusProtocol}},
		"5.1 fragmented ping":             {cat(fromClient(0x09, "a"), fromClient(0x80, "b")), heard{failed: true, status: StatusProtocol}},
		"5.2 fragmented pong":             {fromClient(0x0a, "a"), heard{failed: true, status: StatusProtocol}},
		"5.3 two fragments":               {cat(fromClient(0x02, "a"), fromClient(0x80, "b")), heard{messages: []string{"ab"}}},
		"5.6 ping between fragments":      {cat(fromClient(0x02, "a"), fromClient(0x89, "p"), fromClient(0x80, "b")), heard{messages: []string{"ab"}, control: []string{"ping p"}}},
		"5.9 continuation of nothing":     {fromClient(0x80, "a"), heard{failed: true, status: StatusProtocol}},
		"5.12 the same, more to come":     {fromClient(0x00, "a"), heard{failed: true, status: StatusProtocol}},
		"5.15 continuation after the end": {cat(fromClient(0x02, "a"), fromClient(0x80, "b"), fromClient(0x00, "c")), heard{messages: []string{"ab"}, failed: true, status: StatusProtocol}},
		"5.18 message within a message":   {cat(fromClient(0x02, "a"), fromClient(0x82, "b")), heard{failed: true, status: StatusProtocol}},
		"5.19 many fragments": {
			cat(fromClient(0x02, "1"), fromClient(0x00, "2"), fromClient(0x89, "p"), fromClient(0x00, ""), fromClient(0x00, "3"), fromClient(0x89, "q"), fromClient(0x80, "4")),
			heard{messages: []string{"1234"}, control: []string{"ping p", "ping q"}},
		},
		"7.1.1 message, close":           {cat(fromClient(0x82, "a"), fromClient(0x88, closeWith(1000, ""))), heard{messages: []string{"a"}, control: []string{"close "}, status: 1000}},
		"7.1.3 ping after close":         {cat(fromClient(0x88, ""), fromClient(0x89, "p")), heard{control: []string{"close "}, status: StatusNone}},
		"7.1.4 message after close":      {cat(fromClient(0x88, ""), fromClient(0x82, "a")), heard{control: []string{"close "}, status: StatusNone}},
		"7.1.5 close within a message":   {cat(fromClient(0x02, "a"), fromClient(0x88, closeWith(1000, ""))), heard{control: []string{"close "}, status: 1000, open: "a"}},
		"7.3.2 close of one byte":        {fromClient(0x88, "a"), heard{failed: true, status: StatusProtocol}},
		"7.3.4 close with a reason":      {fromClient(0x88, closeWith(1000, "bye")), heard{control: []string{"close bye"}, status: 1000}},
		"7.3.5 the longest reason":       {fromClient(0x88, closeWith(1000, long[:123])), heard{control: []string{"close " + long[:123]}, status: 1000}},
		"7.3.6 a longer one":             {fromClient(0x88, closeWith(1000, long[:124])), heard{failed: true, status: StatusProtocol}},
		"7.5.1 reason that is not UTF-8": {fromClient(0x88, closeWith(1000, "\xce\xba\xed\xa0\x80")), heard{failed: true, status: StatusInvalid}},
		"7.7 1001":                       {fromClient(0x88, closeWith(1001, "")), heard{control: []string{"close "}, status: 1001}},
		"7.7 1011":                       {fromClient(0x88, closeWith(1011, "")), heard{control: []string{"close "}, status: 1011}},
		"7.7 3000":                       {fromClient(0x88, closeWith(3000, "")), heard{control: []string{"close "}, status: 3000}},
		"7.7 4999":                       {fromClient(0x88, closeWith(4999, "")), heard{control: []string{"close "}, status: 4999}},
		"7.9 0":                          {fromClient(0x88, closeWith(0, "")), heard{failed: true, status: StatusProtocol}},
		"7.9 999":                        {fromClient(0x88, closeWith(999, "")), heard{failed: true, status: StatusProtocol}},
		"7.9 1004":                       {fromClient(0x88, closeWith(1004, "")), heard{failed: true, status: StatusProtocol}},
		"7.9 1005":                       {fromClient(0x88, closeWith(1005, "")), heard{failed: true, status: StatusProtocol}},
		"7.9 1006":                       {fromClient(0x88, closeWith(1006, "")), heard{failed: true, status: StatusProtocol}},
		"7.9 1016":                       {fromClient(0x88, closeWith(1016, "")), heard{failed: true, status: StatusProtocol}},
		"7.9 2999":                       {fromClient(0x88, closeWith(2999, "")), heard{failed: true, status: StatusProtocol}},
		"7.13 5000":                      {fromClient(0x88, closeWith(5000, "")), heard{failed: true, status: StatusProtocol}},
		"no mask":                        {[]byte{0x82, 1, 'a'}, heard{failed: true, status: StatusProtocol}},
		"125 as 16 bits":                 {append([]byte{0x82, 0xfe, 0, 125}, testMask[:]...), heard{failed: true, status: StatusProtocol}},
		"126 as 64 bits":                 {append([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 126}, testMask[:]...), heard{failed: true, status: StatusProtocol}},
		"a negative length":              {append([]byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1}, testMask[:]...), heard{failed: true, status: StatusProtocol}},
	} {
		for n := 1; n <= len(c.stream); n = n*2 + 1 {
			require.Equal(t, c.want, decode(new(Decoder), c.stream, n), "%s, in pieces of %d bytes", name, n)
		}
		require.Equal(t, c.want, decode(new(Decoder), c.stream, len(c.stream)), name)
	}
}

func TestMessagesOfAllLengths(t *testing.T) {
	for _, n := range []int{0, 1, 124, 125, 126, 127, 128, 65535, 65536, 200_000} {
		want := strings.Repeat("y", n)
		for _, piece := range []int{1000, 997, n + 20} {
			require.Equal(t, []string{want, "z"}, decode(new(Decoder), append(fromClient(0x82, want), fromClient(0x82, "z")...), piece).messages)
			server := append(append(appendHeader(nil, opBinary, n), want...), appendHeader(nil, opBinary, 0)...)
			require.Equal(t, []string{want, ""}, decode(&Decoder{Client: true}, server, piece).messages)
		}
	}
}

func TestTheBoundOfAMessageCountsItsFragments(t *testing.T) {
	fragments := slices.Concat(fromClient(0x02, "12345"), fromClient(0x00, "67890"))
	require.False(t, decode(&Decoder{MaxMessage: 10}, fragments, 3).failed)
	h := decode(&Decoder{MaxMessage: 10}, append(fragments, fromClient(0x80, "x")...), 3)
	require.True(t, h.failed)
	require.Equal(t, StatusTooBig, h.status)
	two := append(fromClient(0x82, "1234567890"), fromClient(0x82, "1234567890")...)
	require.Len(t, decode(&Decoder{MaxMessage: 10}, two, 3).messages, 2, "the bound is of one message")
}

func TestADecoderAllocatesNothing(t *testing.T) {
	stream := slices.Concat(fromClient(0x82, "a text"), fromClient(0x89, "ping"), fromClient(0x82, strings.Repeat("x", 300)))
	in := make([]byte, len(stream))
	d := new(Decoder)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		copy(in, stream)
		for rest := in; len(rest) > 0; {
			var err error
			if _, rest, _, err = d.Next(rest); err != nil {
				t.Fatal(err)
			}
		}
	}))
}

// What a stream means does not depend on how the network cut it.
func FuzzDecoder(f *testing.F) {
	f.Add(slices.Concat(fromClient(0x02, "a"), fromClient(0x89, "p"), fromClient(0x80, "b"), fromClient(0x88, "\x03\xe8bye")), 3)
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 5}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, n int) {
		n = min(max(n, 1), len(stream)+1)
		whole, cut := decode(&Decoder{MaxMessage: 1000}, stream, len(stream)), decode(&Decoder{MaxMessage: 1000}, stream, n)
		require.Equal(t, whole, cut)
		for _, m := range whole.messages {
			require.LessOrEqual(t, len(m), 1000)
		}
	})
}

func FuzzHandshake(f *testing.F) {
	good := "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	f.Add([]byte(good+"rest"), 7)
	f.Add([]byte(strings.Replace(good, "\r\n\r\n", "\r\nOrigin: https://b\r\n\r\n", 1)), 1000)
	f.Fuzz(func(t *testing.T, stream []byte, n int) {
		whole, wholeRest, ok := new(Handshake).Next(stream, nil)
		h := new(Handshake)
		for piece := range slices.Chunk(stream, min(max(n, 1), len(stream)+1)) {
			answer, _, cutOK := h.Next(piece, nil)
			if len(answer) > 0 {
				require.Equal(t, ok, cutOK)
				require.Equal(t, whole, answer)
				return
			}
			require.LessOrEqual(t, len(h.held.held), MaxHandshake)
		}
		require.Empty(t, whole)
		require.Empty(t, wholeRest)
	})
}

// pipe is a socket that takes what it is told.
type pipe struct {
	bytes.Buffer
	room int // -1: endless
	shut bool
}

func (p *pipe) TryWrite(b []byte) (int, error) {
	if p.room >= 0 {
		b = b[:min(len(b), p.room)]
		p.room -= len(b)
	}
	return p.Buffer.Write(b)
}

func (p *pipe) CloseWrite() { p.shut = true }
func (p *pipe) Reset()      {}

func TestAMessageIsAsLongAsTheWriteThatBeganIt(t *testing.T) {
	for _, n := range []int{1, 125, 126, 20_000, 70_000} {
		want := strings.Repeat("w", n)
		for room := range []int{0, 1, 2, 3, 7, 130, 16400, 70_010} {
			p := &pipe{}
			w := new(Writer)
			w.Init(p)
			w.Open()
			rest := []byte(want)
			for first := true; len(rest) > 0; first = false {
				p.room = room
				m, err := w.TryWrite(rest)
				require.NoError(t, err)
				rest = rest[m:]
				w.Pong([]byte("p"))
				if !first && len(rest) > 0 { // the outbox hands a waiting socket a part of what is left
					p.room = -1
					part := rest[:min(len(rest), 10)]
					m, err := w.Write(part)
					require.NoError(t, err)
					rest = rest[m:]
				}
			}
			p.room = -1
			_, err := w.TryWrite([]byte("next"))
			require.NoError(t, err)
			w.End(StatusParley, "2008")
			w.End(StatusNormal, "")
			w.CloseWrite()
			require.True(t, p.shut)
			h := decode(&Decoder{Client: true}, p.Bytes(), 1000)
			require.Equal(t, []string{want, "next"}, h.messages, "%d bytes, room for %d at a time", n, room)
			require.Equal(t, "close 2008", h.control[len(h.control)-1])
			require.Equal(t, StatusParley, h.status)
			require.LessOrEqual(t, len(h.control), 2+maxWaiting/3, "pongs are bounded")
		}
	}
}

func TestAWriteAllocatesNothing(t *testing.T) {
	p := &pipe{room: -1}
	w := new(Writer)
	w.Init(p)
	b := make([]byte, 300)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		p.Reset()
		p.Buffer.Reset()
		if n, err := w.TryWrite(b); n != len(b) || err != nil {
			t.Fatal(n, err)
		}
	}))
}

func TestErrorsNameTheirStatus(t *testing.T) {
	require.Equal(t, StatusProtocol, StatusOf(errors.New("another")))
	require.Equal(t, StatusTooBig, StatusOf(&Error{Status: StatusTooBig}))
}

func TestTextIsTakenWhereItIsWanted(t *testing.T) {
	d := Decoder{Text: true}
	stream := slices.Concat(fromClient(0x01, "te"), fromClient(0x89, "ping"), fromClient(0x80, "xt"), fromClient(0x82, "binary"))
	require.Equal(t, heard{messages: []string{"text", "binary"}, control: []string{"ping ping"}}, decode(&d, stream, 3))
	d = Decoder{Text: true}
	require.True(t, decode(&d, slices.Concat(fromClient(0x01, "te"), fromClient(0x81, "xt")), 3).failed, "message within a message")
	require.Equal(t, fromClient(0x81, "text"), AppendText(nil, testMask, []byte("text")))
}

func TestAForeignServerIsNotAskedForParley(t *testing.T) {
	u := &url.URL{Host: "localhost", Path: "/"}
	h := ClientHandshake{Foreign: true}
	require.NotContains(t, string(h.Request(u)), Protocol)
	rest, ok, err := h.Next([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + acceptOf(h.key) + "\r\n\r\nrest"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "rest", string(rest))
	own := ClientHandshake{}
	require.Contains(t, string(own.Request(u)), Protocol)
	_, _, err = own.Next([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + acceptOf(own.key) + "\r\n\r\n"))
	require.ErrorContains(t, err, "does not speak")
}
