package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// gateTimeout bounds a whole exchange with the gate: it verifies passwords behind a queue that waits up to 2 s.
const gateTimeout = 15 * time.Second

// maxGateReply bounds what is read of an answer, in bytes; real ones are below 1 KiB.
const maxGateReply = 64 << 10

var (
	errGateURL    = errors.New("client: not an http or https address")
	errNotOffered = errors.New("the chat node does not offer")
)

// Gate speaks to a gate node over HTTP: accounts and logins. It is safe for concurrent use. Passwords travel as typed,
// so use https, or a loopback address, where others can listen.
type Gate struct {
	url string
	// HTTP does the exchanges; NewGate sets one with a 15 s time-out over http.DefaultTransport. Change it before use.
	HTTP *http.Client
	// Transport is how chat nodes are to be reached: TransportTCP, which is the default, or another one.
	Transport string
}

// NewGate returns a Gate for an address such as "http://127.0.0.1:8080"; a missing scheme means http.
func NewGate(address string) (*Gate, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("%w: %q", errGateURL, address)
	}
	u.RawQuery, u.Fragment = "", ""
	return &Gate{
		url:  strings.TrimRight(u.String(), "/"),
		HTTP: &http.Client{Timeout: gateTimeout},
	}, nil
}

// RequestCode has a verification code mailed to the address. Registering and resetting a password need one. It refuses
// with CodeMail, CodeStore, CodeRPC or CodeRateLimited.
func (g *Gate) RequestCode(ctx context.Context, email string) error {
	_, err := g.post(ctx, "request code", "/get_varifycode", map[string]any{"email": email})
	return err
}

// Registration describes a new user.
type Registration struct {
	Name     string // unique
	Email    string // unique
	Password string // 6 to 128 characters
	Code     string // from RequestCode
	Nick     string // empty: the name
	Icon     string // a path among the stock client's resources; empty: the first portrait
	Sex      int32
}

// Register makes a user and returns its uid. It refuses with CodeUserExist, CodeVarify, CodeVarifyExpired or, for a
// password or name the server will not take, CodeBadRequest.
func (g *Gate) Register(ctx context.Context, r Registration) (uid int32, err error) {
	if r.Nick == "" {
		r.Nick = r.Name
	}
	if r.Icon == "" {
		r.Icon = ":/res/head_1.jpg"
	}
	reply, err := g.post(ctx, "register", "/user_register", map[string]any{
		"user": r.Name, "email": r.Email, "passwd": r.Password, "confirm": r.Password, "varifycode": r.Code,
		"nick": r.Nick, "icon": r.Icon, "sex": r.Sex, "plain": true,
	})
	return reply.UID, err
}

// ResetPassword sets a new password for the user with that name and address. All resume tickets of the user end. It
// refuses with CodeEmailNotMatch, CodeVarify, CodeVarifyExpired or CodePasswdUpFailed.
func (g *Gate) ResetPassword(ctx context.Context, name, email, password, code string) error {
	_, err := g.post(ctx, "reset password", "/reset_pwd", map[string]any{
		"user": name, "email": email, "passwd": password, "varifycode": code, "plain": true,
	})
	return err
}

// ChangePassword replaces a user's password; it needs the old one. All sessions, tokens and resume tickets of the
// user end. It refuses with CodePasswdInvalid, CodeRateLimited or, for a password the server will not take,
// CodeBadRequest.
func (g *Gate) ChangePassword(ctx context.Context, email, password, newPassword string) error {
	_, err := g.post(ctx, "change password", "/change_password", map[string]any{
		"email": email, "passwd": password, "newpasswd": newPassword, "plain": true,
	})
	return err
}

// Login checks the password and returns a ticket for the chat node the user is placed on. It refuses with
// CodePasswdInvalid, or CodeRPC when no chat node can take the user now.
func (g *Gate) Login(ctx context.Context, email, password string) (Ticket, error) {
	reply, err := g.post(ctx, "gate login", "/user_login", map[string]any{"email": email, "passwd": password, "plain": true})
	if err != nil {
		return Ticket{}, err
	}
	if reply.UID < 1 || reply.Token == "" {
		return Ticket{}, fmt.Errorf("gate login: %w", ErrProtocol)
	}
	via := cmp.Or(g.Transport, TransportTCP)
	addr := reply.Addresses[via]
	if via == TransportTCP && reply.Port != "" { // older gates send nothing else
		addr = net.JoinHostPort(reply.Host, reply.Port)
	}
	if addr == "" {
		return Ticket{}, fmt.Errorf("gate login: %w %q", errNotOffered, via)
	}
	if g.Transport == TransportTLS {
		addr = tlsScheme + addr
	}
	return Ticket{Addr: addr, UID: reply.UID, Token: reply.Token}, nil
}

// DeleteAccount deletes the account of the user with that address and password, for good: sessions, friendships and
// applications end, name and address are free again, and the user's texts stay under the name "deleted". It refuses with
// CodePasswdInvalid or CodeRateLimited.
func (g *Gate) DeleteAccount(ctx context.Context, email, password string) error {
	_, err := g.post(ctx, "delete account", "/delete_account", map[string]any{"email": email, "passwd": password, "plain": true})
	return err
}

// gateReply is the union of the gate's answers.
type gateReply struct {
	Error   *Code  `json:"error"`
	RetryMS int64  `json:"retry_ms"`
	UID     int32  `json:"uid"`
	Token   string `json:"token"`
	Host    string `json:"host"`
	Port    string `json:"port"`
	// Addresses are by transport.
	Addresses map[string]string `json:"addresses"`
}

func (g *Gate) post(ctx context.Context, op, route string, fields map[string]any) (gateReply, error) {
	var reply gateReply
	body, err := json.Marshal(fields)
	if err != nil {
		return reply, fmt.Errorf("%s: %w", op, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+route, bytes.NewReader(body))
	if err != nil {
		return reply, fmt.Errorf("%s: %w", op, err)
	}
	req.Header.Set("Content-Type", "application/json")
	rsp, err := g.HTTP.Do(req)
	if err != nil {
		return reply, fmt.Errorf("%s: %w", op, err)
	}
	defer rsp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(rsp.Body, maxGateReply))
	if err != nil {
		return reply, fmt.Errorf("%s: %w", op, err)
	}
	// A gate answers its routes with 200 and a code in the body, so anything else is not a gate, or not this request.
	if rsp.StatusCode != http.StatusOK {
		return reply, fmt.Errorf("%s: %w: HTTP %s", op, ErrProtocol, rsp.Status)
	}
	if err := json.Unmarshal(raw, &reply); err != nil || reply.Error == nil {
		// The answer is not quoted: it may hold a token.
		return gateReply{}, fmt.Errorf("%s: %w: not the JSON of a gate", op, ErrProtocol)
	}
	if *reply.Error != CodeOK {
		after := time.Duration(reply.RetryMS) * time.Millisecond
		if s, err := strconv.Atoi(rsp.Header.Get("Retry-After")); after == 0 && err == nil && s > 0 {
			after = time.Duration(s) * time.Second
		}
		return gateReply{}, &Error{Op: op, Code: *reply.Error, RetryAfter: after}
	}
	return reply, nil
}
