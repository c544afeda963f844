package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"parley/client"
)

// typing tells others that this person types, and this person that others do.
type typing struct {
	*shared
	directory *directory

	mu     sync.Mutex // guards the following
	to     recipient
	thread int64 // whose members are told; 0: none

	// Owned by talk.show.
	last   client.Typing // what was shown last
	lastAt time.Time
}

const (
	// typingPause is how long after a notice of typing the same one is not shown again.
	typingPause = 10 * time.Second
	// typingLate is how long after a text a notice of typing by its sender may be about that text.
	typingLate = 2 * time.Second
)

// show tells a person that somebody else is typing.
func (t *typing) show(ev client.Typing) {
	if !t.person {
		return
	}
	if t.last == ev && time.Since(t.lastAt) < typingPause {
		return
	}
	t.last, t.lastAt = ev, time.Now()
	if group := t.directory.groupName(ev.ThreadID); group != "" {
		t.print.notice("%s is typing in %s", printable(t.directory.name(ev.UID)), printable(group))
		return
	}
	t.print.notice("%s is typing", printable(t.directory.name(ev.UID)))
}

// heard follows a message of somebody else: a notice of typing that is late would be wrong.
func (t *typing) heard(m client.Message) {
	if m.Sender != t.self.UID {
		t.last, t.lastAt = client.Typing{ThreadID: m.ThreadID, UID: m.Sender}, time.Now().Add(typingLate-typingPause)
	}
}

// follow is told to whom texts go from now on, and finds the thread whose members are told that this person types.
func (t *typing) follow(to recipient) {
	t.mu.Lock()
	t.to, t.thread = to, to.thread
	t.mu.Unlock()
	if !t.person || to.uid == 0 {
		return
	}
	t.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), t.cmd.Timeout)
		defer cancel()
		thread, err := t.s.OpenThread(ctx, to.uid)
		t.mu.Lock()
		defer t.mu.Unlock()
		if err == nil && t.to == to {
			t.thread = thread
		}
	})
}

// key is told of each key that a person presses, with the line until then. It must not print.
func (t *typing) key(line string) {
	t.mu.Lock()
	thread := t.thread
	t.mu.Unlock()
	if thread != 0 && line != "" && !strings.HasPrefix(line, "/") {
		t.s.Typing(thread)
	}
}
