package delivery

import (
	"time"

	"parley/internal/session"
)

// everyoneTakes is the time over which the notices to all sessions are spread, because each of them causes a read.
const everyoneTakes = 3 * time.Second

// MayHaveMissed tells a session of this node that it may have missed texts of any thread.
func (d *Delivery) MayHaveMissed(sess *session.Session) {
	if !sess.Gap(0, 0) && !sess.CanGap() {
		d.refills.Add(sess, 0, 0)
	}
}

// MissedByAll tells all sessions of this node that they may have missed texts, one part of the registry at a time. A
// call while that is under way makes it start again afterwards, because the parts already told may have missed more.
func (d *Delivery) MissedByAll() {
	if d.telling.Add(1) > 1 {
		return
	}
	d.d.Go(func() {
		for {
			round := d.telling.Load()
			if !d.tellAll() || d.telling.CompareAndSwap(round, 0) { // no call came during this round
				return
			}
		}
	})
}

// tellAll returns false if the node stops before all sessions have been told.
func (d *Delivery) tellAll() bool {
	d.d.Log.Warn("another node dropped pushes without knowing for whom: telling all sessions that they may have missed texts")
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
