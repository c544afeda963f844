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

// Mailer brings a verification code to a mailbox. SendCode returns when the mail was accepted for delivery, or ctx
// ended. Its error must name neither address nor code: it is logged. It is called from many goroutines.
type Mailer interface {
	SendCode(ctx context.Context, to, code string, ttl time.Duration) error
}

// NewMailer returns the Mailer that cfg asks for; dev is where the console one prints. It opens no connection.
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

// console prints codes for a developer who has no mail server. It is the only place where a code leaves the process in
// the clear other than by mail, and it writes to standard output, never to the log.
type console struct{ w io.Writer }

func (c console) SendCode(_ context.Context, to, code string, ttl time.Duration) error {
	_, err := fmt.Fprintf(c.w, "[dev mail, not sent] to=%s code=%s valid=%s\n", to, code, ttl)
	return err
}

// smtpMailer sends each code over a connection of its own: codes are rare, and a kept connection would have to be
// watched.
type smtpMailer struct {
	cfg Mail
	tls *tls.Config
}

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

	// The library renews its deadline at every step and leaves a connection open when the greeting fails, so the
	// connection is ours: it ends with ctx whatever happens.
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
		_ = conn.Close() // closed already when all went well
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

// cappedConn lets no deadline be later than limit.
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

// withoutAddresses keeps of a mail error what an operator needs. The library's texts, and a server's, name the
// recipient.
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
