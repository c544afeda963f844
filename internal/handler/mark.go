package handler

import (
	"context"
	"errors"

	"parley/internal/mark"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// Marks stores read marks; *mark.Marks is one.
type Marks interface {
	// Raise stores a mark and returns it as it is stored; see mark.Marks.Raise.
	Raise(ctx context.Context, from session.SID, m store.Mark) (store.Mark, error)
}

// marks answers how far users have read.
type marks struct{ *Deps }

// mark answers 2146: how far the user has read and received a thread.
func (m *marks) mark(ctx context.Context, s *session.Session, body []byte) error {
	req, err := wire.DecodeMark(body)
	if err != nil {
		return err
	}
	stored, err := m.Marks.Raise(ctx, s.SID(), store.Mark{Thread: req.ThreadID, UID: s.UID(), Read: req.Read, Recv: req.Recv})
	switch {
	case errors.Is(err, mark.ErrBusy):
		return wire.Refuse(wire.CodeBusy, err)
	case errors.Is(err, store.ErrNotMember):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case err != nil:
		return err
	}
	_ = s.Reply(wire.AppendMarkReply(nil, req.ThreadID, stored.Read, stored.Recv)) // a dead session needs no answer
	return nil
}

// list answers 2149: a page of the marks of a thread, by ascending uid.
func (m *marks) list(ctx context.Context, s *session.Session, body []byte) error {
	req, err := wire.DecodeMarks(body)
	if err != nil {
		return err
	}
	limit := pageLimit(s, req.Limit, nativePage)
	list, err := m.Store.Marks.List(ctx, req.ThreadID, s.UID(), req.After, limit+1)
	switch {
	case errors.Is(err, store.ErrNotMember):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case err != nil:
		return err
	}
	page := wire.MarksReply{ThreadID: req.ThreadID, Marks: []wire.Mark{}}
	if page.LoadMore = len(list) > limit; page.LoadMore {
		list = list[:limit]
	}
	for _, of := range list {
		page.Marks = append(page.Marks, wire.Mark{UID: of.UID, Read: of.Read, Recv: of.Recv})
	}
	return reply(s, wire.MsgMarksRsp, page)
}

// ofThreads returns the marks of threads in the user's list, with as many elements; the zero value for each if the client is
// not shown them.
func (m *marks) ofThreads(ctx context.Context, s *session.Session, threads []store.Thread) ([]wire.ThreadMarks, error) {
	out := make([]wire.ThreadMarks, len(threads))
	if !s.Shown(wire.FeatureMarks) {
		return out, nil
	}
	list, err := m.Store.Marks.OfThreads(ctx, s.UID(), threads)
	if err != nil {
		return nil, err
	}
	for i := range list {
		of := &list[i]
		out[i] = wire.ThreadMarks{Read: of.Read, Recv: of.Recv, Unread: of.Unread, PeerRead: of.PeerRead, PeerRecv: of.PeerRecv}
	}
	return out, nil
}
