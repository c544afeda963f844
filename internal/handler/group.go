package handler

import (
	"context"
	"errors"
	"time"

	"parley/internal/group"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/users"
	"parley/internal/wire"
)

// Groups takes what was stored in groups to their members; *group.Groups is one. Its methods do not block, but for Reconcile.
type Groups interface {
	// Publish takes rows to the members.
	Publish(rows ...group.Rows)
	// Added takes rows to the members, of whom uids have just been added.
	Added(uids []int32, rows group.Rows)
	// Reconcile has a session told of what is stored in groups from now on; its user is a member of them. It reports whether
	// the session was not yet told of one of them.
	Reconcile(ctx context.Context, s *session.Session, threads []int64) (added bool, err error)
}

// groups answers the requests about groups. The store decides who may do what, in the transaction that does it.
type groups struct {
	*Deps
	failed *userRates // joins by bad links
}

func newGroups(d *Deps) *groups { return &groups{Deps: d, failed: newUserRates(joinBurst, joinEvery)} }

// handlers returns the handlers of the requests about groups.
func (g *groups) handlers() map[wire.MsgID]Handler {
	return map[wire.MsgID]Handler{
		wire.MsgGroupCreate:   g.create,
		wire.MsgGroupInfo:     g.info,
		wire.MsgGroupMembers:  g.members,
		wire.MsgGroupInvite:   g.invite,
		wire.MsgGroupLeave:    g.leave,
		wire.MsgGroupRemove:   g.remove,
		wire.MsgGroupRole:     g.role,
		wire.MsgGroupChange:   g.change,
		wire.MsgGroupMute:     g.mute,
		wire.MsgGroupDissolve: g.dissolve,
		wire.MsgGroupLink:     g.link,
		wire.MsgGroupLinks:    g.links,
		wire.MsgGroupRevoke:   g.revoke,
		wire.MsgGroupJoin:     g.join,
	}
}

// refused returns what a client is told of an error of the store. A group that does not exist and one that the user is no
// member of are the same to it.
func (g *groups) refused(s *session.Session, err error) error {
	switch {
	case errors.Is(err, store.ErrInvalid), errors.Is(err, store.ErrUniqueIDTaken):
		return wire.Refuse(wire.CodeBadRequest, err)
	case errors.Is(err, store.ErrNotMember), errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrNotAllowed), errors.Is(err, store.ErrOwner),
		errors.Is(err, store.ErrSelf), errors.Is(err, store.ErrGroupFull), errors.Is(err, store.ErrTooManyGroups),
		errors.Is(err, store.ErrTooManyLinks), errors.Is(err, store.ErrBadLink):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case errors.Is(err, store.ErrFenced):
		g.Fenced(s.Boot())
	}
	return err
}

// tell takes a change's event to the members. It comes before the reply: what the user does next must not overtake it.
func (g *groups) tell(change *store.GroupChange, added []int32) {
	switch {
	case change.Event.Seq == 0: // nothing has changed
	case len(added) > 0:
		g.Groups.Added(added, group.EventRows(change))
	default:
		g.Groups.Publish(group.EventRows(change))
	}
}

// done tells the members of a change, and answers.
func (g *groups) done(s *session.Session, answer wire.MsgID, change store.GroupChange, err error) error {
	if err != nil {
		return g.refused(s, err)
	}
	g.tell(&change, nil)
	return reply(s, answer, groupReply(&change))
}

func groupReply(change *store.GroupChange) wire.GroupReply {
	return wire.GroupReply{ThreadID: change.Event.ThreadID, EventID: change.Event.Seq}
}

// doneAdding is done for a change that adds members.
func (g *groups) doneAdding(s *session.Session, answer wire.MsgID, change store.GroupChange, added []int32, err error) error {
	if err != nil {
		return g.refused(s, err)
	}
	g.tell(&change, added)
	page := wire.GroupInviteReply{GroupReply: groupReply(&change), Refused: change.Refused}
	if page.Refused == nil {
		page.Refused = []int32{}
	}
	return reply(s, answer, page)
}

// create answers 2116.
func (g *groups) create(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupCreateRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	change, err := g.Store.Groups.Create(ctx, g.Node, s.Boot(), s.UID(), req.Name, req.UniqueID, req.UIDs)
	return g.doneAdding(s, wire.MsgGroupCreateRsp, change, append([]int32{s.UID()}, change.Members...), err)
}

// invite answers 2122.
func (g *groups) invite(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupInviteRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	change, err := g.Store.Groups.Invite(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, req.UIDs)
	return g.doneAdding(s, wire.MsgGroupInviteRsp, change, change.Members, err)
}

// leave answers 2124.
func (g *groups) leave(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	change, err := g.Store.Groups.Leave(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID)
	return g.done(s, wire.MsgGroupLeaveRsp, change, err)
}

// remove answers 2126.
func (g *groups) remove(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupRemoveRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	change, err := g.Store.Groups.RemoveMember(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, req.UID)
	return g.done(s, wire.MsgGroupRemoveRsp, change, err)
}

// role answers 2128.
func (g *groups) role(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupRoleRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	var change store.GroupChange
	var err error
	if req.Role == wire.RoleOwner {
		change, err = g.Store.Groups.Transfer(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, req.UID)
	} else {
		change, err = g.Store.Groups.SetRole(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, req.UID, store.Role(req.Role))
	}
	return g.done(s, wire.MsgGroupRoleRsp, change, err)
}

// change answers 2130. Each part of it is a change of its own; the reply has the number of the last one's event.
func (g *groups) change(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupChangeRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	answer := wire.GroupReply{ThreadID: req.ThreadID}
	part := func(change store.GroupChange, err error) error {
		if err != nil {
			return g.refused(s, err)
		}
		g.tell(&change, nil)
		answer.EventID = max(answer.EventID, change.Event.Seq)
		return nil
	}
	if req.Name != nil {
		if err := part(g.Store.Groups.Rename(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, *req.Name)); err != nil {
			return err
		}
	}
	if req.MuteAll != nil {
		if err := part(g.Store.Groups.Mute(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, *req.MuteAll)); err != nil {
			return err
		}
	}
	if req.HistoryForNew != nil {
		if err := part(g.Store.Groups.SetHistoryForNew(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, *req.HistoryForNew)); err != nil {
			return err
		}
	}
	return reply(s, wire.MsgGroupChangeRsp, answer)
}

// mute answers 2132.
func (g *groups) mute(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupMuteRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	change, err := g.Store.Groups.MuteMember(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID, req.UID, req.UntilMS)
	return g.done(s, wire.MsgGroupMuteRsp, change, err)
}

// dissolve answers 2134.
func (g *groups) dissolve(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	change, err := g.Store.Groups.Dissolve(ctx, g.Node, s.Boot(), s.UID(), req.ThreadID)
	return g.done(s, wire.MsgGroupDissolveRsp, change, err)
}

// info answers 2118.
func (g *groups) info(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	of, err := g.Store.Groups.Info(ctx, req.ThreadID, s.UID())
	if err != nil {
		return g.refused(s, err)
	}
	return reply(s, wire.MsgGroupInfoRsp, wire.GroupInfoReply{
		ThreadID: of.ThreadID, Name: of.Name, Owner: of.Owner, Members: of.Members, MuteAll: of.Muted, HistoryForNew: of.HistoryForNew,
		Dissolved: of.Dissolved, CreatedMS: of.CreatedMS, Role: int(of.Mine.Role), MutedUntilMS: of.Mine.MutedUntilMS,
		FirstID: of.Mine.FromSeq, LastSeq: of.LastSeq, Left: of.Mine.LeftSeq,
	})
}

// members answers 2120: a page of the members, by ascending uid.
func (g *groups) members(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.GroupMembersRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	key := store.GroupKey{Thread: req.ThreadID, UID: s.UID()}
	rights, err := g.Store.Rights.InGroups(ctx, []store.GroupKey{key})
	if err != nil {
		return err
	}
	if !store.May(store.VerbMembers, rights[key].Standing(time.Now().UnixMilli())) {
		return wire.Refuse(wire.CodeNotAllowed, store.ErrNotMember)
	}
	limit := pageLimit(s, req.Limit, nativePage)
	list, err := g.Store.Groups.Members(ctx, req.ThreadID, req.After, limit+1)
	if err != nil {
		return err
	}
	page := wire.GroupMembersReply{ThreadID: req.ThreadID, Members: []wire.GroupMember{}, LastUID: req.After}
	room := g.pageBytes(s)
	for i := range list {
		m := &list[i]
		p := users.WireProfile(m.Profile)
		if room -= profileBytes(&p); i == limit || room < 0 && i > 0 {
			page.LoadMore = true
			break
		}
		page.Members = append(page.Members, wire.GroupMember{
			Profile: p, Role: int(m.Role), JoinedMS: m.JoinedMS, MutedUntilMS: m.MutedUntilMS,
		})
		page.LastUID = p.UID
	}
	return reply(s, wire.MsgGroupMembersRsp, page)
}
