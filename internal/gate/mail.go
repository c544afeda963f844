package gate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	mail "github.com/wneessen/go-mail"
)

// A Mailer delivers a verification code to a mailbox. SendCode returns when the mail has been accepted for delivery
// or ctx has ended. Its error is logged, so it must contain neither address nor code. It must be safe for concurrent
// use.
type Mailer interface {
	SendCode(ctx context.Context, to, code string, ttl time.Duration) error
}

// NewMailer returns the Mailer selected by cfg. The console mailer prints to dev. NewMailer opens no connection.
func NewMailer(cfg Mail, dev io.Writer) (Mailer, error) {
	if cfg.Mode == "console" {
		return console{dev}, nil
	}
	s := &smtpMailer{cfg: cfg, tls: &tls.Config{ServerName: cfg.Host, MinVersion: tls.VersionTLS12}}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("gate: mail authority: %w", err)
		}
		s.tls.RootCAs = x509.NewCertPool()
		if !s.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("gate: mail authority: %s holds no certificate", cfg.CAFile)
		}
	}
	return s, nil
}

// console prints codes for a developer without a mail server. It writes to standard output and never to the log.
// Apart from mail, this is the only way a code leaves the process in the clear.
type console struct{ w io.Writer }

func (c console) SendCode(_ context.Context, to, code string, ttl time.Duration) error {
	_, err := fmt.Fprintf(c.w, "[dev mail, not sent] to=%s code=%s valid=%s\n", to, code, ttl)
	return err
}

// smtpMailer sends each code on a new connection: codes are rare, and a kept connection would need supervision.
type smtpMailer struct {
	cfg Mail
	tls *tls.Config
}

// SendCode implements Mailer. Errors of the library are replaced by texts of this package, because they may quote the
// recipient.
func (s *smtpMailer) SendCode(ctx context.Context, to, code string, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	msg := mail.NewMsg()
	if err := msg.From(s.cfg.From); err != nil {
		return errors.New("gate: mail: sender's address is refused")
	}
	if err := msg.To(to); err != nil {
		return errors.New("gate: mail: recipient's address is refused")
	}
	msg.Subject("Your verification code")
	msg.SetDate()
	msg.SetMessageID()
	msg.SetBodyString(mail.TypeTextPlain, fmt.Sprintf(
		"Your verification code is %s\r\n\r\nIt is good for %d minutes and one use. If you did not ask for it, ignore this mail.\r\n",
		code, int(ttl.Minutes())))

	// The library renews its deadline at every step and leaves the connection open if the greeting fails. So this
	// function makes the connection and closes it when ctx ends.
	var conn net.Conn
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		limit, _ := ctx.Deadline()
		conn = &cappedConn{Conn: raw, limit: limit}
		if err := conn.SetDeadline(limit); err != nil || s.cfg.TLS != "implicit" {
			return conn, err
		}
		secure := tls.Client(conn, s.tls)
		return secure, secure.HandshakeContext(ctx)
	}
	client, err := mail.NewClient(s.cfg.Host, s.options(dial)...)
	if err != nil {
		return errors.New("gate: mail: settings are refused")
	}
	err = client.DialAndSendWithContext(ctx, msg)
	if conn != nil {
		_ = conn.Close() // already closed after a success
	}
	return withoutAddresses(err)
}

func (s *smtpMailer) options(dial mail.DialContextFunc) []mail.Option {
	opts := []mail.Option{
		mail.WithPort(s.cfg.Port), mail.WithTimeout(s.cfg.Timeout), mail.WithTLSConfig(s.tls),
		mail.WithDialContextFunc(dial), mail.WithoutNoop(), mail.WithoutRset(),
	}
	switch s.cfg.TLS {
	case "implicit":
		opts = append(opts, mail.WithSSL())
	case "starttls":
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	}
	if s.cfg.User != "" {
		opts = append(opts, mail.WithUsername(s.cfg.User), mail.WithPassword(s.cfg.Passwd),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	return opts
}

// cappedConn is a connection without deadlines later than limit.
type cappedConn struct {
	net.Conn
	limit time.Time
}

func (c *cappedConn) SetDeadline(t time.Time) error {
	if t.IsZero() || t.After(c.limit) {
		t = c.limit
	}
	return c.Conn.SetDeadline(t)
}

// withoutAddresses returns the part of a mail error that an operator needs. The texts of the library and of servers
// name the recipient.
func withoutAddresses(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*mail.SendError](err); ok {
		return fmt.Errorf("gate: mail: %s (smtp %d)", e.Reason, e.ErrorCode())
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return errors.New("gate: mail: the server did not answer in time")
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return errors.New("gate: mail: no connection to the server")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return errors.New("gate: mail: the server's certificate is not trusted")
	}
	return errors.New("gate: mail: greeting, TLS or login refused")
}
