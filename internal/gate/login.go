package gate

import (
	"context"
	"errors"
	"time"

	"parley/internal/store"
	"parley/internal/wire"
)

type loginRequest struct {
	Email  optional `json:"email"`
	Passwd optional `json:"passwd"`
	Plain  bool     `json:"plain"`
}

type loginReply struct {
	Error wire.Code `json:"error"`
	Email string    `json:"email"`
	UID   int32     `json:"uid"`
	Token string    `json:"token"`
	Host  string    `json:"host"`
	Port  string    `json:"port"`
}

// login checks a password and has the user placed on a chat node.
func (s *Server) login(ctx context.Context, req *request) (any, error) {
	var in loginRequest
	if err := decode(req.body, &in, &in.Email, &in.Passwd); err != nil {
		return nil, err
	}
	passwd := in.Passwd.text
	if len(in.Email.text) > maxEmailBytes || passwdTooLong(passwd) {
		return nil, wire.Refuse(wire.CodePasswdInvalid, nil)
	}
	if in.Plain {
		passwd = Transform(passwd)
	}
	if wait := s.addresses.take(req.addr); wait > 0 {
		return nil, s.throttled("address", req, wait)
	}
	// The key under which failures are counted. Rows older than our rules may have any address, so it is the store's key and not cleanEmail's.
	email := store.Key(in.Email.text)
	cred, err := s.verify(ctx, req, in.Email.text, email, passwd)
	if wire.CodeOf(err) != wire.CodePasswdInvalid {
		s.addresses.giveBack(req.addr) // only failures count
	}
	if err != nil {
		return nil, err
	}
	place, err := s.status.place(ctx, cred.UID)
	if err != nil {
		return nil, err
	}
	if err := s.unchanged(ctx, req, in.Email.text, passwd, cred); err != nil {
		return nil, err
	}
	s.audit.event("login_ok", req.addr, cred.UID)
	return loginReply{Email: in.Email.text, UID: cred.UID, Token: place.token, Host: place.host, Port: place.port}, nil
}

// verify returns the user whose password it is. Unknown address, wrong password and unusable row are answered alike,
// after the same work.
func (s *Server) verify(ctx context.Context, req *request, address, email, passwd string) (store.Credentials, error) {
	cred, err := s.credentials(ctx, address)
	known := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return cred, wire.Refuse(wire.CodeUnavailable, err)
	}
	if known && s.recent.proven(cred.UID, email, passwd, cred.Password) {
		s.metrics.remembered.Inc()
		return cred, nil
	}
	wait, err := s.accounts.take(ctx, email)
	if err != nil {
		return cred, wire.Refuse(wire.CodeRPC, err) // without Redis nobody can be placed either
	}
	if wait > 0 {
		return cred, s.throttled("account", req, wait)
	}
	v, err := s.hasher.check(req.client, cred.Password, passwd)
	if err != nil {
		if err := s.accounts.giveBack(ctx, email); err != nil && s.noise.Allow() {
			s.log.Warn("a login attempt that was not looked at stays counted", "err", err)
		}
		return cred, retryLater(wire.CodeBusy, s.hasher.retryAfter())
	}
	if v.bad != nil && s.noise.Allow() {
		s.log.Error("a stored password cannot be used; its owner has to reset it", "user", s.audit.user(cred.UID), "err", v.bad)
	}
	if !v.ok {
		s.audit.event("login_failed", req.addr, cred.UID)
		return cred, wire.Refuse(wire.CodePasswdInvalid, nil)
	}
	if err := s.accounts.succeeded(ctx, email); err != nil && s.noise.Allow() {
		s.log.Warn("failed logins of an account stay counted after a success", "err", err)
	}
	if v.upgraded != "" {
		s.upgrade(ctx, &cred, v.upgraded)
	}
	s.recent.note(cred.UID, email, passwd, cred.Password)
	return cred, nil
}

// upgrade replaces the stored password by a hash of it. When it cannot, the next login tries again.
func (s *Server) upgrade(ctx context.Context, cred *store.Credentials, hash string) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.store.UpgradePassword(ctx, cred.UID, cred.Password, hash); err != nil {
		if !errors.Is(err, store.ErrNotFound) && s.noise.Allow() { // not found: somebody else renewed it first
			s.log.Warn("a password's hash could not be renewed", "user", s.audit.user(cred.UID), "err", safe(err))
		}
		return
	}
	cred.Password = hash
}

// unchanged refuses a login whose password was replaced while it was looked at. A reset first stores the new password
// and then makes older tokens useless; a login that still finds the old one here has a token that is older.
func (s *Server) unchanged(ctx context.Context, req *request, address, passwd string, cred store.Credentials) error {
	now, err := s.credentials(ctx, address)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return wire.Refuse(wire.CodePasswdInvalid, nil)
	case err != nil:
		return wire.Refuse(wire.CodeUnavailable, err)
	case now.UID == cred.UID && now.Password == cred.Password:
		return nil
	}
	// Another password, or another login renewed the hash of this one.
	v, err := s.hasher.check(req.client, now.Password, passwd)
	if err != nil {
		return retryLater(wire.CodeBusy, s.hasher.retryAfter())
	}
	if !v.ok || now.UID != cred.UID {
		return wire.Refuse(wire.CodePasswdInvalid, nil)
	}
	return nil
}

func (s *Server) credentials(ctx context.Context, address string) (store.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.store.Credentials(ctx, address)
}

// throttled refuses because of a limit, and counts it.
func (s *Server) throttled(limit string, req *request, wait time.Duration) error {
	s.metrics.throttled.WithLabelValues(limit).Inc()
	s.audit.throttled(limit, req.addr)
	return retryLater(wire.CodeRateLimited, wait)
}
