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
	// Addresses has Host and Port again, and how else the node is reached.
	Addresses addresses `json:"addresses"`
}

// login checks a password and places the user on a chat node.
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
	cred, err := s.prove(ctx, req, in.Email.text, passwd)
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
	return loginReply{Email: in.Email.text, UID: cred.UID, Token: place.token, Host: place.host, Port: place.port, Addresses: place.addresses}, nil
}

// prove returns the user with this e-mail address and password, within the limits on guessing. passwd is transformed,
// as the stock client sends it.
func (s *Server) prove(ctx context.Context, req *request, address, passwd string) (cred store.Credentials, err error) {
	patient, cancel := context.WithTimeout(req.client, s.cfg.Hash.Patience)
	defer cancel()
	done, wait, err := s.addresses.beginAttempt(patient, req.addr)
	if err != nil {
		return cred, s.crowded("address")
	}
	if wait > 0 {
		return cred, s.throttled("address", req, wait)
	}
	failed := true // stays true if verify panics
	defer func() { done(failed) }()
	// Failures are counted under the store's key of the address. cleanEmail would not do, because old rows may have
	// any address.
	cred, err = s.verify(ctx, req, address, store.Key(address), passwd)
	failed = wire.CodeOf(err) == wire.CodePasswdInvalid
	return cred, err
}

// verify returns the user with this password. An unknown address, a wrong password and an unusable row get the same
// answer after the same work.
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
	stored, first, err := s.checks.Do(req.client, s.recent.key(email, passwd, cred.Password), func() (string, error) {
		return s.look(ctx, req, cred, email, passwd)
	})
	switch code := wire.CodeOf(err); {
	case err != nil && req.client.Err() != nil:
		return cred, s.crowded("account") // the client has hung up, so no one reads this
	case code == wire.CodePasswdInvalid:
		s.audit.event("login_failed", req.addr, cred.UID)
	case err == nil && !first:
		s.metrics.remembered.Inc()
	}
	if err == nil {
		cred.Password = stored
	}
	return cred, err
}

// look compares a password with the user's, once for all concurrent requests with the same account and password. It
// returns the stored hash after the check.
func (s *Server) look(ctx context.Context, req *request, cred store.Credentials, email, passwd string) (stored string, err error) {
	at, err := s.attempt(ctx, req, email)
	if err != nil {
		return "", err
	}
	v, err := s.hasher.check(req.client, cred.Password, passwd)
	if err != nil {
		if err := s.accounts.giveBack(ctx, at); err != nil && s.noise.Allow() {
			s.log.Warn("login attempt without a result counts as failed", "err", safe(err))
		}
		return "", retryLater(wire.CodeBusy, s.hasher.retryAfter())
	}
	if v.bad != nil && s.noise.Allow() {
		s.log.Error("stored password hash unusable; the user must reset the password", "user", s.audit.user(cred.UID), "err", v.bad)
	}
	if !v.ok {
		if err := s.accounts.failed(ctx, at); err != nil && s.noise.Allow() {
			s.log.Warn("failed login counted late", "err", safe(err)) // it still counts, as an attempt without an outcome
		}
		return "", wire.Refuse(wire.CodePasswdInvalid, nil)
	}
	if err := s.accounts.passed(ctx, at); err != nil && s.noise.Allow() {
		s.log.Warn("count of an account's failed logins not reset after a success", "err", safe(err))
	}
	if v.upgraded != "" {
		s.upgrade(ctx, &cred, v.upgraded)
	}
	s.recent.note(cred.UID, email, passwd, cred.Password)
	return cred.Password, nil
}

// attempt begins an attempt on the account. While as many others are under way as may fail, it waits for their
// outcome, for at most as long as for a hash. Few requests may wait like this at once.
func (s *Server) attempt(ctx context.Context, req *request, email string) (attempt, error) {
	limit := time.Now().Add(s.cfg.Hash.Patience)
	waiting := false
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		at, wait, busy, err := s.accounts.beginAttempt(ctx, email)
		switch {
		case err != nil:
			_ = s.accounts.giveBack(ctx, at)          // Redis may have counted it in spite of the error
			return at, wire.Refuse(wire.CodeRPC, err) // without Redis, no user can be placed either
		case wait > 0:
			return at, s.throttled("account", req, wait)
		case !busy:
			return at, nil
		}
		if !waiting {
			if s.crowd.Take(ctx, 0) != nil {
				return at, s.crowded("account")
			}
			defer s.crowd.Give()
			waiting = true
		}
		if time.Now().After(limit) {
			return at, s.crowded("account")
		}
		select {
		case <-time.After(pause):
		case <-req.client.Done():
			return at, s.crowded("account")
		case <-ctx.Done():
			return at, s.crowded("account")
		}
	}
}

// crowded refuses a request because too many attempts are under way. It does not count as a failure.
func (s *Server) crowded(limit string) error {
	s.metrics.crowded.WithLabelValues(limit).Inc()
	return retryLater(wire.CodeBusy, s.hasher.retryAfter())
}

// upgrade replaces the stored password by a hash of it. If that fails, the next login tries again.
func (s *Server) upgrade(ctx context.Context, cred *store.Credentials, hash string) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.store.Users.UpgradePassword(ctx, cred.UID, cred.Password, hash); err != nil {
		if !errors.Is(err, store.ErrNotFound) && s.noise.Allow() { // not found: another login renewed it first
			s.log.Warn("password hash not upgraded", "user", s.audit.user(cred.UID), "err", safe(err))
		}
		return
	}
	cred.Password = hash
}

// unchanged refuses a login whose password was replaced while it was being checked. This closes the gap between a
// check and a reset, because a reset stores the new password first and then revokes older tokens: if the old password
// is still stored here, the login's token is older than the revocation.
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
	// Either the password was changed, or another login renewed its hash.
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
	return s.store.Users.Credentials(ctx, address)
}

// throttled refuses a request because of a limit, and records that.
func (s *Server) throttled(limit string, req *request, wait time.Duration) error {
	s.metrics.throttled.WithLabelValues(limit).Inc()
	s.audit.throttled(limit, req.addr)
	return retryLater(wire.CodeRateLimited, wait)
}
