package delivery

import (
	"time"

	"parley/internal/session"
)

// everyoneTakes is in how long all sessions of a node are told that they may have missed texts: what they ask then should
// not come at once.
const everyoneTakes = 3 * time.Second

// MayHaveMissed tells a session here that it may have missed texts of any thread.
func (d *Delivery) MayHaveMissed(sess *session.Session) {
	if !sess.Gap(0, 0) && !sess.CanGap() {
		d.refills.Add(sess, 0, 0)
	}
}

// MissedByAll tells all sessions of this node that they may have missed texts, a part of them at a time. What came while it
// was under way begins it anew.
func (d *Delivery) MissedByAll() {
	if d.telling.Add(1) > 1 {
		return
	}
	d.d.Go(func() {
		for {
			round := d.telling.Load()
			if !d.tellAll() || d.telling.CompareAndSwap(round, 0) {
				return
			}
		}
	})
}

// tellAll returns false if the node stops meanwhile.
func (d *Delivery) tellAll() bool {
	d.d.Log.Warn("another node could not remember whose pushes it dropped: telling all sessions")
	for part := range session.Parts {
		d.d.Registry.EachOf(part, func(sess *session.Session) {
			if sess.State() == session.Live {
				d.MayHaveMissed(sess)
			}
		})
		select {
		case <-d.d.Context.Done():
			return false
		case <-time.After(everyoneTakes / session.Parts):
		}
	}
	return true
}
