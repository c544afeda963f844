package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"parley/internal/wire"
)

// Code is a server's result of a request: 0 is success, 1001–1013 are llfcchat's codes, 2000 and up are Parley's.
// A server may send codes this package does not know; they are treated as final.
type Code int32

// The codes. What to do about each is [Code.Advice]; docs/PROTOCOL.md describes them at length.
const (
	CodeOK             = Code(wire.CodeOK)
	CodeStore          = Code(1) // only from RequestCode: the code could not be stored
	CodeMail           = Code(2) // only from RequestCode: the mail could not be sent
	CodeJSON           = Code(wire.CodeJSON)
	CodeRPC            = Code(wire.CodeRPC)            // a node behind the gate did not answer, or none can take the user
	CodeVarifyExpired  = Code(wire.CodeVarifyExpired)  // there is no verification code for the address; ask for one
	CodeVarify         = Code(wire.CodeVarify)         // the verification code is wrong
	CodeUserExist      = Code(wire.CodeUserExist)      // the name or the address is taken
	CodePasswd         = Code(wire.CodePasswd)         // the password and its confirmation differ
	CodeEmailNotMatch  = Code(wire.CodeEmailNotMatch)  // no such user, or not that user's address
	CodePasswdUpFailed = Code(wire.CodePasswdUpFailed) // the new password could not be stored
	CodePasswdInvalid  = Code(wire.CodePasswdInvalid)  // wrong address or password
	CodeTokenInvalid   = Code(wire.CodeTokenInvalid)   // the token or resume ticket is unknown, used or too old
	CodeUIDInvalid     = Code(wire.CodeUIDInvalid)     // no such user
	CodeCreateChat     = Code(wire.CodeCreateChat)     // the thread could not be made, or may not be
	CodeLoadChat       = Code(wire.CodeLoadChat)       // history could not be read
	CodeInternal       = Code(wire.CodeInternal)       // the server's fault; the request may have taken effect
	CodeBusy           = Code(wire.CodeBusy)           // a bound was reached
	CodeUnavailable    = Code(wire.CodeUnavailable)    // a store behind the server cannot be reached
	CodeRateLimited    = Code(wire.CodeRateLimited)    // too many requests
	CodeSlowConsumer   = Code(wire.CodeSlowConsumer)   // this client did not read what it was sent
	CodeBadRequest     = Code(wire.CodeBadRequest)     // the request can never succeed
	CodeNotAllowed     = Code(wire.CodeNotAllowed)     // the user may not do this
	CodeTooFarBehind   = Code(wire.CodeTooFarBehind)   // more was missed than can be sent; reload
	CodeDraining       = Code(wire.CodeDraining)       // the node is going away
)

var codeTexts = map[Code]string{
	CodeOK:             "ok",
	CodeStore:          "the verification code could not be stored",
	CodeMail:           "the mail could not be sent",
	CodeJSON:           "the server could not read the request",
	CodeRPC:            "no server could take the request",
	CodeVarifyExpired:  "no verification code is waiting for this address",
	CodeVarify:         "wrong verification code",
	CodeUserExist:      "the name or the e-mail address is taken",
	CodePasswd:         "the password and its confirmation differ",
	CodeEmailNotMatch:  "no such user, or another e-mail address",
	CodePasswdUpFailed: "the password could not be changed",
	CodePasswdInvalid:  "wrong e-mail address or password",
	CodeTokenInvalid:   "the login token is not valid any more",
	CodeUIDInvalid:     "no such user",
	CodeCreateChat:     "the chat could not be opened",
	CodeLoadChat:       "the history could not be read",
	CodeInternal:       "the server failed",
	CodeBusy:           "the server is busy",
	CodeUnavailable:    "the server cannot reach its stores",
	CodeRateLimited:    "too many requests",
	CodeSlowConsumer:   "too slow in reading",
	CodeBadRequest:     "the request is not valid",
	CodeNotAllowed:     "not allowed",
	CodeTooFarBehind:   "too much was missed",
	CodeDraining:       "the server is shutting down",
}

// String returns a short English text for people. Programs compare the number.
func (c Code) String() string {
	if s, ok := codeTexts[c]; ok {
		return s
	}
	return fmt.Sprintf("code %d", int32(c))
}

// Advice says what a program should do after a failure.
type Advice uint8

// The kinds of advice. The zero value is GiveUp.
const (
	GiveUp     Advice = iota // repeating the same request will fail again
	Retry                    // the same request may succeed later; see Error.RetryAfter
	LoginAgain               // the token or ticket is used up: log in at the gate
)

// String returns the advice in words.
func (a Advice) String() string {
	switch a {
	case Retry:
		return "retry"
	case LoginAgain:
		return "log in again"
	default:
		return "give up"
	}
}

// Advice says what to do about a code. Unknown codes advise to give up.
func (c Code) Advice() Advice {
	switch c {
	case CodeTokenInvalid:
		return LoginAgain
	case CodeStore, CodeRPC, CodePasswdUpFailed, CodeLoadChat, CodeInternal, CodeBusy, CodeUnavailable, CodeRateLimited,
		CodeSlowConsumer, CodeTooFarBehind, CodeDraining:
		return Retry
	default:
		return GiveUp
	}
}

// Error is a refusal by a server. Errors that are not an Error mean that no answer came.
type Error struct {
	// Op is the operation: "login", "send", "goodbye" for a connection the server closed, and so on.
	Op string
	// Code is never CodeOK.
	Code Code
	// RetryAfter is how long the server asks to wait before the next attempt; 0 if it said nothing.
	RetryAfter time.Duration
	// Reason is the server's own words, for people. Usually empty.
	Reason string
	// To is the host:port of the chat node to go to instead, or empty.
	To string
}

// Error returns the operation, the code's text and its number.
func (e *Error) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("%s: %v: %s (%d)", e.Op, e.Code, e.Reason, int32(e.Code))
	}
	return fmt.Sprintf("%s: %v (%d)", e.Op, e.Code, int32(e.Code))
}

// Errors of a connection. Test with errors.Is.
var (
	// ErrClosed is returned by calls on a connection or session after its Close, and by calls that its Close interrupts.
	ErrClosed = errors.New("client: closed")
	// ErrReplaced ends a connection whose user logged in elsewhere with the same device name. A Session does not
	// reconnect after it, because the two would replace each other for ever, unless the newer login may be one of its own: one
	// that it sent in the last 20 s, and gave up because no answer came.
	ErrReplaced = errors.New("client: replaced by a newer login")
	// ErrTimeout ends a connection whose server stayed silent, and a request that got no answer in time.
	ErrTimeout = errors.New("client: no answer in time")
	// ErrProtocol ends a connection whose server sent what this package cannot read.
	ErrProtocol = errors.New("client: the server broke the protocol")
	// ErrSlowConsumer ends a connection whose events were not read and cannot be read back later.
	ErrSlowConsumer = errors.New("client: events are not being read")
	// ErrText refuses, before anything is sent, a text that is empty, not UTF-8, holds a NUL or is longer than MaxText.
	ErrText = errors.New("client: text is empty, too long, not UTF-8 or holds a NUL")
	// ErrInFlight refuses a text whose unique id is already waiting for its answer on the same connection.
	ErrInFlight = errors.New("client: a text with this unique id is already in flight")
)

// CodeOf returns the code of the Error in err's chain, or CodeOK if there is none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeOK
}

// RetryAfter returns how long the server asked to wait, or 0.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// Advise says what to do about any error of this package. A network failure advises Retry; being replaced, closed or
// cancelled, a text that may not be sent, and what the server does not support, GiveUp.
func Advise(err error) Advice {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code.Advice()
	}
	final := slices.AppendSeq([]error{nil, ErrClosed, ErrReplaced, ErrLoggedOut, ErrText, errGateURL, context.Canceled}, maps.Values(unsupported))
	if slices.ContainsFunc(final, func(e error) bool { return errors.Is(err, e) }) {
		return GiveUp
	}
	return Retry
}
