package chat

import (
	"context"
	"errors"
	"fmt"

	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/wire"
)

const (
	// maxApplications is how many pending applications 1006 carries, the newest.
	maxApplications = 50
	// maxListBytes bounds apply_list and friend_list together, so that 1006 fits a frame with room to spare: about 400
	// friends. Past it friends are left out, and for stock clients the threads with them.
	maxListBytes = 56 << 10
)

// loginData returns the profile of a user as a JSON object and the lists as members, from the caches or else from SQL,
// and fills the caches.
func (s *Server) loginData(ctx context.Context, uid int32, known presence.Prelogin) (profile, lists []byte, err error) {
	profile, lists = known.Profile, known.Lists
	if profile != nil && lists != nil {
		return profile, lists, nil
	}
	data, err := s.loader.load(ctx, uid)
	if err != nil {
		return nil, nil, err
	}
	if profile == nil {
		if profile, err = s.encodeProfile(ctx, data.Profile, nil); err != nil {
			return nil, nil, err
		}
	}
	if lists == nil {
		lists, err = s.cacheLists(ctx, data, known.ListsVersion)
	}
	return profile, lists, err
}

// loadProfile reads a profile from SQL, caches it and returns its JSON. An unknown user is CodeUIDInvalid.
func (s *Server) loadProfile(ctx context.Context, uid int32) ([]byte, error) {
	p, err := s.store.Profile(ctx, uid)
	return s.encodeProfile(ctx, p, err)
}

func (s *Server) encodeProfile(ctx context.Context, p store.Profile, err error) ([]byte, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, wire.Refuse(wire.CodeUIDInvalid, err)
	}
	if err != nil {
		return nil, err
	}
	data, err := wire.Encode(wireProfile(p))
	if err != nil {
		return nil, wire.Refuse(wire.CodeInternal, fmt.Errorf("chat: encode profile: %w", err))
	}
	if err := s.presence.PutProfile(ctx, p.UID, p.Name, data); err != nil {
		s.log.Debug("profile not cached", "err", err)
	}
	return data, nil
}

func wireProfile(p store.Profile) wire.Profile {
	return wire.Profile{UID: p.UID, Name: p.Name, Nick: p.Nick, Icon: p.Icon, Sex: p.Sex, Desc: p.Desc}
}

// profile returns a user's profile from the cache or SQL.
func (s *Server) profile(ctx context.Context, uid int32) (wire.Profile, error) {
	data, err := s.presence.ProfileByUID(ctx, uid)
	if err != nil {
		s.log.Debug("profile cache not read", "err", err) // SQL has it
	}
	if data == nil {
		if data, err = s.loadProfile(ctx, uid); err != nil {
			return wire.Profile{}, err
		}
	}
	return decodeProfile(data)
}

func decodeProfile(data []byte) (p wire.Profile, err error) {
	if err := wire.Decode(data, &p); err != nil {
		return p, wire.Refuse(wire.CodeInternal, fmt.Errorf("chat: cached profile: %v", err))
	}
	return p, nil
}

// loadLists reads the applications and friends of a user from SQL and caches them under the version that was read before.
func (s *Server) loadLists(ctx context.Context, uid int32, version int64) ([]byte, error) {
	data, err := s.loader.load(ctx, uid)
	if err != nil {
		return nil, err
	}
	return s.cacheLists(ctx, data, version)
}

// cacheLists returns the lists of u encoded, which it caches under the version that was read before u was.
func (s *Server) cacheLists(ctx context.Context, u *store.UserData, version int64) ([]byte, error) {
	data, err := encodeLists(u.Applications, u.Friends)
	if err != nil {
		return nil, err
	}
	if err := s.presence.PutLists(ctx, u.Profile.UID, version, data); err != nil {
		s.log.Debug("lists not cached", "err", err)
	}
	return data, nil
}

// encodeLists returns `"apply_list":[…],"friend_list":[…]`, at most maxListBytes; what does not fit is left out.
func encodeLists(applications []store.Application, friends []store.Friend) ([]byte, error) {
	b := []byte(`"apply_list":[`)
	room := maxListBytes / 4 // friends come first: without them threads cannot be shown
	// The newest are at the end, and the ones to keep.
	first := len(applications)
	encoded := make([][]byte, len(applications))
	for i := len(applications) - 1; i >= 0; i-- {
		a := &applications[i]
		p := wireProfile(a.Profile)
		p.Desc = a.Desc
		data, err := wire.Encode(wire.Application{Profile: p, Status: a.Status})
		if err != nil {
			return nil, wire.Refuse(wire.CodeInternal, fmt.Errorf("chat: encode application: %w", err))
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
		data, err := wire.Encode(wire.Friend{Profile: wireProfile(friends[i].Profile), Back: friends[i].Back})
		if err != nil {
			return nil, wire.Refuse(wire.CodeInternal, fmt.Errorf("chat: encode friend: %w", err))
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

// friendsOf returns the uids in the friend_list of encoded lists.
func friendsOf(lists []byte) (map[int32]struct{}, error) {
	var v struct {
		Friends []struct {
			UID int32 `json:"uid"`
		} `json:"friend_list"`
	}
	body := append(append([]byte{'{'}, lists...), '}')
	if err := wire.Decode(body, &v); err != nil {
		return nil, wire.Refuse(wire.CodeInternal, fmt.Errorf("chat: encoded lists: %v", err))
	}
	uids := make(map[int32]struct{}, len(v.Friends))
	for _, f := range v.Friends {
		uids[f.UID] = struct{}{}
	}
	return uids, nil
}
