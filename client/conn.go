package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/internal/wire"
)

// Conn is one logged-in connection to a chat node. All methods are safe for concurrent use. It ends by itself when the
// network fails or the server closes; Err then says why, and whatever was waiting gets that error. To stay connected
// use a [Session].
type Conn struct {
	// Fixed after Dial.
	opts    Options
	nc      net.Conn
	welcome welcome
	addr    string
	window  window
	events  eventQueue
	// echo makes own stored texts come as Texts too, where their answer stood among the frames. Session orders by it.
	echo bool

	// Owned by the reader.
	rd   *bufio.Reader
	body []byte

	lastRead atomic.Int64 // unix nanoseconds of the last frame; reading while its receiver has it

	mu      sync.Mutex    // guards the following
	err     error         // set once: why the connection ended
	parting error         // why the server is about to close it
	out     []byte        // frames waiting for the flusher
	spare   []byte        // the flusher's other buffer
	writing bool          // a flusher runs
	change  chan struct{} // closed and replaced when a caller waits in enqueue and the queue has changed
	waiting bool
	replies map[wire.MsgID]*call // by the reply's id
	texts   map[string]*textCall // by each unique id in flight
	threads map[int32]int64      // private threads by the other user, as far as known
	typed   int64                // the thread of the latest notice of typing
	typedAt time.Time            // when it was sent
	beat    *time.Timer
	beatAt  int64       // unix nanoseconds of the unanswered heartbeat, 0 if none
	doubt   *time.Timer // runs while askedAt is looked after; nil before the first request
	askedAt int64       // unix nanoseconds of the first request since the last frame, 0 if none

	closing  chan struct{} // closed with the socket
	done     chan struct{} // closed when the reader and the flusher have ended
	flushers sync.WaitGroup
}

// welcome is 1006.
type welcome struct {
	Error   wire.Code `json:"error"`
	RetryMS int       `json:"retry_ms"`
	To      string    `json:"to"`
	wire.Profile
	Friends      []wire.Friend      `json:"friend_list"`
	Applications []wire.Application `json:"apply_list"`
	Caps         []string           `json:"caps"`
	Resume       string             `json:"resume"`
	Other        string             `json:"other"`
	Window       int                `json:"window"`
	HeartbeatS   int                `json:"heartbeat_s"`
	Node         string             `json:"node"`
	SID          string             `json:"sid"`
	Data         string             `json:"data"`
}

// defaultHeartbeat serves when a server grants no period: below the 30 s after which silence closes.
const defaultHeartbeat = 10 * time.Second

// maxHeartbeat is the longest period a server is believed to mean, in seconds.
const maxHeartbeat = 3600

// defaultWindow serves when a server grants none, in texts.
const defaultWindow = 64

// Dial connects to the ticket's chat node and logs in. The context bounds only that. It returns an *Error if the server
// refuses: CodeTokenInvalid means to get a new ticket from the gate; an Error.To names the node to dial instead, with
// the same ticket.
func Dial(ctx context.Context, t Ticket, o Options) (*Conn, error) { return dial(ctx, t, o, false) }

func dial(ctx context.Context, t Ticket, o Options, echo bool) (*Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.LoginTimeout)
	defer cancel()
	nc, err := o.Connect(ctx, t.Addr)
	if err != nil {
		return nil, fmt.Errorf("client: connect: %w", err)
	}
	c := &Conn{
		opts: o, nc: nc, addr: t.Addr, echo: echo,
		rd:      bufio.NewReader(nc),
		change:  make(chan struct{}),
		replies: make(map[wire.MsgID]*call),
		texts:   make(map[string]*textCall),
		threads: make(map[int32]int64),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		events:  eventQueue{limit: o.EventBytes, wake: make(chan struct{}, 1)},
	}
	if err := c.login(ctx, t); err != nil {
		nc.Close()
		return nil, err
	}
	c.start()
	return c, nil
}

// login sends 1005 and reads 1006, which is always the first frame.
func (c *Conn) login(ctx context.Context, t Ticket) error {
	body, err := wire.Encode(c.opts.loginRequest(t))
	if err != nil {
		return fmt.Errorf("client: login: %w", err)
	}
	frame, err := wire.AppendFrame(nil, wire.MsgLogin, body)
	if err != nil {
		return fmt.Errorf("client: login: %w", err)
	}
	// A context that ends makes reads and writes fail at once.
	stop := context.AfterFunc(ctx, func() { c.nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	fail := func(err error) error {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return unansweredError{fmt.Errorf("client: login: %w", err)}
	}
	if _, err := c.nc.Write(frame); err != nil {
		return fail(err)
	}
	id, reply, err := c.readFrame()
	if err != nil {
		return fail(err)
	}
	w := &c.welcome
	if id != wire.MsgLoginRsp || wire.Decode(reply, w) != nil {
		return fail(ErrProtocol)
	}
	if w.Error != wire.CodeOK {
		return &Error{Op: "login", Code: Code(w.Error), RetryAfter: time.Duration(w.RetryMS) * time.Millisecond, To: nextAddr(c.addr, w.To)}
	}
	if !stop() {
		return fail(ctx.Err())
	}
	return nil
}

// unansweredError is the error of a login that was sent and got no answer. The server may carry it out later.
type unansweredError struct{ error }

func (e unansweredError) Unwrap() error { return e.error }

// start lets the reader and the heartbeats run.
func (c *Conn) start() {
	n := c.welcome.Window
	if n < 1 {
		n = defaultWindow
	}
	c.window.init(n)
	c.lastRead.Store(time.Now().UnixNano())
	period := c.Heartbeat()
	c.mu.Lock()
	// Spread, so that clients that log in together do not send heartbeats together.
	c.beat = time.AfterFunc(period/2+rand.N(period/2), c.heartbeat)
	c.mu.Unlock()
	go c.read()
}

// Profile returns the user as of login.
func (c *Conn) Profile() Profile { return profileOf(c.welcome.Profile) }

// Friends returns the friends as of login, in a new slice.
func (c *Conn) Friends() []Friend {
	out := make([]Friend, len(c.welcome.Friends))
	for i, f := range c.welcome.Friends {
		out[i] = Friend{Profile: profileOf(f.Profile), Alias: f.Back}
	}
	return out
}

// Applications returns the pending applications to the user as of login, in a new slice.
func (c *Conn) Applications() []Application {
	var out []Application
	for _, a := range c.welcome.Applications {
		if a.Status == 0 {
			p := profileOf(a.Profile)
			greeting := p.Desc // the list carries the greeting where a profile has its description
			p.Desc = ""
			out = append(out, Application{Profile: p, Greeting: greeting})
		}
	}
	return out
}

// Ticket returns the ticket for the next login, at this or any other node. Its Resume is empty if the server grants
// none; log in at the gate then.
func (c *Conn) Ticket() Ticket {
	t := Ticket{Addr: c.addr, UID: c.welcome.UID, Resume: c.welcome.Resume}
	if c.welcome.Other != "" {
		t.Other = nextAddr(c.addr, c.welcome.Other)
	}
	return t
}

// Node returns the name of the chat node, or "" if it does not tell.
func (c *Conn) Node() string { return c.welcome.Node }

// Data returns the id of the body of data that the server works on, or "" if it does not tell. When it changes, the ids of
// threads and messages mean something else.
func (c *Conn) Data() string { return c.welcome.Data }

// SID returns the server's id of this session, for finding it in logs; "" if it does not tell.
func (c *Conn) SID() string { return c.welcome.SID }

// Granted reports whether the server granted a capability: "batch", "resume", "gap",
// "groups", "rows", "marks", "presence".
func (c *Conn) Granted(capability string) bool { return slices.Contains(c.welcome.Caps, capability) }

// Heartbeat returns the period granted.
func (c *Conn) Heartbeat() time.Duration {
	if s := c.welcome.HeartbeatS; s > 0 {
		return time.Duration(min(s, maxHeartbeat)) * time.Second
	}
	return defaultHeartbeat
}

// Window returns how many texts may wait for their answer.
func (c *Conn) Window() int { return c.window.texts }

// Next returns the oldest event that was not yet returned, waiting for one if need be. When the connection has ended,
// all that was queued has been returned and then a Disconnected, it returns what Err returns. It must not be used
// together with Options.OnEvent.
func (c *Conn) Next(ctx context.Context) (Event, error) { return c.events.next(ctx) }

// Done is closed when the connection has ended and nothing of it runs any more.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns nil while the connection lives, then why it ended: ErrClosed, ErrReplaced, ErrTimeout, an *Error whose Op
// is "goodbye", or a network error.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection at once; what was not answered fails with ErrClosed. It returns without waiting, so that
// OnEvent may call it; Done tells when all has ended. It always returns nil.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	return nil
}

// fail ends the connection for the reason err, unless the server gave a better one before. Only the first call counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	if c.parting != nil && err != ErrClosed {
		err = c.parting
	}
	c.err = err
	replies, texts := c.replies, c.texts
	c.replies, c.texts = nil, nil
	c.out, c.spare = nil, nil
	if c.beat != nil {
		c.beat.Stop()
	}
	if c.doubt != nil {
		c.doubt.Stop()
	}
	close(c.closing)
	c.mu.Unlock()

	c.nc.Close()
	c.window.close(err)
	for _, call := range replies {
		call.reply <- answer{err: err}
	}
	failTexts(texts, fmt.Errorf("send: %w", err))
}

// readFrame returns the next frame. The body is valid until the next call.
func (c *Conn) readFrame() (wire.MsgID, []byte, error) {
	head, err := c.rd.Peek(wire.HeaderLen)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	id, n := wire.ParseHeader(head)
	if _, err := c.rd.Discard(wire.HeaderLen); err != nil {
		return 0, nil, err
	}
	if cap(c.body) < n || cap(c.body) > keepBody && n <= keepBody {
		c.body = make([]byte, n, max(n, 512))
	}
	body := c.body[:n]
	if _, err := io.ReadFull(c.rd, body); err != nil {
		return 0, nil, fmt.Errorf("in the middle of a frame: %w", err)
	}
	return id, body, nil
}

// keepBody is the largest body buffer kept for the next frame, in bytes.
const keepBody = 8 << 10
