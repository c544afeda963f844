package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"parley/lab/launch"
)

// mailServer is a real SMTP server that keeps the mails it receives.
type mailServer struct {
	ln  net.Listener
	srv *smtp.Server

	mu    sync.Mutex // guards the following
	mails map[string][]string
}

func newMailServer() (*mailServer, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &mailServer{ln: ln, mails: make(map[string][]string)}
	m.srv = smtp.NewServer(m)
	m.srv.Domain, m.srv.ReadTimeout, m.srv.WriteTimeout = "localhost", time.Minute, time.Minute
	go func() { _ = m.srv.Serve(ln) }() // ends with close
	return m, nil
}

func (m *mailServer) close() error {
	err := m.srv.Close()
	if err == nil {
		err = m.ln.Close() // Serve may not have registered it yet
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// configure makes a gate send its codes to this server.
func (m *mailServer) configure(f *launch.INI) {
	host, port, _ := net.SplitHostPort(m.ln.Addr().String())
	for k, v := range map[string]string{"Mode": "smtp", "Host": host, "Port": port, "TLS": "none", "From": "noreply@parley.example"} {
		f.Set("Mail", k, v)
	}
}

// NewSession implements smtp.Backend.
func (m *mailServer) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailSession{m: m}, nil }

type mailSession struct {
	m  *mailServer
	to []string
}

func (s *mailSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for _, to := range s.to {
		s.m.mails[to] = append(s.m.mails[to], string(b))
	}
	return nil
}

func (s *mailSession) Reset()        { s.to = nil }
func (s *mailSession) Logout() error { return nil }

// read returns the mails to an address.
func (m *mailServer) read(to string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mails[to]
}

var sixDigits = regexp.MustCompile(`\b\d{6}\b`)

// printedCode returns the newest code that a gate without a mail server printed for an address.
func printedCode(t testing.TB, log, to string) string {
	t.Helper()
	code := ""
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, devMail) && strings.Contains(line, "to="+to+" ") {
			_, rest, _ := strings.Cut(line, "code=")
			code, _, _ = strings.Cut(rest, " ")
		}
	}
	if !sixDigits.MatchString(code) {
		t.Fatalf("the gate printed no code for %s", to)
	}
	return code
}

// devMail begins the line in which a gate without a mail server prints a code.
const devMail = "[dev mail, not sent]"

// code requests a verification code and returns it, as printed by the first gate.
func (w *world) code(ctx context.Context, t testing.TB, to string) string {
	t.Helper()
	if err := w.gate.RequestCode(ctx, to); err != nil {
		t.Fatal(err)
	}
	return printedCode(t, w.Gate[0].Log(), to)
}
