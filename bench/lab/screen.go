package lab

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"parley/bench/hist"
	"parley/bench/swarm"
)

// screen is the live view: a line that is overwritten on a terminal, or a line per second elsewhere.
type screen struct {
	w        io.Writer
	quiet    bool
	terminal bool

	mu   sync.Mutex // guards the following
	stop chan struct{}
	done chan struct{}
	tidy bool // the line on the terminal must be ended before other output
}

func newScreen(w io.Writer, quiet bool) *screen {
	s := &screen{w: w, quiet: quiet}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			s.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return s
}

// Write shows other output, such as what is being started.
func (s *screen) Write(b []byte) (int, error) {
	s.say(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func (s *screen) say(text string) {
	if s.quiet || text == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearLocked()
	fmt.Fprintln(s.w, text)
}

func (s *screen) clearLocked() {
	if s.tidy {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.tidy = false
	}
}

func (s *screen) progress(step string, done, of int) {
	if s.quiet || !s.terminal {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, "\r\x1b[Kseeding %s %d of %d", step, done, of)
	s.tidy = true
}

// begin shows a phase until end is called. length is the duration of its load, or 0 if unknown.
func (s *screen) begin(name string, length time.Duration, live func() swarm.Live) {
	if s.quiet {
		return
	}
	s.end()
	stop, done := make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	s.stop, s.done = stop, done
	s.mu.Unlock()
	go func() {
		defer close(done)
		began, last := time.Now(), live()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			now := live()
			of := ""
			if length > 0 {
				of = fmt.Sprintf("/%.0f", length.Seconds())
			}
			line := fmt.Sprintf("%-12s %3.0f%s s  online %d  done %d/s  p99 %s  errors %d",
				name, time.Since(began).Seconds(), of, now.Online, now.Done-last.Done, hist.Format(now.P99), now.Wrong)
			last = now
			s.mu.Lock()
			if s.terminal {
				fmt.Fprint(s.w, "\r\x1b[K"+line)
				s.tidy = true
			} else {
				fmt.Fprintln(s.w, line)
			}
			s.mu.Unlock()
		}
	}()
}

// end stops the live line.
func (s *screen) end() {
	s.mu.Lock()
	stop, done := s.stop, s.done
	s.stop, s.done = nil, nil
	s.mu.Unlock()
	if stop != nil {
		close(stop)
		<-done
	}
	s.mu.Lock()
	s.clearLocked()
	s.mu.Unlock()
}
