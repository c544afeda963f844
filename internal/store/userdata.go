package store

import (
	"context"
	"database/sql"
	"fmt"
)

// The last column says whether somebody waits for an answer: most users have no application, and are not asked about them
// one by one then.
var qUsers = sameList(`SELECT uid,name,nick,user.desc,icon,sex,
	EXISTS (SELECT 1 FROM friend_apply a WHERE a.to_uid=user.uid AND a.status=0)
	FROM user WHERE uid IN (@) AND deleted_ms=0`, "?", ",")

// UserData is the data of a user that a login needs.
type UserData struct {
	Profile      Profile
	Friends      []Friend      // by ascending uid
	Applications []Application // as Applications returns them
}

// Data reads the data of many users, 256 in one statement, with the newest limit applications of each. Users that do
// not exist are missing in the result. It sees what was committed before the call.
func (s *Users) Data(ctx context.Context, uids []int32, limit int) (map[int32]*UserData, error) {
	users := make(map[int32]*UserData, len(uids))
	var applied []int32
	err := eachOf(ctx, s.db, qUsers, uids, func(rows *sql.Rows) error {
		u, waiting := new(UserData), false
		if err := rows.Scan(append(u.Profile.dest(), &waiting)...); err != nil {
			return err
		}
		if waiting {
			applied = append(applied, u.Profile.UID)
		}
		users[u.Profile.UID] = u
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: profiles of %d users: %w", len(uids), err)
	}
	friends, err := s.friends.Of(ctx, uids)
	if err != nil {
		return nil, err
	}
	for uid, of := range friends {
		if u := users[uid]; u != nil {
			u.Friends = of
		}
	}
	for _, uid := range applied {
		if users[uid].Applications, err = s.friends.Applications(ctx, uid, limit); err != nil {
			return nil, err
		}
	}
	return users, nil
}
