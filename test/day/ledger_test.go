package day

import (
	"fmt"
	"sync"

	"parley/internal/wire"
)

// pair is two users, the smaller uid first; a private thread is theirs for ever.
type pair [2]int32

func pairOf(a, b int32) pair { return pair{min(a, b), max(a, b)} }

// ledger knows every text that was sent, and what went wrong. It is safe for concurrent use.
type ledger struct {
	mu     sync.Mutex // guards the following
	sent   map[string]pair
	stored map[string]struct{}  // answered as stored
	failed map[string]wire.Code // answered as refused for load
	faults []string
	n      int
}

func newLedger() *ledger {
	return &ledger{sent: map[string]pair{}, stored: map[string]struct{}{}, failed: map[string]wire.Code{}}
}

// text returns a content nobody has used and notes where it goes.
func (l *ledger) text(from, to int32) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	s := fmt.Sprintf("%d: %d to %d", l.n, from, to)
	if l.n%7 == 0 {
		s += " \"引号\" \\ \t😀"
	}
	l.sent[s] = pairOf(from, to)
	return s
}

// answered notes that a text was answered as stored.
func (l *ledger) answered(content string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored[content] = struct{}{}
}

// refusedAs notes that a text was answered as refused. Between friends there is one reason for it: that this machine is too
// busy for the texts to be stored in time. Of those that waited for the store nobody can say whether they were.
func (l *ledger) refusedAs(content string, code wire.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if code != wire.CodeBusy && code != wire.CodeUnavailable {
		l.faults = append(l.faults, fmt.Sprintf("a text between friends was refused with %d: %s", code, content))
		return
	}
	l.failed[content] = code
}

func (l *ledger) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

// isStored reports whether a text was answered as stored, or is none of ours.
func (l *ledger) isStored(content string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, stored := l.stored[content]
	_, ours := l.sent[content]
	return stored || !ours
}
