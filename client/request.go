package client

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"parley/internal/wire"
)

// call waits for one reply.
type call struct {
	reply chan answer // capacity 1, so that a reply without a waiter is still matched with its request
}

type answer struct {
	body []byte
	err  error
}

// reply gives a frame to the call waiting for its kind, if any. It copies body.
func (c *Conn) reply(id wire.MsgID, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if call := c.replies[id]; call != nil {
		delete(c.replies, id)
		c.changedLocked()
		call.reply <- answer{body: append([]byte(nil), body...)}
	}
}

// unsupported holds the error of each capability that a server may not grant, as older ones do not.
var unsupported = map[string]error{
	wire.CapGroups: ErrNoGroups, wire.CapRows: ErrNoRows, wire.CapMarks: ErrNoMarks, wire.CapPresence: ErrNoPresence,
}

// requestFor is request where a capability is granted; elsewhere it fails as unsupported says.
func (c *Conn) requestFor(ctx context.Context, capability, op string, id wire.MsgID, body, reply any) error {
	if !c.Granted(capability) {
		return fmt.Errorf("%s: %w", op, unsupported[capability])
	}
	return c.request(ctx, op, id, body, reply)
}

// request sends body as id and decodes the reply into reply. A code other than 0 becomes an *Error.
func (c *Conn) request(ctx context.Context, op string, id wire.MsgID, body, reply any) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	raw, err := wire.Encode(body)
	if err == nil && len(raw) > wire.DefaultMaxBody {
		err = wire.ErrBodyTooLong
	}
	if err != nil {
		return fmt.Errorf("client: %s: %w", op, err)
	}
	wait := &call{make(chan answer, 1)}
	if err := c.enqueue(ctx, id, raw, wait); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	var a answer
	select {
	case a = <-wait.reply:
	case <-ctx.Done():
		a.err = contextError(ctx)
	}
	if a.err != nil {
		return fmt.Errorf("%s: %w", op, a.err)
	}
	var head struct {
		Error   wire.Code `json:"error"`
		RetryMS int       `json:"retry_ms"`
	}
	if err := wire.Decode(a.body, &head); err != nil {
		return fmt.Errorf("client: %s: %w", op, ErrProtocol)
	}
	if head.Error != wire.CodeOK {
		return &Error{Op: op, Code: Code(head.Error), RetryAfter: time.Duration(head.RetryMS) * time.Millisecond}
	}
	if reply == nil {
		return nil
	}
	if err := wire.Decode(a.body, reply); err != nil {
		return fmt.Errorf("client: %s: %w", op, ErrProtocol)
	}
	return nil
}

// errBudget is the cause of a context that RequestTimeout ended, to tell it from the caller's own.
type errBudget struct{}

func (errBudget) Error() string { return "request timeout" }

// bounded adds RequestTimeout to a context without a deadline.
func (c *Conn) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, c.opts.RequestTimeout, errBudget{})
}

// contextError tells our own time-out from the caller's.
func contextError(ctx context.Context) error {
	if context.Cause(ctx) == (errBudget{}) {
		return ErrTimeout
	}
	return ctx.Err()
}

// Search finds a user by exact name, or by uid when the query is all digits. It refuses with CodeUIDInvalid if there is
// none.
func (c *Conn) Search(ctx context.Context, query string) (Profile, error) {
	var reply wire.SearchReply
	err := c.request(ctx, "search", wire.MsgSearch, wire.SearchRequest{Query: query}, &reply)
	return profileOf(reply.Profile), err
}

// SearchUID finds a user by uid.
func (c *Conn) SearchUID(ctx context.Context, uid int32) (Profile, error) {
	return c.Search(ctx, strconv.Itoa(int(uid)))
}

// Apply asks a user to be a friend. Once approved, greeting is this user's first text to them; it may be empty. alias
// is the name to give the friend, for this user only. Applying again replaces the greeting.
func (c *Conn) Apply(ctx context.Context, uid int32, greeting, alias string) error {
	return c.request(ctx, "apply", wire.MsgApply, wire.ApplyRequest{ToUID: uid, Greeting: greeting, Back: alias}, nil)
}

// Approve accepts the application of a user, who becomes a friend and is told. It fails if there is no application.
func (c *Conn) Approve(ctx context.Context, uid int32, alias string) (Approval, error) {
	var reply wire.ApproveReply
	if err := c.request(ctx, "approve", wire.MsgApprove, wire.ApproveRequest{ToUID: uid, Back: alias}, &reply); err != nil {
		return Approval{}, err
	}
	a := Approval{
		Friend:   Profile{UID: reply.UID, Name: reply.Name, Nick: reply.Nick, Icon: reply.Icon, Sex: reply.Sex},
		Messages: messagesOf(reply.Chats),
	}
	if c.echo && len(a.Messages) > 0 {
		c.events.put(Texts{ThreadID: a.Messages[0].ThreadID, Messages: a.Messages}, len(a.Messages)*eventCost)
	}
	return a, nil
}

// pageLimit is how many threads or messages to ask for at once: what a server gives at most.
const pageLimit = 500

// maxPatience is how often in a row a page is asked for again because there were too many requests.
const maxPatience = 5

// patiently repeats what is refused for its rate, after the time the server names: a caller that reads many pages cannot know how
// fast it may.
func patiently[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	for n := 0; ; n++ {
		v, err := ask()
		code := CodeOf(err)
		if code != CodeRateLimited && code != CodeBusy || n == maxPatience {
			return v, err
		}
		wait := time.NewTimer(max(RetryAfter(err), 100*time.Millisecond))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return v, err
		}
	}
}

// noteThread remembers the private thread with a user: a text that names its thread spares the server a look-up.
func (c *Conn) noteThread(uid int32, thread int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if uid > 0 && thread > 0 {
		c.threads[uid] = thread
	}
}

// threadOf returns the private thread with a user, or 0 if it is not known yet.
func (c *Conn) threadOf(uid int32) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.threads[uid]
}

// Threads returns all threads of this user, ascending by id, in as many exchanges as it takes. While the server refuses
// for too many requests it waits and asks again, a few times.
func (c *Conn) Threads(ctx context.Context) ([]Thread, error) {
	var out []Thread
	after := int64(0)
	for {
		reply, err := patiently(ctx, func() (wire.ThreadsReply, error) {
			var reply wire.ThreadsReply
			return reply, c.request(ctx, "threads", wire.MsgThreads, wire.ThreadsRequest{After: after, Limit: pageLimit}, &reply)
		})
		if err != nil {
			return nil, err
		}
		for _, t := range reply.Threads {
			th := Thread{
				ID: t.ID, Private: t.Type != "group", LastID: t.LastSeq,
				Name: t.Name, Role: Role(t.Role), Members: t.Members, First: t.FirstID, Left: t.Left,
				ThreadMarks: threadMarksOf(t.ThreadMarks),
			}
			if th.Private {
				th.Peer = t.User1
				if th.Peer == c.welcome.UID {
					th.Peer = t.User2
				}
				c.noteThread(th.Peer, th.ID)
			}
			out = append(out, th)
		}
		if !reply.LoadMore {
			return out, nil
		}
		if reply.NextLast <= after {
			return nil, fmt.Errorf("threads: %w: the cursor stands still", ErrProtocol)
		}
		after = reply.NextLast
	}
}

// OpenThread returns the private thread with a friend; there is always exactly one.
func (c *Conn) OpenThread(ctx context.Context, uid int32) (int64, error) {
	var reply wire.OpenThreadReply
	if err := c.request(ctx, "open thread", wire.MsgOpenThread, wire.OpenThreadRequest{OtherUID: uid}, &reply); err != nil {
		return 0, err
	}
	c.noteThread(uid, reply.ThreadID)
	return reply.ThreadID, nil
}

// History returns the messages of a thread with ids above after, oldest first, at most limit; 0 leaves it to the
// server, which also cuts pages that grow too long for a frame. A thread that is not this user's reads as empty.
func (c *Conn) History(ctx context.Context, thread, after int64, limit int) (Page, error) {
	var reply wire.HistoryReply
	err := c.request(ctx, "history", wire.MsgHistory,
		wire.HistoryRequest{ThreadID: thread, After: after, Limit: min(max(limit, 0), pageLimit)}, &reply)
	if err != nil {
		return Page{}, err
	}
	p := pageOf(&reply)
	if p.More && p.Next <= after {
		return Page{}, fmt.Errorf("history: %w: the cursor stands still", ErrProtocol)
	}
	return p, nil
}

// Messages iterates over the messages of a thread with ids above after, oldest first, asking for pages as needed. While
// the server refuses for too many requests it waits and asks again, a few times; another error ends it.
func (c *Conn) Messages(ctx context.Context, thread, after int64) iter.Seq2[Message, error] {
	return messages(ctx, c.History, thread, after)
}

func messages(ctx context.Context, history func(context.Context, int64, int64, int) (Page, error), thread, after int64) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			p, err := patiently(ctx, func() (Page, error) { return history(ctx, thread, after, pageLimit) })
			if err != nil {
				yield(Message{}, err)
				return
			}
			for _, m := range p.Messages {
				if !yield(m, nil) {
					return
				}
			}
			if !p.More {
				return
			}
			after = p.Next
		}
	}
}

// Sync returns what lies beyond the cursors, over many threads in one exchange. With all, threads without a cursor are
// read from their beginning; else they are left out. At most MaxCursors cursors.
func (c *Conn) Sync(ctx context.Context, cursors []Cursor, all bool) (SyncPage, error) {
	return c.sync(ctx, cursors, wire.SyncRequest{All: all, WantSince: true})
}

// SyncSince returns what has come to threads since an earlier Sync or SyncSince, at a cost that does not depend on how many
// other threads the user has. It knows no cursors, so that pages may begin with messages that the caller has, or after
// messages that it lacks, which it reads with [Conn.History]; the same if a page's More is set. While More is set for the
// whole, ask again with the returned Since. newest is the cursor of the thread of which the caller has the newest message of
// all, the zero value if it has none: if the server has lost that message, because an older backup was restored, it says so by an empty Since.
func (c *Conn) SyncSince(ctx context.Context, since string, newest Cursor) (SyncPage, error) {
	var cursors []Cursor
	if newest != (Cursor{}) {
		cursors = []Cursor{newest}
	}
	return c.sync(ctx, cursors, wire.SyncRequest{Since: since})
}

func (c *Conn) sync(ctx context.Context, cursors []Cursor, req wire.SyncRequest) (SyncPage, error) {
	req.Cursors = make([]wire.Cursor, len(cursors))
	for i, cur := range cursors {
		req.Cursors[i] = wire.Cursor{ThreadID: cur.ThreadID, Seq: cur.LastID}
	}
	var reply wire.SyncReply
	if err := c.request(ctx, "sync", wire.MsgSync, req, &reply); err != nil {
		return SyncPage{}, err
	}
	out := SyncPage{More: reply.LoadMore, Since: reply.Since, Threads: make([]Page, len(reply.Threads))}
	for i := range reply.Threads {
		out.Threads[i] = pageOf(&reply.Threads[i])
	}
	return out, nil
}

// MaxCursors bounds the cursors of one Sync. With the largest ids that many do not fit a frame; about 350 always do.
const MaxCursors = wire.MaxCursors
