package handler

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"parley/internal/history"
	"parley/internal/legacy"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

var errBadText = errors.New("handler: text too long or not printable")

// friends answers what makes friends.
type friends struct {
	*Deps
	applied *userRates // applications that a user is pushed
}

// appliedBurst applications are pushed to one user at once, then one per appliedEvery, however many accounts send them.
const (
	appliedBurst = 10
	appliedEvery = 2 * time.Second
)

// apply answers 1009 and tells the target, unless it has been told the same already or of too many.
func (f *friends) apply(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.ApplyRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if !printable(req.Greeting) || !printable(req.Back) {
		return wire.Refuse(wire.CodeBadRequest, errBadText)
	}
	me, err := f.Users.Profile(ctx, s.UID())
	if err != nil {
		return err
	}
	news, err := f.Store.Friends.Apply(ctx, s.UID(), req.ToUID, req.Greeting, req.Back)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return wire.Refuse(wire.CodeUIDInvalid, err)
	case errors.Is(err, store.ErrSelf), errors.Is(err, store.ErrAlreadyFriends), errors.Is(err, store.ErrBlocking):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case errors.Is(err, store.ErrBlocked):
		return reply(s, wire.MsgApplyRsp, codeOnly{}) // the applicant learns nothing, and neither does the target
	case err != nil:
		return err
	}
	f.Users.Changed(ctx, req.ToUID)
	if err := reply(s, wire.MsgApplyRsp, codeOnly{}); err != nil {
		return err
	}
	if !news || !f.applied.allow(req.ToUID, time.Now()) {
		f.ApplicationsUntold.Inc()
		return nil
	}
	return f.push(req.ToUID, s.UID(), wire.MsgApplied, wire.AppliedPush{
		ApplyUID: s.UID(), Name: me.Name, Desc: req.Greeting, Icon: me.Icon, Nick: me.Nick, Sex: me.Sex,
	})
}

// approve answers 1013: only of a pending application to the user itself. The reply and the push to the applicant carry
// the same stored messages, however the applicant is reached.
func (f *friends) approve(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.ApproveRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if !printable(req.Back) {
		return wire.Refuse(wire.CodeBadRequest, errBadText)
	}
	applicant, err := f.Users.Profile(ctx, req.ToUID)
	if err != nil {
		return err
	}
	me, err := f.Users.Profile(ctx, s.UID())
	if err != nil {
		return err
	}
	done, err := f.Store.Friends.Approve(ctx, f.Node, s.Boot(), s.UID(), req.ToUID, req.Back)
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrNoApplication):
		return wire.Refuse(wire.CodeUIDInvalid, err)
	case errors.Is(err, store.ErrSelf), errors.Is(err, store.ErrAlreadyFriends):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case errors.Is(err, store.ErrFenced):
		f.Fenced(s.Boot())
		return err
	case err != nil:
		return err
	}
	f.Users.Changed(ctx, s.UID(), req.ToUID)
	f.seenChanged(s.UID(), req.ToUID)

	chats := make([]wire.StoredText, len(done.Messages))
	for i := range done.Messages {
		chats[i] = history.Stored(&done.Messages[i], history.View{})
	}
	if len(chats) == 0 {
		return wire.Refuse(wire.CodeInternal, errors.New("handler: approval without a message"))
	}
	if p := legacy.Of(s); p != nil {
		p.Befriended(req.ToUID, done.ThreadID, chats[len(chats)-1].MsgID)
	}
	// The push goes first: the approver may write as soon as it has its answer, and its text must not overtake the 1015 that
	// makes it a friend.
	if err := f.push(req.ToUID, s.UID(), wire.MsgApproved, wire.ApprovedPush{
		FromUID: me.UID, ToUID: req.ToUID, Name: me.Name, Nick: me.Nick, Icon: me.Icon, Sex: me.Sex, Chats: chats,
	}); err != nil {
		return err
	}
	frame, err := wire.EncodeFrame(wire.MsgApproveRsp, wire.ApproveReply{
		UID: applicant.UID, Name: applicant.Name, Nick: applicant.Nick, Icon: applicant.Icon, Sex: applicant.Sex, Chats: chats,
	})
	if err != nil {
		return wire.Refuse(wire.CodeInternal, err)
	}
	if s.Reply(frame) == nil {
		return nil
	}
	// The approver's connection is gone, and its next one may have read its friends before this was one.
	return f.push(s.UID(), req.ToUID, wire.MsgApproved, wire.ApprovedPush{
		FromUID: applicant.UID, ToUID: s.UID(), Name: applicant.Name, Nick: applicant.Nick, Icon: applicant.Icon, Sex: applicant.Sex,
		Chats: chats,
	})
}

// printable reports whether a greeting or an alias fits its column and is text.
func printable(s string) bool {
	return utf8.RuneCountInString(s) <= 255 && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}
