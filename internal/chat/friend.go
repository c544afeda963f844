package chat

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// maxName bounds what is searched for, in bytes: the column's width.
const maxName = 255

var errBadText = errors.New("chat: text too long or not printable")

// search answers 1007: by uid when the query is all digits and a user has that uid, else by exact name. There is exactly
// one reply, whatever the query: the stock client waits for it modally.
func (s *Server) search(ctx context.Context, c *conn, body []byte) error {
	var req wire.SearchRequest
	if err := wire.Decode(body, &req); err != nil {
		return wire.Refuse(wire.CodeUIDInvalid, err)
	}
	p, err := s.find(ctx, req.Query)
	if err != nil {
		return err
	}
	return c.reply(wire.MsgSearchRsp, wire.SearchReply{Profile: p})
}

func (s *Server) find(ctx context.Context, query any) (wire.Profile, error) {
	none := wire.Refuse(wire.CodeUIDInvalid, store.ErrNotFound)
	switch q := query.(type) {
	case float64:
		if q != float64(int32(q)) || q < 1 {
			return wire.Profile{}, none
		}
		return s.profile(ctx, int32(q))
	case string:
		if q == "" || len(q) > maxName {
			return wire.Profile{}, none
		}
		if strings.Trim(q, "0123456789") != "" {
			return s.profileByName(ctx, q)
		}
		if uid, err := strconv.ParseInt(q, 10, 32); err == nil && uid > 0 {
			p, err := s.profile(ctx, int32(uid))
			if wire.CodeOf(err) != wire.CodeUIDInvalid {
				return p, err
			}
		}
		return s.profileByName(ctx, q) // users from before such names were refused
	}
	return wire.Profile{}, none
}

func (s *Server) profileByName(ctx context.Context, name string) (wire.Profile, error) {
	data, err := s.presence.ProfileByName(ctx, name)
	if err != nil {
		s.log.Debug("profile cache not read", "err", err) // SQL has it
	}
	if data == nil {
		p, err := s.store.ProfileByName(ctx, name)
		if data, err = s.encodeProfile(ctx, p, err); err != nil {
			return wire.Profile{}, err
		}
	}
	return decodeProfile(data)
}

// apply answers 1009 and tells the target, unless it has been told the same already or of too many.
func (s *Server) apply(ctx context.Context, c *conn, body []byte) error {
	var req wire.ApplyRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if !printable(req.Greeting) || !printable(req.Back) {
		return wire.Refuse(wire.CodeBadRequest, errBadText)
	}
	me, err := s.profile(ctx, c.UID())
	if err != nil {
		return err
	}
	news, err := s.store.Apply(ctx, c.UID(), req.ToUID, req.Greeting, req.Back)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return wire.Refuse(wire.CodeUIDInvalid, err)
	case errors.Is(err, store.ErrSelf), errors.Is(err, store.ErrAlreadyFriends), errors.Is(err, store.ErrBlocking):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case errors.Is(err, store.ErrBlocked):
		return c.reply(wire.MsgApplyRsp, codeOnly{}) // the applicant learns nothing, and neither does the target
	case err != nil:
		return err
	}
	s.bumpLists(ctx, req.ToUID)
	if err := c.reply(wire.MsgApplyRsp, codeOnly{}); err != nil {
		return err
	}
	if !news || !s.applied.allow(req.ToUID, time.Now()) {
		s.metrics.applicationsUntold.Inc()
		return nil
	}
	return s.push(req.ToUID, c.UID(), wire.MsgApplied, wire.AppliedPush{
		ApplyUID: c.UID(), Name: me.Name, Desc: req.Greeting, Icon: me.Icon, Nick: me.Nick, Sex: me.Sex,
	})
}

// approve answers 1013: only of a pending application to the user itself. The reply and the push to the applicant carry
// the same stored messages, however the applicant is reached.
func (s *Server) approve(ctx context.Context, c *conn, body []byte) error {
	var req wire.ApproveRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if !printable(req.Back) {
		return wire.Refuse(wire.CodeBadRequest, errBadText)
	}
	applicant, err := s.profile(ctx, req.ToUID)
	if err != nil {
		return err
	}
	me, err := s.profile(ctx, c.UID())
	if err != nil {
		return err
	}
	done, err := s.store.Approve(ctx, s.cfg.SelfServer.Name, c.boot, c.UID(), req.ToUID, req.Back)
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrNoApplication):
		return wire.Refuse(wire.CodeUIDInvalid, err)
	case errors.Is(err, store.ErrSelf), errors.Is(err, store.ErrAlreadyFriends):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case errors.Is(err, store.ErrFenced):
		s.lease.NoteFenced(c.boot)
		return err
	case err != nil:
		return err
	}
	s.bumpLists(ctx, c.UID(), req.ToUID)

	chats := make([]wire.StoredText, len(done.Messages))
	for i := range done.Messages {
		chats[i] = storedText(&done.Messages[i])
	}
	if len(chats) == 0 {
		return wire.Refuse(wire.CodeInternal, errors.New("chat: approval without a message"))
	}
	if p := c.policy(); p != nil {
		p.Befriended(req.ToUID, done.ThreadID, chats[len(chats)-1].MsgID)
	}
	// The push goes first: the approver may write as soon as it has its answer, and its text must not overtake the 1015 that
	// makes it a friend.
	if err := s.push(req.ToUID, c.UID(), wire.MsgApproved, wire.ApprovedPush{
		FromUID: me.UID, ToUID: req.ToUID, Name: me.Name, Nick: me.Nick, Icon: me.Icon, Sex: me.Sex, Chats: chats,
	}); err != nil {
		return err
	}
	frame, err := encodeFrame(wire.MsgApproveRsp, wire.ApproveReply{
		UID: applicant.UID, Name: applicant.Name, Nick: applicant.Nick, Icon: applicant.Icon, Sex: applicant.Sex, Chats: chats,
	})
	if err != nil {
		return wire.Refuse(wire.CodeInternal, err)
	}
	if c.Reply(frame) == nil {
		return nil
	}
	// The approver's connection is gone, and its next one may have read its friends before this was one.
	return s.push(c.UID(), req.ToUID, wire.MsgApproved, wire.ApprovedPush{
		FromUID: applicant.UID, ToUID: c.UID(), Name: applicant.Name, Nick: applicant.Nick, Icon: applicant.Icon, Sex: applicant.Sex,
		Chats: chats,
	})
}

// codeOnly is a reply that says only that all went well.
type codeOnly struct {
	Error wire.Code `json:"error"`
}

// printable reports whether a greeting or an alias fits its column and is text.
func printable(s string) bool {
	return utf8.RuneCountInString(s) <= 255 && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

// bumpLists makes the cached lists of users stale. If Redis does not hear it, they stay wrong for their time to live.
func (s *Server) bumpLists(ctx context.Context, uids ...int32) {
	if err := s.presence.BumpLists(ctx, uids...); err != nil {
		s.log.Warn("cached lists not invalidated", "err", err)
	}
}

// push encodes a push once and hands it to the router.
func (s *Server) push(to, from int32, id wire.MsgID, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return wire.Refuse(wire.CodeInternal, fmt.Errorf("chat: encode push %d: %w", id, err))
	}
	s.router.Deliver([]session.Push{{To: to, From: from, ID: id, Body: body}}, nil)
	return nil
}
