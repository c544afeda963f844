package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/internal/obs"
)

type chatCmd struct {
	gateFlags
	emailFlag
	Password string        `help:"Password. It is visible in the process list: prefer PARLEY_PASSWORD or the prompt." env:"PARLEY_PASSWORD"`
	To       string        `help:"Friend to talk to, by name or uid, or group, by name or number; /to changes it." placeholder:"NAME|UID|#GROUP"`
	State    string        `help:"File that records the texts shown, so that the next start shows missed ones. Default on a terminal: one in the user's cache directory; \"-\" for none." placeholder:"FILE"`
	Wait     time.Duration `help:"How long to keep receiving after the end of standard input." default:"0s"`
	Device   string        `help:"Name of this device; a second login with the same one ends the first." default:"cli"`
	Echo     bool          `help:"Print own texts too, in the order of the conversation."`
	transportFlags
}

// Help is printed below the flags.
func (*chatCmd) Help() string {
	return "Lines are texts, lines that begin with / are commands; /help lists them, // begins a text with a slash.\n\n" +
		"Texts are printed to standard output as \"[15:04:05] name: text\", those of a group as \"[15:04:05] name (group): text\"; " +
		"notices go to standard error. At the end of " +
		"standard input everything sent is waited for. The exit status is 1 if anything failed, or, while a person types, only if " +
		"the session did."
}

// Run chats until standard input ends, a signal comes or the session is over.
func (c *chatCmd) Run(e *environment) error {
	gate, err := c.open()
	if err != nil {
		return err
	}
	if c.State == "" && e.stateFile != nil {
		c.State = e.stateFile(c.Gate, c.Email, c.Device)
	}
	if c.State == "-" {
		c.State = ""
	}
	var cursors []client.Cursor
	data := ""
	if c.State != "" {
		if cursors, data, err = loadState(c.State, c.Gate, c.Email); err != nil {
			return err
		}
	}
	password, err := e.password(c.Password)
	if err != nil {
		return err
	}
	gate.Transport = c.Transport
	trust, err := c.config()
	if err != nil {
		return err
	}
	if trust != nil {
		gate.HTTP.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust}
	}
	login, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	s, err := client.Open(login, client.SessionOptions{
		Options: client.Options{Client: "parleyctl/" + obs.ReadBuild().Version, Device: c.Device, RequestTimeout: c.Timeout, TLS: trust},
		Gate:    gate, Email: c.Email, Password: password, Cursors: cursors, Data: data,
	})
	if err != nil {
		return err
	}
	var typed lines = scan(e.in)
	if e.screen != nil {
		screen, restore, err := e.screen(e.ctx)
		if err != nil {
			return errors.Join(err, s.Close())
		}
		defer restore()
		if screen != nil {
			typed, e.out, e.err, c.Echo = screen, screen, screen, true
		}
	}
	t := newTalk(c, e, s)
	t.person, t.fresh = e.person, cursors == nil
	if s, ok := typed.(*screen); ok {
		s.key = t.key
	}
	err = t.run(e, typed)
	s.Close()
	t.wg.Wait()
	if c.State != "" {
		err = errors.Join(err, saveState(c.State, c.Gate, c.Email, s.Data(), s.Cursors()))
	}
	return errors.Join(err, t.print.failure())
}

// errSomeFailed is the end of a script in which something went wrong; what it was has been said.
var errSomeFailed = errors.New("some commands or texts failed")

// maxLine bounds a line of input; longer than any text, so that the text is refused and not the program.
const maxLine = 1 << 20

// saveEvery is how often a changed state is written while texts come.
const saveEvery = time.Second

// talk is one run of the chat.
type talk struct {
	cmd   *chatCmd
	s     *client.Session
	self  client.Profile
	print *printer
	wg    sync.WaitGroup
	acks  chan posted

	// Owned by show.
	connected bool
	times     map[textKey]time.Time // of texts that it brought

	person bool // somebody types
	fresh  bool // nothing is known of what this user has seen before

	typesIn atomic.Int64 // the thread whose members are told of typing; 0: none

	mu      sync.Mutex // guards the following
	to      recipient
	groups  map[int64]string // names of groups, and "" for private threads, by thread
	shown   map[int64]int64  // thread -> id of the first text shown of it, for a person
	names   map[int32]string
	mine    map[string]bool // unique ids of texts sent here and not seen in the conversation yet
	want    map[int64]int64 // thread -> newest id of our own, to be seen before we leave
	caught  bool            // what was missed has been shown
	here    map[int32]bool  // users who are online, of those who are watched; nil before the first are known
	typed   client.Typing   // what was shown last
	typedAt time.Time
	failed  bool
	// reading is who has read what.
	reading reading
	moved   chan struct{} // closed and replaced when any of want, caught, or what was shown changed
}

// posted is a text on its way.
type posted struct {
	*client.Posted
	to recipient
}

func newTalk(c *chatCmd, e *environment, s *client.Session) *talk {
	return &talk{
		cmd: c, s: s, self: s.Profile(),
		print: &printer{out: e.out, err: e.err, now: time.Now},
		acks:  make(chan posted, client.DefaultMaxUnsent),
		names: make(map[int32]string), times: make(map[textKey]time.Time), mine: make(map[string]bool), want: make(map[int64]int64),
		moved: make(chan struct{}), shown: make(map[int64]int64), groups: make(map[int64]string), reading: newReading(),
	}
}

// run returns why the chat ended: nil if the user wanted it to.
func (t *talk) run(e *environment, typed lines) error {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	t.greet(ctx)
	t.friendsMoved()
	t.wg.Go(t.show)
	t.wg.Go(t.report)
	defer close(t.acks)
	if t.cmd.To != "" {
		if err := t.begin(ctx); err != nil {
			return err
		}
	}
	asked, err := t.read(ctx, typed)
	switch {
	case e.ctx.Err() != nil:
		// Interrupted: what is answered within a moment is fine, the rest is told.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return t.confirmed(ctx)
	case err != nil:
		return err
	}
	if !errors.Is(t.s.Err(), client.ErrLoggedOut) { // /logout has waited for what was sent
		if err := t.flush(ctx, t.cmd.Timeout); err != nil {
			return err
		}
	}
	if !asked && t.cmd.Wait > 0 {
		wait := time.NewTimer(t.cmd.Wait)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-e.ctx.Done():
		case <-t.s.Done():
			return t.s.Err()
		}
	}
	t.storeRead(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed && !e.person {
		return errSomeFailed
	}
	return nil
}

func (t *talk) greet(ctx context.Context) {
	t.print.notice("logged in as %s (uid %d)%s", printable(t.self.Name), t.self.UID, onNode(t.s.Node()))
	if friends := t.s.Friends(); len(friends) > 0 && len(friends) <= 20 {
		names := make([]string, len(friends))
		for i, f := range friends {
			names[i] = printable(f.Name)
		}
		t.print.notice("friends: %s", strings.Join(names, ", "))
	} else {
		t.print.notice("%d friends; see /help", len(friends))
	}
	threads := t.presentThreads(ctx)
	if groups := present(threads); len(groups) > 0 && len(groups) <= 20 {
		names := make([]string, len(groups))
		for i, g := range groups {
			names[i] = printable(g.Name)
		}
		t.print.notice("groups: %s", strings.Join(names, ", "))
	}
	t.unreadTexts(threads)
	for _, a := range t.s.Applications() {
		t.applied(a)
	}
}

// onNode says where; a server need not tell.
func onNode(node string) string {
	if node == "" {
		return ""
	}
	return ", on node " + printable(node)
}

func (t *talk) applied(a client.Application) {
	t.print.notice("%s asks to be your friend: %q; /accept %s", printable(a.Name), printable(a.Greeting), printable(a.Name))
}

// read takes lines until they end, and reports whether the user asked to leave.
func (t *talk) read(ctx context.Context, typed lines) (asked bool, err error) {
	next := make(chan string)
	ended := make(chan error, 1)
	// A read of standard input cannot be interrupted: this goroutine may outlive us, with nothing to do.
	go func() {
		for {
			line, err := typed.ReadLine()
			if err != nil {
				ended <- err
				return
			}
			select {
			case next <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case line := <-next:
			if quit := t.line(ctx, line); quit {
				return true, nil
			}
		case err := <-ended:
			if err != io.EOF {
				return false, fmt.Errorf("standard input: %w", err)
			}
			return false, nil
		case <-t.s.Done():
			return false, t.s.Err()
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// line handles a line and reports whether it was the wish to leave.
func (t *talk) line(ctx context.Context, line string) (quit bool) {
	line = strings.TrimSuffix(line, "\r")
	text, isText := line, !strings.HasPrefix(line, "/")
	if strings.HasPrefix(line, "//") {
		text, isText = line[1:], true
	}
	var err error
	switch {
	case strings.TrimSpace(line) == "":
	case isText:
		err = t.send(ctx, text)
	default:
		ctx, cancel := context.WithTimeout(ctx, t.cmd.Timeout)
		defer cancel()
		quit, err = t.command(ctx, line)
	}
	if err != nil {
		t.fail(err)
	}
	return quit
}

// fail tells of something that went wrong and does not end the chat.
func (t *talk) fail(err error) {
	t.print.notice("%s", explain(err))
	t.mu.Lock()
	t.failed = true
	t.mu.Unlock()
}

// send posts a text to whom we talk to.
func (t *talk) send(ctx context.Context, text string) error {
	t.mu.Lock()
	to := t.to
	t.mu.Unlock()
	if to.none() {
		return errors.New("no recipient: choose one with /to NAME")
	}
	d := client.NewDraft(text)
	t.setMine(d.UniqueID, true)
	p, err := t.s.Post(ctx, to.dest(), d)
	if err != nil {
		t.setMine(d.UniqueID, false)
		return err
	}
	if t.person {
		t.wg.Go(func() { t.remind(p) })
	}
	t.acks <- posted{p, to} // room for as many as Post lets wait
	return nil
}

// remindAfter is how long a text may wait for its answer before the person who typed it is told.
const remindAfter = 2 * time.Second

// remind tells that a text still waits.
func (t *talk) remind(p *client.Posted) {
	ctx, cancel := context.WithTimeout(context.Background(), remindAfter)
	defer cancel()
	if _, err := p.Wait(ctx); errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		t.print.notice("not stored yet: %q", abridged(p.Draft().Text))
	}
}

func (t *talk) setMine(unique string, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine {
		t.mine[unique] = true
	} else {
		delete(t.mine, unique)
	}
}

// report waits for what became of each text, in order.
func (t *talk) report() {
	for p := range t.acks {
		sent, err := p.Wait(context.Background()) // ends with the session at the latest
		t.mu.Lock()
		if err != nil {
			delete(t.mine, sent.UniqueID)
		} else {
			t.want[sent.ThreadID] = max(t.want[sent.ThreadID], sent.MessageID)
		}
		t.movedLocked()
		t.mu.Unlock()
		if err != nil {
			err = fmt.Errorf("not sent: %q: %w", abridged(p.Draft().Text), err)
			if p.to.thread != 0 && client.CodeOf(err) == client.CodeNotAllowed {
				err = fmt.Errorf("%w; see /group info", err)
			}
			t.fail(err)
		}
	}
}

func abridged(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// flush waits until everything sent is answered, everything missed was shown, and our own texts have come by, so that
// the next start does not take them for missed ones.
func (t *talk) flush(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := t.confirmed(ctx); err != nil {
		return err
	}
	for {
		t.mu.Lock()
		done, moved := t.caught && t.seenLocked(), t.moved
		t.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-t.s.Done():
			return t.s.Err()
		case <-ctx.Done():
			return fmt.Errorf("not all texts were received: %w", ctx.Err())
		}
	}
}

// confirmed waits until everything sent is answered.
func (t *talk) confirmed(ctx context.Context) error {
	err := t.s.Flush(ctx)
	switch {
	case err == nil:
		return nil
	case t.s.Err() != nil:
		return t.s.Err()
	}
	return fmt.Errorf("not all texts were confirmed: %w", err)
}

// seenLocked reports whether our own stored texts have all come by.
func (t *talk) seenLocked() bool {
	if len(t.mine) > 0 {
		return false
	}
	for _, c := range t.s.Cursors() {
		if c.LastID >= t.want[c.ThreadID] {
			delete(t.want, c.ThreadID)
		}
	}
	return len(t.want) == 0
}

func (t *talk) movedLocked() {
	close(t.moved)
	t.moved = make(chan struct{})
}
