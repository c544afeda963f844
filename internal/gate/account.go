package gate

import (
	"context"
	"errors"

	"parley/internal/names"
	"parley/internal/store"
	"parley/internal/wire"
)

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
func (s *Server) register(ctx context.Context, req *request) (any, error) {
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
	code, err := s.takeCode(ctx, req, email, in.Code.text)
	if err != nil {
		return nil, err
	}
	hash, err := s.hashNew(req, in.Passwd.text, in.Plain)
	if err != nil {
		s.putCodeBack(ctx, code, true)
		return nil, err
	}
	sqlCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	uid, err := s.store.Users.Create(sqlCtx, store.NewUser{
		Name: name, Email: in.Email.text, PasswordHash: hash, Nick: nick, Icon: in.Icon.text, Sex: in.Sex,
	})
	switch {
	case errors.Is(err, store.ErrExists):
		s.putCodeBack(ctx, code, false)
		return nil, wire.Refuse(wire.CodeUserExist, nil)
	case errors.Is(err, store.ErrInvalid):
		s.putCodeBack(ctx, code, false)
		return nil, wire.Refuse(wire.CodeBadRequest, nil)
	case err != nil:
		s.putCodeBack(ctx, code, true)
		return nil, wire.Refuse(wire.CodeUnavailable, err)
	}
	s.audit.event("register", req.addr, uid)
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
func (s *Server) reset(ctx context.Context, req *request) (any, error) {
	var in resetRequest
	if err := decode(req.body, &in, &in.User, &in.Email, &in.Passwd, &in.Code); err != nil {
		return nil, err
	}
	// Not checked with names.Clean: the account may be older than its rules.
	email, ok := cleanEmail(in.Email.text)
	if !ok || !validPasswd(in.Passwd.text) {
		return nil, wire.Refuse(wire.CodeBadRequest, nil)
	}
	code, err := s.takeCode(ctx, req, email, in.Code.text)
	if err != nil {
		return nil, err
	}
	hash, err := s.hashNew(req, in.Passwd.text, in.Plain)
	if err != nil {
		s.putCodeBack(ctx, code, true)
		return nil, err
	}
	sqlCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	uid, err := s.store.Users.ResetPassword(sqlCtx, in.User.text, in.Email.text, hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.putCodeBack(ctx, code, false)
		return nil, wire.Refuse(wire.CodeEmailNotMatch, nil)
	case err != nil:
		s.putCodeBack(ctx, code, true)
		return nil, wire.Refuse(wire.CodePasswdUpFailed, err)
	}
	s.audit.event("password_reset", req.addr, uid)
	s.endSessions(ctx, "password_reset", uid, in.User.text, email)
	return resetReply{Email: in.Email.text, User: in.User.text}, nil
}

// hashNew hashes a password to be stored. A plain password is transformed first.
func (s *Server) hashNew(req *request, passwd string, plain bool) (string, error) {
	if plain {
		passwd = Transform(passwd)
	}
	hash, err := s.hasher.hash(req.client, passwd)
	if err != nil {
		return "", retryLater(wire.CodeBusy, s.hasher.retryAfter())
	}
	return hash, nil
}

// takeCode uses up the code that was mailed to email, which is in lower case.
func (s *Server) takeCode(ctx context.Context, req *request, email, code string) (taken, error) {
	t, err := s.codes.use(ctx, email, code)
	switch {
	case errors.Is(err, errNoCode):
		return t, wire.Refuse(wire.CodeVarifyExpired, nil)
	case errors.Is(err, errWrongCode):
		return t, wire.Refuse(wire.CodeVarify, nil)
	case err != nil:
		return t, wire.Refuse(wire.CodeUnavailable, err)
	}
	s.audit.event("code_used", req.addr, 0)
	return t, nil
}

// putCodeBack restores a code whose request failed. A failure here costs the user a new code.

func (s *Server) putCodeBack(ctx context.Context, t taken, refund bool) {
	if err := s.codes.putBack(ctx, t, refund); err != nil && s.noise.Allow() {
		s.log.Warn("verification code not restored; the user must request another", "err", err)
	}
}
