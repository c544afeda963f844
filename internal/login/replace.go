package login

import (
	"context"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

// Abandon undoes a claim whose client has hung up meanwhile. The session it displaced may be a later login of the same
// client, which did not wait: that one keeps its place, unless yet another has taken it.
func (l *Logins) Abandon(ctx context.Context, claimed presence.Claimed, mine presence.Location) error {
	if err := l.d.Presence.Sessions.Release(ctx, []presence.Location{mine}); err != nil {
		l.d.Janitor.Release(mine)
		_, err := l.supersede(ctx, claimed)
		return err
	}
	defer l.d.Moved(mine.UID)
	old := claimed.Old
	if old == nil {
		return nil
	}
	alive, err := l.d.Presence.Nodes.Alive(ctx, old.Node, old.Boot)
	if err != nil || !alive && !l.d.Static(old.Node) {
		return err
	}
	lost, err := l.d.Presence.Sessions.Restore(ctx, []presence.Location{*old})
	if err != nil || len(lost) > 0 {
		_, err := l.supersede(ctx, claimed)
		return err
	}
	l.d.Abandoned.Inc()
	// Pushes have gone to the place of this login meanwhile.
	l.d.Deliver([]session.Push{{To: old.UID, ID: wire.MsgGap}}, nil)
	return nil
}

// supersede ends the session that a login replaces, before the client learns that it is logged in. It returns the number
// of texts that the session's node hands over; nil if it is this node, or keeps them.
func (l *Logins) supersede(ctx context.Context, claimed presence.Claimed) (texts *int32, err error) {
	l.d.TellElsewhere(claimed.Others)
	old := claimed.Old
	if old == nil {
		return nil, nil
	}
	if old.Node == l.d.Node && old.Boot == l.d.Lease.Boot() {
		l.d.Ender.Replace(old.UID, old.SID)
		return nil, nil
	}
	return l.d.Kicker.Move(ctx, *old)
}
