//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"parley/client"
)

// loginsIntoStream implements bar G3.
func loginsIntoStream(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 3, Configure: unlimited})
	if err != nil {
		return err
	}
	const groups = 4
	first, err := l.users(ctx, 3*groups)
	if err != nil {
		return err
	}
	seeds := make([]uint64, groups)
	for i := range seeds {
		seeds[i] = w.Rand.Uint64()
	}
	trials := w.N(2_000, 60) / groups
	var sum streamFaults
	var mu sync.Mutex // guards sum
	var slowest widest
	err = each(groups, groups, func(i int) error {
		s, err := l.newStream(ctx, first+int32(3*i), seeds[i])
		defer s.close()
		for n := 0; err == nil && n < trials; n++ {
			var f streamFaults
			var took time.Duration
			f, took, err = s.trial(ctx, n%2 == 0)
			slowest.add(took)
			mu.Lock()
			sum.add(f)
			mu.Unlock()
		}
		return err
	})
	if err != nil {
		return err
	}
	r.Note("logins", trials*groups)
	r.Note("texts brought", sum.brought)
	r.Zero("missed", sum.missed)
	r.Zero("doubled or reordered", sum.again)
	AtMost(r, "all there", slowest.get(), 15*time.Second)
	return nil
}

// streamFaults counts the rows that logins during a stream of texts received, and what was wrong with them.
type streamFaults struct{ brought, missed, again int64 }

func (f *streamFaults) add(o streamFaults) {
	f.brought += o.brought
	f.missed += o.missed
	f.again += o.again
}

// stream is a group of three: two members send from two nodes, the third logs in.
type stream struct {
	l       *Lab
	thread  int64
	member  int32
	senders []*client.Conn
	rng     *rand.Rand
	cursors []client.Cursor
}

func (l *Lab) newStream(ctx context.Context, first int32, seed uint64) (*stream, error) {
	s := &stream{l: l, member: first + 2, rng: rand.New(rand.NewPCG(seed, 0)), cursors: []client.Cursor{}}
	if _, err := l.store.Seed.Friends(ctx, [][2]int32{{first, first + 1}, {first, first + 2}}); err != nil {
		return s, err
	}
	for i := range 2 {
		c, err := l.dial(ctx, first+int32(i), i, client.Options{OnEvent: func(client.Event) {}})
		if err != nil {
			return s, err
		}
		s.senders = append(s.senders, c)
	}
	made, err := s.senders[0].CreateGroup(ctx, client.GroupDraft{Name: "stream", Members: []int32{first + 1, first + 2}})
	s.thread = made.ThreadID
	return s, err
}

func (s *stream) close() {
	for _, c := range s.senders {
		c.Close()
		<-c.Done()
	}
}

// trial has the member log in while the others send, and waits until it has everything. With resume it continues
// where it ended; otherwise it starts at the present and must receive what is sent after its login.
func (s *stream) trial(ctx context.Context, resume bool) (f streamFaults, took time.Duration, err error) {
	rctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	last, failed := make([]int64, len(s.senders)), make([]error, len(s.senders))
	for i, c := range s.senders {
		wg.Go(func() {
			for rctx.Err() == nil && failed[i] == nil {
				var sent client.Sent
				sent, failed[i] = c.SendText(ctx, client.InThread(s.thread), "on and on")
				last[i] = max(last[i], sent.MessageID)
				pause(rctx, time.Millisecond)
			}
		})
	}
	end := func() error {
		stop()
		wg.Wait()
		return errors.Join(failed...)
	}
	pause(ctx, time.Duration(s.rng.IntN(50_000))*time.Microsecond)
	t, err := s.l.ticket(ctx, s.member, s.rng.IntN(len(s.l.Chat)))
	if err != nil {
		return f, 0, errors.Join(err, end())
	}
	o := client.SessionOptions{Ticket: t, SyncEvery: -1}
	next := int64(0) // first number that the member must receive
	if resume {
		o.Cursors, next = s.cursors, 1
		for _, c := range s.cursors {
			if c.ThreadID == s.thread {
				next = c.LastID + 1
			}
		}
	}
	m, err := client.Open(ctx, o)
	if err != nil {
		return f, 0, errors.Join(err, end())
	}
	defer m.Close()
	if !resume {
		sent, err := s.senders[0].SendText(ctx, client.InThread(s.thread), "from here on")
		if err != nil {
			return f, 0, errors.Join(err, end())
		}
		next = sent.MessageID
	}
	pause(ctx, time.Duration(s.rng.IntN(50_000))*time.Microsecond)
	if err := end(); err != nil {
		return f, 0, err
	}
	begin := time.Now()
	nctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	known := int64(0) // latest row received
	for goal := max(last[0], last[1], next-1); known < goal; {
		ev, err := m.Next(nctx)
		if err != nil {
			if ctx.Err() != nil || nctx.Err() == nil {
				return f, 0, fmt.Errorf("user %d has row %d of %d: %w", s.member, known, goal, err)
			}
			s.l.w.Logf("group %d: the login did not bring rows %d to %d", s.thread, max(known+1, next), goal)
			f.missed += goal - max(known, next-1)
			break
		}
		texts, ok := ev.(client.Texts)
		if !ok || texts.ThreadID != s.thread {
			continue
		}
		for _, msg := range texts.Messages {
			f.brought++
			due := known + 1
			if known == 0 {
				due = next
			}
			switch {
			case msg.ID <= known || resume && msg.ID < next:
				f.again++
				s.l.w.Logf("group %d: row %d came after %d", s.thread, msg.ID, known)
			case msg.ID > due:
				f.missed += msg.ID - due
				s.l.w.Logf("group %d: row %d came where %d was due", s.thread, msg.ID, due)
			}
			known = max(known, msg.ID)
		}
	}
	s.cursors = m.Cursors()
	return f, time.Since(begin), nil
}
