package foreign

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"parley/bench/scan"
)

// tinode is a Tinode server, spoken to in JSON over WebSocket. The two users of a pair talk in the topic of the two.
type tinode struct {
	at  string
	url *url.URL
	run uint32

	mu       sync.Mutex // guards the following
	accounts map[int32]tinodeAccount
}

// tinodeAccount is what the server said of a new account.
type tinodeAccount struct{ user, token string }

func newTinode(u *url.URL, run uint32) (Server, error) {
	at, err := hostPort(u, "6060", "ws")
	if err != nil {
		return nil, err
	}
	t := &tinode{at: at, url: &url.URL{Host: u.Host, Path: u.Path, RawQuery: u.RawQuery}, run: run, accounts: map[int32]tinodeAccount{}}
	if u.Path == "" || u.Path == "/" {
		t.url.Path = "/v0/channels"
	}
	if u.Query().Get("apikey") == "" {
		return nil, errors.New("its address must end with ?apikey=KEY, the key of the server's clients")
	}
	return t, nil
}

func (t *tinode) Address() string { return t.at }

// Forget does nothing: only its owner, one by one, could delete an account.
func (*tinode) Forget(context.Context) error { return nil }

// accountsAtOnce is the number of accounts that are made at the same time: the server hashes a password for each.
const accountsAtOnce = 4

// Prepare makes an account for each user, and keeps the token that the server gives to it.
func (t *tinode) Prepare(ctx context.Context, first int32, users int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	uids := make(chan int32)
	var wg sync.WaitGroup
	for range accountsAtOnce {
		wg.Go(func() {
			for uid := range uids {
				if ctx.Err() != nil {
					continue
				}
				a, err := t.register(ctx, uid)
				if err != nil {
					cancel(fmt.Errorf("tinode: account: %w", err))
					continue
				}
				t.mu.Lock()
				t.accounts[uid] = a
				t.mu.Unlock()
			}
		})
	}
	for i := range users {
		uids <- first + int32(i)
	}
	close(uids)
	wg.Wait()
	return context.Cause(ctx)
}

// register makes an account on a connection of its own.
func (t *tinode) register(ctx context.Context, uid int32) (a tinodeAccount, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.at)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	w := web{at: t.url, write: func(b []byte) { _, _ = conn.Write(b) /* a failed write shows in the next read */ }}
	w.opened = func() { w.say(tinodeHello) }
	w.message = func(b []byte) error {
		c, ok := parseCtrl(b)
		switch {
		case !ok:
			return nil
		case c.code >= 300:
			return fmt.Errorf("%d %s", c.code, c.text)
		case c.id == tinodeHi:
			secret := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "pb%08x%d:%s", t.run, uid, rand.Text()))
			w.say(fmt.Appendf(nil, `{"acc":{"id":"%d","user":"new","scheme":"basic","secret":"%s","login":true}}`, tinodeLogin, secret))
		case c.id == tinodeLogin:
			a = tinodeAccount{string(scan.Text(b, `"user":"`)), string(scan.Text(b, `"token":"`))}
			if a.user == "" || a.token == "" {
				return errors.New("no user or token in the answer")
			}
		}
		return nil
	}
	w.begin()
	for buf := make([]byte, 4096); a.user == ""; {
		n, err := conn.Read(buf)
		if err == nil {
			err = w.heard(buf[:n])
		}
		if err != nil {
			return a, err
		}
	}
	return a, nil
}

func (t *tinode) account(uid int32) tinodeAccount {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.accounts[uid]
}

func (t *tinode) Speaker(uid, partner int32, line Line) Speaker {
	u := &tinodeUser{server: t, uid: uid, partner: partner, line: line}
	u.web = web{at: t.url, write: line.Send, opened: func() { u.web.say(tinodeHello) }, message: u.message}
	return u
}

// The ids of a session's first requests; those of texts are firstText and more.
const (
	tinodeHi = iota + 1
	tinodeLogin
	tinodeSub
)

var tinodeHello = []byte(`{"hi":{"id":"1","ver":"0.22","ua":"parley-bench/1"}}`)

// tinodeUser is a user of Tinode.
type tinodeUser struct {
	server       *tinode
	line         Line
	uid, partner int32
	topic        string // of the pair, which has the partner's name
	joins        int    // attempts to join it
	web          web
	buf          []byte
}

func (u *tinodeUser) Begin() {
	u.joins = 0
	u.topic = u.server.account(u.partner).user
	u.web.begin()
}

func (u *tinodeUser) Heard(data []byte) error { return u.web.heard(data) }

func (u *tinodeUser) Say(counter uint32, content []byte) {
	b := strconv.AppendUint(append(u.buf[:0], `{"pub":{"id":"`...), uint64(counter)+firstText, 10)
	b = append(append(b, `","topic":"`...), u.topic...)
	b = append(append(append(b, `","noecho":true,"content":"`...), content...), `"}}`...)
	u.buf = b
	u.web.say(b)
}

func (u *tinodeUser) message(b []byte) error {
	if bytes.HasPrefix(b, []byte(`{"data":`)) {
		u.line.Delivered(scan.Number(b, `"seq":`), scan.Text(b, `"content":"`))
		return nil
	}
	c, ok := parseCtrl(b)
	why := ""
	if c.code >= 300 {
		why = fmt.Sprintf("%d %s", c.code, c.text)
	}
	switch {
	case !ok: // presence and notes of others
	case answered(u.line, c.id, scan.Number(b, `"seq":`), why):
	case c.id == tinodeSub && c.code == 503 && u.joins < maxJoins:
		u.join()
	case c.code >= 400:
		return fmt.Errorf("tinode: login: %d %s", c.code, c.text)
	case c.id == tinodeHi:
		u.web.say(fmt.Appendf(nil, `{"login":{"id":"%d","scheme":"token","secret":"%s"}}`, tinodeLogin, u.server.account(u.uid).token))
	case c.id == tinodeLogin:
		u.join()
	case c.id == tinodeSub:
		u.line.LoggedIn()
	}
	return nil
}

// maxJoins bounds the attempts to join a topic. While the server makes or loads one for the partner, it refuses others with a
// 503, at once, and has no way to wait.
const maxJoins = 1000

func (u *tinodeUser) join() {
	u.joins++
	u.web.say(fmt.Appendf(nil, `{"sub":{"id":"%d","topic":"%s"}}`, tinodeSub, u.topic))
}

// ctrl is the server's answer to a request.
type ctrl struct {
	id   int64
	code int64
	text []byte
}

func parseCtrl(b []byte) (c ctrl, ok bool) {
	if !bytes.HasPrefix(b, []byte(`{"ctrl":`)) {
		return c, false
	}
	return ctrl{scan.Number(b, `"id":"`), scan.Number(b, `"code":`), scan.Text(b, `"text":"`)}, true
}
