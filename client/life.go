package client

import (
	"context"
	"errors"

	"parley/internal/wire"
)

// ErrNoRows refuses Recall, Edit and Hide where the server did not grant the capability "rows", as older ones do not.
var ErrNoRows = errors.New("client: the server does not support recalling, editing and hiding texts")

// Limits of types and of Hide.
const (
	// MaxType is the longest type of a text, in bytes of [a-z0-9./+-].
	MaxType = wire.MaxType
	// MaxHide is how many messages one Hide may name.
	MaxHide = wire.MaxHide
)

// Hidden says that another device of this user has hidden messages for this user; see [Conn.Hide]. It is a hint, which may be lost:
// the history shows what is hidden.
type Hidden struct {
	ThreadID int64
	IDs      []int64
}

func (Hidden) event() {}

// Recall takes a text back: its content is gone for everybody, and a message of KindRecall tells so. A user may recall its own texts
// for a while, usually 2 min; the admins and the owner of a group may recall any text of it. Recalling a recalled text does
// nothing.
func (c *Conn) Recall(ctx context.Context, thread, id int64) error {
	return c.changeRow(ctx, wire.CapRows, "recall", wire.MsgRecall, wire.RecallRequest{GroupRequest: wire.GroupRequest{ThreadID: thread}, MsgID: id})
}

// Edit replaces the content of an own text, usually for up to 15 min; a message of KindEdit tells so. To edit a text to what it is
// does nothing.
func (c *Conn) Edit(ctx context.Context, thread, id int64, text string) error {
	return c.changeRow(ctx, wire.CapRows, "edit", wire.MsgEdit, wire.EditRequest{
		RecallRequest: wire.RecallRequest{GroupRequest: wire.GroupRequest{ThreadID: thread}, MsgID: id}, Content: text,
	})
}

// Hide hides up to MaxHide messages from this user, on all of its devices and for good. Others still see them.
func (c *Conn) Hide(ctx context.Context, thread int64, ids ...int64) error {
	return c.requestFor(ctx, wire.CapRows, "hide", wire.MsgHide, wire.HideRequest{GroupRequest: wire.GroupRequest{ThreadID: thread}, MsgIDs: ids}, nil)
}

// Recall takes a text back; see [Conn.Recall].
func (s *Session) Recall(ctx context.Context, thread, id int64) error {
	return s.do(ctx, func(c *Conn) error { return c.Recall(ctx, thread, id) })
}

// Edit replaces the content of a text; see [Conn.Edit].
func (s *Session) Edit(ctx context.Context, thread, id int64, text string) error {
	return s.do(ctx, func(c *Conn) error { return c.Edit(ctx, thread, id, text) })
}

// Hide hides messages from this user; see [Conn.Hide].
func (s *Session) Hide(ctx context.Context, thread int64, ids ...int64) error {
	return s.do(ctx, func(c *Conn) error { return c.Hide(ctx, thread, ids...) })
}

// tellChange fills in what a row of KindRecall or KindEdit says.
func (m *Message) tellChange(content string) {
	var e wire.TextEvent
	if wire.Decode([]byte(content), &e) != nil {
		return
	}
	m.Target = e.MsgID
	if m.Kind == KindEdit && e.Content != nil {
		m.Text, m.Type, m.Edited = *e.Content, e.Type, timeOf(e.EditedMS, "")
	}
}
