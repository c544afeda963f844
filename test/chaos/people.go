//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/client"
)

// Person is a user with a client.Session, whose texts are recorded in the oracle.
type Person struct {
	UID    int32
	Thread int64
	*client.Session
	oracle *Oracle
	posted chan *client.Posted // texts waiting for their answers, in order
	wg     sync.WaitGroup
	stop   context.CancelFunc

	mu       sync.Mutex // guards the following
	up       []time.Time
	down     []time.Time
	caughtUp int
	log      []string // unique ids of all texts in order of arrival, if keepLog is set
	keepLog  bool
}

// person logs a user in on a chat node and keeps the session until close. If there is a gate, the session uses it
// when it has no valid ticket.
func (l *Lab) person(ctx context.Context, uid int32, thread int64, node int, o *Oracle, opts client.SessionOptions) (*Person, error) {
	t, err := l.ticket(ctx, uid, node)
	if err != nil {
		return nil, err
	}
	opts.Ticket, opts.Nodes = t, l.clientAddrs()
	opts.Gate, opts.Email, opts.Password = l.gate, email(uid), password(uid)
	s, err := client.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &Person{UID: uid, Thread: thread, Session: s, oracle: o, posted: make(chan *client.Posted, 2048), stop: stop}
	p.wg.Go(func() { p.read(run) })
	p.wg.Go(func() { p.answers(run) })
	return p, nil
}

func (p *Person) read(ctx context.Context) {
	for {
		ev, err := p.Next(ctx)
		if err != nil {
			return
		}
		switch ev := ev.(type) {
		case client.Texts:
			p.mu.Lock()
			for _, m := range ev.Messages {
				if p.keepLog {
					p.log = append(p.log, fmt.Sprint(m.ID, " ", m.UniqueID))
				}
				p.oracle.delivered(p.UID, m)
			}
			p.mu.Unlock()
		case client.Disconnected:
			p.mu.Lock()
			p.down = append(p.down, time.Now())
			p.mu.Unlock()
		case client.Connected:
			p.mu.Lock()
			p.up = append(p.up, time.Now())
			p.mu.Unlock()
		case client.CaughtUp:
			p.mu.Lock()
			p.caughtUp++
			p.mu.Unlock()
		}
	}
}

func (p *Person) answers(ctx context.Context) {
	for {
		select {
		case posted := <-p.posted:
			sent, _ := posted.Wait(ctx) // Sent contains the error
			p.oracle.answered(sent)
		case <-ctx.Done():
			return
		}
	}
}

// recordLog makes the person record what arrives from now on.
func (p *Person) recordLog() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keepLog = true
}

// seen returns what has arrived since recordLog.
func (p *Person) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// say posts the next text of this user.
func (p *Person) say(ctx context.Context) error {
	posted, err := p.Post(ctx, client.InThread(p.Thread), p.oracle.draft(p.UID))
	if err != nil {
		return err
	}
	select {
	case p.posted <- posted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// backAfter returns the first time after t at which the session was connected, or the zero time.
func (p *Person) backAfter(t time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, up := range p.up {
		if up.After(t) {
			return up
		}
	}
	return time.Time{}
}

// disconnections counts the ends of connections between two times.
func (p *Person) disconnections(from, to time.Time) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.down {
		if d.After(from) && d.Before(to) {
			n++
		}
	}
	return n
}

func (p *Person) close() {
	p.Session.Close()
	p.stop()
	p.wg.Wait()
}

// Crowd is a number of pairs of friends who exchange texts.
type Crowd struct {
	People  []*Person // 2i and 2i+1 are friends
	Oracle  *Oracle
	lab     *Lab
	sent    atomic.Int64
	failed  atomic.Int64
	stop    context.CancelFunc
	talking sync.WaitGroup
}

// crowd logs in n pairs, user i on node where(i). If where is nil, friends are on different nodes.
func (l *Lab) crowd(ctx context.Context, n int, where func(i int) int, opts client.SessionOptions) (*Crowd, error) {
	first, threads, err := l.pairs(ctx, n)
	if err != nil {
		return nil, err
	}
	if where == nil {
		where = func(i int) int { return (i/2 + i%2) % len(l.Chat) }
	}
	c := &Crowd{People: make([]*Person, 2*n), Oracle: newOracle(l.w), lab: l}
	for i, thread := range threads {
		c.Oracle.pair(first+int32(2*i), first+int32(2*i)+1, thread)
	}
	err = each(2*n, 16, func(i int) (err error) {
		c.People[i], err = l.person(ctx, first+int32(i), threads[i/2], where(i), c.Oracle, opts)
		return err
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// talk makes the crowd send rate texts per second, spread evenly over all, until hush is called or until it has sent
// most texts (0: no limit). Texts are sent on time whatever happens to earlier ones.
func (c *Crowd) talk(ctx context.Context, rate float64, most int) { c.some(ctx, c.People, rate, most) }

// some is like talk, for some of the crowd.
func (c *Crowd) some(ctx context.Context, who []*Person, rate float64, most int) {
	ctx, stop := context.WithCancel(ctx)
	before := c.stop
	c.stop = func() {
		if before != nil {
			before()
		}
		stop()
	}
	c.talking.Go(func() {
		begin := time.Now()
		for i := 0; most == 0 || i < most; i++ {
			pause(ctx, time.Until(begin.Add(time.Duration(float64(i)/rate*float64(time.Second)))))
			if ctx.Err() != nil {
				return
			}
			if err := who[i%len(who)].say(ctx); err != nil {
				c.failed.Add(1)
				continue
			}
			c.sent.Add(1)
		}
	})
}

// hush stops talk and waits until it has stopped.
func (c *Crowd) hush() {
	if c.stop != nil {
		c.stop()
	}
	c.talking.Wait()
}

// awaitSaid waits until talk has sent all its texts.
func (c *Crowd) awaitSaid() { c.talking.Wait() }

// flush waits until all texts are answered. It returns the number of users with unanswered texts.
func (c *Crowd) flush(ctx context.Context, within time.Duration) (stuck int64) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var n atomic.Int64
	_ = each(len(c.People), len(c.People), func(i int) error {
		if c.People[i].Flush(ctx) != nil {
			n.Add(1)
		}
		return nil
	})
	if n.Load() == 0 {
		_ = until(ctx, within, "answers are entered", func() (bool, error) {
			for _, p := range c.People {
				if len(p.posted) > 0 {
					return false, nil
				}
			}
			return true, nil
		})
		pause(ctx, 20*time.Millisecond)
	}
	return n.Load()
}

// end waits until everything is delivered, reports the oracle's verdict, and logs the crowd out.
func (c *Crowd) end(ctx context.Context, r *Report, within time.Duration) error {
	c.hush()
	defer c.close()
	r.Zero("users with unanswered texts", c.flush(ctx, within))
	if took, ok := c.Oracle.settle(ctx, within); !ok {
		c.lab.w.Logf("not all delivered after %v", took)
	}
	return c.Oracle.verdict(ctx, c.lab, r)
}

func (c *Crowd) close() {
	c.hush()
	_ = each(len(c.People), len(c.People), func(i int) error {
		if c.People[i] != nil {
			c.People[i].close()
		}
		return nil
	})
}
