package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/ending"
	"parley/internal/presence"
	"parley/internal/reconcile"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/users"
	"parley/internal/watch"
	"parley/internal/wire"
)

var errNotShown = errors.New("handler: the client lacks a capability for this")

// Deps is what handlers work with. The handlers of a topic are a type of their own, which shares it.
type Deps struct {
	Log      *slog.Logger
	Node     string        // this node's name
	Boot     func() string // the life of this node
	Store    *store.Store
	Presence *presence.Presence
	Users    *users.Users
	Registry *session.Registry
	Ender    *ending.Ender
	Kicker   *reconcile.Kicker
	// Deliver takes pushes to their users.
	Deliver func([]session.Push, *session.Cork)
	// Groups takes what is stored in groups to their members.
	Groups Groups
	// Marks stores read marks.
	Marks Marks
	// Watch tells sessions who is online.
	Watch *watch.Watches[*session.Session]
	// Fenced is told that the store refused a change because a life of this node was taken for dead.
	Fenced        func(boot string)
	MaxFrameBytes int // of a logged-in client's frame
	// RecallWindow and EditWindow are how long a user may recall and edit its own text.
	RecallWindow, EditWindow time.Duration
	// ApplicationsUntold counts applications for friendship that are not pushed, UnknownIDs frames that no client sends.
	ApplicationsUntold, UnknownIDs prometheus.Counter
	// TypingDropped counts notices of typing that were not sent on.
	TypingDropped prometheus.Counter
}

// nativeOnly leaves requests of ours that a stock client sends unanswered, like any id it cannot know.
func (d *Deps) nativeOnly(h Handler) Handler {
	return func(ctx context.Context, s *session.Session, body []byte) error {
		if !s.Native() {
			d.UnknownIDs.Inc()
			return nil
		}
		return h(ctx, s, body)
	}
}

// shown refuses requests of clients that are not shown a feature: they could not follow what they ask for.
func (d *Deps) shown(f wire.Features, h Handler) Handler {
	return d.nativeOnly(func(ctx context.Context, s *session.Session, body []byte) error {
		if !s.Shown(f) {
			return wire.Refuse(wire.CodeNotAllowed, errNotShown)
		}
		return h(ctx, s, body)
	})
}

// reply encodes and sends a reply.
func reply(s *session.Session, id wire.MsgID, v any) error {
	frame, err := wire.EncodeFrame(id, v)
	if err != nil {
		return wire.Refuse(wire.CodeInternal, err)
	}
	_ = s.Reply(frame) // a dead session needs no answer
	return nil
}

// codeOnly is a reply that says only that all went well.
type codeOnly struct {
	Error wire.Code `json:"error"`
}

// push encodes a push once and hands it to the router.
func (d *Deps) push(to, from int32, id wire.MsgID, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return wire.Refuse(wire.CodeInternal, fmt.Errorf("handler: encode push %d: %w", id, err))
	}
	d.Deliver([]session.Push{{To: to, From: from, ID: id, Body: body}}, nil)
	return nil
}

// pushToOwn pushes to the user's sessions other than s, on whatever nodes they are. It is a hint: without Redis only those
// of this node get it.
func (d *Deps) pushToOwn(ctx context.Context, s *session.Session, id wire.MsgID, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return wire.Refuse(wire.CodeInternal, err)
	}
	var pushes []session.Push
	to := func(sid string) {
		if sid != s.SID().String() {
			pushes = append(pushes, session.Push{To: s.UID(), From: s.UID(), SID: sid, ID: id, Body: body})
		}
	}
	found, err := d.Presence.Sessions.Locate(ctx, []int32{s.UID()})
	if err != nil {
		d.Log.Debug("own devices not found", "sid", s.SID(), "err", err)
		var few [session.MaxDevices]session.SID
		for _, sid := range d.Registry.Of(few[:0], s.UID()) {
			to(sid.String())
		}
	} else {
		for _, at := range found[0] {
			to(at.SID)
		}
	}
	d.Deliver(pushes, nil)
	return nil
}

// seenChanged says that two users may or may not see each other's presence any more.
func (d *Deps) seenChanged(a, b int32) {
	d.Watch.RightsChanged(a, b)
	d.Watch.RightsChanged(b, a)
}
