package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
)

// SessionOptions describe a user that stays logged in.
type SessionOptions struct {
	// Options are those of each connection. OnEvent must be nil.
	Options

	// Ticket, if it holds a token or a resume ticket, is used for the first login, before the gate.
	Ticket Ticket
	// Gate, Email and Password log in where no ticket does. Without a Gate the session ends when its ticket is refused.
	Gate            *Gate
	Email, Password string
	// Nodes are addresses (host:port) of further chat nodes where a resume ticket is tried when the last node does not
	// answer, before the gate is asked.
	Nodes []string

	// Cursors say what the user has seen. If nil, the session begins at the present and brings what is stored from now
	// on. If not nil it brings everything past them, and all of the threads that are not among them.
	Cursors []Cursor
	// Data is what Session.Data returned when Cursors were saved. If the server works on other data by now, they are not
	// used, and DataReplaced says so. Empty: not known.
	Data string

	// SyncEvery is how often, on average, a session that is connected looks for texts whose push was lost. A push is a
	// hint; mostly the next one shows the hole, but the last of a conversation has no next. Default 5 min; negative:
	// never.
	SyncEvery time.Duration

	// MaxUnsent bounds the texts waiting for their answer; past it sending blocks. Default 1,024.
	MaxUnsent int
	// BackoffBase and BackoffLimit bound the waits between attempts to log in: uniform from 0 to
	// min(limit, base·2ⁿ). Defaults 500 ms and 30 s.
	BackoffBase, BackoffLimit time.Duration
}

// Defaults of SessionOptions.
const (
	DefaultMaxUnsent = 1024
	DefaultSyncEvery = 5 * time.Minute
)

// eventRoom is how many events may wait for Session.Next before the session stops reading its connection.
const eventRoom = 64

// Session keeps a user logged in: when a connection ends it logs in again, by resume ticket if it can, sends what
// was not answered with the same unique ids, and reads what was missed. Each text comes once, and the texts of a thread
// in their order, this user's own included. All methods are safe for concurrent use.
//
// Somebody must call Next: a session whose events are not taken stops reading texts, and picks them up from the history
// when they are taken again. Sending does not depend on it.
type Session struct {
	opts    SessionOptions
	backoff backoff
	cancel  context.CancelFunc
	done    chan struct{}
	out     chan Event
	box     outbox
	// watchTurn holds a token while somebody changes whom to watch.
	watchTurn chan struct{}

	receipts receipts

	// Owned by the run goroutine, and by Open before it starts.
	ord     order
	data    string // id of the data that ord is of; "" if not known
	ticket  Ticket
	holes   map[int64]*hole // what to fetch, and when
	resync  hole            // of everything
	since   string          // what the server gave for the last time that was done; see Conn.SyncSince
	whole   time.Time       // when all threads are to be looked at again, whatever since finds; zero: never
	again   hole            // of whom to watch, on this connection
	caught  bool            // that has been done once on this connection
	backlog []Event         // handed out before anything else

	// unanswered is when a login last failed after it was sent; see errOvertaken.
	unanswered time.Time

	mu      sync.Mutex // guards the following
	conn    *Conn      // the living one, or nil
	change  chan struct{}
	last    *Conn // the latest, for its profile
	friends map[int32]Friend
	apps    map[int32]Application
	watched []int32         // by the latest Watch
	seen    map[int64]int64 // what Next has returned, by thread
	// seenData is the id of the data that seen is of.
	seenData string
	resume   Ticket // copy of ticket
	err      error
}

// Open logs in and starts a session. ctx bounds only that. It does not repeat a failed attempt: Advise says whether
// that would help. Texts sent by others after Open has returned are never missed.
func Open(ctx context.Context, o SessionOptions) (*Session, error) {
	var err error
	if o.Options, err = o.Options.withDefaults(); err != nil {
		return nil, err
	}
	if o.OnEvent != nil {
		return nil, errors.New("client: a session's events come from Next, not from OnEvent")
	}
	if o.Gate == nil && o.Ticket.Token == "" && o.Ticket.Resume == "" {
		return nil, errors.New("client: a session needs a ticket or a gate")
	}
	s := &Session{
		opts:      o,
		backoff:   backoff{cmp.Or(max(o.BackoffBase, 0), DefaultBackoffBase), cmp.Or(max(o.BackoffLimit, 0), DefaultBackoffLimit)},
		done:      make(chan struct{}),
		out:       make(chan Event, eventRoom),
		holes:     make(map[int64]*hole),
		watchTurn: make(chan struct{}, 1),
		change:    make(chan struct{}),
		seen:      make(map[int64]int64),
		ticket:    o.Ticket,
		data:      o.Data,
	}
	if s.opts.SyncEvery == 0 {
		s.opts.SyncEvery = DefaultSyncEvery
	}
	s.receipts.init()
	s.box.init(cmp.Or(max(o.MaxUnsent, 0), DefaultMaxUnsent), s.backoff)
	for _, c := range o.Cursors {
		s.ord.start(c.ThreadID, c.LastID)
		s.seen[c.ThreadID] = max(s.seen[c.ThreadID], c.LastID)
	}
	conn, resumed, err := s.login(ctx)
	if err != nil {
		return nil, err
	}
	if o.Cursors == nil {
		if err := s.beginNow(ctx, conn); err != nil {
			conn.Close()
			<-conn.Done()
			return nil, err
		}
	}
	s.attach(conn)
	s.backlog = append(s.backlog, Connected{Node: conn.Node(), Resumed: resumed})
	s.seenData = conn.Data()
	if o.Cursors == nil {
		s.data = conn.Data()
	} else if s.dataChanged(conn) {
		s.seenData = o.Data // until DataReplaced is taken
		s.backlog = append(s.backlog, DataReplaced{})
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go s.run(run, conn)
	return s, nil
}

// beginNow makes the newest message of every thread the one that was seen last. What is pushed meanwhile waits in the
// connection's queue and is dropped as known if it was stored before.
func (s *Session) beginNow(ctx context.Context, conn *Conn) error {
	threads, err := conn.Threads(ctx)
	if err != nil {
		return err
	}
	for _, t := range threads {
		s.ord.start(t.ID, t.LastID)
		s.seen[t.ID] = t.LastID
	}
	return nil
}

// Next returns the oldest event that was not yet returned, waiting for one if need be: Texts, Applied, Approved,
// FriendsChanged, MarksMoved, Online, Typing, Disconnected, Connected, DataReplaced, CaughtUp. When the session has ended it
// returns why: ErrClosed,
// ErrReplaced, ErrLoggedOut, or an error that no further attempt would mend.
func (s *Session) Next(ctx context.Context) (Event, error) {
	select {
	case ev := <-s.out:
		return s.taken(ev), nil
	default:
	}
	select {
	case ev := <-s.out:
		return s.taken(ev), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.done:
	}
	select {
	case ev := <-s.out:
		return s.taken(ev), nil
	default:
		return nil, s.Err()
	}
}

func (s *Session) taken(ev Event) Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ev := ev.(type) {
	case Texts:
		last := ev.Messages[len(ev.Messages)-1].ID
		s.seen[ev.ThreadID] = last
		if uid := s.last.welcome.UID; slices.ContainsFunc(ev.Messages, func(m Message) bool { return m.Kind == KindText && m.Sender != uid }) {
			s.receipts.note(ev.ThreadID, 0, last)
		}
	case DataReplaced:
		if ev.ThreadID == 0 {
			clear(s.seen)
			s.seenData = s.last.Data()
		} else {
			s.seen[ev.ThreadID] = ev.LastID
		}
	}
	return ev
}

// Events iterates over Next until the session ends or ctx does; Err then tells why.
func (s *Session) Events(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for {
			ev, err := s.Next(ctx)
			if err != nil || !yield(ev) {
				return
			}
		}
	}
}

// Cursors returns up to where Next has returned the texts of each thread, by thread id. Saved after the texts were
// dealt with, and given to the next Open, they continue without gap and without double. It is never nil.
func (s *Session) Cursors() []Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Cursor, 0, len(s.seen))
	for thread, id := range s.seen {
		out = append(out, Cursor{ThreadID: thread, LastID: id})
	}
	slices.SortFunc(out, func(a, b Cursor) int { return cmp.Compare(a.ThreadID, b.ThreadID) })
	return out
}

// Data returns the id of the body of data that the cursors are of, or "" if the server does not tell.
func (s *Session) Data() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seenData
}

// Profile returns the user.
func (s *Session) Profile() Profile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.Profile()
}

// Node returns the name of the chat node of the latest connection, or "" if it does not tell.
func (s *Session) Node() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.Node()
}

// Ticket returns the newest resume ticket, for another Open; its Resume is empty if the server grants none.
func (s *Session) Ticket() Ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resume
}

// Friends returns the friends as far as known, by uid, in a new slice.
func (s *Session) Friends() []Friend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.friends), func(a, b Friend) int { return cmp.Compare(a.UID, b.UID) })
}

// Applications returns the pending applications to the user, by uid, in a new slice.
func (s *Session) Applications() []Application {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.apps), func(a, b Application) int { return cmp.Compare(a.UID, b.UID) })
}

// Post queues a draft and returns; it waits only while MaxUnsent texts are unanswered. Texts to one destination are
// stored in the order of Post, except that one refused for itself and sent again comes later. Use one To for one
// destination: a user and the thread with that user are two queues.
func (s *Session) Post(ctx context.Context, to To, d Draft) (*Posted, error) {
	return s.box.post(ctx, to, d)
}

// SendText sends one text and waits until a server has stored it, through any number of connections. If ctx ends first
// it is not sent again, but may have been stored.
func (s *Session) SendText(ctx context.Context, to To, text string) (Sent, error) {
	p, err := s.Post(ctx, to, NewDraft(text))
	if err != nil {
		return Sent{}, err
	}
	sent, err := p.Wait(ctx)
	if ctx.Err() != nil && sent.MessageID == 0 {
		s.box.drop(p)
	}
	return sent, err
}

// Flush waits until every text is answered.
func (s *Session) Flush(ctx context.Context) error { return s.box.flushed(ctx) }

// Search finds a user by exact name, or by uid when the query is all digits. It refuses with CodeUIDInvalid if there is
// none. Like the other requests below it waits for a connection while there is none.
func (s *Session) Search(ctx context.Context, query string) (Profile, error) {
	return ask(ctx, s, func(c *Conn) (Profile, error) { return c.Search(ctx, query) })
}

// Apply asks a user to be a friend; see [Conn.Apply].
func (s *Session) Apply(ctx context.Context, uid int32, greeting, alias string) error {
	return s.do(ctx, func(c *Conn) error { return c.Apply(ctx, uid, greeting, alias) })
}

// Approve accepts the application of a user; see [Conn.Approve]. It is not repeated if the connection fails before the
// answer: Friends then holds the user after the next Connected, or Approved comes, if it was done.
func (s *Session) Approve(ctx context.Context, uid int32, alias string) (Approval, error) {
	c, err := s.connected(ctx)
	if err != nil {
		return Approval{}, fmt.Errorf("approve: %w", err)
	}
	a, err := c.Approve(ctx, uid, alias)
	if err == nil {
		s.befriend(Friend{Profile: a.Friend, Alias: alias})
	}
	return a, err
}

// Threads returns all threads of this user, ascending by id.
func (s *Session) Threads(ctx context.Context) ([]Thread, error) {
	return ask(ctx, s, func(c *Conn) ([]Thread, error) { return c.Threads(ctx) })
}

// OpenThread returns the private thread with a friend.
func (s *Session) OpenThread(ctx context.Context, uid int32) (int64, error) {
	return ask(ctx, s, func(c *Conn) (int64, error) { return c.OpenThread(ctx, uid) })
}

// History returns a page of a thread; see [Conn.History].
func (s *Session) History(ctx context.Context, thread, after int64, limit int) (Page, error) {
	return ask(ctx, s, func(c *Conn) (Page, error) { return c.History(ctx, thread, after, limit) })
}

// Messages iterates over the messages of a thread with ids above after, oldest first.
func (s *Session) Messages(ctx context.Context, thread, after int64) iter.Seq2[Message, error] {
	return messages(ctx, s.History, thread, after)
}

// ask runs a request that may be repeated on a connection, and again on the next one if that fails under it.
func ask[T any](ctx context.Context, s *Session, request func(*Conn) (T, error)) (T, error) {
	for {
		c, err := s.connected(ctx)
		if err != nil {
			var zero T
			return zero, err
		}
		v, err := request(c)
		if err == nil || c.Err() == nil || ctx.Err() != nil {
			return v, err
		}
	}
}

// do is ask for a request without a result.
func (s *Session) do(ctx context.Context, request func(*Conn) error) error {
	_, err := ask(ctx, s, func(c *Conn) (struct{}, error) { return struct{}{}, request(c) })
	return err
}

// connected returns the living connection, waiting for one.
func (s *Session) connected(ctx context.Context) (*Conn, error) {
	for {
		s.mu.Lock()
		c, change, err := s.conn, s.change, s.err
		s.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case c != nil && c.Err() == nil:
			return c, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Done is closed when the session has ended and nothing of it runs any more.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns nil while the session lives, then why it ended.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session and waits until nothing of it runs any more. Texts not answered yet fail with ErrClosed; Flush
// before to have them answered. Marks that wait are sent before, which takes at most a second. Close always returns nil.
func (s *Session) Close() error {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn != nil {
		s.receipts.last(conn)
	}
	s.cancel()
	<-s.done
	return nil
}
