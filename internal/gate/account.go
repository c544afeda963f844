package gate

import (
	"context"
	"errors"

	"parley/internal/names"
	"parley/internal/store"
	"parley/internal/wire"
)

// accounts registers users, changes their passwords and deletes them.
type accounts struct {
	*shared
	hasher   *hasher
	varify   *varify
	logins   *logins
	sessions *sessions
}

type registerRequest struct {
	User    optional `json:"user"`
	Email   optional `json:"email"`
	Passwd  optional `json:"passwd"`
	Confirm optional `json:"confirm"`
	Code    optional `json:"varifycode"`
	Icon    optional `json:"icon"`
	Nick    optional `json:"nick"`
	Sex     int32    `json:"sex"`
	Plain   bool     `json:"plain"`
}

type registerReply struct {
	Error wire.Code `json:"error"`
	UID   int32     `json:"uid"`
	Email string    `json:"email"`
	User  string    `json:"user"`
}

// register creates a user. Without a nick, the nick is the name.
func (a *accounts) register(ctx context.Context, req *request) (any, error) {
	var in registerRequest
	if err := decode(req.body, &in, &in.User, &in.Email, &in.Passwd, &in.Confirm, &in.Code); err != nil {
		return nil, err
	}
	if in.Passwd.text != in.Confirm.text {
		return nil, wire.Refuse(wire.CodePasswd, nil)
	}
	email, ok := cleanEmail(in.Email.text)
	name, nameErr := names.Clean(in.User.text)
	nick := in.Nick.text
	if nick == "" {
		nick = name
	}
	if !ok || nameErr != nil || !validNick(nick) || !validIcon(in.Icon.text) || !validPasswd(in.Passwd.text) || in.Sex < 0 {
		return nil, wire.Refuse(wire.CodeBadRequest, nil)
	}
	code, err := a.varify.takeCode(ctx, req, email, in.Code.text)
	if err != nil {
		return nil, err
	}
	hash, err := a.hashNew(req, in.Passwd.text, in.Plain)
	if err != nil {
		a.varify.putCodeBack(ctx, code, true)
		return nil, err
	}
	sqlCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	uid, err := a.store.Users.Create(sqlCtx, store.NewUser{
		Name: name, Email: in.Email.text, PasswordHash: hash, Nick: nick, Icon: in.Icon.text, Sex: in.Sex,
	})
	switch {
	case errors.Is(err, store.ErrExists):
		a.varify.putCodeBack(ctx, code, false)
		return nil, wire.Refuse(wire.CodeUserExist, nil)
	case errors.Is(err, store.ErrInvalid):
		a.varify.putCodeBack(ctx, code, false)
		return nil, wire.Refuse(wire.CodeBadRequest, nil)
	case err != nil:
		a.varify.putCodeBack(ctx, code, true)
		return nil, wire.Refuse(wire.CodeUnavailable, err)
	}
	a.audit.event("register", req.addr, uid)
	return registerReply{UID: uid, Email: in.Email.text, User: name}, nil
}

type resetRequest struct {
	User   optional `json:"user"`
	Email  optional `json:"email"`
	Passwd optional `json:"passwd"`
	Code   optional `json:"varifycode"`
	Plain  bool     `json:"plain"`
}

type resetReply struct {
	Error wire.Code `json:"error"`
	Email string    `json:"email"`
	User  string    `json:"user"`
}

// reset stores a new password, and ends all sessions and tokens obtained with the old one.
func (a *accounts) reset(ctx context.Context, req *request) (any, error) {
	var in resetRequest
	if err := decode(req.body, &in, &in.User, &in.Email, &in.Passwd, &in.Code); err != nil {
		return nil, err
	}
	// Not checked with names.Clean: the account may be older than its rules.
	email, ok := cleanEmail(in.Email.text)
	if !ok || !validPasswd(in.Passwd.text) {
		return nil, wire.Refuse(wire.CodeBadRequest, nil)
	}
	code, err := a.varify.takeCode(ctx, req, email, in.Code.text)
	if err != nil {
		return nil, err
	}
	hash, err := a.hashNew(req, in.Passwd.text, in.Plain)
	if err != nil {
		a.varify.putCodeBack(ctx, code, true)
		return nil, err
	}
	sqlCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	uid, err := a.store.Users.ResetPassword(sqlCtx, in.User.text, in.Email.text, hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		a.varify.putCodeBack(ctx, code, false)
		return nil, wire.Refuse(wire.CodeEmailNotMatch, nil)
	case err != nil:
		a.varify.putCodeBack(ctx, code, true)
		return nil, wire.Refuse(wire.CodePasswdUpFailed, err)
	}
	a.audit.event("password_reset", req.addr, uid)
	a.sessions.end(ctx, "password_reset", uid, in.User.text, email)
	return resetReply{Email: in.Email.text, User: in.User.text}, nil
}

// hashNew hashes a password to be stored. A plain password is transformed first.
func (a *accounts) hashNew(req *request, passwd string, plain bool) (string, error) {
	if plain {
		passwd = Transform(passwd)
	}
	hash, err := a.hasher.hash(req.client, passwd)
	if err != nil {
		return "", retryLater(wire.CodeBusy, a.hasher.retryAfter())
	}
	return hash, nil
}
