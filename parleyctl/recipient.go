package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"parley/client"
)

// recipient is to whom texts go: a friend or a group.
type recipient struct {
	uid    int32
	thread int64
	name   string
}

func (r recipient) none() bool { return r.uid == 0 && r.thread == 0 }

func (r recipient) dest() client.To {
	if r.thread != 0 {
		return client.InThread(r.thread)
	}
	return client.User(r.uid)
}

// String says who it is, and the number by which it can be told from others of the name.
func (r recipient) String() string {
	if r.thread != 0 {
		return fmt.Sprintf("the group %s (#%d)", printable(r.name), r.thread)
	}
	return fmt.Sprintf("%s (uid %d)", printable(r.name), r.uid)
}

func (t *talk) setRecipient(to recipient) {
	t.mu.Lock()
	t.to = to
	t.mu.Unlock()
	t.print.notice("texts go to %s", to)
}

// threadsKnown lists the threads and remembers which are groups, and their names.
func (t *talk) threadsKnown(ctx context.Context) ([]client.Thread, error) {
	threads, err := t.s.Threads(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, th := range threads {
		t.groups[th.ID] = th.Name
	}
	return threads, err
}

// presentThreads lists the threads as threadsKnown does; none if they cannot be read now.
func (t *talk) presentThreads(ctx context.Context) []client.Thread {
	ctx, cancel := context.WithTimeout(ctx, t.cmd.Timeout)
	defer cancel()
	threads, err := t.threadsKnown(ctx)
	if err != nil {
		return nil
	}
	return threads
}

// present returns those of threads that are groups that the user is in.
func present(threads []client.Thread) (groups []client.Thread) {
	for _, th := range threads {
		if !th.Private && th.Left == 0 {
			groups = append(groups, th)
		}
	}
	return groups
}

// groupName returns the name of a thread's group; "" for a private thread, and while a group's name cannot be read.
func (t *talk) groupName(thread int64) string {
	t.mu.Lock()
	name, known := t.groups[thread]
	t.mu.Unlock()
	if known {
		return name
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := t.threadsKnown(ctx); err != nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.groups[thread]
}

// findGroup finds a group by its number with # before it, else by name, one that the user is in before one that it has left,
// else by a name written in other capitals.
func (t *talk) findGroup(ctx context.Context, who string) (client.Thread, bool, error) {
	threads, err := t.threadsKnown(ctx)
	if err != nil {
		return client.Thread{}, false, err
	}
	matches := []func(client.Thread) bool{
		func(th client.Thread) bool { return "#"+strconv.FormatInt(th.ID, 10) == who },
		func(th client.Thread) bool { return th.Left == 0 && th.Name == who },
		func(th client.Thread) bool { return th.Left == 0 && strings.EqualFold(th.Name, who) },
		func(th client.Thread) bool { return strings.EqualFold(th.Name, who) },
	}
	for _, match := range matches {
		var found []client.Thread
		for _, th := range threads {
			if !th.Private && match(th) {
				found = append(found, th)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], true, nil
		}
		numbers := make([]string, len(found))
		for i, th := range found {
			numbers[i] = fmt.Sprintf("#%d", th.ID)
		}
		return client.Thread{}, false, fmt.Errorf("you have %d groups called %s: choose by number, %s", len(found), printable(who), join(numbers, "or"))
	}
	return client.Thread{}, false, nil
}
