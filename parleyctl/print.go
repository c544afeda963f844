package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"parley/client"
)

// printer writes texts and notices, a line at a time, from any goroutine.
type printer struct {
	mu  sync.Mutex
	out io.Writer
	err io.Writer
	now func() time.Time // its location is the reader's
	bad error            // the first failure to write a text
}

// text writes "[time] name: text" to standard output. One text is one line, whatever is in it.
func (p *printer) text(name string, m client.Message) { p.line(name, m, "") }

// stored writes a text of our own, with a mark that it is stored.
func (p *printer) stored(name string, m client.Message) { p.line(name, m, " ✓") }

func (p *printer) line(name string, m client.Message, mark string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := fmt.Fprintf(p.out, "[%s] %s: %s%s\n", p.clock(m.Time), printable(name), shownText(m), mark)
	if p.bad == nil {
		p.bad = err
	}
}

// clock returns a time as the reader's clock shows it, with the date unless it is today.
func (p *printer) clock(t time.Time) string {
	now := p.now()
	t = t.In(now.Location())
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// event writes "* [time] group: what happened" to standard error.
func (p *printer) event(group, what string, m client.Message) {
	p.notice("[%s] %s: %s", p.clock(m.Time), printable(group), what)
}

// notice writes a line for people to standard error.
func (p *printer) notice(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Nothing is left to tell it to.
	_, _ = fmt.Fprintf(p.err, "* "+format+"\n", args...)
}

// notices writes each line of a text as a notice.
func (p *printer) notices(text string) {
	for l := range strings.SplitSeq(text, "\n") {
		p.notice("%s", l)
	}
}

func (p *printer) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bad
}

// shownText returns what is printed of a text.
func shownText(m client.Message) string {
	text := printable(m.Text)
	if m.Type != "" {
		text = "(" + m.Type + ") " + text
	}
	switch {
	case m.Recalled:
		return "(recalled)"
	case !m.Edited.IsZero():
		text += " (edited)"
	}
	return text
}

// printable shows as escapes what a terminal would obey and what would pretend to be another line: somebody else wrote
// it.
func printable(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case hidden(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden reports control characters, line and paragraph separators, and what changes the direction of writing.
func hidden(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// join lists things as a sentence does: "a, b and c".
func join(list []string, word string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " " + word + " " + list[last]
}
