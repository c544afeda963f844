package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// lines is where the lines of a chat come from. ReadLine returns io.EOF at their end.
type lines interface {
	ReadLine() (string, error)
}

// scanned reads lines of a file or a pipe.
type scanned struct{ *bufio.Scanner }

func scan(r io.Reader) scanned {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 4096), maxLine)
	return scanned{sc}
}

// ReadLine returns the next line, without its end.
func (s scanned) ReadLine() (string, error) {
	if !s.Scan() {
		return "", cmp.Or(s.Err(), io.EOF)
	}
	return s.Text(), nil
}

// A screen edits the line that a person types, and prints what comes above that line, so that neither tears the other. A
// line that was entered disappears: the text appears again when it is stored.
type screen struct {
	*term.Terminal
	rw    io.ReadWriter
	width func() int // of the terminal, in columns; 0 if unknown
	// key is told of each key, with the line until then; it must not write to the screen. nil: nobody is.
	key func(line string)
}

// newScreen returns a screen over a terminal in raw mode.
func newScreen(rw io.ReadWriter, width func() int) *screen {
	s := &screen{Terminal: term.NewTerminal(rw, prompt), rw: rw, width: width}
	s.AutoCompleteCallback = func(line string, _ int, _ rune) (string, int, bool) {
		if s.key != nil {
			s.key(line)
		}
		return "", 0, false
	}
	return s
}

const prompt = "> "

// ReadLine returns the next line that was typed or pasted. Ctrl-C and Ctrl-D end the lines.
func (s *screen) ReadLine() (string, error) {
	line, err := s.Terminal.ReadLine()
	if errors.Is(err, term.ErrPasteIndicator) {
		err = nil
	}
	if err != nil {
		return "", err
	}
	rows := 1
	if w := s.width(); w > 0 {
		rows += columns(prompt+line) / w
	}
	for range rows {
		// Up one row and erase it. A write past the Terminal is safe here: it has ended the line.
		if _, err := io.WriteString(s.rw, "\x1b[A\x1b[2K"); err != nil {
			return "", err
		}
	}
	return line, nil
}

// columns estimates how wide a line is: ideographs and emoji take two columns.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x1100 {
			n++
		}
	}
	return n
}

// openScreen takes over the terminal of standard input and output. It returns nil if there is none. restore gives the
// terminal back.
func openScreen(ctx context.Context) (s *screen, restore func(), err error) {
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	if !term.IsTerminal(in) || !term.IsTerminal(out) {
		return nil, func() {}, nil
	}
	before, err := term.MakeRaw(in)
	if err != nil {
		return nil, nil, err
	}
	width := func() int {
		w, _, err := term.GetSize(out)
		if err != nil {
			return 0
		}
		return w
	}
	s = newScreen(struct {
		io.Reader
		io.Writer
	}{os.Stdin, os.Stdout}, width)
	resize := func() {
		if w, h, err := term.GetSize(out); err == nil && w > 0 {
			_ = s.SetSize(w, h) // it redraws; an error is one of the terminal, and shows at the next write
		}
	}
	resize()
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-changed:
				resize()
			case <-ctx.Done():
				return
			}
		}
	}()
	return s, func() {
		signal.Stop(changed)
		stop()
		<-done
		_, _ = io.WriteString(os.Stdout, "\r\x1b[K") // the prompt
		_ = term.Restore(in, before)                 // nothing is left to do about an error
	}, nil
}
