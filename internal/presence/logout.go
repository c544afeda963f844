package presence

import "context"

// Logout is like Release for a session that its user ended, and also removes the device's resume tickets. A session
// that replaced it keeps its entry and ticket. Logout may be repeated.
func (ss *Sessions) Logout(ctx context.Context, l Location) error {
	ctx, cancel := ss.bound(ctx)
	defer cancel()
	keys := []string{ss.keys.session(l.UID), ss.keys.nodeOf(l.UID), ss.keys.resume(l.UID, l.Device), ss.keys.seen(l.UID)}
	if err := logoutScript.Run(ctx, ss.rdb, keys, l.Device, l.value(), seconds(SessionTTL), seconds(SeenTTL)).Err(); err != nil {
		return failed("log out", err)
	}
	return nil
}
