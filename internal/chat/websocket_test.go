package chat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/websocket"
	"parley/internal/wire"
)

// webClient is a client that speaks WebSocket and Parley by hand.
type webClient struct {
	*websocket.Conn
	t testing.TB
}

// dialWeb connects to a node by WebSocket.
func dialWeb(t testing.TB, n *node) *webClient {
	t.Helper()
	u, err := url.Parse(n.Address(wire.WS))
	require.NoError(t, err)
	raw, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	t.Cleanup(func() { raw.Close() })
	require.NoError(t, raw.SetDeadline(time.Now().Add(patience)))
	c, err := websocket.NewClient(t.Context(), raw, u)
	require.NoError(t, err)
	return &webClient{c, t}
}

// loginWeb logs user i in as a native client, and waits until pushes find it.
func (f *fixture) loginWeb(n *node, i int) *webClient {
	f.t.Helper()
	c := dialWeb(f.t, n)
	ticket := f.ticket(n, i)
	before := n.registry.Live()
	c.send(wire.MsgLogin, map[string]any{"uid": ticket.UID, "token": ticket.Token, "device": "web", "client": "test/1"})
	id, body := c.frame()
	require.Equal(f.t, wire.MsgLoginRsp, id, "%s", body)
	require.Contains(f.t, string(body), `"error":0`)
	eventually(f.t, "the session to be live", func() bool { return n.registry.Live() > before })
	return c
}

func frameOf(t testing.TB, id wire.MsgID, v any) []byte {
	t.Helper()
	frame, err := wire.EncodeFrame(id, v)
	require.NoError(t, err)
	return frame
}

func (c *webClient) send(id wire.MsgID, v any) {
	c.t.Helper()
	_, err := c.Write(frameOf(c.t, id, v))
	require.NoError(c.t, err)
}

// frame reads the next frame.
func (c *webClient) frame() (wire.MsgID, []byte) {
	c.t.Helper()
	var h [wire.HeaderLen]byte
	_, err := io.ReadFull(c, h[:])
	require.NoError(c.t, err)
	id, n := wire.ParseHeader(h[:])
	body := make([]byte, n)
	_, err = io.ReadFull(c, body)
	require.NoError(c.t, err)
	return id, body
}

// closed reads to the end and returns the Close frame.
func (c *webClient) closed() *websocket.ClosedError {
	c.t.Helper()
	_, err := io.Copy(io.Discard, onlyReader{c})
	var closed *websocket.ClosedError
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	require.True(c.t, errors.As(err, &closed), "ended with %v", err)
	return closed
}

type onlyReader struct{ io.Reader }

// raw sends bytes below WebSocket.
func (c *webClient) raw(b []byte) {
	c.t.Helper()
	_, err := c.Conn.Conn.Write(b)
	require.NoError(c.t, err)
}

func TestClientsOfBothTransportsTalk(t *testing.T) {
	f := newFixture(t, 2)
	n := f.start("chat1")
	web, tcp := f.loginWeb(n, 1), f.login(n, 2)
	web.send(wire.MsgText, map[string]any{
		"fromuid": firstUID, "touid": firstUID + 1, "thread_id": f.threads[0],
		"text_array": []map[string]any{{"content": "by WebSocket", "unique_id": "u1"}},
	})
	id, body := web.frame()
	require.Equal(t, wire.MsgTextRsp, id, "%s", body)
	for {
		ev, err := tcp.Next(t.Context())
		require.NoError(t, err)
		if strings.Contains(fmt.Sprintf("%+v", ev), "by WebSocket") {
			break
		}
	}
	_, err := tcp.SendText(t.Context(), client.InThread(f.threads[0]), "by TCP")
	require.NoError(t, err)
	id, body = web.frame()
	require.Equal(t, wire.MsgTextPush, id)
	require.Contains(t, string(body), "by TCP")

	// Several frames in one message, one in several fragments, and a message between them.
	beat := frameOf(t, wire.MsgHeartbeat, map[string]any{"fromuid": firstUID})
	_, err = web.Write(append(append([]byte(nil), beat...), beat...))
	require.NoError(t, err)
	web.raw(fragment(0x02, beat[:3]))
	web.raw(fragment(0x89, []byte("are you there?")))
	web.raw(fragment(0x00, beat[3:7]))
	web.raw(fragment(0x80, beat[7:]))
	for range 3 {
		id, _ := web.frame()
		require.Equal(t, wire.MsgHeartbeatRsp, id)
	}
	require.Equal(t, 2, n.registry.Live())
}

// fragment is one frame of a client; first is its first byte.
func fragment(first byte, payload []byte) []byte {
	b := websocket.AppendMessage(nil, [4]byte{1, 2, 3, 4}, payload)
	b[0] = first
	return b
}

func TestAPingIsAnsweredAmongFrames(t *testing.T) {
	f := newFixture(t, 1)
	n := f.start("chat1")
	u, err := url.Parse(n.Address(wire.WS))
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = websocket.NewClient(t.Context(), conn, u)
	require.NoError(t, err)
	_, err = conn.Write(fragment(0x89, []byte("hello")))
	require.NoError(t, err)
	got := make([]byte, 7)
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, "\x8a\x05hello", string(got))
}

// The goodbye and the address in it are those of the session's transport, and the Close frame tells the code again.
func TestADrainedWebSocketClientLearnsItsNextNode(t *testing.T) {
	f := newFixture(t, 2)
	a, b := f.start("chat1"), f.start("chat2")
	eventually(t, "chat1 to know chat2", func() bool { return a.others.next(wire.WS) != "" })
	web := f.loginWeb(a, 1)
	a.stop()
	id, body := web.frame()
	require.Equal(t, wire.MsgGoodbye, id)
	require.Contains(t, string(body), `"to":"`+b.Address(wire.WS)+`"`)
	closed := web.closed()
	require.Equal(t, websocket.StatusParley, closed.Status)
	require.Equal(t, strconv.Itoa(int(wire.CodeDraining)), closed.Reason)
}

func TestARefusedLoginIsToldInTheCloseFrame(t *testing.T) {
	f := newFixture(t, 1)
	web := dialWeb(t, f.start("chat1"))
	web.send(wire.MsgLogin, map[string]any{"uid": firstUID, "token": "no such token", "device": "web", "client": "test/1"})
	id, _ := web.frame()
	require.Equal(t, wire.MsgLoginRsp, id)
	closed := web.closed()
	require.Equal(t, websocket.StatusParley, closed.Status)
	require.Equal(t, strconv.Itoa(int(wire.CodeTokenInvalid)), closed.Reason)
}

func TestAClientThatClosesIsGoneAtOnce(t *testing.T) {
	f := newFixture(t, 1)
	n := f.start("chat1", func(c *Config) { c.Limits.Linger = time.Minute })
	web := f.loginWeb(n, 1)
	require.NoError(t, web.CloseWrite(websocket.StatusNormal))
	require.Equal(t, websocket.StatusNormal, web.closed().Status)
	eventually(t, "the session to leave", func() bool { return n.registry.Live() == 0 })
}

func TestBadMessagesEndAWebSocketSession(t *testing.T) {
	f := newFixture(t, 1)
	n := f.start("chat1")
	beat := frameOf(t, wire.MsgHeartbeat, map[string]any{"fromuid": firstUID})
	long := binary.BigEndian.AppendUint64([]byte{0x82, 0xff}, 1<<40)
	for _, c := range []struct {
		name   string
		send   []byte
		status websocket.Status
	}{
		{"a message that ends inside a frame", fragment(0x82, beat[:5]), websocket.StatusProtocol},
		{"text", fragment(0x81, []byte("hello")), websocket.StatusUnsupported},
		{"no mask", []byte{0x82, 0}, websocket.StatusProtocol},
		{"compression", fragment(0xc2, beat), websocket.StatusProtocol},
		{"too long", append(long, 0, 0, 0, 0), websocket.StatusTooBig},
		{"reason that is not UTF-8", fragment(0x88, []byte{3, 0xe8, 0xff}), websocket.StatusInvalid},
	} {
		for _, in := range []string{"logged in", "before the login"} {
			t.Run(c.name+", "+in, func(t *testing.T) {
				var web *webClient
				if in == "logged in" {
					web = f.loginWeb(n, 1)
				} else {
					web = dialWeb(t, n)
				}
				web.raw(c.send)
				if in == "logged in" {
					id, body := web.frame()
					require.Equal(t, wire.MsgGoodbye, id)
					require.Contains(t, string(body), `"error":2005`)
				}
				closed := web.closed()
				require.Equal(t, c.status, closed.Status)
				require.Equal(t, "2005", closed.Reason)
				require.NoError(t, web.Close())
				eventually(t, "the connection to go", func() bool { return n.conns.Count() == 0 })
			})
		}
	}
}

func TestWhatIsNoWebSocketHandshakeIsRefused(t *testing.T) {
	f := newFixture(t, 1)
	n := f.start("chat1", func(c *Config) { c.WebSocket.Origins = []string{"chat.example.org", "https://other.example.org:8443"} })
	u, err := url.Parse(n.Address(wire.WS))
	require.NoError(t, err)
	try := func(change func(r *http.Request)) int {
		r, err := http.NewRequest(http.MethodGet, "http://"+u.Host+"/some/path?x", nil)
		require.NoError(t, err)
		for k, v := range map[string]string{
			"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		} {
			r.Header.Set(k, v)
		}
		change(r)
		conn, err := net.Dial("tcp", u.Host)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		var b bytes.Buffer
		require.NoError(t, r.Write(&b))
		for part := range bytes.SplitSeq(b.Bytes(), []byte("e")) { // in pieces
			if _, err = conn.Write(append(append([]byte(nil), part...), 'e')); err != nil {
				break // answered before its end
			}
		}
		line := make([]byte, 12)
		_, err = io.ReadFull(conn, line)
		require.NoError(t, err)
		status, err := strconv.Atoi(string(line[9:]))
		require.NoError(t, err)
		return status
	}
	for name, c := range map[string]struct {
		want   int
		change func(r *http.Request)
	}{
		"nothing missing":   {101, func(*http.Request) {}},
		"our protocol":      {101, func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "other, parley.v1") }},
		"another protocol":  {400, func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "other") }},
		"a listed host":     {101, func(r *http.Request) { r.Header.Set("Origin", "http://chat.example.org:1234") }},
		"a listed origin":   {101, func(r *http.Request) { r.Header.Set("Origin", "https://other.example.org:8443") }},
		"its other port":    {403, func(r *http.Request) { r.Header.Set("Origin", "https://other.example.org") }},
		"another page":      {403, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.org") }},
		"a page of nowhere": {403, func(r *http.Request) { r.Header.Set("Origin", "null") }},
		"an ordinary GET":   {426, func(r *http.Request) { r.Header.Del("Upgrade") }},
		"a POST":            {405, func(r *http.Request) { r.Method = http.MethodPost }},
		"an old version":    {426, func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") }},
		"a short key":       {400, func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "dGhl") }},
		"a long handshake":  {431, func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 9000)) }},
		"two origins":       {403, func(r *http.Request) { r.Header["Origin"] = []string{"http://chat.example.org", "http://x"} }},
	} {
		require.Equal(t, c.want, try(c.change), name)
	}
	require.EqualValues(t, 10, counterValue(t, n.metrics.badHandshakes))
}
