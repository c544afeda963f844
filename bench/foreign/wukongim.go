package foreign

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"parley/bench/scan"
)

// wukongim is a WuKongIM server, spoken to in JSON-RPC over WebSocket. The two users of a pair talk in their personal channel.
type wukongim struct {
	at  string
	url *url.URL
	run uint32
}

func newWuKongIM(u *url.URL, run uint32) (Server, error) {
	at, err := hostPort(u, "5200", "ws")
	if err != nil {
		return nil, err
	}
	path := u.Path
	if path == "" {
		path = "/"
	}
	return &wukongim{at: at, url: &url.URL{Host: u.Host, Path: path, RawQuery: u.RawQuery}, run: run}, nil
}

func (w *wukongim) Address() string { return w.at }

// Prepare does nothing: a server that checks no tokens knows each user from its first connection on.
func (*wukongim) Prepare(context.Context, int32, int) error { return nil }

// Forget does nothing: the server keeps the channels.
func (*wukongim) Forget(context.Context) error { return nil }

func (w *wukongim) name(uid int32) string { return fmt.Sprintf("pb%08x-%d", w.run, uid) }

func (w *wukongim) Speaker(uid, partner int32, line Line) Speaker {
	u := &wukongimUser{line: line, name: w.name(uid), partner: w.name(partner)}
	u.web = web{at: w.url, write: line.Send, opened: u.connect, message: u.message}
	return u
}

// wukongimConnect is the id of a user's first request; those of texts are firstText and more.
const wukongimConnect = 1

// wukongimUser is a user of WuKongIM.
type wukongimUser struct {
	line          Line
	name, partner string
	web           web
	buf           []byte
	plain         []byte // a payload that came as base64
}

func (u *wukongimUser) Begin() { u.web.begin() }

func (u *wukongimUser) Heard(data []byte) error { return u.web.heard(data) }

func (u *wukongimUser) connect() {
	u.web.say(fmt.Appendf(nil, `{"method":"connect","params":{"uid":"%s","token":"%s","deviceFlag":1},"id":"%d"}`, u.name, u.name, wukongimConnect))
}

func (u *wukongimUser) Say(counter uint32, content []byte) {
	id := uint64(counter) + firstText
	b := append(append(u.buf[:0], `{"method":"send","params":{"clientMsgNo":"`...), u.name...)
	b = strconv.AppendUint(append(b, '-'), id, 10)
	b = append(append(b, `","channelId":"`...), u.partner...)
	b = append(append(append(b, `","channelType":1,"payload":{"type":1,"content":"`...), content...), `"}},"id":"`...)
	u.buf = append(strconv.AppendUint(b, id, 10), `"}`...)
	u.web.say(u.buf)
}

func (u *wukongimUser) message(b []byte) error {
	if bytes.Contains(b, []byte(`"method":"recv"`)) {
		return u.received(b)
	}
	if bytes.Contains(b, []byte(`"method":"disconnect"`)) {
		return fmt.Errorf("wukongim: disconnected: %d %s", scan.Number(b, `"reasonCode":`), scan.Text(b, `"reason":"`))
	}
	id, why := scan.Number(b, `"id":"`), ""
	// The document says that 0 means success, the server's own clients take 1 for it.
	if code := scan.Number(b, `"reasonCode":`); code > 1 {
		why = fmt.Sprintf("reason %d", code)
	}
	if bytes.Contains(b, []byte(`"error":{`)) {
		why = fmt.Sprintf("%d %s", scan.Number(b, `"code":`), scan.Text(b, `"message":"`))
	}
	switch {
	case answered(u.line, id, scan.Number(b, `"messageSeq":`), why):
	case id != wukongimConnect: // a pong, an event
	case why != "":
		return errors.New("wukongim: login: " + why)
	default:
		u.line.LoggedIn()
	}
	return nil
}

// received takes a text, and tells the server so, which would send it again otherwise.
func (u *wukongimUser) received(b []byte) error {
	seq := scan.Number(b, `"messageSeq":`)
	ack := append(append(u.buf[:0], `{"method":"recvack","params":{"messageId":"`...), scan.Text(b, `"messageId":"`)...)
	ack = strconv.AppendInt(append(ack, `","messageSeq":`...), seq, 10)
	u.buf = append(ack, `}}`...)
	u.web.say(u.buf)
	payload := b
	if packed := scan.Text(b, `"payload":"`); packed != nil {
		var err error
		if u.plain, err = base64.StdEncoding.AppendDecode(u.plain[:0], packed); err != nil {
			return fmt.Errorf("wukongim: payload: %w", err)
		}
		payload = u.plain
	}
	u.line.Delivered(seq, scan.Text(payload, `"content":"`))
	return nil
}
