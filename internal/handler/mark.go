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

// mark answers 2146: how far the user has read and received a thread.
func (d *Deps) mark(ctx context.Context, s *session.Session, body []byte) error {
	req, err := wire.DecodeMark(body)
	if err != nil {
		return err
	}
	m, err := d.Marks.Raise(ctx, s.SID(), store.Mark{Thread: req.ThreadID, UID: s.UID(), Read: req.Read, Recv: req.Recv})
	switch {
	case errors.Is(err, mark.ErrBusy):
		return wire.Refuse(wire.CodeBusy, err)
	case errors.Is(err, store.ErrNotMember):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case err != nil:
		return err
	}
	_ = s.Reply(wire.AppendMarkReply(nil, req.ThreadID, m.Read, m.Recv)) // a dead session needs no answer
	return nil
}

// marks answers 2149: a page of the marks of a thread, by ascending uid.
func (d *Deps) marks(ctx context.Context, s *session.Session, body []byte) error {
	req, err := wire.DecodeMarks(body)
	if err != nil {
		return err
	}
	limit := pageLimit(s, req.Limit, nativePage)
	list, err := d.Store.Marks.List(ctx, req.ThreadID, s.UID(), req.After, limit+1)
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
	for _, m := range list {
		page.Marks = append(page.Marks, wire.Mark{UID: m.UID, Read: m.Read, Recv: m.Recv})
	}
	return reply(s, wire.MsgMarksRsp, page)
}

// threadMarks returns the marks of threads in the user's list, with as many elements; the zero value for each if the client is
// not shown them.
func (d *Deps) threadMarks(ctx context.Context, s *session.Session, threads []store.Thread) ([]wire.ThreadMarks, error) {
	out := make([]wire.ThreadMarks, len(threads))
	if !s.Shown(wire.FeatureMarks) {
		return out, nil
	}
	list, err := d.Store.Marks.OfThreads(ctx, s.UID(), threads)
	if err != nil {
		return nil, err
	}
	for i := range list {
		m := &list[i]
		out[i] = wire.ThreadMarks{Read: m.Read, Recv: m.Recv, Unread: m.Unread, PeerRead: m.PeerRead, PeerRecv: m.PeerRecv}
	}
	return out, nil
}
