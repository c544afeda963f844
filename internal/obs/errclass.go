package obs

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// ErrorClass sorts an error into a few words that are safe to show anyone and to use as a metric label: timeout,
// refused, unreachable, dns, closed, auth, canceled, panic or failed. It never returns text of the error itself, which may
// carry addresses, users or statements.
func ErrorClass(err error) string {
	var dns *net.DNSError
	var netErr net.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errPanic):
		return "panic"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &dns):
		return "dns"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "closed"
	case isAuth(err):
		return "auth"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	}
	return "failed"
}

// isAuth knows the refusals of Redis and of MySQL by their text: neither driver has a type for them that both versions
// of the protocol share.
func isAuth(err error) bool {
	text := err.Error()
	for _, s := range []string{"NOAUTH", "WRONGPASS", "NOPERM", "invalid password", "Access denied", "Error 1045", "Error 1044"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}
