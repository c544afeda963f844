package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// maxHops is how many "go to that node" in a row are followed.
const maxHops = 3

// steadyAfter is how long a connection must have lived to count as good: the back-off then begins anew.
const steadyAfter = 10 * time.Second

// lateLogin is how long after it was sent a login that got no answer may still be carried out: a server gives a login ten seconds
// and has a few more for what it began.
const lateLogin = 20 * time.Second

// errOvertaken ends a connection that a login of the same session replaced, which was sent before and carried out after its own.
var errOvertaken = errors.New("client: replaced by an earlier login of this session")

// errNoResume says that a login needs a password we do not have.
var errNoResume = &Error{Op: "login", Code: CodeTokenInvalid, Reason: "no resume ticket, and no gate to log in at"}

// run keeps the session connected until it is closed or there is no point in going on.
func (s *Session) run(ctx context.Context, conn *Conn) {
	marking, unmark := context.WithCancel(ctx)
	var marks sync.WaitGroup
	marks.Go(func() { s.receipts.run(marking, s) })
	defer func() {
		unmark()
		marks.Wait()
		close(s.done)
	}()
	attempt := 0
	for {
		since := time.Now()
		err := s.serve(ctx, conn)
		s.detach()
		conn.Close()
		<-conn.Done()
		if errors.Is(err, ErrReplaced) && !s.unanswered.IsZero() && time.Since(s.unanswered) < lateLogin {
			err = errOvertaken
		}
		if time.Since(since) > steadyAfter {
			attempt = 0
		}
		conn, attempt, err = s.reconnect(ctx, err, attempt)
		if err != nil {
			s.end(err)
			return
		}
	}
}

// reconnect logs in again after err, as often as it takes. It returns an error if no attempt would help.
func (s *Session) reconnect(ctx context.Context, err error, attempt int) (*Conn, int, error) {
	for ; ; attempt++ {
		if ctx.Err() != nil {
			return nil, attempt, ErrClosed
		}
		if advice := Advise(err); advice == GiveUp || advice == LoginAgain && s.opts.Gate == nil {
			return nil, attempt, err
		}
		if e, ok := errors.AsType[*Error](err); ok && e.To != "" {
			s.ticket.Addr = e.To
		}
		wait := s.backoff.wait(attempt, RetryAfter(err))
		s.tell(Disconnected{Err: err, Retry: wait})
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			continue
		}
		var conn *Conn
		var resumed bool
		if conn, resumed, err = s.login(ctx); err != nil {
			continue
		}
		s.attach(conn)
		s.tell(Connected{Node: conn.Node(), Resumed: resumed})
		if s.dataChanged(conn) {
			s.backlog = append(s.backlog, DataReplaced{}) // serve hands it on before any text
		}
		return conn, attempt + 1, nil
	}
}

// login makes one attempt: with the ticket at its node and at the others known, then with the password at the gate.
func (s *Session) login(ctx context.Context) (conn *Conn, resumed bool, err error) {
	err = errNoResume
	if s.ticket.Resume != "" || s.ticket.Token != "" {
		resumed = s.ticket.Resume != ""
		addrs := []string{s.ticket.Addr}
		if s.ticket.Other != "" && s.opts.Gate == nil { // a gate knows better
			addrs = append(addrs, s.ticket.Other)
		}
		for _, i := range rand.Perm(len(s.opts.Nodes)) {
			if !slices.Contains(addrs, s.opts.Nodes[i]) {
				addrs = append(addrs, s.opts.Nodes[i])
			}
		}
		for _, addr := range addrs {
			t := s.ticket
			t.Addr = addr
			if conn, err = s.dialHops(ctx, t); err == nil {
				return conn, resumed, nil
			}
			switch code := CodeOf(err); {
			case ctx.Err() != nil:
				return nil, false, err
			case code == CodeOK || code == CodeDraining:
				continue // no answer: the next one
			case code.Advice() == LoginAgain:
				s.ticket.Resume, s.ticket.Token = "", ""
			default:
				return nil, false, err // a living node says wait, or never
			}
			break
		}
	}
	if s.opts.Gate == nil {
		return nil, false, err
	}
	t, err := s.opts.Gate.Login(ctx, s.opts.Email, s.opts.Password)
	if err != nil {
		return nil, false, err
	}
	conn, err = s.dialHops(ctx, t)
	if Advise(err) == LoginAgain {
		// A fresh token refused: the stores behind the nodes are in trouble, not the user.
		err = fmt.Errorf("client: fresh token refused: %v", err)
	}
	return conn, false, err
}

// dialHops dials, and follows a node that names another one.
func (s *Session) dialHops(ctx context.Context, t Ticket) (*Conn, error) {
	for hop := 0; ; hop++ {
		conn, err := dial(ctx, t, s.opts.Options, true)
		if _, ok := errors.AsType[unansweredError](err); ok {
			s.unanswered = time.Now()
		}
		e, ok := errors.AsType[*Error](err)
		if !ok || e.To == "" || e.To == t.Addr || hop == maxHops {
			return conn, err
		}
		t.Addr = e.To
	}
}

// attach makes conn the session's connection.
func (s *Session) attach(conn *Conn) {
	s.ticket = conn.Ticket()
	s.ord.self = conn.welcome.UID
	s.mu.Lock()
	s.conn, s.last, s.resume = conn, conn, s.ticket
	s.friends = make(map[int32]Friend)
	for _, f := range conn.Friends() {
		s.friends[f.UID] = f
	}
	s.apps = make(map[int32]Application)
	for _, a := range conn.Applications() {
		s.apps[a.UID] = a
	}
	close(s.change)
	s.change = make(chan struct{})
	s.mu.Unlock()
	s.box.attach(conn)
}

func (s *Session) detach() {
	s.mu.Lock()
	s.conn = nil
	s.mu.Unlock()
	s.box.detach()
}

// end ends the session for good.
func (s *Session) end(err error) {
	s.mu.Lock()
	s.err = err
	close(s.change)
	s.change = make(chan struct{})
	s.mu.Unlock()
	s.box.end(err)
}

func (s *Session) befriend(f Friend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.friends[f.UID]; ok && f.Alias == "" {
		f.Alias = old.Alias
	}
	s.friends[f.UID] = f
	delete(s.apps, f.UID)
}

func (s *Session) applied(a Application) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[a.UID] = a
}
