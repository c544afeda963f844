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

// NewToken returns a login token or resume ticket: 32 random bytes, base64url without padding. Redis sees its digest
// only, so a dump of Redis logs nobody in.
func NewToken() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// digest is what is stored of a token.
func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// CheckToken tells whether a login token would be accepted now. It does not use it up.
func (p *Presence) CheckToken(ctx context.Context, uid int32, token string) (bool, error) {
	_, err := p.peek(ctx, Claim{UID: uid, Token: token})
	if errors.Is(err, ErrTokenInvalid) {
		return false, nil
	}
	if err != nil {
		return false, failed("check token", err)
	}
	return true, nil
}

// RevokeTokens refuses every login token and resume ticket of a user issued until now, as after a password reset. It
// ends no session at once: see EndSession. One that is missed is found by the next Compare of its owner. Times are Redis' own; on a cluster those of two masters, so a token minted within their clocks'
// difference after the call may be refused too.
func (p *Presence) RevokeTokens(ctx context.Context, uid int32) error {
	ctx, cancel := p.bound(ctx)
	defer cancel()
	// Tickets are not deleted, as devices are not listed anywhere: the mark outlives them instead.
	err := revokeScript.Run(ctx, p.rdb, []string{p.keys.tokenMin(uid)}, seconds(max(TokenTTL, ResumeTTL))).Err()
	if err != nil {
		return failed("revoke tokens", err)
	}
	return nil
}

// failed names the operation in an error, except in our own sentinels, which say enough.
func failed(op string, err error) error {
	for _, own := range []error{ErrTokenInvalid, ErrTooManyDevices, ErrNoNode, ErrBusy, ErrClosed} {
		if errors.Is(err, own) {
			return err
		}
	}
	return fmt.Errorf("presence: %s: %w", op, err)
}
