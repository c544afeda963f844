package gate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// post is a mail server that keeps the mails it receives.
type post struct {
	mu     sync.Mutex
	mails  []string
	to     []string
	logins int
	refuse bool
}

func (p *post) NewSession(*smtp.Conn) (smtp.Session, error) { return &postSession{p}, nil }

type postSession struct{ p *post }

func (s *postSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *postSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, passwd string) error {
		if user != "gate" || passwd != "canary-of-smtp" {
			return smtp.ErrAuthFailed
		}
		s.p.mu.Lock()
		defer s.p.mu.Unlock()
		s.p.logins++
		return nil
	}), nil
}

func (s *postSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *postSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.refuse {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user: " + to}
	}
	s.p.to = append(s.p.to, to)
	return nil
}

func (s *postSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.mails = append(s.p.mails, string(text))
	return err
}

func (s *postSession) Reset()        {}
func (s *postSession) Logout() error { return nil }

// servePost starts a mail server and returns the Mail configuration for it. mode is as in Mail.TLS.
func servePost(t *testing.T, p *post, mode string) Mail {
	t.Helper()
	cert, caFile := selfSigned(t)
	srv := smtp.NewServer(p)
	srv.Domain = "localhost"
	srv.ErrorLog = discardLogger{}
	srv.AllowInsecureAuth = false
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := ln.Addr().(*net.TCPAddr).Port
	switch mode {
	case "implicit":
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
	case "starttls":
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		_ = ln.Close() // Close misses a listener that Serve has not seen yet, as when the test failed to connect
		<-done
	})
	return Mail{
		Mode: "smtp", Host: "127.0.0.1", Port: port, TLS: mode, CAFile: caFile, From: "parley@example.com",
		Timeout: patience, Parallel: 2,
	}
}

type discardLogger struct{}

func (discardLogger) Printf(string, ...any) {}
func (discardLogger) Println(...any)        {}

func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestSMTP(t *testing.T) {
	for _, mode := range []string{"implicit", "starttls", "none"} {
		t.Run(mode, func(t *testing.T) {
			p := &post{}
			cfg := servePost(t, p, mode)
			if mode != "none" {
				cfg.User, cfg.Passwd = "gate", "canary-of-smtp"
			}
			m, err := NewMailer(cfg, nil)
			require.NoError(t, err)
			require.NoError(t, m.SendCode(t.Context(), "Alice@example.org", "042137", codeTTL))
			p.mu.Lock()
			defer p.mu.Unlock()
			require.Equal(t, []string{"Alice@example.org"}, p.to)
			require.Contains(t, p.mails[0], "Your verification code is 042137")
			require.Contains(t, p.mails[0], "good for 10 minutes")
			require.Contains(t, p.mails[0], "<parley@example.com>")
			require.Equal(t, mode != "none", p.logins == 1)
		})
	}
}

func TestSMTPFailures(t *testing.T) {
	send := func(t *testing.T, cfg Mail) error {
		m, err := NewMailer(cfg, nil)
		require.NoError(t, err)
		err = m.SendCode(t.Context(), "canary-of-mail@example.org", "042137", codeTTL)
		require.Error(t, err)
		for _, secret := range []string{"canary", "042137"} {
			require.NotContains(t, err.Error(), secret)
		}
		return err
	}
	t.Run("recipient refused", func(t *testing.T) {
		require.ErrorContains(t, send(t, servePost(t, &post{refuse: true}, "implicit")), "550")
	})
	t.Run("wrong password", func(t *testing.T) {
		cfg := servePost(t, &post{}, "implicit")
		cfg.User, cfg.Passwd = "gate", "canary-of-a-wrong-one"
		send(t, cfg)
	})
	t.Run("certificate of somebody else", func(t *testing.T) {
		cfg := servePost(t, &post{}, "implicit")
		cfg.CAFile = ""
		require.ErrorContains(t, send(t, cfg), "not trusted")
	})
	t.Run("server without the upgrade that is demanded", func(t *testing.T) {
		p := &post{}
		cfg := servePost(t, p, "none")
		cfg.TLS = "starttls"
		send(t, cfg)
		require.Empty(t, p.mails)
	})
	t.Run("nobody there", func(t *testing.T) {
		cfg := servePost(t, &post{}, "none")
		cfg.Port = 1
		require.ErrorContains(t, send(t, cfg), "no connection")
	})
	t.Run("server that says nothing", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		cfg := servePost(t, &post{}, "none")
		cfg.Port, cfg.Timeout = ln.Addr().(*net.TCPAddr).Port, 100*time.Millisecond
		require.ErrorContains(t, send(t, cfg), "in time")
	})
	t.Run("no such authority", func(t *testing.T) {
		_, err := NewMailer(Mail{Mode: "smtp", CAFile: "/nowhere"}, nil)
		require.Error(t, err)
	})
}

// A slow server that sends single bytes must not hold a mail for longer than its timeout, although the library renews
// its own deadline at each step.
func TestSMTPServerThatDribblesIsCutOff(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			if _, err := io.WriteString(conn, "220-wait\r\n"); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond) // the tested fault
		}
	}()
	m, err := NewMailer(Mail{
		Mode: "smtp", Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port, TLS: "none", From: "a@example.com", Timeout: 200 * time.Millisecond,
	}, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.Error(t, m.SendCode(ctx, "b@example.com", "042137", codeTTL))
	require.NoError(t, ctx.Err(), "ended by its own time")
}

func TestConsoleMailIsMarked(t *testing.T) {
	var out bytes.Buffer
	m, err := NewMailer(Mail{Mode: "console"}, &out)
	require.NoError(t, err)
	require.NoError(t, m.SendCode(t.Context(), "a@example.com", "042137", codeTTL))
	require.Equal(t, "[dev mail, not sent] to=a@example.com code=042137 valid=10m0s\n", out.String())
}

func TestMailThroughTheGate(t *testing.T) {
	t.Parallel()
	p := &post{}
	cfg := servePost(t, p, "starttls")
	m, err := NewMailer(cfg, nil)
	require.NoError(t, err)
	f := newFixture(t)
	f.varify.mailer = m
	require.Equal(t, wire.CodeOK, f.call("/get_varifycode", map[string]any{"email": "a@example.com"}).Error)
	_, rest, ok := strings.Cut(p.mails[0], "Your verification code is ")
	require.True(t, ok)
	require.Equal(t, wire.CodeOK, f.call("/user_register", registration("alice", "a@example.com", "abcdef", rest[:6])).Error)
	p.mu.Lock()
	p.refuse = true
	p.mu.Unlock()
	require.Equal(t, `{"error":2}`, f.post("/get_varifycode", `{"email":"b@example.com"}`))
}

func TestMailsUnderWayAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Mail.Parallel = 1 })
	f.mail.hold = make(chan struct{})
	replies := make(chan reply, 9)
	for i := range 9 {
		go func() {
			replies <- f.call("/get_varifycode", map[string]any{"email": string(rune('a'+i)) + "@example.com"})
		}()
	}
	require.Eventually(t, func() bool { return f.varify.mailSlots.Waiting() == 8 }, patience, time.Millisecond)
	r := f.call("/get_varifycode", map[string]any{"email": "z@example.com"})
	require.Equal(t, wire.CodeBusy, r.Error)
	require.Positive(t, r.RetryMS)
	close(f.mail.hold)
	for range 9 {
		<-replies
	}
}

func TestMailFailureIsCodeTwo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mail.fail = errors.New("gate: mail: refused")
	require.Equal(t, `{"error":2}`, f.post("/get_varifycode", `{"email":"b@example.com"}`))
	require.Contains(t, f.logs.String(), "gate: mail: refused")
}
