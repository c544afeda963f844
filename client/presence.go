package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"parley/internal/wire"
)

// ErrNoPresence refuses requests about presence where the server did not grant the capability "presence", as older ones do
// not.
var ErrNoPresence = errors.New("client: the server does not support presence")

// MaxWatched is how many users may be watched.
const MaxWatched = wire.MaxWatched

// Presence says whether a user is online. A user who is no friend, or is not visible, looks like one who was never seen.
type Presence struct {
	UID    int32
	Online bool
	// LastSeen is when a user who is not online was last so, to the minute; zero if that is not known.
	LastSeen time.Time
}

// Online brings the presence of watched users that has changed, and after each Watch, and each reconnect of a Session, that
// of all of them; see [Conn.Watch]. The latest one counts.
type Online struct {
	States []Presence // at least one
}

// Typing says that a user is typing in a thread. The server repeats it every 3 s at most; take it for about 5 s.
type Typing struct {
	ThreadID int64
	UID      int32
}

func (Online) event() {}
func (Typing) event() {}

// Watch has the connection told by Online whenever the presence of one of these users changes, at most MaxWatched, and returns the present
// states, which an Online brings too: use that where events of an earlier Watch may still wait. It takes the place of an
// earlier Watch; after an error nobody is watched.
func (c *Conn) Watch(ctx context.Context, uids []int32) ([]Presence, error) {
	var reply wire.WatchReply
	if err := c.requestFor(ctx, wire.CapPresence, "watch", wire.MsgWatch, wire.WatchRequest{UIDs: append([]int32{}, uids...)}, &reply); err != nil {
		return nil, err
	}
	return presences(reply.States), nil
}

// SetVisible says whether friends may see this user's presence. A user who is not visible can watch others all the same.
// It holds for all devices, until it is changed.
func (c *Conn) SetVisible(ctx context.Context, visible bool) error {
	return c.requestFor(ctx, wire.CapPresence, "visible", wire.MsgVisible, wire.VisibleRequest{Visible: &visible}, nil)
}

// Visible reports whether friends may see this user's presence.
func (c *Conn) Visible(ctx context.Context) (bool, error) {
	var reply wire.VisibleReply
	err := c.requestFor(ctx, wire.CapPresence, "visible", wire.MsgVisible, wire.VisibleRequest{}, &reply)
	return reply.Visible, err
}

// Typing tells the members of a thread that this user is typing. Call it while the user types, as often as you like:
// notices that follow the last one within 3 s are not sent. It does not wait, and nobody knows whether a notice arrived.
func (c *Conn) Typing(thread int64) {
	if !c.Granted(wire.CapPresence) {
		return
	}
	body, err := wire.Encode(wire.TypingRequest{ThreadID: thread})
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.err != nil || len(c.out) > 0 || c.typed == thread && now.Sub(c.typedAt) < typingEvery {
		return
	}
	c.typed, c.typedAt = thread, now
	c.enqueueLocked(wire.MsgTyping, body)
}

// typingEvery is how often a notice of typing is worth sending.
const typingEvery = 3 * time.Second

func presences(states []wire.Presence) []Presence {
	out := make([]Presence, len(states))
	for i, s := range states {
		out[i] = Presence{UID: s.UID, Online: s.Online}
		if s.LastSeenMin > 0 {
			out[i].LastSeen = time.Unix(int64(s.LastSeenMin)*60, 0)
		}
	}
	return out
}

// onlinePush takes a 2153.
func (c *Conn) onlinePush(body []byte, frameLen int) error {
	push := new(wire.OnlinePush)
	if wire.Decode(body, push) != nil {
		return fmt.Errorf("%w: message %v", ErrProtocol, wire.MsgOnline)
	}
	if len(push.States) == 0 {
		return nil
	}
	return c.emit(Online{States: presences(push.States)}, frameLen)
}

// typingPush takes a 2155. One for which there is no room is worth nothing later.
func (c *Conn) typingPush(body []byte, frameLen int) error {
	push := new(wire.TypingPush)
	if wire.Decode(body, push) != nil {
		return fmt.Errorf("%w: message %v", ErrProtocol, wire.MsgTypingPush)
	}
	if push.UID > 0 && push.ThreadID > 0 {
		_ = c.emit(Typing{ThreadID: push.ThreadID, UID: push.UID}, frameLen)
	}
	return nil
}

// maxStates bounds the users whose latest presence waits in a queue that is full.
const maxStates = 4 * MaxWatched

// mergeLocked keeps the latest states for which there is no room otherwise.
func (q *eventQueue) mergeLocked(ev Online) bool {
	if q.states == nil {
		q.states = make(map[int32]Presence)
	}
	for _, s := range ev.States {
		q.states[s.UID] = s
	}
	return len(q.states) <= maxStates
}

// takeStatesLocked returns the states that mergeLocked kept.
func (q *eventQueue) takeStatesLocked() Online {
	ev := Online{States: make([]Presence, 0, len(q.states))}
	for _, s := range q.states {
		ev.States = append(ev.States, s)
	}
	q.states = nil
	return ev
}

// Watch has the session told by Online whenever the presence of one of these users changes; see [Conn.Watch]. It lasts over
// reconnects: after each of them Online brings the states of all.
func (s *Session) Watch(ctx context.Context, uids []int32) ([]Presence, error) {
	select {
	case s.watchTurn <- struct{}{}:
		defer func() { <-s.watchTurn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.setWatched(slices.Clone(uids))
	states, err := ask(ctx, s, func(c *Conn) ([]Presence, error) { return c.Watch(ctx, uids) })
	if err != nil {
		s.setWatched(nil)
	}
	return states, err
}

// SetVisible says whether friends may see this user's presence; see [Conn.SetVisible].
func (s *Session) SetVisible(ctx context.Context, visible bool) error {
	return s.do(ctx, func(c *Conn) error { return c.SetVisible(ctx, visible) })
}

// Visible reports whether friends may see this user's presence.
func (s *Session) Visible(ctx context.Context) (bool, error) {
	return ask(ctx, s, func(c *Conn) (bool, error) { return c.Visible(ctx) })
}

// Typing tells the members of a thread that this user is typing; see [Conn.Typing]. Without a connection it does nothing.
func (s *Session) Typing(thread int64) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		c.Typing(thread)
	}
}

func (s *Session) setWatched(uids []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = uids
}

// rewatch watches on a new connection whom the one before did.
func (s *Session) rewatch(ctx context.Context, conn *Conn) error {
	select {
	case s.watchTurn <- struct{}{}:
		defer func() { <-s.watchTurn }()
	default:
		return errWatching
	}
	s.mu.Lock()
	uids := s.watched
	s.mu.Unlock()
	if len(uids) == 0 {
		return nil
	}
	_, err := conn.Watch(ctx, uids)
	if errors.Is(err, ErrNoPresence) || CodeOf(err) == CodeBadRequest || CodeOf(err) == CodeNotAllowed {
		return nil
	}
	return err
}

// errWatching puts a rewatch off while the application watches others.
var errWatching = errors.New("client: another watch is under way")
