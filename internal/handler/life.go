package handler

import (
	"context"
	"errors"
	"slices"
	"time"

	"parley/internal/group"
	"parley/internal/history"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// A user may recall and edit changeBurst texts at once on one node, then one per changeEvery, over all connections: each is a
// transaction of its own and a row in the thread.
const (
	changeBurst = 60
	changeEvery = 100 * time.Millisecond
)

// life answers the requests that change single texts, or what the user is shown of them. The store decides who may do what, in the
// transaction that does it.
type life struct {
	*Deps
	changes *userRates
}

func newLife(d *Deps) *life { return &life{Deps: d, changes: newUserRates(changeBurst, changeEvery)} }

// handlers returns the handlers of the requests about texts.
func (l *life) handlers() map[wire.MsgID]Handler {
	return map[wire.MsgID]Handler{wire.MsgRecall: l.recall, wire.MsgEdit: l.edit, wire.MsgHide: l.hide}
}

// recall answers 2158.
func (l *life) recall(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.RecallRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	return l.change(ctx, s, wire.MsgRecallRsp, req.ThreadID, func() (store.TextChange, error) {
		return l.Store.Messages.Recall(ctx, l.Node, s.Boot(), s.UID(), req.ThreadID, req.MsgID, l.RecallWindow)
	})
}

// edit answers 2160.
func (l *life) edit(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.EditRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	return l.change(ctx, s, wire.MsgEditRsp, req.ThreadID, func() (store.TextChange, error) {
		return l.Store.Messages.Edit(ctx, l.Node, s.Boot(), s.UID(), req.ThreadID, req.MsgID, req.Content, l.EditWindow)
	})
}

// change changes a text, tells all who may read the thread, and answers.
func (l *life) change(ctx context.Context, s *session.Session, answer wire.MsgID, thread int64, commit func() (store.TextChange, error)) error {
	// Outsiders are refused before anything is locked.
	if _, member, err := history.Readable(ctx, l.Store, thread, s.UID(), s.Groups()); err != nil {
		return err
	} else if !member {
		return wire.Refuse(wire.CodeNotAllowed, errNotMember)
	}
	if !l.changes.allow(s.UID(), time.Now()) {
		return wire.Refuse(wire.CodeRateLimited, nil)
	}
	done, err := commit()
	if err != nil {
		return l.refused(s, err)
	}
	// Before the reply: what the user does next must not overtake it.
	if done.Event.Seq > 0 {
		if err := l.tell(s.UID(), &done); err != nil {
			return err
		}
	}
	return reply(s, answer, wire.GroupReply{ThreadID: thread, EventID: done.Event.Seq})
}

// refused returns what a client is told of an error of the store.
func (l *life) refused(s *session.Session, err error) error {
	for _, e := range []error{
		store.ErrNotMember, store.ErrNotFound, store.ErrMayNotWrite, store.ErrNotAllowed, store.ErrNoText, store.ErrTooLate, store.ErrThreadFull,
	} {
		if errors.Is(err, e) {
			return wire.Refuse(wire.CodeNotAllowed, err)
		}
	}
	switch {
	case errors.Is(err, store.ErrInvalid):
		return wire.Refuse(wire.CodeBadRequest, err)
	case errors.Is(err, store.ErrTooManyHidden):
		return wire.Refuse(wire.CodeRateLimited, err)
	case errors.Is(err, store.ErrFenced):
		l.Fenced(s.Boot())
	}
	return err
}

// tell takes the row that tells of a change to all who are shown it, with the content of a text that was edited.
func (l *life) tell(by int32, done *store.TextChange) error {
	row := history.Stored(&done.Event, history.View{Rows: true})
	first := row.MsgID
	if done.Event.Kind == store.KindEdit {
		var err error
		if row.Content, err = history.EditContent(&done.Event, &done.Target); err != nil {
			return wire.Refuse(wire.CodeInternal, err)
		}
		first = done.Target.Seq // who may not read the text may not read this either
	}
	rows := []wire.StoredText{row}
	if done.Members[0] == 0 {
		l.Groups.Publish(group.Rows{
			Thread: row.ThreadID, Ver: done.Ver, First: first, Last: row.MsgID, Body: wire.AppendGroupPush(nil, row.ThreadID, done.Ver, rows),
		})
		return nil
	}
	body := wire.AppendRowPush(nil, row.ThreadID, rows)
	pushes := make([]session.Push, 0, len(done.Members))
	for _, uid := range done.Members {
		pushes = append(pushes, session.Push{
			To: uid, From: by, ID: wire.MsgRowPush, Thread: row.ThreadID, First: row.MsgID, Seq: row.MsgID, Body: body,
		})
	}
	l.Deliver(pushes, nil)
	return nil
}

// hide answers 2162.
func (l *life) hide(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.HideRequest
	if err := wire.DecodeGroup(body, &req); err != nil {
		return err
	}
	within, member, err := history.Readable(ctx, l.Store, req.ThreadID, s.UID(), s.Groups())
	if err != nil {
		return err
	}
	if !member || slices.Min(req.MsgIDs) < within.First || within.Last > 0 && slices.Max(req.MsgIDs) > within.Last {
		return wire.Refuse(wire.CodeNotAllowed, store.ErrNoText)
	}
	if err := l.Store.Messages.Hide(ctx, l.Node, s.Boot(), s.UID(), req.ThreadID, req.MsgIDs); err != nil {
		return l.refused(s, err)
	}
	if err := reply(s, wire.MsgHideRsp, wire.HideReply{ThreadID: req.ThreadID}); err != nil || s.Alone() {
		return err
	}
	push, err := wire.Encode(wire.HiddenPush{ThreadID: req.ThreadID, MsgIDs: req.MsgIDs})
	if err != nil {
		return wire.Refuse(wire.CodeInternal, err)
	}
	l.Deliver([]session.Push{{To: s.UID(), From: s.UID(), ID: wire.MsgHiddenPush, Body: push, Skip: s.SID()}}, nil)
	return nil
}
