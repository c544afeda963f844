// Package handler answers what logged-in clients ask other than texts: one file per topic. A handler sees the session that
// asks, and answers on it; what it pushes to others goes through internal/delivery.
package handler

import (
	"context"

	"parley/internal/session"
	"parley/internal/wire"
)

// A Handler answers one request. It may block within ctx: only requests of the same connection wait for it. An error is a
// refusal, which the caller sends.
type Handler = func(ctx context.Context, s *session.Session, body []byte) error

// New returns the handlers of the requests that a logged-in client may make.
func New(deps Deps) map[wire.MsgID]Handler {
	d := &deps
	m, r := &marks{d}, &relations{d}
	t := &threads{Deps: d, marks: m}
	f := &friends{Deps: d, applied: newUserRates(appliedBurst, appliedEvery)}
	p := &presences{Deps: d, lookups: make(chan struct{}, typingAtOnce)}
	handlers := map[wire.MsgID]Handler{
		wire.MsgSearch:     (&finder{d.Users}).search,
		wire.MsgApply:      f.apply,
		wire.MsgApprove:    f.approve,
		wire.MsgThreads:    t.threads,
		wire.MsgOpenThread: t.open,
		wire.MsgHistory:    t.history,
		wire.MsgSync:       (&syncs{Deps: d, threads: t, marks: m}).sync,

		wire.MsgUnfriend: d.nativeOnly(r.unfriend),
		wire.MsgBlock:    d.nativeOnly(r.block),
		wire.MsgUnblock:  d.nativeOnly(r.unblock),
		wire.MsgBlocks:   d.nativeOnly(r.blocks),
		wire.MsgLogout:   d.nativeOnly((&logouts{d}).logout),

		wire.MsgWatch:   d.shown(wire.FeaturePresence, p.watch),
		wire.MsgVisible: d.shown(wire.FeaturePresence, p.visible),
		wire.MsgTyping:  d.nativeOnly(p.typing),

		wire.MsgMark:  d.shown(wire.FeatureMarks, m.mark),
		wire.MsgMarks: d.shown(wire.FeatureMarks, m.list),
	}
	for id, h := range newGroups(d).handlers() {
		handlers[id] = d.shown(wire.FeatureGroups, h)
	}
	for id, h := range newLife(d).handlers() {
		handlers[id] = d.shown(wire.FeatureRows, h)
	}
	return handlers
}
