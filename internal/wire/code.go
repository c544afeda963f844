package wire

import (
	"errors"
	"fmt"
)

// Code is the result of a request. 0 is success, 1001–1013 come from llfcchat, 2000 and up from Parley. The section
// "Codes" of docs/PROTOCOL.md says what a client should do for each.
type Code int32

// llfcchat's codes. The stock client shows the number or a fixed text and treats any other value as "failed".
const (
	CodeOK             Code = 0
	CodeJSON           Code = 1001 // the request is not the JSON object it should be
	CodeRPC            Code = 1002 // a node behind the gate did not answer, or no chat node can take the user
	CodeVarifyExpired  Code = 1003 // no verification code is stored for the address
	CodeVarify         Code = 1004 // the verification code differs
	CodeUserExist      Code = 1005 // the name or the address is taken
	CodePasswd         Code = 1006 // the two passwords differ
	CodeEmailNotMatch  Code = 1007 // no such user, or not that user's address
	CodePasswdUpFailed Code = 1008 // the new password could not be stored
	CodePasswdInvalid  Code = 1009 // wrong address or password
	CodeTokenInvalid   Code = 1010 // the token is unknown, used or too old: log in at the gate again
	CodeUIDInvalid     Code = 1011 // no such user
	CodeCreateChat     Code = 1012 // the thread could not be made, or may not be
	CodeLoadChat       Code = 1013 // history could not be read; never sent to stock clients, which would hang
)

// Our codes.
const (
	CodeInternal     Code = 2000 // our fault; the request may or may not have taken effect
	CodeBusy         Code = 2001 // a bound was reached; retry after retry_ms
	CodeUnavailable  Code = 2002 // Redis or SQL cannot be reached; retry
	CodeRateLimited  Code = 2003 // too many requests; retry after retry_ms
	CodeSlowConsumer Code = 2004 // the client does not read what it is sent; the connection closes
	CodeBadRequest   Code = 2005 // the request can never succeed; do not retry
	CodeNotAllowed   Code = 2006 // the user may not do this
	CodeTooFarBehind Code = 2007 // more was missed than can be sent; reload
	CodeDraining     Code = 2008 // the node is going away; connect to another
)

// Error refuses a request. Code is sent to the client; Err is for our log and never leaves the process.
type Error struct {
	Code  Code
	Fatal bool // the connection closes after the reply
	Err   error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("code %d", e.Code)
	}
	return fmt.Sprintf("code %d: %v", e.Code, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Refuse returns an *Error that leaves the connection open. err may be nil.
func Refuse(code Code, err error) error { return &Error{Code: code, Err: err} }

// Fatal returns an *Error after which the connection closes. err may be nil.
func Fatal(code Code, err error) error { return &Error{Code: code, Fatal: true, Err: err} }

// CodeOf returns the code that a client gets for err: CodeOK for nil, CodeInternal for an error that carries none.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// CodeOr is CodeOf, but returns other for an error that carries no code.
func CodeOr(err error, other Code) Code {
	if _, ok := errors.AsType[*Error](err); ok || err == nil {
		return CodeOf(err)
	}
	return other
}

// CodeIn returns the code in a frame's body, such as that of a 1006 or a 2101. ok is false for a frame without one.
func CodeIn(frame []byte) (code Code, ok bool) {
	if len(frame) < HeaderLen {
		return 0, false
	}
	var body struct {
		Error *Code `json:"error"`
	}
	if Decode(frame[HeaderLen:], &body) != nil || body.Error == nil {
		return 0, false
	}
	return *body.Error, true
}
