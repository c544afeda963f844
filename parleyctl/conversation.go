package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"parley/client"
)

// conversations are this user's threads. One of them may be the current one: texts go to its recipient.
type conversations struct {
	*shared
	outbox    *outbox
	directory *directory
	typing    *typing // told who is typed to

	mu sync.Mutex // guards the following
	to recipient
}

// recipient returns to whom texts go; it may be none.
func (c *conversations) recipient() recipient {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.to
}

// choose makes a conversation the current one.
func (c *conversations) choose(to recipient) {
	c.mu.Lock()
	c.setLocked(to)
	c.mu.Unlock()
	c.print.notice("texts go to %s", to)
}

func (c *conversations) setLocked(to recipient) {
	c.to = to
	c.typing.follow(to)
}

// parted forgets a former friend as the one to whom texts go.
func (c *conversations) parted(uid int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.to.uid == uid {
		c.setLocked(recipient{})
	}
}

// left forgets a group that this user is not in any more as the one to which texts go.
func (c *conversations) left(thread int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.to.thread == thread {
		c.setLocked(recipient{})
	}
}

// renamed follows the new name of a group.
func (c *conversations) renamed(thread int64, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.to.thread == thread {
		c.to.name = name
	}
}

// current returns the thread with whom we talk to; false if there is none yet.
func (c *conversations) current(ctx context.Context) (client.Thread, bool, error) {
	to := c.recipient()
	if to.none() {
		return client.Thread{}, false, errors.New("no conversation: choose one with /to NAME")
	}
	threads, err := c.all(ctx)
	for _, th := range threads {
		if th.Private && th.Peer == to.uid || th.ID == to.thread {
			return th, true, err
		}
	}
	return client.Thread{}, false, err
}

// all returns the threads as they are after what was typed before.
func (c *conversations) all(ctx context.Context) ([]client.Thread, error) {
	if err := c.outbox.confirmed(ctx); err != nil {
		return nil, err
	}
	return c.directory.threads(ctx)
}

// list prints the threads.
func (c *conversations) list(ctx context.Context) error {
	threads, err := c.all(ctx)
	if err != nil {
		return err
	}
	for _, th := range threads {
		line := fmt.Sprintf("thread %d with %s, %d texts", th.ID, printable(c.directory.name(th.Peer)), th.LastID)
		if !th.Private {
			line = fmt.Sprintf("thread %d, %s, %s", th.ID, groupLine(th), count(int(th.LastID-th.First+1), "message"))
		}
		if n := unread(th); n != "" {
			line += ", " + n
		}
		c.print.notice("%s", line)
	}
	if len(threads) == 0 {
		c.print.notice("no conversations yet")
	}
	return nil
}
