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
	logins int // that have succeeded
	again  int // attempts for which the server was too busy
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

// login notes a login that succeeded.
func (l *ledger) login() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logins++
}

// tooBusy notes an attempt to log in for which the server was too busy.
func (l *ledger) tooBusy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again++
}

// mayBeStored reports whether a text was answered as refused when it may have been stored. Then it is not pushed.
func (l *ledger) mayBeStored(content string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed[content] == wire.CodeUnavailable
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
