package foreign

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/bench/ledger"
)

// heard is a Line that writes down what a Speaker says of it.
type heard struct {
	sent []byte
	said []string
}

func (h *heard) Send(b []byte)                      { h.sent = append(h.sent, b...) }
func (h *heard) LoggedIn()                          { h.note("in") }
func (h *heard) Acked(counter uint32, n int64)      { h.note("acked %d as %d", counter, n) }
func (h *heard) Refused(counter uint32, why string) { h.note("refused %d: %s", counter, why) }
func (h *heard) Delivered(n int64, b []byte)        { h.note("got %d: %s", n, b) }
func (h *heard) Echoed(counter uint32, _ []byte)    { h.note("echo of %d", counter) }

func (h *heard) note(format string, args ...any) {
	h.said = append(h.said, fmt.Sprintf(format, args...))
}

// inPieces gives a stream to a speaker, whole and then byte by byte, and returns what it made of it.
func inPieces(t *testing.T, speaker func(Line) Speaker, stream string) (said []string) {
	t.Helper()
	for _, size := range []int{len(stream), 1, 7} {
		h := &heard{}
		s := speaker(h)
		s.Begin()
		for rest := stream; rest != ""; {
			n := min(size, len(rest))
			require.NoError(t, s.Heard([]byte(rest[:n])))
			rest = rest[n:]
		}
		if said != nil {
			require.Equal(t, said, h.said, "in pieces of %d", size)
		}
		said = h.said
	}
	return said
}

func server(t *testing.T, name, address string) Server {
	t.Helper()
	s, err := New(name, address, 7)
	require.NoError(t, err)
	return s
}

func TestAddressesAreCheckedBeforeAnythingStarts(t *testing.T) {
	for _, c := range []struct{ name, address, want string }{
		{"carrierpigeon", "tcp://localhost", "no driver"},
		{"echo", "http://localhost:7", "must begin with tcp://"},
		{"echo", "tcp://:7", "and a host"},
		{"echo", "tcp://[", "no URL"},
	} {
		_, err := New(c.name, c.address, 1)
		require.ErrorContains(t, err, c.want)
	}
	require.Equal(t, "localhost:7", server(t, "echo-remote", "tcp://localhost").Address())
}

func TestEveryKindSaysWhatItsFiguresMean(t *testing.T) {
	for _, kind := range Kinds() {
		require.NotEmpty(t, MeaningOf(kind).Ack, kind)
		require.NotEmpty(t, MeaningOf(kind).Login, kind)
	}
}

func TestEchoedTextsAreLines(t *testing.T) {
	speaker := func(l Line) Speaker { return server(t, "echo", "tcp://localhost:7").Speaker(1, 2, l) }
	text := func(counter uint32) string {
		return string(ledger.Text{Run: 7, From: 1, To: 2, Counter: counter, Planned: 5}.AppendText(nil, 100)) + "\n"
	}
	require.Equal(t, []string{"in", "echo of 3", "echo of 4"}, inPieces(t, speaker, text(3)+text(4)+text(5)[:80]))

	h := &heard{}
	s := speaker(h)
	s.Begin()
	s.Say(3, []byte(strings.TrimSpace(text(3))))
	require.Equal(t, text(3), string(h.sent))
	require.Error(t, s.Heard([]byte("something else\n")))
	require.Error(t, speaker(h).Heard(make([]byte, 100<<10)), "a line without an end")
}

// webStream is what a WebSocket server sends: the answer to a handshake and text messages.
func webStream(h *heard, messages ...string) string {
	_, after, _ := strings.Cut(string(h.sent), "Sec-WebSocket-Key: ")
	key, _, _ := strings.Cut(after, "\r\n")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	s := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
	for _, m := range messages {
		s += textFrame(m)
	}
	return s
}

func textFrame(m string) string {
	if len(m) < 126 {
		return string([]byte{0x81, byte(len(m))}) + m
	}
	return string([]byte{0x81, 126, byte(len(m) >> 8), byte(len(m))}) + m
}

// unmasked returns the messages that a client has sent since the handshake.
func unmasked(sent []byte) (messages []string) {
	_, sent, _ = bytes.Cut(sent, []byte("\r\n\r\n"))
	for len(sent) > 6 {
		n, at := int(sent[1]&0x7f), 2
		if n == 126 {
			n, at = int(sent[2])<<8|int(sent[3]), 4
		}
		mask, body := sent[at:at+4], bytes.Clone(sent[at+4:at+4+n])
		for i := range body {
			body[i] ^= mask[i%4]
		}
		messages = append(messages, string(body))
		sent = sent[at+4+n:]
	}
	return messages
}

func TestCentrifugoIsSpokenTo(t *testing.T) {
	h := &heard{}
	u := server(t, "centrifugo", "ws://:secret@localhost").Speaker(1, 2, h)
	u.Begin()
	require.Contains(t, string(h.sent), "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\n")
	require.NotContains(t, string(h.sent), "secret")
	require.NoError(t, u.Heard([]byte(webStream(h, `{"id":1,"connect":{"client":"x","version":"6"}}`, "{}"))))
	require.NoError(t, u.Heard([]byte(textFrame(`{"id":2,"subscribe":{}}`))))
	u.Say(3, []byte("b1.text"))
	require.NoError(t, u.Heard([]byte(textFrame(`{"id":19,"publish":{}}`+"\n"+`{"push":{"channel":"c","pub":{"data":"b1.other","offset":4}}}`+"\n"+
		`{"id":20,"error":{"code":103,"message":"permission denied"}}`))))
	require.Equal(t, []string{"in", "acked 3 as 0", "got 0: b1.other", "refused 4: 103 permission denied"}, h.said)
	sent := unmasked(h.sent)
	require.Len(t, sent, 4)
	require.Contains(t, sent[0], `{"id":1,"connect":{"token":"`)
	require.Equal(t, `{"id":2,"subscribe":{"channel":"parley_bench_00000007_1"}}`, sent[1])
	require.Equal(t, "{}", sent[2], "a ping is answered")
	require.Equal(t, `{"id":19,"publish":{"channel":"parley_bench_00000007_2","data":"b1.text"}}`, sent[3])
	require.ErrorContains(t, u.Heard([]byte(textFrame(`{"id":2,"error":{"code":109,"message":"token expired"}}`))), "109 token expired")
	require.ErrorContains(t, u.Heard([]byte("\x88\x09\x0d\xacbad bye")), "bad bye")
	require.Equal(t, 2, strings.Count(server(t, "centrifugo", "ws://:secret@localhost").(*centrifugo).token(1), "."))
}

func TestNATSIsTakenApart(t *testing.T) {
	s := server(t, "nats", "nats://user:pass@localhost").(*nats)
	require.Contains(t, string(s.connect), `"pass":"pass"`)
	speaker := func(l Line) Speaker {
		s.logins.Store(0)
		return s.Speaker(1, 2, l)
	}
	in := "_INBOX.00000007.1.1."
	ack := `{"stream":"S","seq":12}`
	full := `{"error":{"code":503,"description":"no space"}}`
	stream := "INFO {\"server_id\":\"x\"}\r\nPONG\r\n" +
		"MSG " + in + "a 1 2\r\n{}\r\nPING\r\n" +
		fmt.Sprintf("MSG %sk.3 1 %d\r\n%s\r\nMSG %sk.4 1 %d\r\n%s\r\n", in, len(ack), ack, in, len(full), full) +
		"MSG parley.bench.00000007.1 1 $JS.ACK.S.C.1.12.1.170.0 7\r\nb1.text\r\n"
	require.Equal(t, []string{"in", "acked 3 as 12", "refused 4: 503 no space", "got 12: b1.text"}, inPieces(t, speaker, stream))
	require.EqualValues(t, 12, streamNumber([]byte("$JS.ACK.domain.account.S.C.1.12.1.170.0")))
	require.Zero(t, streamNumber(nil))

	h := &heard{}
	u := speaker(h)
	u.Begin()
	require.NoError(t, u.Heard([]byte(stream)))
	h.sent = nil
	u.Say(5, []byte("b1.text"))
	require.Equal(t, "PUB parley.bench.00000007.2 "+in+"k.5 7\r\nb1.text\r\n", string(h.sent))
	for _, bad := range []string{"-ERR 'Authorization Violation'\r\n", "MSG x\r\n", "MSG a 1 -1\r\n", "MSG " + in + "a 1 " + fmt.Sprint(len(full)) + "\r\n" + full + "\r\n"} {
		u := speaker(&heard{})
		u.Begin()
		require.Error(t, u.Heard([]byte(bad)), bad)
	}
}

func TestTinodeIsSpokenTo(t *testing.T) {
	_, err := New("tinode", "ws://localhost", 7)
	require.ErrorContains(t, err, "apikey")
	s := server(t, "tinode", "ws://localhost/?apikey=K").(*tinode)
	s.accounts[1], s.accounts[2] = tinodeAccount{"usrA", "tokenA"}, tinodeAccount{"usrB", "tokenB"}
	h := &heard{}
	u := s.Speaker(1, 2, h)
	u.Begin()
	require.Contains(t, string(h.sent), "GET /v0/channels?apikey=K HTTP/1.1\r\nHost: localhost\r\n")
	require.NoError(t, u.Heard([]byte(webStream(h, `{"ctrl":{"id":"1","params":{"ver":"0.22"},"code":201,"text":"created"}}`,
		`{"ctrl":{"id":"2","params":{"user":"usrA"},"code":200,"text":"ok"}}`, `{"pres":{"topic":"me","src":"usrB","what":"on"}}`,
		`{"ctrl":{"id":"3","topic":"usrB","code":503,"text":"locked"}}`, // the partner's join makes the topic
		`{"ctrl":{"id":"3","topic":"usrB","code":200,"text":"ok"}}`))))
	u.Say(3, []byte("b1.text"))
	require.NoError(t, u.Heard([]byte(textFrame(`{"ctrl":{"id":"19","topic":"usrB","params":{"seq":8},"code":202,"text":"accepted"}}`)+
		textFrame(`{"data":{"topic":"usrB","from":"usrB","ts":"2026","seq":9,"content":"b1.other"}}`)+
		textFrame(`{"ctrl":{"id":"20","topic":"usrB","code":403,"text":"permission denied"}}`))))
	require.Equal(t, []string{"in", "acked 3 as 8", "got 9: b1.other", "refused 4: 403 permission denied"}, h.said)
	require.Equal(t, []string{
		string(tinodeHello), `{"login":{"id":"2","scheme":"token","secret":"tokenA"}}`, `{"sub":{"id":"3","topic":"usrB"}}`, `{"sub":{"id":"3","topic":"usrB"}}`,
		`{"pub":{"id":"19","topic":"usrB","noecho":true,"content":"b1.text"}}`,
	}, unmasked(h.sent))
	require.ErrorContains(t, u.Heard([]byte(textFrame(`{"ctrl":{"id":"2","code":401,"text":"authentication required"}}`))), "401")
}

func TestWuKongIMIsSpokenTo(t *testing.T) {
	s := server(t, "wukongim", "ws://localhost")
	require.Equal(t, "localhost:5200", s.Address())
	h := &heard{}
	u := s.Speaker(1, 2, h)
	u.Begin()
	require.Contains(t, string(h.sent), "GET / HTTP/1.1\r\nHost: localhost\r\n")
	require.NoError(t, u.Heard([]byte(webStream(h,
		`{"jsonrpc":"2.0","result":{"serverKey":"","salt":"","timeDiff":-15,"reasonCode":1},"id":"1"}`, `{"method":"pong"}`))))
	u.Say(3, []byte("b1.text"))
	packed := base64.StdEncoding.EncodeToString([]byte(`{"type":1,"content":"b1.more"}`))
	require.NoError(t, u.Heard([]byte(textFrame(`{"result":{"messageId":"98","messageSeq":8,"reasonCode":0},"id":"19"}`)+
		textFrame(`{"method":"recv","params":{"messageId":"99","messageSeq":9,"fromUid":"pb00000007-2","payload":{"content":"b1.other","type":1}}}`)+
		textFrame(`{"method":"recv","params":{"messageId":"100","messageSeq":10,"payload":"`+packed+`"}}`)+
		textFrame(`{"result":{"messageId":"0","messageSeq":0,"reasonCode":4},"id":"20"}`)+
		textFrame(`{"error":{"code":5,"message":"no"},"id":"21"}`))))
	require.Equal(t, []string{"in", "acked 3 as 8", "got 9: b1.other", "got 10: b1.more", "refused 4: reason 4", "refused 5: 5 no"}, h.said)
	require.Equal(t, []string{
		`{"method":"connect","params":{"uid":"pb00000007-1","token":"pb00000007-1","deviceFlag":1},"id":"1"}`,
		`{"method":"send","params":{"clientMsgNo":"pb00000007-1-19","channelId":"pb00000007-2","channelType":1,"payload":{"type":1,"content":"b1.text"}},"id":"19"}`,
		`{"method":"recvack","params":{"messageId":"99","messageSeq":9}}`, `{"method":"recvack","params":{"messageId":"100","messageSeq":10}}`,
	}, unmasked(h.sent))
	require.ErrorContains(t, u.Heard([]byte(textFrame(`{"error":{"code":1001,"message":"Authentication Failed"},"id":"1"}`))), "1001")
	require.ErrorContains(t, u.Heard([]byte(textFrame(`{"method":"disconnect","params":{"reasonCode":12,"reason":"kicked"}}`))), "kicked")
	require.Error(t, u.Heard([]byte(textFrame(`{"method":"recv","params":{"messageId":"1","messageSeq":1,"payload":"%"}}`))))
}
