package store

import (
	"context"
	"errors"
	"fmt"

	"parley/internal/names"
)

// Users are the accounts: who they are, how their passwords are checked, and what a login needs of them.
type Users struct {
	db      *database
	friends *Friends
}

var (
	qUserPut = same(`INSERT INTO user(name,name_key,email,email_key,pwd,nick,icon,sex,created_ms)
		VALUES(?,?,?,?,?,?,?,?,?)`)
	qUserStored    = same("SELECT uid FROM user WHERE email_key=? AND name_key=? AND pwd=?")
	qCredentials   = same("SELECT uid,name,email,pwd FROM user WHERE email_key=?")
	qPasswordSwap  = same("UPDATE user SET pwd=? WHERE uid=? AND pwd=?")
	qPasswordIs    = same("SELECT 1 FROM user WHERE uid=? AND pwd=?")
	qPasswordSet   = same("UPDATE user SET pwd=? WHERE uid=?")
	qProfile       = same("SELECT uid,name,nick,user.desc,icon,sex FROM user WHERE uid=? AND deleted_ms=0")
	qProfileByName = same("SELECT uid,name,nick,user.desc,icon,sex FROM user WHERE name_key=?")
)

// maxPasswordBytes holds 255 characters of any alphabet, as the column of llfcchat did.
const maxPasswordBytes = 1020

// Profile is the public data of a user. It never holds a password or an e-mail address.
type Profile struct {
	UID                    int32
	Name, Nick, Desc, Icon string
	Sex                    int32
}

func (p *Profile) dest() []any { return []any{&p.UID, &p.Name, &p.Nick, &p.Desc, &p.Icon, &p.Sex} }

// NewUser is a user to be. Name and Email are 1–255 characters, PasswordHash 1–1020 bytes, the others at most 255
// characters.
type NewUser struct {
	Name, Email, PasswordHash, Nick, Icon string
	Sex                                   int32
}

func (u *NewUser) valid() bool {
	return u.Name != "" && u.Email != "" && u.PasswordHash != "" && len(u.PasswordHash) <= maxPasswordBytes &&
		fits(u.Name, u.Email, u.Nick, u.Icon) && fits(names.Key(u.Name), Key(u.Email))
}

// Create stores u and returns its uid: 1001 or more, increasing, with gaps. It returns ErrExists if a user has that
// name or one that looks like it, or that e-mail address, whatever the case, and ErrInvalid. Which names are fit to be
// seen is its caller's business. Any number of nodes may call it at once.
func (s *Users) Create(ctx context.Context, u NewUser) (uid int32, err error) {
	if !u.valid() {
		return 0, fmt.Errorf("store: create user: %w", ErrInvalid)
	}
	err = s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
		if t.unclear {
			// Only we can have stored this hash: it has a random salt.
			found, err := t.one(ctx, qUserStored, []any{Key(u.Email), names.Key(u.Name), u.PasswordHash}, &uid)
			if err != nil || found {
				return err
			}
		}
		res, err := t.exec(ctx, qUserPut, 1, u.Name, names.Key(u.Name), u.Email, Key(u.Email), u.PasswordHash, u.Nick, u.Icon, u.Sex, s.db.ms())
		if c, ours := classOf(err); ours && c == classDuplicate {
			return ErrExists
		}
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return fmt.Errorf("new uid: %w", err)
		}
		uid = int32(id)
		return claimLook(ctx, t, uid, u.Name)
	})
	if err != nil {
		return 0, fmt.Errorf("store: create user: %w", err)
	}
	return uid, nil
}

// Credentials are for the check of a password. Password is what is stored: an argon2id PHC string, or the XOR string of
// llfcchat for a user who has not logged in since the migration.
type Credentials struct {
	UID                   int32
	Name, Email, Password string
}

// Credentials looks a user up by e-mail address, whatever its case, or returns ErrNotFound.
func (s *Users) Credentials(ctx context.Context, email string) (Credentials, error) {
	var c Credentials
	if err := s.db.one(ctx, qCredentials, []any{Key(email)}, &c.UID, &c.Name, &c.Email, &c.Password); err != nil {
		return Credentials{}, fmt.Errorf("store: credentials: %w", err)
	}
	return c, nil
}

// UpgradePassword replaces old, exactly as stored, by hash. It returns ErrNotFound if the user has another password by
// now, or does not exist.
func (s *Users) UpgradePassword(ctx context.Context, uid int32, old, hash string) error {
	if hash == "" || len(hash) > maxPasswordBytes {
		return fmt.Errorf("store: upgrade the password of user %d: %w", uid, ErrInvalid)
	}
	err := s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
		res, err := t.exec(ctx, qPasswordSwap, 1, hash, uid, old)
		if err != nil {
			return err
		}
		// 0 also when hash is stored already: by an attempt whose COMMIT was unclear, or because it equals old.
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		var one int
		found, err := t.one(ctx, qPasswordIs, []any{uid, hash}, &one)
		if err == nil && (!found || (!t.unclear && old != hash)) {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("store: upgrade the password of user %d: %w", uid, err)
	}
	return nil
}

// ResetPassword sets the password of the one user who has this name and this e-mail address, whatever their case, or
// returns ErrNotFound.
func (s *Users) ResetPassword(ctx context.Context, name, email, hash string) (uid int32, err error) {
	if hash == "" || len(hash) > maxPasswordBytes {
		return 0, fmt.Errorf("store: reset password: %w", ErrInvalid)
	}
	err = s.db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
		for _, key := range nameKeys(name) {
			found, err := t.one(ctx, qPasswordLock, []any{key, Key(email)}, &uid)
			if err != nil {
				return err
			}
			if found {
				_, err = t.exec(ctx, qPasswordSet, 1, hash, uid)
				return err
			}
		}
		return ErrNotFound
	})
	if err != nil {
		return 0, fmt.Errorf("store: reset password: %w", err)
	}
	return uid, nil
}

// Profile returns the profile of uid or ErrNotFound.
func (s *Users) Profile(ctx context.Context, uid int32) (Profile, error) {
	var p Profile
	if err := s.db.one(ctx, qProfile, []any{uid}, p.dest()...); err != nil {
		return Profile{}, fmt.Errorf("store: profile of user %d: %w", uid, err)
	}
	return p, nil
}

// ProfileByName returns the profile of the user with exactly this name, whatever its case and form (see names.Key), or
// ErrNotFound.
func (s *Users) ProfileByName(ctx context.Context, name string) (p Profile, err error) {
	for _, key := range nameKeys(name) {
		if err = s.db.one(ctx, qProfileByName, []any{key}, p.dest()...); !errors.Is(err, ErrNotFound) {
			break
		}
	}
	if err != nil {
		return Profile{}, fmt.Errorf("store: profile by name: %w", err)
	}
	return p, nil
}
