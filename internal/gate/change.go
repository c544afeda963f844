package gate

import (
	"context"
	"errors"

	"parley/internal/store"
	"parley/internal/wire"
)

type changeRequest struct {
	Email     optional `json:"email"`
	Passwd    optional `json:"passwd"`
	NewPasswd optional `json:"newpasswd"`
	Plain     bool     `json:"plain"`
}

type changeReply struct {
	Error wire.Code `json:"error"`
	Email string    `json:"email"`
}

// changePassword stores a new password for a user who proves the old one, and ends all sessions and tokens obtained
// with the old one. The limits of logins apply.
func (a *accounts) changePassword(ctx context.Context, req *request) (any, error) {
	var in changeRequest
	if err := decode(req.body, &in, &in.Email, &in.Passwd, &in.NewPasswd); err != nil {
		return nil, err
	}
	if !validPasswd(in.NewPasswd.text) {
		return nil, wire.Refuse(wire.CodeBadRequest, nil)
	}
	cred, err := a.logins.owner(ctx, req, in.Email.text, in.Passwd.text, in.Plain)
	if err != nil {
		return nil, err
	}
	hash, err := a.hashNew(req, in.NewPasswd.text, in.Plain)
	if err != nil {
		return nil, err
	}
	err = a.replacePassword(ctx, cred, hash)
	if errors.Is(err, store.ErrNotFound) {
		// Either a login has renewed the hash of the same password, or the password was changed. Prove it again.
		if cred, err = a.logins.owner(ctx, req, in.Email.text, in.Passwd.text, in.Plain); err != nil {
			return nil, err
		}
		err = a.replacePassword(ctx, cred, hash)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, wire.Refuse(wire.CodePasswdInvalid, nil)
	case err != nil:
		return nil, wire.Refuse(wire.CodePasswdUpFailed, err)
	}
	a.audit.event("password_changed", req.addr, cred.UID)
	a.sessions.end(ctx, "password_changed", cred.UID, cred.Name, store.Key(in.Email.text))
	return changeReply{Email: in.Email.text}, nil
}

// replacePassword stores hash if the password is still the one in cred; otherwise it returns store.ErrNotFound.
func (a *accounts) replacePassword(ctx context.Context, cred store.Credentials, hash string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return a.store.Users.UpgradePassword(ctx, cred.UID, cred.Password, hash)
}
