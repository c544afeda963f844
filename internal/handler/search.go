package handler

import (
	"context"
	"strconv"
	"strings"

	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/users"
	"parley/internal/wire"
)

// maxName bounds what is searched for, in bytes: the column's width.
const maxName = 255

// finder answers searches for users.
type finder struct{ users *users.Users }

// search answers 1007: by uid when the query is all digits and a user has that uid, else by exact name. There is exactly
// one reply, whatever the query: the stock client waits for it modally.
func (f *finder) search(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.SearchRequest
	if err := wire.Decode(body, &req); err != nil {
		return wire.Refuse(wire.CodeUIDInvalid, err)
	}
	p, err := f.find(ctx, req.Query)
	if err != nil {
		return err
	}
	return reply(s, wire.MsgSearchRsp, wire.SearchReply{Profile: p})
}

func (f *finder) find(ctx context.Context, query any) (wire.Profile, error) {
	none := wire.Refuse(wire.CodeUIDInvalid, store.ErrNotFound)
	switch q := query.(type) {
	case float64:
		if q != float64(int32(q)) || q < 1 {
			return wire.Profile{}, none
		}
		return f.users.Profile(ctx, int32(q))
	case string:
		if q == "" || len(q) > maxName {
			return wire.Profile{}, none
		}
		if strings.Trim(q, "0123456789") != "" {
			return f.users.ProfileByName(ctx, q)
		}
		if uid, err := strconv.ParseInt(q, 10, 32); err == nil && uid > 0 {
			p, err := f.users.Profile(ctx, int32(uid))
			if wire.CodeOf(err) != wire.CodeUIDInvalid {
				return p, err
			}
		}
		return f.users.ProfileByName(ctx, q) // users from before such names were refused
	}
	return wire.Profile{}, none
}
