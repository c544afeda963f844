package handler

import (
	"context"
	"errors"
	"time"

	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// A user may try joinBurst bad links at once on one node, then one per joinEvery. A code cannot be guessed; the limit keeps
// the tries off the database.
const (
	joinBurst = 10
	joinEvery = 6 * time.Second
)

var errBadJoins = errors.New("handler: too many joins by bad links")

// link answers 2136.
func (g *groups) link(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupLinkRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	link, err := g.Store.Links.Create(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, time.Duration(req.TTLS)*time.Second, req.Uses)
	if err != nil {
		return g.refused(s, err)
	}
	return reply(s, wire.MsgGroupLinkRsp, wire.GroupLinkReply{
		ThreadID: req.ThreadID, Code: link.Code, ExpiresMS: link.ExpiresMS, Uses: link.Uses,
	})
}

// links answers 2138: the links that can be used now. There are few enough for one reply.
func (g *groups) links(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	list, err := g.Store.Links.List(ctx, s.UID(), req.ThreadID)
	if err != nil {
		return g.refused(s, err)
	}
	page := wire.GroupLinksReply{ThreadID: req.ThreadID, Links: make([]wire.GroupLink, len(list))}
	for i, l := range list {
		page.Links[i] = wire.GroupLink{Code: l.Code, By: l.By, CreatedMS: l.CreatedMS, ExpiresMS: l.ExpiresMS, Uses: l.Uses}
	}
	return reply(s, wire.MsgGroupLinksRsp, page)
}

// revoke answers 2140. A link that is not there is revoked already.
func (g *groups) revoke(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupRevokeRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	if err := g.Store.Links.Revoke(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, req.Code); err != nil {
		return g.refused(s, err)
	}
	return reply(s, wire.MsgGroupRevokeRsp, wire.GroupRevokeReply{ThreadID: req.ThreadID, Code: req.Code})
}

// join answers 2142. The reply has the group's name, as the user knows nothing of it but the code.
func (g *groups) join(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupJoinRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	if !g.failed.allow(s.UID(), time.Now()) {
		return wire.Refuse(wire.CodeRateLimited, errBadJoins)
	}
	change, err := g.Store.Links.Join(ctx, g.Node, s.Boot(), s.UID(), req.Code)
	if !errors.Is(err, store.ErrBadLink) && !errors.Is(err, store.ErrNotAllowed) {
		g.failed.giveBack(s.UID(), time.Now())
	}
	if err != nil {
		return g.refused(s, err)
	}
	g.tell(&change, change.Members)
	of, err := g.Store.Groups.Info(ctx, change.Event.ThreadID, s.UID())
	if err != nil && !errors.Is(err, store.ErrNotMember) { // removed meanwhile: it did join
		return err
	}
	return reply(s, wire.MsgGroupJoinRsp, wire.GroupJoinReply{GroupReply: groupReply(&change), Name: of.Name})
}
