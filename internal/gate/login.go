package gate

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/internal/flight"
	"parley/internal/slots"
	"parley/internal/store"
	"parley/internal/wire"
)

// logins prove passwords, within the limits on guessing, and place users on chat nodes.
type logins struct {
	*shared
	status *statusPool
	hasher *hasher
	recent *proofs
	// checks makes concurrent requests with the same account and password share one check; repeating a password is
	// not a guess.
	checks    flight.Group[[32]byte, string]
	accounts  *accountLimit
	crowd     *slots.Slots  // requests waiting for an attempt on their account
	addresses *addressLimit // failed logins
}

func newLogins(c *shared, rdb redis.UniversalClient, status *statusPool, h *hasher, recent *proofs) *logins {
	cfg := &c.cfg
	return &logins{
		shared: c, status: status, hasher: h, recent: recent,
		accounts:  &accountLimit{rdb: rdb, timeout: cfg.Redis.Timeout, secret: []byte(cfg.Cluster.Secret), limits: cfg.Limits},
		crowd:     slots.New(max(1, cfg.Hash.Waiting), 0),
		addresses: newAddressLimit(cfg.Limits.AddressFailures, time.Minute, c.exempt),
	}
}

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
func (l *logins) login(ctx context.Context, req *request) (any, error) {
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
	cred, err := l.prove(ctx, req, in.Email.text, passwd)
	if err != nil {
		return nil, err
	}
	place, err := l.status.place(ctx, cred.UID)
	if err != nil {
		return nil, err
	}
	if err := l.unchanged(ctx, req, in.Email.text, passwd, cred); err != nil {
		return nil, err
	}
	l.audit.event("login_ok", req.addr, cred.UID)
	return loginReply{Email: in.Email.text, UID: cred.UID, Token: place.token, Host: place.host, Port: place.port, Addresses: place.addresses}, nil
}

// owner returns the user who proves ownership of an account with an e-mail address and a password. plain says that
// the password is not transformed yet.
func (l *logins) owner(ctx context.Context, req *request, address, passwd string, plain bool) (store.Credentials, error) {
	if len(address) > maxEmailBytes || passwdTooLong(passwd) {
		return store.Credentials{}, wire.Refuse(wire.CodePasswdInvalid, nil)
	}
	if plain {
		passwd = Transform(passwd)
	}
	return l.prove(ctx, req, address, passwd)
}

// prove returns the user with this e-mail address and password, within the limits on guessing. passwd is transformed,
// as the stock client sends it.
func (l *logins) prove(ctx context.Context, req *request, address, passwd string) (cred store.Credentials, err error) {
	patient, cancel := context.WithTimeout(req.client, l.cfg.Hash.Patience)
	defer cancel()
	done, wait, err := l.addresses.beginAttempt(patient, req.addr)
	if err != nil {
		return cred, l.crowded("address")
	}
	if wait > 0 {
		return cred, l.throttled("address", req, wait)
	}
	failed := true // stays true if verify panics
	defer func() { done(failed) }()
	// Failures are counted under the store's key of the address. cleanEmail would not do, because old rows may have
	// any address.
	cred, err = l.verify(ctx, req, address, store.Key(address), passwd)
	failed = wire.CodeOf(err) == wire.CodePasswdInvalid
	return cred, err
}

// verify returns the user with this password. An unknown address, a wrong password and an unusable row get the same
// answer after the same work.
func (l *logins) verify(ctx context.Context, req *request, address, email, passwd string) (store.Credentials, error) {
	cred, err := l.credentials(ctx, address)
	known := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return cred, wire.Refuse(wire.CodeUnavailable, err)
	}
	if known && l.recent.proven(cred.UID, email, passwd, cred.Password) {
		l.metrics.remembered.Inc()
		return cred, nil
	}
	stored, first, err := l.checks.Do(req.client, l.recent.key(email, passwd, cred.Password), func() (string, error) {
		return l.look(ctx, req, cred, email, passwd)
	})
	switch code := wire.CodeOf(err); {
	case err != nil && req.client.Err() != nil:
		return cred, l.crowded("account") // the client has hung up, so no one reads this
	case code == wire.CodePasswdInvalid:
		l.audit.event("login_failed", req.addr, cred.UID)
	case err == nil && !first:
		l.metrics.remembered.Inc()
	}
	if err == nil {
		cred.Password = stored
	}
	return cred, err
}

// look compares a password with the user's, once for all concurrent requests with the same account and password. It
// returns the stored hash after the check.
func (l *logins) look(ctx context.Context, req *request, cred store.Credentials, email, passwd string) (stored string, err error) {
	at, err := l.attempt(ctx, req, email)
	if err != nil {
		return "", err
	}
	v, err := l.hasher.check(req.client, cred.Password, passwd)
	if err != nil {
		if err := l.accounts.giveBack(ctx, at); err != nil && l.noise.Allow() {
			l.log.Warn("login attempt without a result counts as failed", "err", safe(err))
		}
		return "", retryLater(wire.CodeBusy, l.hasher.retryAfter())
	}
	if v.bad != nil && l.noise.Allow() {
		l.log.Error("stored password hash unusable; the user must reset the password", "user", l.audit.user(cred.UID), "err", v.bad)
	}
	if !v.ok {
		if err := l.accounts.failed(ctx, at); err != nil && l.noise.Allow() {
			l.log.Warn("failed login counted late", "err", safe(err)) // it still counts, as an attempt without an outcome
		}
		return "", wire.Refuse(wire.CodePasswdInvalid, nil)
	}
	if err := l.accounts.passed(ctx, at); err != nil && l.noise.Allow() {
		l.log.Warn("count of an account's failed logins not reset after a success", "err", safe(err))
	}
	if v.upgraded != "" {
		l.upgrade(ctx, &cred, v.upgraded)
	}
	l.recent.note(cred.UID, email, passwd, cred.Password)
	return cred.Password, nil
}

// attempt begins an attempt on the account. While as many others are under way as may fail, it waits for their
// outcome, for at most as long as for a hash. Few requests may wait like this at once.
func (l *logins) attempt(ctx context.Context, req *request, email string) (attempt, error) {
	limit := time.Now().Add(l.cfg.Hash.Patience)
	waiting := false
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		at, wait, busy, err := l.accounts.beginAttempt(ctx, email)
		switch {
		case err != nil:
			_ = l.accounts.giveBack(ctx, at)          // Redis may have counted it in spite of the error
			return at, wire.Refuse(wire.CodeRPC, err) // without Redis, no user can be placed either
		case wait > 0:
			return at, l.throttled("account", req, wait)
		case !busy:
			return at, nil
		}
		if !waiting {
			if l.crowd.Take(ctx, 0) != nil {
				return at, l.crowded("account")
			}
			defer l.crowd.Give()
			waiting = true
		}
		if time.Now().After(limit) {
			return at, l.crowded("account")
		}
		select {
		case <-time.After(pause):
		case <-req.client.Done():
			return at, l.crowded("account")
		case <-ctx.Done():
			return at, l.crowded("account")
		}
	}
}

// crowded refuses a request because too many attempts are under way. It does not count as a failure.
func (l *logins) crowded(limit string) error {
	l.metrics.crowded.WithLabelValues(limit).Inc()
	return retryLater(wire.CodeBusy, l.hasher.retryAfter())
}

// upgrade replaces the stored password by a hash of it. If that fails, the next login tries again.
func (l *logins) upgrade(ctx context.Context, cred *store.Credentials, hash string) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := l.store.Users.UpgradePassword(ctx, cred.UID, cred.Password, hash); err != nil {
		if !errors.Is(err, store.ErrNotFound) && l.noise.Allow() { // not found: another login renewed it first
			l.log.Warn("password hash not upgraded", "user", l.audit.user(cred.UID), "err", safe(err))
		}
		return
	}
	cred.Password = hash
}

// unchanged refuses a login whose password was replaced while it was being checked. This closes the gap between a
// check and a reset, because a reset stores the new password first and then revokes older tokens: if the old password
// is still stored here, the login's token is older than the revocation.
func (l *logins) unchanged(ctx context.Context, req *request, address, passwd string, cred store.Credentials) error {
	now, err := l.credentials(ctx, address)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return wire.Refuse(wire.CodePasswdInvalid, nil)
	case err != nil:
		return wire.Refuse(wire.CodeUnavailable, err)
	case now.UID == cred.UID && now.Password == cred.Password:
		return nil
	}
	// Either the password was changed, or another login renewed its hash.
	v, err := l.hasher.check(req.client, now.Password, passwd)
	if err != nil {
		return retryLater(wire.CodeBusy, l.hasher.retryAfter())
	}
	if !v.ok || now.UID != cred.UID {
		return wire.Refuse(wire.CodePasswdInvalid, nil)
	}
	return nil
}

func (l *logins) credentials(ctx context.Context, address string) (store.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return l.store.Users.Credentials(ctx, address)
}
