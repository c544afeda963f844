package gate

import (
	"context"
	"errors"

	"parley/internal/store"
	"parley/internal/wire"
)

type deleteReply struct {
	Error wire.Code `json:"error"`
	UID   int32     `json:"uid"`
}

// deleteAccount erases the user with the given address and password, and ends all sessions and tokens. Failures count
// against the limits of logins.
func (a *accounts) deleteAccount(ctx context.Context, req *request) (any, error) {
	var in loginRequest
	if err := decode(req.body, &in, &in.Email, &in.Passwd); err != nil {
		return nil, err
	}
	cred, done, err := a.erase(ctx, req, &in)
	if err != nil {
		return nil, err
	}
	a.audit.event("account_deleted", req.addr, cred.UID)
	a.sessions.end(ctx, "account_deleted", cred.UID, done.Name, store.Key(in.Email.text))
	a.bumpLists(ctx, done.Related)
	if err := a.presence.Mailboxes.LeaveDeletion(ctx, cred.UID); err != nil && a.noise.Allow() {
		a.log.Warn("friends who are logged in go on seeing when a deleted user was last online", "err", safe(err))
	}
	return deleteReply{UID: cred.UID}, nil
}

// eraseTries bounds how often the password is proven again because a login renewed its hash in between.
const eraseTries = 3

// erase proves the password and deletes the user, provided that the password has not changed by then.
func (a *accounts) erase(ctx context.Context, req *request, in *loginRequest) (store.Credentials, store.Deletion, error) {
	for try := 1; ; try++ {
		cred, err := a.logins.owner(ctx, req, in.Email.text, in.Passwd.text, in.Plain)
		if err != nil {
			return cred, store.Deletion{}, err
		}
		sqlCtx, cancel := context.WithTimeout(ctx, storeTimeout)
		done, err := a.store.Users.Delete(sqlCtx, cred.UID, cred.Password)
		cancel()
		switch {
		case err == nil:
			return cred, done, nil
		case !errors.Is(err, store.ErrNotFound):
			return cred, done, wire.Refuse(wire.CodeUnavailable, err)
		case try == eraseTries:
			return cred, done, wire.Refuse(wire.CodePasswdInvalid, nil)
		}
	}
}

// bumpBatch is the number of users per round trip.
const bumpBatch = 256

// bumpLists invalidates the cached lists of users. If Redis does not answer, the lists contain the deleted user until
// they expire.
func (a *accounts) bumpLists(ctx context.Context, uids []int32) {
	for len(uids) > 0 {
		part := uids[:min(len(uids), bumpBatch)]
		uids = uids[len(part):]
		if err := a.presence.Cache.BumpLists(ctx, part...); err != nil {
			if a.noise.Allow() {
				a.log.Warn("cached lists hold a deleted user until they expire", "n", len(part)+len(uids), "err", safe(err))
			}
			return
		}
	}
}
