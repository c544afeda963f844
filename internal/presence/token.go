package presence

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Lifetimes of what lets a user log in.
const (
	TokenTTL  = 10 * time.Minute // of a login token, which the gate gives out
	ResumeTTL = 24 * time.Hour   // of a resume ticket, which a login gives out for the next one
)

// Tokens are the login tokens, which Nodes.Place mints, and the resume tickets.
type Tokens struct {
	*conn
	logins *Logins
}

// NewToken returns a login token or resume ticket: 32 random bytes, base64url without padding. Redis stores only its
// digest, so the tokens cannot be recovered from a dump of Redis.
func NewToken() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// digest returns the stored form of a token.
func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Check reports whether a login token would be accepted now. It does not use it up.
func (ts *Tokens) Check(ctx context.Context, uid int32, token string) (bool, error) {
	_, err := ts.logins.peek(ctx, Claim{UID: uid, Token: token})
	if errors.Is(err, ErrTokenInvalid) {
		return false, nil
	}
	if err != nil {
		return false, failed("check token", err)
	}
	return true, nil
}

// Revoke invalidates all login tokens and resume tickets of a user issued so far, as after a password reset. It does
// not end sessions; see Sessions.End. The next Sessions.Compare of their owners finds any that were missed. Times
// are Redis'. On a cluster they come from two masters, so a token issued shortly after the call, within the
// difference of their clocks, may be refused too.
func (ts *Tokens) Revoke(ctx context.Context, uid int32) error {
	ctx, cancel := ts.bound(ctx)
	defer cancel()
	// Tickets are not deleted, because devices are not listed anywhere. Instead, the time of the revocation is kept
	// for longer than any ticket lives.
	err := revokeScript.Run(ctx, ts.rdb, []string{ts.keys.tokenMin(uid)}, seconds(max(TokenTTL, ResumeTTL))).Err()
	if err != nil {
		return failed("revoke tokens", err)
	}
	return nil
}

// failed adds the operation to an error, except to the sentinel errors of this package, which need none.
func failed(op string, err error) error {
	for _, own := range []error{ErrTokenInvalid, ErrTooManyDevices, ErrNoNode, ErrBusy, ErrClosed} {
		if errors.Is(err, own) {
			return err
		}
	}
	return fmt.Errorf("presence: %s: %w", op, err)
}
