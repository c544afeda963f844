package day

import (
	"fmt"
	"sync"

	"parley/internal/wire"
)

// pair is two users, the smaller uid first. Their private thread never changes.
type pair [2]int32

func pairOf(a, b int32) pair { return pair{min(a, b), max(a, b)} }

// ledger records every text that was sent, and failures. It is safe for concurrent use.
type ledger struct {
	mu     sync.Mutex // guards the following
	sent   map[string]pair
	stored map[string]struct{}  // answered as stored
	failed map[string]wire.Code // answered as refused because of load
	faults []string
	n      int
	logins int // successful logins
	again  int // login attempts refused because the server was too busy
	blamed int // those of them during which this machine ran smoothly
}

func newLedger() *ledger {
	return &ledger{sent: map[string]pair{}, stored: map[string]struct{}{}, failed: map[string]wire.Code{}}
}

// text returns a unique content and records its thread.
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

// answered records that a text was answered as stored.
func (l *ledger) answered(content string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored[content] = struct{}{}
}

// refusedAs records that a text was refused. Between friends the only reason is load: the machine is too busy for the
// text to be stored in time. If the text waited for the store, it is unknown whether it was stored.
func (l *ledger) refusedAs(content string, code wire.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if code != wire.CodeBusy && code != wire.CodeUnavailable {
		l.faults = append(l.faults, fmt.Sprintf("a text between friends was refused with %d: %s", code, content))
		return
	}
	l.failed[content] = code
}

// login records a successful login.
func (l *ledger) login() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logins++
}

// tooBusy records a login attempt that was refused because the server was too busy, and whether this machine stalled meanwhile.
func (l *ledger) tooBusy(stalled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again++
	if !stalled {
		l.blamed++
	}
}

// mayBeStored reports whether a refused text may have been stored. Such a text is not pushed.
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

// isStored reports whether a text was answered as stored, or was not sent by this test.
func (l *ledger) isStored(content string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, stored := l.stored[content]
	_, ours := l.sent[content]
	return stored || !ours
}
