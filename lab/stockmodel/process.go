package stockmodel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"parley/internal/wire"
)

// Options configure a process. The zero value is an M client.
type Options struct {
	Generation Generation
	// Patience is how long a window may wait before it counts as hanging. Default 20 s.
	Patience time.Duration
	// Heartbeat is the period of 1023. Default 10 s, as in the client.
	Heartbeat time.Duration
	// OnAnswer, if not nil, is called with each text that has received its 1018, with its status. It must not call
	// the process.
	OnAnswer func(Text)
	// Stalls, if not nil, distinguishes frames that were sent together from frames that were only read together.
	Stalls *Stalls
	// Dial opens the connection. Default: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// ErrGone means that the client is not logged in: not yet, no longer, or because it crashed.
var ErrGone = errors.New("stockmodel: not logged in")

// Text is a line on a chat page.
type Text struct {
	ID       int64 // as remembered by the client: 0 for texts from a 1018 or 1019
	UniqueID string
	Content  string
	Sender   int32
	Status   int64 // 0 sending, 1 failed, 2 sent
	Code     int64 // reason for the failure, which the client does not read
}

// thread is a chat page with its state.
type thread struct {
	id    int64
	peer  int32
	texts []*Text
	last  int64 // cursor of its history

	ids     map[int64]struct{} // of texts that have an id
	uniques map[string]struct{}
}

// Process is a run of the client program, with one user after another. All methods are safe for concurrent use, but a
// user does one thing at a time.
type Process struct {
	opts Options

	mu     sync.Mutex // guards the following
	change chan struct{}
	faults []Fault
	dead   bool
	reads  int // frames
	// Frames that were read together with the one before; doubtful counts those that no stall explains.
	forgiven, doubtful int

	// The connection.
	conn    net.Conn
	parser  parser
	goodbye chan struct{} // ends the heartbeats

	// State that survives a new login.
	uid     int32
	friends map[int32]struct{}
	applied map[int32]string // greeting, by applicant
	threads map[int64]*thread
	byPeer  map[int32]int64
	order   []int64 // threads in the order in which they were announced; loadAt is the next to load
	loadAt  int
	cursor  int64 // of 1025

	// State that a login opens and its end closes.
	window     bool
	refused    int64 // code of the last failed 1006; -1: none
	kicked     bool
	rows       map[int64]struct{} // of the chat list
	askedMore  int64              // cursor of the 1025 in progress; -1: none
	current    *thread            // thread whose history is being loaded
	loaded     bool
	searching  bool
	found      object
	unanswered map[string]*Text // 1017s without a 1018, by unique id
	approving  int              // 1013s without a 1014
	answers    map[wire.MsgID]int64
}

// New returns a process that shows its login page.
func New(o Options) *Process {
	if o.Patience <= 0 {
		o.Patience = 20 * time.Second
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 10 * time.Second
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return &Process{
		opts: o, change: make(chan struct{}), refused: -1,
		friends: map[int32]struct{}{}, applied: map[int32]string{}, threads: map[int64]*thread{}, byPeer: map[int32]int64{},
	}
}

func (p *Process) changedLocked() {
	close(p.change)
	p.change = make(chan struct{})
}

func (p *Process) faultLocked(kind Kind, id wire.MsgID, format string, args ...any) {
	p.faults = append(p.faults, Fault{kind, id, fmt.Sprintf(format, args...)})
	if kind == Crash {
		p.dead = true
		p.hangUpLocked()
	}
	p.changedLocked()
}

// Faults returns the faults so far.
func (p *Process) Faults() []Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.faults)
}

// Frames returns the number of frames read, and how many of them were read together with another one because this
// process was late.
func (p *Process) Frames() (read, late int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reads, p.forgiven
}

// Login connects to addr and logs in. It returns the code of the 1006; if that is 0, the client goes on to load
// threads and history in the background, see Loaded. An error means that the connection could not be made or was lost
// before.
func (p *Process) Login(ctx context.Context, addr string, uid int32, token string) (code int64, err error) {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return 0, ErrGone
	}
	if p.conn != nil {
		// connectToHost does nothing on a connected socket, and the buttons stay disabled.
		p.faultLocked(Hang, wire.MsgLogin, "the socket of the login before is still connected")
		p.hangUpLocked()
	}
	p.mu.Unlock()
	conn, err := p.opts.Dial(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	p.conn, p.uid, p.refused, p.kicked = conn, uid, -1, false
	p.goodbye = make(chan struct{})
	p.mu.Unlock()
	go p.read(conn)
	p.mu.Lock()
	p.sendLocked(wire.MsgLogin, map[string]any{"uid": uid, "token": token})
	p.mu.Unlock()
	err = p.wait(ctx, wire.MsgLogin, "login", func() bool { return p.window || p.refused >= 0 })
	p.mu.Lock()
	code = p.refused
	p.mu.Unlock()
	if code > 0 {
		// The user tries again: by then the socket must be closed.
		err = p.wait(ctx, wire.MsgLogin, "close after a refused login", func() bool { return p.conn == nil })
		if errors.Is(err, ErrGone) {
			err = nil
		}
		return code, err
	}
	return 0, err
}

// wait blocks until done, called with the lock held, returns true. After Patience the client counts as hanging.
func (p *Process) wait(ctx context.Context, id wire.MsgID, what string, done func() bool) error {
	late := time.NewTimer(p.opts.Patience)
	defer late.Stop()
	for {
		p.mu.Lock()
		ok, gone, change := done(), p.conn == nil, p.change
		p.mu.Unlock()
		switch {
		case ok:
			return nil
		case gone:
			return ErrGone
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			p.mu.Lock()
			defer p.mu.Unlock()
			if done() || p.conn == nil {
				continue
			}
			p.faultLocked(Hang, id, "%s: no answer in %v", what, p.opts.Patience)
			p.hangUpLocked()
			return ErrGone
		}
	}
}

// Loaded waits until the loading window is closed.
func (p *Process) Loaded(ctx context.Context) error {
	return p.wait(ctx, wire.MsgHistory, "loading window", func() bool { return p.loaded })
}

// read is the part of the event loop that reads the socket.
func (p *Process) read(conn net.Conn) {
	buf := make([]byte, 256<<10)
	for {
		n, err := conn.Read(buf)
		now := time.Now()
		p.mu.Lock()
		if p.conn != conn {
			p.mu.Unlock()
			return // closed by this side
		}
		if n > 0 {
			stalled := p.opts.Stalls.Since(now.Add(-coalesced))
			// Stalls cannot notice that this reader alone was descheduled, so a few cases are ignored. Servers
			// without frame spacing cause at least one in twenty frames.
			lenient := p.opts.Stalls != nil && p.doubtful < 2+p.reads/50
			lost, late := p.parser.readyRead(buf[:n], stalled || lenient, func(id wire.MsgID, body []byte) bool {
				p.reads++
				p.frameLocked(id, body)
				return p.conn == conn
			})
			if p.forgiven += late; !stalled {
				p.doubtful += late
			}
			if lost != "" && !p.dead {
				p.faultLocked(Crash, 0, "%s", lost)
			}
		}
		if err != nil && p.conn == conn {
			p.hangUpLocked()
		}
		gone := p.conn != conn
		p.mu.Unlock()
		if gone {
			return
		}
	}
}

// hangUpLocked handles the end of the connection, by either side: back to the login page.
func (p *Process) hangUpLocked() {
	if p.conn == nil {
		return
	}
	_ = p.conn.Close() // it may be closed already
	close(p.goodbye)
	p.conn, p.window, p.rows, p.current, p.loaded, p.searching, p.unanswered, p.answers = nil, false, nil, nil, false, false, nil, nil
	p.askedMore, p.approving = -1, 0
	p.changedLocked()
}

// Logout closes the connection, as closing the chat window does. The process continues.
func (p *Process) Logout() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangUpLocked()
}

// Cut resets the connection, as a lost network does.
func (p *Process) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tcp, ok := p.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // on an error the close is merely graceful
	}
	p.hangUpLocked()
}

// sendLocked writes a frame. The reader notices failures.
func (p *Process) sendLocked(id wire.MsgID, v map[string]any) {
	if p.conn == nil {
		return
	}
	var body []byte
	var err error
	if id == wire.MsgLogin {
		body, err = json.MarshalIndent(v, "", "    ") // as the client does, for this request only
		body = append(body, '\n')
	} else {
		body, err = json.Marshal(v)
	}
	if err != nil {
		panic("stockmodel: " + err.Error()) // only strings and numbers are sent
	}
	frame, err := wire.AppendFrame(nil, id, body)
	if err != nil {
		panic("stockmodel: " + err.Error()) // the caller's texts are too long
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(p.opts.Patience))
	_, _ = p.conn.Write(frame) // the reader notices a broken connection
}

// beats sends heartbeats while the chat window is open.
func (p *Process) beats(stop chan struct{}) {
	tick := time.NewTicker(p.opts.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		if p.goodbye == stop && p.conn != nil {
			p.sendLocked(wire.MsgHeartbeat, map[string]any{"fromuid": p.uid})
		}
		p.mu.Unlock()
	}
}

// State is the externally visible state of a client.
type State struct {
	UID      int32
	Online   bool // the chat window is open
	Loaded   bool // and the loading window is closed
	Kicked   bool // the last login ended with 1021
	Friends  []int32
	Applied  []int32 // users whose friend requests are shown
	Threads  map[int64]int32
	Waiting  int              // texts and approvals without an answer
	Pages    map[int64][]Text // contents of the chat pages of this login
	Answered map[wire.MsgID]int64
}

// State returns a copy of the client's state. Pages contains only threads in the chat list.
func (p *Process) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{
		UID: p.uid, Online: p.window, Loaded: p.loaded, Kicked: p.kicked, Waiting: len(p.unanswered) + p.approving,
		Friends: slices.Sorted(maps.Keys(p.friends)), Applied: slices.Sorted(maps.Keys(p.applied)),
		Threads: make(map[int64]int32, len(p.rows)), Pages: make(map[int64][]Text, len(p.rows)), Answered: maps.Clone(p.answers),
	}
	for id := range p.rows {
		page := make([]Text, len(p.threads[id].texts))
		for i, t := range p.threads[id].texts {
			page[i] = *t
		}
		s.Threads[id], s.Pages[id] = p.threads[id].peer, page
	}
	return s
}
