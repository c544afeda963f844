package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	"parley/internal/wire"
	"parley/lab/stockmodel"
)

// fresh bounds the users registered in a run: a gate may allow 20 codes per hour per address.
const fresh = 16

// env is shared by the attempts of a run: the users, and which of them are friends.
type env struct {
	t      Target
	run    string // random characters in the names of this run
	http   *http.Client
	stalls *stockmodel.Stalls

	mu       sync.Mutex // guards the following
	pool     []*Account
	busy     map[*Account]bool     // used by a slow check
	related  map[[2]*Account]bool  // pairs already used as strangers
	friendly map[[2]*Account]int64 // pairs that are friends, and their thread
	made     int
}

func newEnv(ctx context.Context, t Target) (*env, error) {
	var b [4]byte
	rand.Read(b[:]) // never fails
	e := &env{
		t: t, run: hex.EncodeToString(b[:]), busy: map[*Account]bool{},
		http:    &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: t.TLS}},
		related: map[[2]*Account]bool{}, friendly: map[[2]*Account]int64{},
	}
	if !strings.Contains(e.t.Gate, "://") {
		e.t.Gate = "http://" + e.t.Gate
	}
	e.t.Gate = strings.TrimRight(e.t.Gate, "/")
	if t.Code == nil {
		for i := range t.Accounts {
			a := t.Accounts[i]
			e.pool = append(e.pool, &a)
		}
	}
	var err error
	if e.stalls, err = stockmodel.WatchStalls(); err != nil {
		return nil, err
	}
	if err := e.setUp(ctx); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// setUp verifies that there is a gate and that a user can log in.
func (e *env) setUp(ctx context.Context) error {
	if e.t.Code != nil {
		_, err := e.register(ctx)
		return err
	}
	if len(e.pool) < 2 {
		return errors.New("at least two accounts are needed, or a way to read verification codes")
	}
	for _, a := range e.pool {
		if _, err := e.ticket(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) close() { e.stalls.Stop() }

// transform applies the stock client's transformation to a password.
func transform(s string) string {
	units := utf16.Encode([]rune(s))
	k := uint16(len(units) % 255)
	for i := range units {
		units[i] ^= k
	}
	return string(utf16.Decode(units))
}

// post sends a JSON body, indented as by the stock client, and returns the status and the reply. A gate that has done nothing because it
// is busy is asked again when it said so, for as long as one waits for an answer.
func (e *env) post(ctx context.Context, route string, body any) (status int, reply object, err error) {
	for end := time.Now().Add(patience); ; {
		status, reply, err = e.postOnce(ctx, route, body)
		wait := time.Duration(reply.num("retry_ms")) * time.Millisecond
		if err != nil || reply.num("error") != int64(wire.CodeBusy) || wait <= 0 || time.Now().Add(wait).After(end) {
			return status, reply, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

func (e *env) postOnce(ctx context.Context, route string, body any) (status int, reply object, err error) {
	raw, ok := body.(string)
	if !ok {
		b, err := json.MarshalIndent(body, "", "    ")
		if err != nil {
			return 0, nil, err
		}
		raw = string(b)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.t.Gate+route, bytes.NewReader([]byte(raw)))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	rsp, err := e.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer rsp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(rsp.Body, 1<<20))
	if err != nil {
		return 0, nil, err
	}
	o, err := decode(b)
	if err != nil {
		return rsp.StatusCode, nil, nil
	}
	return rsp.StatusCode, o, nil
}

// newAccount returns a new account, which register creates.
func (e *env) newAccount() *Account {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.made++
	name := fmt.Sprintf("cf%s%d", e.run, e.made)
	return &Account{Name: name, Email: name + "@example.com", Password: "Secret" + e.run[:4]}
}

// mailCode requests a code and returns it.
func (e *env) mailCode(ctx context.Context, email string) (string, error) {
	before, _ := e.t.Code(ctx, email) // an error means that there was none
	status, reply, err := e.post(ctx, "/get_varifycode", map[string]any{"email": email})
	if err != nil {
		return "", err
	}
	if status != http.StatusOK || reply.num("error") != 0 {
		return "", fmt.Errorf("a code for a new address: status %d, reply %v", status, reply)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		code, err := e.t.Code(ctx, email)
		if err == nil && code != "" && code != before {
			return code, nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return "", errors.Join(errors.New("the verification code did not come to where codes are read from"), err)
		}
	}
}

func registration(a *Account, code string) map[string]any {
	secret := transform(a.Password)
	return map[string]any{
		"user": a.Name, "email": a.Email, "passwd": secret, "confirm": secret, "varifycode": code,
		"icon": ":/res/head_2.jpg", "nick": a.Name, "sex": 0,
	}
}

// register creates an account through the gate and adds it to the pool.
func (e *env) register(ctx context.Context) (*Account, error) {
	a := e.newAccount()
	code, err := e.mailCode(ctx, a.Email)
	if err != nil {
		return nil, err
	}
	_, reply, err := e.post(ctx, "/user_register", registration(a, code))
	if err != nil {
		return nil, err
	}
	if reply.num("error") != 0 || !reply.has("error") {
		return nil, fmt.Errorf("register: reply %v", reply)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pool = append(e.pool, a)
	return a, nil
}

// ticket is the gate's reply to a login.
type ticket struct {
	uid   int32
	token string
	addr  string
}

func (e *env) ticket(ctx context.Context, a *Account) (ticket, error) {
	_, reply, err := e.post(ctx, "/user_login", map[string]any{"email": a.Email, "passwd": transform(a.Password)})
	if err != nil {
		return ticket{}, err
	}
	if !reply.has("error") || reply.num("error") != 0 {
		return ticket{}, fmt.Errorf("log in at the gate as %s: code %d", a.Email, reply.num("error"))
	}
	addr, err := e.address(reply)
	if err != nil {
		return ticket{}, fmt.Errorf("log in at the gate as %s: %w", a.Email, err)
	}
	t := ticket{uid: int32(reply.num("uid")), token: reply.str("token"), addr: addr}
	if t.uid < 1 || t.token == "" {
		return ticket{}, fmt.Errorf("log in at the gate as %s: uid %d, token of %d bytes", a.Email, t.uid, len(t.token))
	}
	e.mu.Lock()
	a.uid = t.uid
	e.mu.Unlock()
	return t, nil
}

// login is env.ticket for an attempt: an error ends it.
func (a *attempt) login(u *Account) ticket {
	t, err := a.ticket(a.ctx, u)
	a.ok("log in at the gate", err)
	return t
}

// uid returns a user's id. If it is unknown, it logs in at the gate.
func (a *attempt) uid(u *Account) int32 {
	a.mu.Lock()
	uid := u.uid
	a.mu.Unlock()
	if uid == 0 {
		uid = a.login(u).uid
	}
	return uid
}

// account returns a user without friends who is used in no other check.
func (a *attempt) account() *Account {
	if a.t.Code == nil {
		a.skipf("needs to register users: no codes can be read")
	}
	u, err := a.register(a.ctx)
	a.ok("register", err)
	a.mu.Lock()
	a.busy[u] = true
	a.mu.Unlock()
	return u
}

// grow returns user i of the shared pool, and registers users as needed; nil if no more can be registered.
func (a *attempt) grow(i int) *Account {
	for {
		a.mu.Lock()
		var free []*Account
		for _, u := range a.pool {
			if !a.busy[u] {
				free = append(free, u)
			}
		}
		a.mu.Unlock()
		if i < len(free) {
			return free[i]
		}
		if a.t.Code == nil || i >= fresh {
			return nil
		}
		_, err := a.register(a.ctx)
		a.ok("register", err)
	}
}

// friends returns two users who are friends, and their thread.
func (a *attempt) friends() (x, y *Account, thread int64) { return a.friendPair(a.grow(0), a.grow(1)) }

// third returns a user who is not a friend of either user of friends.
func (a *attempt) third() *Account {
	x, y := a.grow(0), a.grow(1)
	for i := 2; ; i++ {
		u := a.grow(i)
		if u == nil {
			a.skipf("needs a third user who is no friend of the first two")
		}
		if !a.areFriends(u, x) && !a.areFriends(u, y) {
			a.use(u, x)
			a.use(u, y)
			return u
		}
	}
}

func (a *attempt) use(x, y *Account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.related[[2]*Account{x, y}], a.related[[2]*Account{y, x}] = true, true
}

// strangers returns two users without any relation. Each pair is returned only once.
func (a *attempt) strangers() (x, y *Account) {
	for i := 1; ; i++ {
		y := a.grow(i)
		if y == nil {
			a.skipf("needs two users who are strangers to each other")
		}
		for j := range i {
			x := a.grow(j)
			a.mu.Lock()
			used := a.related[[2]*Account{x, y}] || i == 1
			a.mu.Unlock()
			if used || a.areFriends(x, y) {
				continue
			}
			a.use(x, y)
			return x, y
		}
	}
}

func (a *attempt) areFriends(x, y *Account) bool {
	if a.t.Code != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		_, ok := a.friendly[[2]*Account{x, y}]
		return ok
	}
	uid := a.uid(y)
	for _, f := range a.stock(x).welcome.list("friend_list") {
		if int32(f.num("uid")) == uid {
			return true
		}
	}
	return false
}

// noteFriends records a friendship made by a check.
func (a *attempt) noteFriends(x, y *Account, thread int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.friendly[[2]*Account{x, y}], a.friendly[[2]*Account{y, x}] = thread, thread
}

// friendPair makes two users friends if they are not, and returns their thread.
func (a *attempt) friendPair(x, y *Account) (*Account, *Account, int64) {
	if x == nil || y == nil {
		a.skipf("needs two users")
	}
	a.use(x, y)
	a.mu.Lock()
	thread, known := a.friendly[[2]*Account{x, y}]
	a.mu.Unlock()
	if known {
		return x, y, thread
	}
	if !a.areFriends(x, y) {
		thread = a.befriend(x, y)
	} else {
		c := a.stock(x)
		for _, t := range c.load() {
			if int32(t.num("user1_id")) == a.uid(y) || int32(t.num("user2_id")) == a.uid(y) {
				thread = t.num("thread_id")
			}
		}
		c.close()
	}
	a.want(thread > 0, "expected a thread of two friends, got none")
	a.noteFriends(x, y, thread)
	return x, y, thread
}

// befriend has x apply to y and y approve, both as stock clients.
func (a *attempt) befriend(x, y *Account) (thread int64) {
	cx, cy := a.stock(x), a.stock(y)
	cx.load()
	cy.load()
	cx.send(1009, fields{"uid": cx.uid, "touid": cy.uid, "applyname": "hello " + newUUID(), "bakname": "friend"})
	equal(a, "error of 1010", 0, cx.expect(1010).num("error"))
	cy.expect(1011)
	cy.send(1013, fields{"fromuid": cy.uid, "touid": cx.uid, "back": "friend"})
	reply := cy.expect(1014)
	equal(a, "error of 1014", 0, reply.num("error"))
	cx.expect(1015)
	chats := reply.list("chat_datas")
	a.want(len(chats) > 0, "1014: expected chat_datas, got none")
	thread = chats[0].num("thread_id")
	cx.close()
	cy.close()
	a.noteFriends(x, y, thread)
	return thread
}
