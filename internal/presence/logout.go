package presence

import "context"

// Logout is like Release for a session that its user ended, and also removes the device's resume tickets. A session
// that replaced it keeps its entry and ticket. Logout may be repeated.
func (p *Presence) Logout(ctx context.Context, l Location) error {
	ctx, cancel := p.bound(ctx)
	defer cancel()
	keys := []string{p.keys.session(l.UID), p.keys.nodeOf(l.UID), p.keys.resume(l.UID, l.Device), p.keys.seen(l.UID)}
	if err := logoutScript.Run(ctx, p.rdb, keys, l.Device, l.value(), seconds(SessionTTL), seconds(SeenTTL)).Err(); err != nil {
		return failed("log out", err)
	}
	return nil
}
