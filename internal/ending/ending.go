// Package ending ends the sessions of a node: sessions replaced by a newer login, sessions whose clients are silent,
// and all sessions when the node stops. It removes them from the registry at once, and from Redis soon after.
package ending

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/legacy"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/textrate"
	"parley/internal/wire"
)

// RetryAfter is the retry hint in a refusal because of load.
const RetryAfter = time.Second

const (
	// loginPatience bounds how long a login waits for the login that it replaces. It is shorter than the wait for
	// another node.
	loginPatience = 750 * time.Millisecond
	loginPause    = time.Millisecond
)

// Deps are the dependencies of an Ender.
type Deps struct {
	Log      *slog.Logger
	Node     string
	Registry *session.Registry
	Texts    *textrate.Limiter
	Janitor  *Janitor
	// Left is called with a session that has ended, possibly more than once.
	Left func(*session.Session)
	// NextNode returns the address of another node that takes logins by this transport, "" if there is none.
	NextNode func(wire.Transport) string
	// Replaced counts sessions ended by a newer login, Stale sessions ended because of silence.
	Replaced, Stale prometheus.Counter
}

// An Ender ends the sessions of one node. Its methods are safe for concurrent use.
type Ender struct{ d Deps }

// New returns an Ender.
func New(d Deps) *Ender { return &Ender{d: d} }

// Location returns the location of a session, as stored in Redis.
func (e *Ender) Location(s *session.Session) presence.Location {
	return presence.Location{UID: s.UID(), Device: s.Device(), SID: s.SID().String(), Node: e.d.Node, Boot: s.Boot()}
}

// Entry returns the entry that a live session should have in Redis.
func (e *Ender) Entry(s *session.Session) presence.Session {
	return presence.Session{Location: e.Location(s), Since: s.Began()}
}

// Leave removes a session from the registry and, through the janitor, from Redis. It may be called more than once.
func (e *Ender) Leave(s *session.Session) {
	removed := s.SID() != 0 && e.d.Registry.Remove(s)
	e.d.Left(s)
	if s.SetJoined(false) {
		e.d.Texts.Leave(e.d.Texts.Of(s.UID()), e.Location(s), time.Now())
	} else if removed {
		e.d.Janitor.Release(e.Location(s))
	}
}

// Finish sends the last frame, which may be nil, and closes the session gracefully. It removes the session from the
// registry and Redis at once, before the client has hung up. It reports whether the session was alive until then.
func (e *Ender) Finish(s *session.Session, last []byte) bool {
	won := s.Finish(last)
	e.Leave(s)
	return won
}

// Goodbye ends a session and tells its client why: a native client receives a 2101, a stock client only sees the end.
func (e *Ender) Goodbye(s *session.Session, code wire.Code, reason string, retry time.Duration) bool {
	if !s.Native() {
		return e.Finish(s, nil)
	}
	to := ""
	if code == wire.CodeDraining {
		to = e.d.NextNode(s.Transport())
	}
	return e.goodbye(s, code, reason, retry, to)
}

// Move tells a native client to go on at another node, at the address to; without one, and for a stock client, the session
// just ends.
func (e *Ender) Move(s *session.Session, reason, to string) bool {
	if !s.Native() {
		return e.Finish(s, nil)
	}
	return e.goodbye(s, wire.CodeDraining, reason, 0, to)
}

func (e *Ender) goodbye(s *session.Session, code wire.Code, reason string, retry time.Duration, to string) bool {
	frame, err := GoodbyeFrame(code, reason, retry, to)
	if err != nil {
		return e.Finish(s, nil)
	}
	return e.Finish(s, frame)
}

// GoodbyeFrame returns a 2101. to is the address of another node, or "".
func GoodbyeFrame(code wire.Code, reason string, retry time.Duration, to string) ([]byte, error) {
	return wire.EncodeFrame(wire.MsgGoodbye, wire.Goodbye{Error: code, Reason: reason, RetryMS: int(retry.Milliseconds()), To: to})
}

// All says goodbye to all sessions.
func (e *Ender) All(code wire.Code, reason string) {
	e.d.Registry.Each(func(s *session.Session) { e.Goodbye(s, code, reason, RetryAfter) })
}

// Kick ends a session of this node because a newer login has its place. If the session's own login is still under
// way, Kick returns the session, which then ends when that login is done.
func (e *Ender) Kick(uid int32, sid string) (pending *session.Session) {
	id, ok := session.ParseSID(sid)
	if !ok {
		return nil
	}
	old, pending := e.d.Registry.Supersede(uid, id)
	if old != nil {
		e.d.Replaced.Inc() // first, so that who is told finds it counted
		e.Finish(old, ReplacedFrame(uid))
	}
	return pending
}

// Replace is Kick on behalf of the login that takes the session's place. If the session's own login is under way, it
// may not have ended the session that it replaced itself. Replace waits for that, so that at most one session
// remains.
func (e *Ender) Replace(uid int32, sid string) {
	pending := e.Kick(uid, sid)
	for began := time.Now(); pending != nil && pending.State() == session.Pending && time.Since(began) < loginPatience; {
		time.Sleep(loginPause)
	}
}

// ReplacedFrame returns a 1021.
func ReplacedFrame(uid int32) []byte {
	frame, err := wire.EncodeFrame(wire.MsgReplaced, struct {
		Error wire.Code `json:"error"`
		UID   int32     `json:"uid"`
	}{UID: uid})
	if err != nil {
		return nil
	}
	return frame
}

// EndSilent ends a session that has been silent for too long; otherwise it schedules the registry's next check.
func (e *Ender) EndSilent(s *session.Session, now time.Time) {
	again := s.LastSeen().Add(s.Silence())
	if !now.Before(again) && s.State() == session.Live {
		e.d.Stale.Inc()
		e.Goodbye(s, wire.CodeUnavailable, "no heartbeat", 0)
		return
	}
	if p := legacy.Of(s); p != nil {
		p.Tick(now)
		again = now // check a stock session every second
	}
	e.d.Registry.LookAt(s, again)
}
