package crew

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"sync"
	"time"

	"parley/bench/swarm"
	"parley/bench/watch"
)

// Worker is a fleet in this process that a coordinator controls over net/rpc. It serves one coordinator and then
// ends.
type Worker struct {
	mu   sync.Mutex // guards the following
	crew *own
	cut  context.CancelFunc
}

// None is an empty argument or reply.
type None struct{}

// Glance is the state that a coordinator asks for every second.
type Glance struct {
	Live  swarm.Live
	Self  watch.Self
	Nodes []string
}

// Prepare makes the fleet and gets its tokens.
func (w *Worker) Prepare(s Spec, _ *None) error {
	c, err := newOwn(s)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.crew = c
	w.mu.Unlock()
	return c.Prepare(context.Background())
}

// Run runs a phase to its end, or to Cut.
func (w *Worker) Run(p swarm.Phase, out *swarm.Outcome) error {
	c := w.current()
	if c == nil {
		return errUnprepared
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.mu.Lock()
	w.cut = cancel
	w.mu.Unlock()
	o, err := c.Run(ctx, p)
	if o != nil {
		*out = *o
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Cut ends the running phase early.
func (w *Worker) Cut(None, *None) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut != nil {
		w.cut()
	}
	return nil
}

// Look returns the current state.
func (w *Worker) Look(_ None, g *Glance) error {
	if c := w.current(); c != nil {
		*g = Glance{c.Live(), c.Self(), c.Nodes()}
	}
	return nil
}

// Conversations returns the conversations whose history must be entered.
func (w *Worker) Conversations(_ None, out *[]swarm.Conversation) (err error) {
	c := w.current()
	if c == nil {
		return errUnprepared
	}
	*out, err = c.Conversations(context.Background())
	return err
}

// Enter enters stored messages into the books.
func (w *Worker) Enter(parts []swarm.Stored, _ *None) error {
	c := w.current()
	if c == nil {
		return errUnprepared
	}
	return c.Enter(context.Background(), parts)
}

var errUnprepared = errors.New("crew: the worker was not prepared")

func (w *Worker) current() *own {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.crew
}

// ServeWorker executes commands from a connection until it is closed.
func ServeWorker(conn net.Conn) error {
	w := &Worker{}
	server := rpc.NewServer()
	if err := server.RegisterName("Worker", w); err != nil {
		return fmt.Errorf("crew: %w", err)
	}
	server.ServeConn(conn)
	if c := w.current(); c != nil {
		c.Close()
	}
	return nil
}

// many is a crew of worker processes.
type many struct {
	specs   []Spec
	workers []*rpc.Client
	users   int // of all workers
	stop    func()

	mu     sync.Mutex // guards the following
	glance []Glance
}

// Many makes a crew of workers, one per connection, that share the users of s. Close calls stop after closing the
// connections.
func Many(s Spec, conns []net.Conn, stop func()) Crew {
	m := &many{stop: stop, users: s.Users, glance: make([]Glance, len(conns))}
	for i, conn := range conns {
		part := s
		from, to := s.Rooms.Share(s.Users, i, len(conns))
		part.FirstUID, part.Users, part.Index, part.Rooms = s.FirstUID+int32(from), to-from, i, s.Rooms.Part(from, to)
		m.specs = append(m.specs, part)
		m.workers = append(m.workers, rpc.NewClient(conn))
	}
	return m
}

// each calls a method of all workers concurrently and waits.
func (m *many) each(f func(i int, w *rpc.Client) error) error {
	errs := make([]error, len(m.workers))
	var wg sync.WaitGroup
	for i, w := range m.workers {
		wg.Go(func() {
			if err := f(i, w); err != nil {
				errs[i] = fmt.Errorf("crew: worker %d: %w", i+1, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (m *many) Prepare(ctx context.Context) error {
	err := m.each(func(i int, w *rpc.Client) error { return call(ctx, w, "Worker.Prepare", m.specs[i], &None{}) })
	m.look()
	return err
}

// call waits for the reply or the end of ctx.
func call(ctx context.Context, w *rpc.Client, method string, args, reply any) error {
	c := w.Go(method, args, reply, make(chan *rpc.Call, 1))
	select {
	case <-c.Done:
		return c.Error
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *many) ReadHistory(ctx context.Context, read History) error {
	return m.each(func(_ int, w *rpc.Client) error {
		var of []swarm.Conversation
		if err := call(ctx, w, "Worker.Conversations", None{}, &of); err != nil {
			return err
		}
		return read(ctx, of, func(parts []swarm.Stored) error { return call(ctx, w, "Worker.Enter", parts, &None{}) })
	})
}

// Lead is how long before its StartAt a phase should be sent to workers.
const Lead = 100 * time.Millisecond

func (m *many) Run(ctx context.Context, p swarm.Phase) (*swarm.Outcome, error) {
	n := len(m.workers)
	if p.StartAt.IsZero() {
		p.StartAt = time.Now().Add(Lead) // makes the seconds begin everywhere at once
	}
	outs := make([]swarm.Outcome, n)
	stop := context.AfterFunc(ctx, func() {
		_ = m.each(func(_ int, w *rpc.Client) error { return w.Call("Worker.Cut", None{}, &None{}) }) // a lost worker fails its Run
	})
	defer stop()
	err := m.each(func(i int, w *rpc.Client) error {
		part := p
		part.Load, part.Churn = p.Load.Split(i, n), p.Churn.Split(i, n)
		if p.Concurrency > 0 {
			part.Concurrency = max(p.Concurrency*(i+1)/n-p.Concurrency*i/n, 1)
		}
		before, all := int(m.specs[i].FirstUID-m.specs[0].FirstUID), m.users
		want := min(p.Users, all)
		part.Users = (before+m.specs[i].Users)*want/all - before*want/all
		part.Mute = p.Mute*(i+1)/n - p.Mute*i/n
		return w.Call("Worker.Run", part, &outs[i])
	})
	parts := make([]*swarm.Outcome, n)
	for i := range outs {
		parts[i] = &outs[i]
	}
	total, e := swarm.Merge(parts)
	err = errors.Join(err, e)
	m.look()
	if err == nil {
		err = context.Cause(ctx)
	}
	return total, err
}

func (m *many) look() {
	_ = m.each(func(i int, w *rpc.Client) error { // keep the last glance of a worker that does not answer
		var g Glance
		call := w.Go("Worker.Look", None{}, &g, make(chan *rpc.Call, 1))
		select {
		case <-call.Done:
			if call.Error == nil {
				m.mu.Lock()
				m.glance[i] = g
				m.mu.Unlock()
			}
		case <-time.After(500 * time.Millisecond):
		}
		return nil
	})
}

func (m *many) Live() (sum swarm.Live) {
	m.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.glance {
		sum.Online += g.Live.Online
		sum.Done += g.Live.Done
		sum.Offered += g.Live.Offered
		sum.Wrong += g.Live.Wrong
		sum.P99 = max(sum.P99, g.Live.P99)
	}
	return sum
}

func (m *many) Self() watch.Self {
	m.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	var sum watch.Self
	for _, g := range m.glance {
		sum = watch.Worst(sum, g.Self)
	}
	return sum
}

func (m *many) Nodes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, g := range m.glance {
		for _, n := range g.Nodes {
			known := false
			for _, have := range names {
				known = known || have == n
			}
			if !known {
				names = append(names, n)
			}
		}
	}
	return names
}

func (m *many) Close() {
	for _, w := range m.workers {
		_ = w.Close() // the connection is no longer needed
	}
	m.stop()
}
