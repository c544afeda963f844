// Package users provides what requests and logins need to know about users: profiles, applications and friends, from
// the caches in Redis or else from SQL.
package users

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/wire"
)

const (
	// maxApplications bounds the pending applications in a 1006; the newest are kept.
	maxApplications = 50
	// maxListBytes bounds apply_list and friend_list together, about 400 friends, so that a 1006 fits into a frame.
	// Further friends are left out, and for stock clients their threads too.
	maxListBytes = 56 << 10
)

// Deps are the dependencies of Users.
type Deps struct {
	Log     *slog.Logger
	Store   *store.Users
	Cache   *presence.Cache
	Timeout time.Duration // of one read for logins
	// Loads and LoadSeconds observe the users per read for logins, and its duration. Panics counts reads that
	// panicked.
	Loads, LoadSeconds prometheus.Histogram
	Panics             prometheus.Counter
}

// Users reads data about users. Its methods are safe for concurrent use.
type Users struct {
	d      Deps
	loader *loader
}

// New returns a Users; the caller must run Run beside it.
func New(d Deps) *Users {
	u := &Users{d: d}
	u.loader = newLoader(&u.d)
	return u
}

// Run reads uncached users for logins until ctx ends. It must be called once.
func (u *Users) Run(ctx context.Context) { u.loader.run(ctx) }

// ForLogin returns a user's profile as a JSON object, and the lists as members of one. It takes them from known or
// else from SQL, and then fills the caches.
func (u *Users) ForLogin(ctx context.Context, uid int32, known presence.Prelogin) (profile, lists []byte, err error) {
	profile, lists = known.Profile, known.Lists
	if profile != nil && lists != nil {
		return profile, lists, nil
	}
	data, err := u.loader.load(ctx, uid)
	if err != nil {
		return nil, nil, err
	}
	if profile == nil {
		if profile, err = u.encodeProfile(ctx, data.Profile, nil); err != nil {
			return nil, nil, err
		}
	}
	if lists == nil {
		lists, err = u.cacheLists(ctx, data, known.ListsVersion)
	}
	return profile, lists, err
}

// loadProfile reads a profile from SQL, caches it and returns its JSON. The error for an unknown user has
// CodeUIDInvalid.
func (u *Users) loadProfile(ctx context.Context, uid int32) ([]byte, error) {
	p, err := u.d.Store.Profile(ctx, uid)
	return u.encodeProfile(ctx, p, err)
}

// encodeProfile encodes and caches a profile that was read with the given error. A failure of the cache costs a read
// of SQL later, and is only logged.
func (u *Users) encodeProfile(ctx context.Context, p store.Profile, err error) ([]byte, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, wire.Refuse(wire.CodeUIDInvalid, err)
	}
	if err != nil {
		return nil, err
	}
	data, err := wire.Encode(WireProfile(p))
	if err != nil {
		return nil, wire.Refuse(wire.CodeInternal, fmt.Errorf("users: encode profile: %w", err))
	}
	if err := u.d.Cache.PutProfile(ctx, p.UID, p.Name, data); err != nil {
		u.d.Log.Debug("profile not cached", "err", err)
	}
	return data, nil
}

// WireProfile returns a profile as sent to clients.
func WireProfile(p store.Profile) wire.Profile {
	return wire.Profile{UID: p.UID, Name: p.Name, Nick: p.Nick, Icon: p.Icon, Sex: p.Sex, Desc: p.Desc}
}

// Profile returns a user's profile from the cache or SQL.
func (u *Users) Profile(ctx context.Context, uid int32) (wire.Profile, error) {
	data, err := u.d.Cache.ProfileByUID(ctx, uid)
	if err != nil {
		u.d.Log.Debug("profile cache not read", "err", err) // SQL has it
	}
	if data == nil {
		if data, err = u.loadProfile(ctx, uid); err != nil {
			return wire.Profile{}, err
		}
	}
	return decodeProfile(data)
}

// ProfileByName returns the profile of the user with exactly this name, from the cache or SQL.
func (u *Users) ProfileByName(ctx context.Context, name string) (wire.Profile, error) {
	data, err := u.d.Cache.ProfileByName(ctx, name)
	if err != nil {
		u.d.Log.Debug("profile cache not read", "err", err) // SQL has it
	}
	if data == nil {
		p, err := u.d.Store.ProfileByName(ctx, name)
		if data, err = u.encodeProfile(ctx, p, err); err != nil {
			return wire.Profile{}, err
		}
	}
	return decodeProfile(data)
}

func decodeProfile(data []byte) (p wire.Profile, err error) {
	if err := wire.Decode(data, &p); err != nil {
		return p, wire.Refuse(wire.CodeInternal, fmt.Errorf("users: cached profile: %v", err))
	}
	return p, nil
}

// Lists reads a user's applications and friends from SQL and caches them under version, which the caller must have
// read before.
func (u *Users) Lists(ctx context.Context, uid int32, version int64) ([]byte, error) {
	data, err := u.loader.load(ctx, uid)
	if err != nil {
		return nil, err
	}
	return u.cacheLists(ctx, data, version)
}

// cacheLists encodes a user's lists and caches them under version, which was read before them.
func (u *Users) cacheLists(ctx context.Context, data *store.UserData, version int64) ([]byte, error) {
	lists, err := encodeLists(data.Applications, data.Friends)
	if err != nil {
		return nil, err
	}
	if err := u.d.Cache.PutLists(ctx, data.Profile.UID, version, lists); err != nil {
		u.d.Log.Debug("lists not cached", "err", err)
	}
	return lists, nil
}

// encodeLists returns `"apply_list":[…],"friend_list":[…]` in at most maxListBytes, leaving out what does not fit.
func encodeLists(applications []store.Application, friends []store.Friend) ([]byte, error) {
	b := []byte(`"apply_list":[`)
	room := maxListBytes / 4 // most of the space is for friends: without them clients cannot show threads
	// The newest applications are at the end and take precedence.
	first := len(applications)
	encoded := make([][]byte, len(applications))
	for i := len(applications) - 1; i >= 0; i-- {
		a := &applications[i]
		p := WireProfile(a.Profile)
		p.Desc = a.Desc
		data, err := wire.Encode(wire.Application{Profile: p, Status: a.Status})
		if err != nil {
			return nil, wire.Refuse(wire.CodeInternal, fmt.Errorf("users: encode application: %w", err))
		}
		if room -= len(data) + 1; room < 0 {
			break
		}
		encoded[i], first = data, i
	}
	for i, data := range encoded[first:] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, data...)
	}
	b = append(b, `],"friend_list":[`...)
	for i := range friends {
		data, err := wire.Encode(wire.Friend{Profile: WireProfile(friends[i].Profile), Back: friends[i].Back})
		if err != nil {
			return nil, wire.Refuse(wire.CodeInternal, fmt.Errorf("users: encode friend: %w", err))
		}
		if len(b)+len(data) > maxListBytes {
			return append(b, `],"friends_cut":true`...), nil
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, data...)
	}
	return append(b, ']'), nil
}

// FriendsOf returns the uids in the friend_list of encoded lists.
func FriendsOf(lists []byte) (map[int32]struct{}, error) {
	var v struct {
		Friends []struct {
			UID int32 `json:"uid"`
		} `json:"friend_list"`
	}
	body := append(append([]byte{'{'}, lists...), '}')
	if err := wire.Decode(body, &v); err != nil {
		return nil, wire.Refuse(wire.CodeInternal, fmt.Errorf("users: encoded lists: %v", err))
	}
	uids := make(map[int32]struct{}, len(v.Friends))
	for _, f := range v.Friends {
		uids[f.UID] = struct{}{}
	}
	return uids, nil
}

// Changed invalidates the cached lists of users. If that fails, the lists may be out of date until they expire.
func (u *Users) Changed(ctx context.Context, uids ...int32) {
	if err := u.d.Cache.BumpLists(ctx, uids...); err != nil {
		u.d.Log.Warn("cached lists not invalidated", "err", err)
	}
}
