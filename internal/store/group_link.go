package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"fmt"
	"time"
)

// Links are the links by which users join groups.
type Links struct {
	db     *database
	groups *Groups
	rights *Rights
}

const (
	// MaxLinks is how many links a group may have at once.
	MaxLinks = 100
	// MinLinkTTL and MaxLinkTTL bound the life of a link; DefaultLinkTTL is that of one for which none was asked.
	MinLinkTTL     = time.Minute
	MaxLinkTTL     = 30 * 24 * time.Hour
	DefaultLinkTTL = 7 * 24 * time.Hour
	// MaxLinkUses is how many users may join by one link.
	MaxLinkUses = 10000

	linkBytes = 16 // of chance
)

var (
	qLinkPut    = same("INSERT INTO group_link(code,thread_id,created_by,created_ms,expires_ms,uses_left) VALUES(?,?,?,?,?,?)")
	qLinkRead   = same("SELECT thread_id,created_by,created_ms,expires_ms,uses_left FROM group_link WHERE code=?")
	qLinkUse    = same("UPDATE group_link SET uses_left=uses_left-1 WHERE code=?")
	qLinkDrop   = same("DELETE FROM group_link WHERE code=? AND thread_id=?")
	qLinksDead  = same("DELETE FROM group_link WHERE thread_id=? AND (expires_ms<=? OR uses_left<=0)")
	qLinksDrop  = same("DELETE FROM group_link WHERE thread_id=?")
	qLinksCount = same("SELECT COUNT(*) FROM group_link WHERE thread_id=?")
	qLinksOf    = same(`SELECT code,created_by,created_ms,expires_ms,uses_left FROM group_link
		WHERE thread_id=? AND expires_ms>? AND uses_left>0 ORDER BY created_ms,code`)
)

// Link lets its holders join a group until it expires or has been used Uses times more.
type Link struct {
	Code                 string
	By                   int32
	CreatedMS, ExpiresMS int64
	Uses                 int
}

// Create makes a link that lives for ttl, DefaultLinkTTL if that is 0, and may be used 1 to MaxLinkUses times. It
// returns ErrInvalid, ErrNotMember, ErrNotAllowed, ErrTooManyLinks and ErrFenced.
func (s *Links) Create(ctx context.Context, node, boot string, by int32, thread int64, ttl time.Duration, uses int) (Link, error) {
	if ttl == 0 {
		ttl = DefaultLinkTTL
	}
	if ttl < MinLinkTTL || ttl > MaxLinkTTL || uses < 1 || uses > MaxLinkUses {
		return Link{}, fmt.Errorf("store: user %d, group %d, %v: %w", by, thread, VerbLink, ErrInvalid)
	}
	chance := make([]byte, linkBytes)
	_, _ = rand.Read(chance) // never fails
	link := Link{Code: base64.RawURLEncoding.EncodeToString(chance), By: by, Uses: uses}
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbLink}
	_, err := s.groups.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		if g.unclear {
			if _, found, err := g.link(ctx, link.Code); err != nil || found {
				return nil, err // by an earlier attempt, as are the times of link
			}
		}
		if _, err := g.exec(ctx, qLinksDead, 1, g.id, g.nowMS); err != nil {
			return nil, err
		}
		var n int
		if _, err := g.one(ctx, qLinksCount, []any{g.id}, &n); err != nil {
			return nil, err
		}
		if n >= MaxLinks {
			return nil, ErrTooManyLinks
		}
		link.CreatedMS, link.ExpiresMS = g.nowMS, g.nowMS+ttl.Milliseconds()
		_, err := g.exec(ctx, qLinkPut, 1, link.Code, g.id, by, link.CreatedMS, link.ExpiresMS, uses)
		return nil, err
	})
	if err != nil {
		return Link{}, err
	}
	return link, nil
}

// List returns the links of a group that can still be used, the oldest first. It returns ErrNotMember and ErrNotAllowed.
func (s *Links) List(ctx context.Context, by int32, thread int64) ([]Link, error) {
	links, err := s.list(ctx, by, thread)
	if err != nil {
		return nil, fmt.Errorf("store: user %d, group %d, %v: %w", by, thread, VerbLinks, err)
	}
	return links, nil
}

func (s *Links) list(ctx context.Context, by int32, thread int64) ([]Link, error) {
	key := GroupKey{thread, by}
	rights, err := s.rights.InGroups(ctx, []GroupKey{key})
	if err != nil {
		return nil, err
	}
	now := s.db.ms()
	if st := rights[key].Standing(now); !May(VerbLinks, st) {
		return nil, refusal(VerbLinks, st)
	}
	var links []Link
	err = s.db.each(ctx, qLinksOf, 1, []any{thread, now}, func(rows *sql.Rows) error {
		var l Link
		err := rows.Scan(&l.Code, &l.By, &l.CreatedMS, &l.ExpiresMS, &l.Uses)
		links = append(links, l)
		return err
	})
	return links, err
}

// Revoke ends a link of the group, if it has it. It returns ErrNotMember, ErrNotAllowed and ErrFenced.
func (s *Links) Revoke(ctx context.Context, node, boot string, by int32, thread int64, code string) error {
	c := groupCall{node: node, boot: boot, by: by, thread: thread, verb: VerbRevokeLink}
	_, err := s.groups.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		_, err := g.exec(ctx, qLinkDrop, 1, code, g.id)
		return nil, err
	})
	return err
}

// Join makes uid a member of the group of a link; a member stays one, and the link is not used. It returns
// ErrBadLink whatever is wrong with the link, ErrNotAllowed for a user who was removed from the group, ErrGroupFull,
// ErrTooManyGroups, ErrNotFound if there is no such user, and ErrFenced.
func (s *Links) Join(ctx context.Context, node, boot string, uid int32, code string) (GroupChange, error) {
	var thread int64
	var l Link
	err := s.db.one(ctx, qLinkRead, []any{code}, &thread, &l.By, &l.CreatedMS, &l.ExpiresMS, &l.Uses)
	if err != nil {
		if err == ErrNotFound {
			err = ErrBadLink
		}
		return GroupChange{}, fmt.Errorf("store: user %d joins by a link: %w", uid, err)
	}
	c := groupCall{node: node, boot: boot, by: uid, thread: thread, verb: VerbJoin, users: []int32{uid}}
	return s.groups.change(ctx, c, func(ctx context.Context, g *groupTx) (*groupStep, error) {
		if !g.exist[uid] {
			return nil, ErrNotFound
		}
		l, found, err := g.link(ctx, code)
		if err != nil {
			return nil, err
		}
		if !found || l.ExpiresMS <= g.nowMS || g.dissolved {
			return nil, ErrBadLink
		}
		switch {
		case g.me.Present():
			return nil, nil
		case l.Uses < 1:
			return nil, ErrBadLink
		case g.me.removed:
			return nil, ErrNotAllowed
		}
		counts, err := groupCounts(ctx, g.tx, []int32{uid})
		if err != nil {
			return nil, err
		}
		if counts[uid] >= MaxGroups {
			return nil, ErrTooManyGroups
		}
		if err := g.add(ctx, []int32{uid}); err != nil {
			return nil, err
		}
		_, err = g.exec(ctx, qLinkUse, 1, code)
		return &groupStep{event: Event{Event: EventJoined, UIDs: []int32{uid}}, members: []int32{uid}}, err
	})
}

// link reads a link of the group.
func (g *groupTx) link(ctx context.Context, code string) (l Link, found bool, err error) {
	var thread int64
	l.Code = code
	found, err = g.one(ctx, qLinkRead, []any{code}, &thread, &l.By, &l.CreatedMS, &l.ExpiresMS, &l.Uses)
	return l, found && thread == g.id, err
}
