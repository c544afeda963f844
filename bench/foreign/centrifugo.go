package foreign

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"parley/bench/scan"
)

// centrifugo is Centrifugo, or a program with the library Centrifuge, that speaks JSON over WebSocket. Each user has a channel, to
// which the partner publishes.
type centrifugo struct {
	at  string
	url *url.URL
	run uint32
	key []byte // of tokens; empty: the server lets everybody in
}

func newCentrifugo(u *url.URL, run uint32) (Server, error) {
	at, err := hostPort(u, "8000", "ws")
	if err != nil {
		return nil, err
	}
	key, _ := u.User.Password()
	c := &centrifugo{at: at, url: &url.URL{Host: u.Host, Path: u.Path, RawQuery: u.RawQuery}, run: run, key: []byte(key)}
	if u.Path == "" || u.Path == "/" {
		c.url.Path = "/connection/websocket"
	}
	return c, nil
}

func (c *centrifugo) Address() string                         { return c.at }
func (*centrifugo) Prepare(context.Context, int32, int) error { return nil }
func (*centrifugo) Forget(context.Context) error              { return nil }

func (c *centrifugo) channel(uid int32) string {
	return fmt.Sprintf("parley_bench_%08x_%d", c.run, uid)
}

// tokenTime is how long a token is valid.
const tokenTime = time.Hour

// token returns the JSON Web Token of a user, signed with HMAC-SHA256.
func (c *centrifugo) token(uid int32) string {
	enc := base64.RawURLEncoding
	b := enc.AppendEncode(nil, []byte(`{"alg":"HS256","typ":"JWT"}`))
	b = enc.AppendEncode(append(b, '.'), fmt.Appendf(nil, `{"sub":"%d","exp":%d}`, uid, time.Now().Add(tokenTime).Unix()))
	h := hmac.New(sha256.New, c.key)
	h.Write(b)
	return string(enc.AppendEncode(append(b, '.'), h.Sum(nil)))
}

func (c *centrifugo) Speaker(uid, partner int32, line Line) Speaker {
	u := &centrifugoUser{server: c, uid: uid, line: line, to: c.channel(partner)}
	u.web = web{at: c.url, write: line.Send, opened: u.connect, message: u.messages}
	if len(c.key) > 0 {
		u.token = c.token(uid) // signed before the load, as by an application's own login
	}
	return u
}

// centrifugoUser is a user of Centrifugo. The ids of its first commands are 1 and 2, those of texts firstText and more.
type centrifugoUser struct {
	server *centrifugo
	line   Line
	uid    int32
	to     string // the partner's channel
	token  string
	web    web
	buf    []byte
}

func (u *centrifugoUser) Begin() { u.web.begin() }

func (u *centrifugoUser) Heard(data []byte) error { return u.web.heard(data) }

func (u *centrifugoUser) connect() {
	if u.token != "" {
		u.web.say(fmt.Appendf(nil, `{"id":1,"connect":{"token":"%s"}}`, u.token))
		return
	}
	u.web.say([]byte(`{"id":1,"connect":{}}`))
}

func (u *centrifugoUser) Say(counter uint32, content []byte) {
	b := strconv.AppendUint(append(u.buf[:0], `{"id":`...), uint64(counter)+firstText, 10)
	b = append(append(b, `,"publish":{"channel":"`...), u.to...)
	b = append(append(append(b, `","data":"`...), content...), `"}}`...)
	u.buf = b
	u.web.say(b)
}

// messages takes a message of one or more lines.
func (u *centrifugoUser) messages(b []byte) error {
	for line := range bytes.SplitSeq(b, []byte{'\n'}) {
		if err := u.one(line); err != nil {
			return err
		}
	}
	return nil
}

func (u *centrifugoUser) one(b []byte) error {
	switch {
	case len(b) == 0:
		return nil
	case len(b) == 2: // {} asks for a sign of life, which looks the same
		u.web.say(b)
		return nil
	case bytes.HasPrefix(b, []byte(`{"push":`)):
		if data := scan.Text(b, `"data":"`); data != nil {
			u.line.Delivered(0, data)
		}
		return nil
	case !bytes.HasPrefix(b, []byte(`{"id":`)):
		return errors.New("centrifugo: neither a reply nor a push")
	}
	id, why := scan.Number(b, `"id":`), ""
	if bytes.Contains(b, []byte(`"error":{`)) {
		why = fmt.Sprintf("%d %s", scan.Number(b, `"code":`), scan.Text(b, `"message":"`))
	}
	switch {
	case answered(u.line, id, 0, why):
	case why != "":
		return errors.New("centrifugo: login: " + why)
	case id == 1:
		u.web.say(fmt.Appendf(nil, `{"id":2,"subscribe":{"channel":"%s"}}`, u.server.channel(u.uid)))
	default:
		u.line.LoggedIn()
	}
	return nil
}
